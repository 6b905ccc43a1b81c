//! Good and bad objects with what kube-apiserver 1.36 answers to each: code, reason, causes, warnings, completed object.
//!
//! `corpus.json` and `everyday.json` (pods, workloads and the rest of the kinds that everybody uses) hold a line per
//! request: `change` (paths and values, no value removes) makes the object out of the group's `base`; with `to` the base
//! is created first and the changed object put ("" is the object itself, else a subresource). What comes back is
//! written out (`object`), or as what is `beyond` the change: the base's completed object, changed, then changed by this.
//! `differs` says why Fairlead's answer is another one, and the test fails when it no longer is. A text too long to
//! write is `{"(repeat)": [text, times, end]}`.

use std::fmt::Write as _;

use http::Method;
use http_body_util::BodyExt as _;
use kube::Client;
use kube_objects::UserInfo;
use serde_json::{Value, json};

use super::start_with;

const CORPUS: &str = include_str!("corpus.json");
const EVERYDAY: &str = include_str!("everyday.json");
/// What differs from one server to the next, and what admission plug-ins add.
const VOLATILE: [&str; 5] = ["uid", "creationTimestamp", "resourceVersion", "managedFields", "finalizers"];

/// What the server said: its code, its body, its warnings.
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) body: Value,
    warnings: Vec<String>,
}

pub(super) async fn send(client: &Client, method: Method, path: &str, body: &Value) -> Answer {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(kube::client::Body::from(bytes))
        .unwrap();
    let response = client.send(request).await.unwrap();
    let warnings = response.headers().get_all("warning").iter().map(|value| warning(value.to_str().unwrap()));
    let (code, warnings) = (response.status().as_u16(), warnings.collect());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer { code, body: serde_json::from_slice(&body).unwrap(), warnings }
}

/// The text of `299 - "text"`.
fn warning(header: &str) -> String {
    let text = header.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).unwrap().0;
    text.replace("\\\"", "\"").replace("\\\\", "\\")
}

fn changed(base: &Value, changes: &Value) -> Value {
    let mut object = base.clone();
    for change in changes.as_array().unwrap() {
        let pointer = change[0].as_str().unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", ""));
        let key = key.replace("~1", "/").replace("~0", "~");
        let holder = made(&mut object, parent);
        match (holder, change.get(1)) {
            (Value::Array(list), Some(value)) => list[key.parse::<usize>().unwrap()] = written_out(value),
            (Value::Object(map), Some(value)) => drop(map.insert(key, written_out(value))),
            (Value::Object(map), None) => drop(map.remove(&key)),
            (holder, _) => panic!("{pointer} leads into {holder}"),
        }
    }
    object
}

/// The value at a pointer; what is missing on the way becomes an object.
fn made<'a>(object: &'a mut Value, pointer: &str) -> &'a mut Value {
    let mut at = object;
    for key in pointer.split('/').skip(1) {
        let key = key.replace("~1", "/").replace("~0", "~");
        at = match at {
            Value::Array(list) => &mut list[key.parse::<usize>().unwrap()],
            other => &mut other[key],
        };
        if at.is_null() {
            *at = json!({});
        }
    }
    at
}

fn written_out(value: &Value) -> Value {
    match value {
        Value::Object(map) if map.contains_key("(repeat)") => {
            let parts = map["(repeat)"].as_array().unwrap();
            let times = usize::try_from(parts[1].as_u64().unwrap()).unwrap();
            let end = parts.get(2).map_or("", |end| end.as_str().unwrap());
            (parts[0].as_str().unwrap().repeat(times) + end).into()
        }
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), written_out(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

/// Takes out what no two servers have alike, and writes `(assigned)` for what a server chooses. A field that is null
/// says no more than one that is not there.
fn settled(mut object: Value, asked: &Value) -> Value {
    without_nulls(&mut object);
    if object["status"]["lastPhaseTransitionTime"].is_string() {
        object["status"]["lastPhaseTransitionTime"] = "(now)".into();
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| !VOLATILE.contains(&key.as_str()));
    }
    if object["kind"] == "Service" {
        assigned(&mut object["spec"], &asked["spec"]);
    }
    object
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Uids as `(uid)`, wherever they stand.
fn without_uids(value: &Value) -> Value {
    const SHAPE: [usize; 5] = [8, 4, 4, 4, 12];
    let text = value.to_string();
    let is_uid = |start: usize| {
        let candidate = text.get(start..start + 36)?;
        let parts: Vec<&str> = candidate.split('-').collect();
        let fits = parts.iter().map(|part| part.len()).eq(SHAPE);
        (fits && parts.concat().chars().all(|letter| letter.is_ascii_hexdigit()))
            .then(|| candidate.to_owned())
    };
    let uids: Vec<String> = (0..text.len()).filter_map(is_uid).collect();
    let text = uids.iter().fold(text.clone(), |text, uid| text.replace(uid.as_str(), "(uid)"));
    serde_json::from_str(&text).unwrap()
}

fn assigned(service: &mut Value, asked: &Value) {
    let chosen = json!("(assigned)");
    if asked["clusterIP"].as_str().unwrap_or_default().is_empty()
        && service["clusterIP"].as_str().is_some_and(|address| !address.is_empty() && address != "None")
    {
        service["clusterIP"] = chosen.clone();
        service["clusterIPs"] = json!([chosen]);
    }
    if service.get("healthCheckNodePort").is_some() && asked.get("healthCheckNodePort").is_none() {
        service["healthCheckNodePort"] = chosen.clone();
    }
    for (index, port) in service["ports"].as_array_mut().into_iter().flatten().enumerate() {
        if port.get("nodePort").is_some() && asked["ports"][index].get("nodePort").is_none() {
            port["nodePort"] = chosen.clone();
        }
    }
}

/// Sends one case.
async fn play(client: &Client, group: &Value, case: &Value) -> (Answer, Value) {
    let path = group["path"].as_str().unwrap();
    let mut object = changed(&group["base"], &case["change"]);
    let name = group["base"]["metadata"]["name"].as_str().unwrap_or_default();
    let Some(to) = case["to"].as_str() else {
        let target = if group["review"] == true { path.to_owned() } else { format!("{path}?dryRun=All") };
        return (send(client, Method::POST, &target, &object).await, object);
    };
    let created = send(client, Method::POST, path, &group["base"]).await;
    assert!(created.code < 300, "{path}: {}", created.body);
    object["metadata"]["resourceVersion"] = created.body["metadata"]["resourceVersion"].clone();
    let item = format!("{path}/{name}");
    let target = if to.is_empty() { item.clone() } else { format!("{item}/{to}") };
    let mut answer = send(client, Method::PUT, &target, &object).await;
    // The server itself may have written a policy's status in between.
    while answer.code == 409 {
        let now = send(client, Method::GET, &item, &Value::Null).await.body;
        object["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
        answer = send(client, Method::PUT, &target, &object).await;
    }
    gone(client, &item).await;
    (answer, object)
}

/// Deletes an object and what holds it back.
async fn gone(client: &Client, item: &str) {
    let query = if item.contains("/pods/") { "?gracePeriodSeconds=0" } else { "" };
    send(client, Method::DELETE, &format!("{item}{query}"), &Value::Null).await;
    let left = send(client, Method::GET, item, &Value::Null).await;
    if left.code == 200 {
        let mut object = left.body;
        object["metadata"]["finalizers"] = json!([]);
        let target = if object["kind"] == "Namespace" {
            object["spec"]["finalizers"] = json!([]);
            format!("{item}/finalize")
        } else {
            item.to_owned()
        };
        send(client, Method::PUT, &target, &object).await;
    }
}

/// What came back, in the form of `expect`.
fn summary(expect: &Value, answer: Answer, asked: &Value) -> Value {
    let Answer { code, body, warnings } = answer;
    let mut found = json!({"code": code});
    if !warnings.is_empty() {
        found["warnings"] = warnings.into();
    }
    if code < 300 {
        if expect.get("generation").is_some() {
            found["generation"] = body["metadata"]["generation"].clone();
        }
        if expect.get("object").is_some() {
            found["object"] = settled(body, asked);
        }
        return found;
    }
    found["reason"] = body["reason"].clone();
    if expect.get("message").is_some() {
        found["message"] = body["message"].clone();
    }
    if code == 422 {
        let causes = body["details"]["causes"].as_array().into_iter().flatten();
        let each = |cause: &Value| json!([cause["reason"], cause["field"], cause["message"]]);
        found["causes"] = causes.map(each).collect();
    }
    found
}

/// What is expected, in full: `beyond` becomes an object. Upstream walks Go's maps in any order: what it found is
/// compared as a set.
fn wanted(expect: &Value, completed: &Value, case: &Value) -> Value {
    let mut wanted = expect.clone();
    let fields = wanted.as_object_mut().unwrap();
    if let Some(beyond) = fields.remove("beyond") {
        fields.insert("object".to_owned(), changed(&changed(completed, &case["change"]), &beyond));
    }
    if let Some(object) = fields.get_mut("object") {
        *object = settled(object.take(), &json!({"spec": object["spec"]}));
    }
    if fields["code"] != 422 {
        fields.remove("causes");
    }
    wanted
}

fn sorted(answer: &Value) -> Value {
    let mut answer = without_uids(answer);
    if let Some(causes) = answer["causes"].as_array_mut() {
        causes.sort_by_key(Value::to_string);
        // Upstream says some things twice.
        causes.dedup();
    } else if let Some(fields) = answer.as_object_mut() {
        fields.remove("causes");
    }
    answer
}

async fn differences(client: &Client, corpus: &str) -> (String, usize) {
    let groups: Vec<Value> = serde_json::from_str(corpus).unwrap();
    let (mut differences, mut count) = (String::new(), 0);
    for group in &groups {
        let mut completed = Value::Null;
        for case in group["cases"].as_array().unwrap() {
            count += 1;
            let wanted = sorted(&wanted(&case["expect"], &completed, case));
            if completed.is_null() {
                completed = wanted["object"].clone();
            }
            let (answer, asked) = play(client, group, case).await;
            let found = sorted(&summary(&wanted, answer, &asked));
            let (kind, change, to) = (&group["base"]["kind"], &case["change"], &case["to"]);
            match (found == wanted, case["differs"].as_str()) {
                (true, None) | (false, Some(_)) => {}
                (true, Some(why)) => {
                    let _ = writeln!(differences, "{kind} {to} {change} no longer differs: {why}");
                }
                (false, None) => {
                    let _ =
                        writeln!(differences, "{kind} {to} {change}\n  wanted {wanted}\n  found  {found}");
                }
            }
        }
    }
    (differences, count)
}

async fn answered_alike(corpus: &str) {
    let (handle, _, _stop) = start_with(true).await;
    let mut admin = UserInfo::new("admin", &["system:masters", "system:authenticated"]);
    "admin".clone_into(&mut admin.uid);
    let client = handle.client(admin);
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    send(&client, Method::POST, "/api/v1/namespaces/default/serviceaccounts", &account).await;
    let (differences, count) = differences(&client, corpus).await;
    assert!(differences.is_empty(), "of {count}:\n{differences}");
}

#[tokio::test]
async fn every_object_is_answered_as_kube_apiserver_answers_it() {
    answered_alike(CORPUS).await;
}

#[tokio::test]
async fn everyday_objects_are_answered_as_kube_apiserver_answers_them() {
    answered_alike(EVERYDAY).await;
}
