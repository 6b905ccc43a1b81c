//! Server-side apply: who owns what.

use anyhow::ensure;
use serde_json::{Value, json};

use super::patches::deployment;
use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!("apply/creates, changes and removes what it no longer names", ApiServer, [], lifecycle),
    case!("apply/a field of another manager is a conflict", ApiServer, [], conflicts),
    case!("apply/list items are merged by key", ApiServer, [], keyed),
    case!("apply/other writes are tracked too", ApiServer, [], tracked),
    case!("apply/needs a manager", ApiServer, [], needs_manager),
];

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data})
}

async fn lifecycle(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("apply").await?;
    let path = space.core("configmaps/a?fieldManager=one");
    let created = subject.patch(&path, "apply", &map(json!({"x": "1", "y": "2"}))).await?.expect(201)?;
    let entry = &created["metadata"]["managedFields"][0];
    ensure!(entry["manager"] == "one" && entry["operation"] == "Apply", "{entry}");
    ensure!(entry["fieldsV1"] == json!({"f:data": {"f:x": {}, "f:y": {}}}), "{entry}");
    let second = subject.patch(&path, "apply", &map(json!({"x": "1"}))).await?.expect(200)?;
    ensure!(second["data"] == json!({"x": "1"}), "{second}");
    let same = subject.patch(&path, "apply", &map(json!({"x": "1"}))).await?.expect(200)?;
    ensure!(
        same["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"],
        "nothing was changed"
    );
    space.end().await
}

async fn conflicts(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("apply").await?;
    let path = |manager: &str| space.core(&format!("configmaps/a?fieldManager={manager}"));
    subject.patch(&path("one"), "apply", &map(json!({"x": "1"}))).await?.expect(201)?;
    let refused = subject.patch(&path("two"), "apply", &map(json!({"x": "2"}))).await?;
    refused.refused(409, "Conflict")?;
    let cause = &refused.json["details"]["causes"][0];
    ensure!(cause["reason"] == "FieldManagerConflict" && cause["field"] == ".data.x", "{cause}");
    ensure!(cause["message"] == "conflict with \"one\"", "{cause}");
    ensure!(
        refused.message() == "Apply failed with 1 conflict: conflict with \"one\": .data.x",
        "{}",
        refused.message()
    );
    let shared = subject.patch(&path("two"), "apply", &map(json!({"x": "1"}))).await?.expect(200)?;
    ensure!(shared["metadata"]["managedFields"].as_array().is_some_and(|list| list.len() == 2), "{shared}");
    let forced = format!("{}&force=true", path("two"));
    let taken = subject.patch(&forced, "apply", &map(json!({"x": "2"}))).await?.expect(200)?;
    ensure!(taken["data"]["x"] == "2", "{taken}");
    let owners = taken["metadata"]["managedFields"].to_string();
    ensure!(!owners.contains("\"one\""), "one owns nothing any more: {owners}");
    space.end().await
}

async fn keyed(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("apply").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let path = space.of("apps/v1", "deployments/d?fieldManager=env");
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {
        "spec": {"containers": [{"name": "two", "env": [{"name": "C", "value": "3"}]}]}}}});
    let applied = subject.patch(&path, "apply", &config).await?.expect(200)?;
    let containers = &applied["spec"]["template"]["spec"]["containers"];
    ensure!(containers[1]["image"] == "example.com/two:1", "{containers}");
    ensure!(containers[1]["env"] == json!([{"name": "C", "value": "3"}]), "{containers}");
    let owned = applied["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|entry| entry["manager"] == "env")
        .map(|entry| entry["fieldsV1"].to_string())
        .unwrap_or_default();
    ensure!(owned.contains("k:{\\\"name\\\":\\\"two\\\"}"), "{owned}");
    space.end().await
}

async fn tracked(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("apply").await?;
    let created = subject
        .post(&space.core("configmaps?fieldManager=maker"), &config_map("a", "1"))
        .await?
        .expect(201)?;
    let entry = &created["metadata"]["managedFields"][0];
    ensure!(entry["manager"] == "maker" && entry["operation"] == "Update", "{entry}");
    ensure!(entry["fieldsType"] == "FieldsV1" && entry["apiVersion"] == "v1", "{entry}");
    let patch = json!({"data": {"key": "2"}});
    let path = space.core("configmaps/a?fieldManager=changer");
    let changed = subject.patch(&path, "merge", &patch).await?.expect(200)?;
    let entries = changed["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let changer = entries.iter().find(|entry| entry["manager"] == "changer");
    ensure!(
        changer.is_some_and(|entry| entry["fieldsV1"] == json!({"f:data": {"f:key": {}}})),
        "{entries:?}"
    );
    let reset = json!({"metadata": {"managedFields": [{}]}});
    let reset = subject.patch(&space.core("configmaps/a"), "merge", &reset).await?.expect(200)?;
    ensure!(reset["metadata"]["managedFields"].is_null(), "{}", reset["metadata"]);
    space.end().await
}

async fn needs_manager(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("apply").await?;
    let refused = subject.patch(&space.core("configmaps/a"), "apply", &map(json!({}))).await?;
    refused.refused(422, "Invalid")?;
    ensure!(
        refused.message().contains("fieldManager: Required value: is required for apply patch"),
        "{}",
        refused.json
    );
    space.end().await
}
