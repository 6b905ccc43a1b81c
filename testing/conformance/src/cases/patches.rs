//! Patches: four ways to change a part.

use anyhow::ensure;
use serde_json::{Value, json};

use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!("patches/JSON patch, with tests that must hold", ApiServer, [], json_patch),
    case!("patches/merge patch removes by null", ApiServer, [], merge),
    case!("patches/strategic merge by key", ApiServer, [], strategic),
    case!("patches/directives of strategic merge", ApiServer, [], directives),
    case!("patches/status and spec are written apart", ApiServer, [], status_apart),
    case!("patches/the identity cannot be changed", ApiServer, [], identity),
];

/// A deployment of two containers.
pub(super) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [
                    {"name": "one", "image": "example.com/one:1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
                    {"name": "two", "image": "example.com/two:1"},
                ]},
            },
        },
    })
}

async fn json_patch(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("patches").await?;
    subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let path = space.core("configmaps/a");
    let patch = json!([
        {"op": "test", "path": "/data/key", "value": "1"},
        {"op": "add", "path": "/data/other", "value": "2"},
        {"op": "remove", "path": "/data/key"},
    ]);
    let patched = subject.patch(&path, "json", &patch).await?.expect(200)?;
    ensure!(patched["data"] == json!({"other": "2"}), "{patched}");
    let failing = json!([{"op": "test", "path": "/data/other", "value": "x"}]);
    let refused = subject.patch(&path, "json", &failing).await?;
    ensure!(refused.code == 422 && refused.reason() == "Invalid", "{} {}", refused.code, refused.json);
    let nowhere = json!([{"op": "remove", "path": "/data/nothing"}]);
    let refused = subject.patch(&path, "json", &nowhere).await?;
    ensure!(refused.code == 422, "{} {}", refused.code, refused.json);
    subject.patch(&path, "json", &json!({"data": {}})).await?.refused(400, "BadRequest")?;
    space.end().await
}

async fn merge(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("patches").await?;
    subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let path = space.core("configmaps/a");
    let patch = json!({"data": {"key": null, "new": "x"}, "metadata": {"labels": {"l": "1"}}});
    let patched = subject.patch(&path, "merge", &patch).await?.expect(200)?;
    ensure!(patched["data"] == json!({"new": "x"}) && patched["metadata"]["labels"]["l"] == "1", "{patched}");
    let missing = subject.patch(&space.core("configmaps/nothing"), "merge", &json!({})).await?;
    missing.refused(404, "NotFound")?;
    space.end().await
}

async fn strategic(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("patches").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let path = space.of("apps/v1", "deployments/d");
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "two", "image": "example.com/two:2"}]}}}});
    let patched = subject.patch(&path, "strategic-merge", &patch).await?.expect(200)?;
    let containers = &patched["spec"]["template"]["spec"]["containers"];
    ensure!(
        containers[0]["image"] == "example.com/one:1" && containers[1]["image"] == "example.com/two:2",
        "{containers}"
    );
    // A controller's annotation counts too.
    ensure!(
        patched["metadata"]["generation"].as_i64().is_some_and(|counted| counted >= 2),
        "{}",
        patched["metadata"]
    );
    let custom = subject.patch("/api/v1/namespaces/default", "strategic-merge", &json!({})).await?;
    custom.expect(200)?;
    space.end().await
}

async fn directives(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("patches").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let path = space.of("apps/v1", "deployments/d");
    let patch = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "two", "$patch": "delete"},
        {"name": "one", "env": [{"$patch": "replace"}, {"name": "C", "value": "3"}]},
    ]}}}});
    let patched = subject.patch(&path, "strategic-merge", &patch).await?.expect(200)?;
    let containers = patched["spec"]["template"]["spec"]["containers"].clone();
    ensure!(containers.as_array().is_some_and(|list| list.len() == 1), "{containers}");
    ensure!(containers[0]["env"] == json!([{"name": "C", "value": "3"}]), "{containers}");
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let patched = subject.patch(&path, "strategic-merge", &patch).await?.expect(200)?;
    ensure!(patched["spec"]["strategy"] == json!({"type": "Recreate"}), "{}", patched["spec"]["strategy"]);
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/a"]}});
    subject.patch(&path, "strategic-merge", &patch).await?.expect(200)?;
    space.end().await
}

async fn status_apart(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("patches").await?;
    let mut body = deployment("d");
    body["status"] = json!({"replicas": 9});
    let created = subject.post(&space.of("apps/v1", "deployments"), &body).await?.expect(201)?;
    ensure!(created["status"]["replicas"].is_null() && created["metadata"]["generation"] == 1, "{created}");
    let path = space.of("apps/v1", "deployments/d/status");
    let patch = json!({"spec": {"paused": true}, "status": {"conditions": [
        {"type": "Progressing", "status": "Unknown", "reason": "Told", "message": "by a test"},
    ]}});
    let patched = subject.patch(&path, "merge", &patch).await?.expect(200)?;
    ensure!(patched["spec"]["paused"].is_null(), "{}", patched["spec"]);
    // The controller's annotation counts once, where there is a controller.
    let annotated = patched["metadata"]["annotations"].get("deployment.kubernetes.io/revision").is_some();
    ensure!(patched["metadata"]["generation"] == 1 + i64::from(annotated), "{}", patched["metadata"]);
    space.end().await
}

async fn identity(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("patches").await?;
    let created = subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let path = space.core("configmaps/a");
    let renamed = subject.patch(&path, "merge", &json!({"metadata": {"name": "b"}})).await?;
    renamed.refused(400, "BadRequest")?;
    let other = json!({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}});
    let refused = subject.patch(&path, "merge", &other).await?;
    refused.refused(422, "Invalid")?;
    ensure!(refused.json["details"]["causes"][0]["field"] == "metadata.uid", "{}", refused.json);
    let time = json!({"metadata": {"creationTimestamp": "2000-01-01T00:00:00Z"}});
    let kept = subject.patch(&path, "merge", &time).await?;
    if kept.code == 200 {
        ensure!(kept.json["metadata"]["creationTimestamp"] == created["metadata"]["creationTimestamp"]);
    }
    space.end().await
}
