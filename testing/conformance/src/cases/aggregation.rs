//! An API served by another server, which is this suite.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::case;
use crate::case::{Case, skip};
use crate::custom_kind::fresh_group;
use crate::extension::{Call, Extension, Handler, Reply};
use crate::subject::{Namespace, Subject, text};

pub(super) const CASES: &[Case] = &[
    case!(
        "aggregation/another server's API is served as if it were one's own",
        ApiServer,
        [
            "Aggregator Should be able to support the 1.17 Sample API Server using the current Aggregator [LinuxOnly]"
        ],
        served
    ),
    case!("aggregation/a server that is not there is told as such", ApiServer, [], missing),
];

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// A sample server: flunders by path, and who asked last.
#[derive(Default)]
struct Sample {
    flunders: BTreeMap<String, Value>,
    asked_by: String,
}

impl Sample {
    fn answer(&mut self, group: &str, call: &Call) -> Reply {
        let root = format!("/apis/{group}/v1alpha1");
        if call.path == root {
            let verbs = json!(["create", "delete", "get", "list"]);
            let flunders = json!({"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": verbs});
            return (
                200,
                json!({
                    "kind": "APIResourceList", "apiVersion": "v1",
                    "groupVersion": format!("{group}/v1alpha1"), "resources": [flunders],
                }),
            );
        }
        if !call.path.starts_with(&root) {
            return failure(404, "NotFound", "the server could not find the requested resource");
        }
        self.asked_by = call
            .headers
            .get("x-remote-user")
            .and_then(|name| name.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let one = || format!("{}/{}", call.path, call.body["metadata"]["name"].as_str().unwrap_or_default());
        match call.method {
            Method::POST => {
                self.flunders.insert(one(), call.body.clone());
                (201, call.body.clone())
            }
            Method::DELETE => match self.flunders.remove(&call.path) {
                Some(_) => (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})),
                None => failure(404, "NotFound", "no such flunder"),
            },
            _ => match self.flunders.get(&call.path) {
                Some(flunder) => (200, flunder.clone()),
                None if call.path.ends_with("/flunders") => {
                    let below = format!("{}/", call.path);
                    let items: Vec<_> = self
                        .flunders
                        .iter()
                        .filter(|(path, _)| path.starts_with(&below))
                        .map(|(_, flunder)| flunder)
                        .collect();
                    (
                        200,
                        json!({"kind": "FlunderList", "apiVersion": format!("{group}/v1alpha1"), "metadata": {}, "items": items}),
                    )
                }
                None => failure(404, "NotFound", "no such flunder"),
            },
        }
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Reply {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}),
    )
}

/// Registers a group at a service that leads to `host` and `port`.
async fn register(
    space: &Namespace<'_>,
    subject: &Subject,
    group: &str,
    host: &str,
    port: u16,
    authority: &str,
) -> anyhow::Result<String> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "sample"},
        "spec": {"type": "ExternalName", "externalName": host, "ports": [{"port": port}]},
    });
    subject.post(&space.core("services"), &service).await?.expect(201)?;
    let registered = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("v1alpha1.{group}")},
        "spec": {
            "group": group, "version": "v1alpha1", "caBundle": authority,
            "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"namespace": space.name, "name": "sample", "port": port},
        },
    });
    subject.post(SERVICES, &registered).await?.expect(201)?;
    Ok(format!("{SERVICES}/v1alpha1.{group}"))
}

async fn served(subject: &Subject) -> anyhow::Result<()> {
    let (space, group) = (subject.namespace("aggregation").await?, fresh_group());
    let sample = Arc::new(Mutex::new(Sample::default()));
    let (state, own) = (Arc::clone(&sample), group.clone());
    let handler: Handler = Arc::new(move |call| {
        let reply = state.lock().answer(&own, &call);
        Box::pin(std::future::ready(reply))
    });
    let names = [format!("sample.{}.svc", space.name)];
    let extension = Extension::start(subject, &names, handler).await?;
    let address = extension.address();
    let path =
        register(&space, subject, &group, &address.ip().to_string(), address.port(), &extension.authority())
            .await?;
    let outcome = async {
        available(subject, &path, &extension).await?;
        requests(subject, &space, &group, &sample).await.context("flunders")?;
        discovered(subject, &group).await.context("discovery")?;
        registered(subject, &path).await.context("the registration")
    };
    let outcome = outcome.await;
    let gone = subject.delete(&path).await?;
    ensure!(matches!(gone.code, 200 | 404), "deleting {path}: {}", gone.json);
    outcome?;
    let root = format!("/apis/{group}/v1alpha1");
    subject.wait_for(&root, |answer| answer.code == 404).await?;
    space.end().await
}

async fn available(subject: &Subject, path: &str, extension: &Extension) -> anyhow::Result<()> {
    let is_available =
        |answer: &crate::subject::Answer| condition(&answer.json, "Available")["status"] == "True";
    let waited =
        tokio::time::timeout(std::time::Duration::from_secs(30), subject.wait_for(path, is_available)).await;
    match waited {
        Ok(Ok(answer)) => {
            let condition = condition(&answer.json, "Available");
            ensure!(
                condition["reason"] == "Passed" && condition["message"] == "all checks passed",
                "{condition}"
            );
            Ok(())
        }
        Err(_) if !extension.was_reached() => {
            Err(skip(format!("the subject does not reach {}", extension.address())))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => anyhow::bail!("not available: {}", subject.get(path).await?.json["status"]),
    }
}

fn condition(document: &Value, kind: &str) -> Value {
    let mut all = document["status"]["conditions"].as_array().into_iter().flatten();
    all.find(|one| one["type"] == kind).cloned().unwrap_or_default()
}

async fn requests(
    subject: &Subject,
    space: &Namespace<'_>,
    group: &str,
    sample: &Mutex<Sample>,
) -> anyhow::Result<()> {
    let all = space.of(&format!("{group}/v1alpha1"), "flunders");
    subject.wait_for(&all, |answer| answer.code == 200).await?;
    let flunder = json!({
        "apiVersion": format!("{group}/v1alpha1"), "kind": "Flunder",
        "metadata": {"name": "a", "labels": {"sample-label": "true"}},
    });
    let made = subject.post(&all, &flunder).await?.expect(201)?;
    ensure!(made == flunder, "{flunder} expected, not {made}");
    let user = sample.lock().asked_by.clone();
    ensure!(!user.is_empty(), "the server was not told who asks");
    let list = subject.get(&all).await?.expect(200)?;
    ensure!(list["items"].as_array().map(Vec::len) == Some(1), "{list}");
    subject.get(&format!("{all}/a")).await?.expect(200)?;
    subject.delete(&format!("{all}/a")).await?.expect(200)?;
    let list = subject.get(&all).await?.expect(200)?;
    ensure!(list["items"] == json!([]), "{list}");
    let refused = subject.get(&format!("{all}/a")).await?;
    refused.refused(404, "NotFound")?;
    ensure!(refused.message() == "no such flunder", "its own words: {}", refused.json);
    Ok(())
}

async fn discovered(subject: &Subject, group: &str) -> anyhow::Result<()> {
    let listed = |answer: &crate::subject::Answer| {
        answer.json["groups"].as_array().into_iter().flatten().any(|one| one["name"] == group)
    };
    subject.wait_for("/apis", listed).await?;
    let alone = subject.get(&format!("/apis/{group}")).await?.expect(200)?;
    ensure!(alone["preferredVersion"]["version"] == "v1alpha1", "{alone}");
    let resources = subject.get(&format!("/apis/{group}/v1alpha1")).await?.expect(200)?;
    ensure!(resources["resources"][0]["name"] == "flunders", "{resources}");
    // The aggregated form is gathered from time to time.
    loop {
        let whole = subject.get_as("/apis", DISCOVERY).await?.expect(200)?;
        let mut groups = whole["items"].as_array().into_iter().flatten();
        let ours = groups.find(|one| one["metadata"]["name"] == group).cloned().unwrap_or_default();
        let version = &ours["versions"][0];
        if version["version"] == "v1alpha1" && version["resources"][0]["resource"] == "flunders" {
            ensure!(version["resources"][0]["responseKind"]["kind"] == "Flunder", "{version}");
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// The registration is an object like others.
async fn registered(subject: &Subject, path: &str) -> anyhow::Result<()> {
    let status = format!("{path}/status");
    let read = subject.get(&status).await?.expect(200)?;
    ensure!(text(&read, "/status/conditions/0/message")? == "all checks passed", "{}", read["status"]);
    let patched =
        subject.patch(path, "merge", &json!({"spec": {"versionPriority": 400}})).await?.expect(200)?;
    ensure!(patched["spec"]["versionPriority"] == 400, "{patched}");
    let label = json!({"metadata": {"labels": {"conformance": "patched"}}});
    subject.patch(path, "strategic-merge", &label).await?.expect(200)?;
    let list = subject.get(SERVICES).await?.expect(200)?;
    let mut items = list["items"].as_array().into_iter().flatten();
    ensure!(
        items.any(|one| path.ends_with(one["metadata"]["name"].as_str().unwrap_or("/"))),
        "not in {list}"
    );
    for (kind, by_patch) in [("StatusUpdated", false), ("StatusPatched", true)] {
        loop {
            let mut body = subject.get(&status).await?.expect(200)?;
            let Some(conditions) = body["status"]["conditions"].as_array_mut() else {
                anyhow::bail!("no conditions in {body}")
            };
            conditions
                .push(json!({"type": kind, "status": "True", "reason": "Told", "message": "by a test"}));
            let answer = if by_patch {
                subject
                    .patch(&status, "merge", &json!({"status": {"conditions": body["status"]["conditions"]}}))
                    .await?
            } else {
                subject.put(&status, &body).await?
            };
            if answer.code == 409 {
                continue;
            }
            ensure!(condition(&answer.expect(200)?, kind)["reason"] == "Told", "{kind} was not kept");
            break;
        }
    }
    loop {
        let mut body = subject.get(path).await?.expect(200)?;
        body["metadata"]["labels"] = json!({"conformance": "updated"});
        let answer = subject.put(path, &body).await?;
        if answer.code != 409 {
            ensure!(answer.expect(200)?["metadata"]["labels"]["conformance"] == "updated", "labels");
            break;
        }
    }
    let of_label = format!("{SERVICES}?labelSelector=conformance%3Dnothing-has-this");
    subject.delete(&of_label).await?.expect(200)?;
    subject.get(path).await?.expect(200)?;
    Ok(())
}

async fn missing(subject: &Subject) -> anyhow::Result<()> {
    let (space, group) = (subject.namespace("aggregation").await?, fresh_group());
    let registered = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": format!("v1alpha1.{group}")},
        "spec": {
            "group": group, "version": "v1alpha1", "insecureSkipTLSVerify": true,
            "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"namespace": space.name, "name": "nothing", "port": 443},
        },
    });
    subject.post(SERVICES, &registered).await?.expect(201)?;
    let path = format!("{SERVICES}/v1alpha1.{group}");
    let outcome = async {
        let told =
            |answer: &crate::subject::Answer| condition(&answer.json, "Available")["status"] == "False";
        let answer = subject.wait_for(&path, told).await?;
        ensure!(
            condition(&answer.json, "Available")["reason"] == "ServiceNotFound",
            "{}",
            answer.json["status"]
        );
        let unserved = |answer: &crate::subject::Answer| answer.code == 503;
        let answer = subject.wait_for(&format!("/apis/{group}/v1alpha1/flunders"), unserved).await?;
        ensure!(answer.code == 503, "{}", answer.code);
        Ok(())
    };
    let outcome: anyhow::Result<()> = outcome.await;
    subject.delete(&path).await?.expect(200)?;
    outcome?;
    let wrong = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "any"},
        "spec": {"group": group, "version": "v1alpha1", "groupPriorityMinimum": 2000, "versionPriority": 200},
    });
    let refused = subject.post(SERVICES, &wrong).await?;
    refused.refused(422, "Invalid")?;
    ensure!(refused.json["details"]["causes"][0]["field"] == "metadata.name", "{}", refused.json);
    space.end().await
}
