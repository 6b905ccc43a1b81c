//! Good and bad objects with what kube-apiserver 1.36 answers to each: code, reason, causes, warnings, completed object.
//!
//! `corpus.json` holds a line per request: `change` (paths and values, no value removes) makes the object out of the
//! group's `base`; with `to` the base is created first and the changed object put ("" is the object itself, else a
//! subresource).

use std::fmt::Write as _;

use http::Method;
use kube::Client;
use kube_objects::UserInfo;
use serde_json::{Value, json};

use super::start_with;

const CORPUS: &str = include_str!("corpus.json");
/// What differs from one server to the next, and what admission plug-ins add.
const VOLATILE: [&str; 5] = ["uid", "creationTimestamp", "resourceVersion", "managedFields", "finalizers"];

async fn send(
    client: &Client,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<Value, kube::core::Status> {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .body(bytes)
        .unwrap();
    match client.request::<Value>(request).await {
        Ok(value) => Ok(value),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(other) => panic!("{path}: {other}"),
    }
}

fn changed(base: &Value, changes: &Value) -> Value {
    let mut object = base.clone();
    for change in changes.as_array().unwrap() {
        let pointer = change[0].as_str().unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", ""));
        let key = key.replace("~1", "/").replace("~0", "~");
        let Some(holder) = object.pointer_mut(parent) else { panic!("{pointer} has no parent") };
        match (holder, change.get(1)) {
            (Value::Array(list), Some(value)) => list[key.parse::<usize>().unwrap()] = value.clone(),
            (Value::Object(map), Some(value)) => drop(map.insert(key, value.clone())),
            (Value::Object(map), None) => drop(map.remove(&key)),
            (holder, _) => panic!("{pointer} leads into {holder}"),
        }
    }
    object
}

fn without_volatile(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|key, _| !VOLATILE.contains(&key.as_str()));
    }
    object
}

/// Sends one case and answers what came back in the form of `expect`.
async fn play(client: &Client, group: &Value, case: &Value) -> Value {
    let path = group["path"].as_str().unwrap();
    let object = changed(&group["base"], &case["change"]);
    let name = group["base"]["metadata"]["name"].as_str().unwrap_or_default();
    let answer = match case["to"].as_str() {
        Some(to) => {
            let created = send(client, Method::POST, path, &group["base"]).await;
            let created = created.unwrap_or_else(|status| panic!("{path}: {}", status.message));
            let mut object = object;
            object["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"].clone();
            let target = if to.is_empty() { format!("{path}/{name}") } else { format!("{path}/{name}/{to}") };
            let mut answer = send(client, Method::PUT, &target, &object).await;
            // The server itself may have written a policy's status in between.
            while answer.as_ref().is_err_and(|status| status.code == 409) {
                let now = send(client, Method::GET, &format!("{path}/{name}"), &Value::Null).await.unwrap();
                object["metadata"]["resourceVersion"] = now["metadata"]["resourceVersion"].clone();
                answer = send(client, Method::PUT, &target, &object).await;
            }
            send(client, Method::DELETE, &format!("{path}/{name}"), &Value::Null).await.unwrap();
            answer.map(|object| (200, object))
        }
        None if group["review"] == true => {
            send(client, Method::POST, path, &object).await.map(|object| (201, object))
        }
        None => {
            let target = format!("{path}?dryRun=All");
            send(client, Method::POST, &target, &object).await.map(|object| (201, object))
        }
    };
    let expect = &case["expect"];
    match answer {
        Ok((code, object)) => {
            let mut found = json!({"code": code});
            if expect.get("generation").is_some() {
                found["generation"] = object["metadata"]["generation"].clone();
            }
            if expect.get("object").is_some() {
                found["object"] = object;
            }
            found
        }
        Err(status) => {
            let mut found = json!({"code": status.code, "reason": status.reason});
            if expect.get("message").is_some() {
                found["message"] = status.message.into();
            }
            if status.code == 422 {
                let causes = status.details.map(|details| details.causes).unwrap_or_default();
                let each = |cause: kube::core::response::StatusCause| {
                    json!([cause.reason, cause.field, cause.message])
                };
                found["causes"] = causes.into_iter().map(each).collect();
            }
            found
        }
    }
}

/// Upstream walks Go's maps in any order: what it found is compared as a set.
fn sorted(mut answer: Value) -> Value {
    if let Some(causes) = answer["causes"].as_array_mut() {
        causes.sort_by_key(Value::to_string);
    } else if let Some(fields) = answer.as_object_mut() {
        fields.remove("causes");
    }
    if let Some(fields) = answer.as_object_mut() {
        fields.remove("warnings");
    }
    if answer["object"].is_object() {
        answer["object"] = without_volatile(answer["object"].take());
    }
    answer
}

#[tokio::test]
async fn every_object_is_answered_as_kube_apiserver_answers_it() {
    let (handle, _, _stop) = start_with(true).await;
    let mut admin = UserInfo::new("admin", &["system:masters", "system:authenticated"]);
    "admin".clone_into(&mut admin.uid);
    let client = handle.client(admin);
    let groups: Vec<Value> = serde_json::from_str(CORPUS).unwrap();
    let (mut differences, mut count) = (String::new(), 0);
    for group in &groups {
        for case in group["cases"].as_array().unwrap() {
            count += 1;
            let found = sorted(play(&client, group, case).await);
            let wanted = sorted(case["expect"].clone());
            if found != wanted {
                let (kind, change, to) = (&group["base"]["kind"], &case["change"], &case["to"]);
                let _ = writeln!(differences, "{kind} {to} {change}\n  wanted {wanted}\n  found  {found}");
            }
        }
    }
    if let Some(path) = std::env::var_os("FAIRLEAD_CORPUS_DIFFERENCES") {
        std::fs::write(path, &differences).unwrap();
    }
    assert!(differences.is_empty(), "of {count}:\n{differences}");
}
