//! Definitions of custom resources as objects, their status, their place in discovery; watches of what they define.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::case;
use crate::case::Case;
use crate::custom_kind::{
    CustomKind, DEFINITIONS, definition, established, fresh_group, open_version, version,
};
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!(
        "definitions/are created, listed and deleted as a collection",
        ApiServer,
        [
            "CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works",
            "CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition listing custom resource definition objects works",
        ],
        listed
    ),
    case!(
        "definitions/have a status of their own",
        ApiServer,
        [
            "CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition getting/updating/patching custom resource definition status sub-resource works"
        ],
        status
    ),
    case!(
        "definitions/are discovered, and what they define",
        ApiServer,
        [
            "CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents",
            "AggregatedDiscovery should support aggregated discovery interface for CRDs",
            "AggregatedDiscovery should support raw aggregated discovery request for CRDs",
        ],
        discovered
    ),
    case!(
        "definitions/changed defaults are filled in on reading",
        ApiServer,
        [
            "CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works"
        ],
        defaults
    ),
    case!(
        "definitions/watches of one object see no other",
        ApiServer,
        [
            "CustomResourceDefinition Watch [Privileged:ClusterAdmin] CustomResourceDefinition Watch watch on custom resource definition objects"
        ],
        watched
    ),
];

async fn listed(subject: &Subject) -> anyhow::Result<()> {
    const COUNT: usize = 5;
    let run = uuid::Uuid::new_v4().simple().to_string();
    let mut made = Vec::new();
    for _ in 0..COUNT {
        let mut one = definition(&fresh_group(), &[open_version("v1", true)], &json!({}));
        one["metadata"]["labels"] = json!({"conformance": run});
        made.push(subject.post(DEFINITIONS, &one).await?.expect(201)?);
    }
    let all = format!("{DEFINITIONS}?labelSelector=conformance%3D{run}");
    let list = subject.get(&all).await?.expect(200)?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    ensure!(items.len() == COUNT, "{} definitions listed, not {COUNT}", items.len());
    for one in &made {
        let found = items.iter().find(|item| item["metadata"]["uid"] == one["metadata"]["uid"]);
        ensure!(found.is_some_and(|found| found["spec"] == one["spec"]), "{one} is not in the list");
    }
    subject
        .wait_for(&all, |answer| {
            answer.json["items"].as_array().is_some_and(|items| items.iter().all(established))
        })
        .await?;
    subject.delete(&all).await?.expect(200)?;
    subject.wait_for(&all, |answer| answer.json["items"] == json!([])).await?;
    Ok(())
}

async fn status(subject: &Subject) -> anyhow::Result<()> {
    let kind = CustomKind::define(subject, &[open_version("v1", true)], &json!({})).await?;
    let path = format!("{}/status", kind.definition_path());
    let condition =
        |name: &str| json!({"type": name, "status": "True", "reason": "Told", "message": "by a test"});
    let has = |document: &Value, name: &str| {
        let mut all = document["status"]["conditions"].as_array().into_iter().flatten();
        all.any(|one| one["type"] == name && one["reason"] == "Told")
    };
    loop {
        let mut read = subject.get(&path).await?.expect(200)?;
        let main = subject.get(&kind.definition_path()).await?.expect(200)?;
        ensure!(read["spec"] == main["spec"], "the status shows another spec: {read}");
        let Some(conditions) = read["status"]["conditions"].as_array_mut() else {
            anyhow::bail!("no conditions in {read}")
        };
        conditions.push(condition("StatusUpdated"));
        let answer = subject.put(&path, &read).await?;
        if answer.code != 409 {
            let updated = answer.expect(200)?;
            ensure!(has(&updated, "StatusUpdated"), "{}", updated["status"]);
            break;
        }
    }
    let patch = json!([{"op": "add", "path": "/status/conditions/-", "value": condition("StatusPatched")}]);
    let patched = subject.patch(&path, "json", &patch).await?.expect(200)?;
    ensure!(has(&patched, "StatusPatched"), "{}", patched["status"]);
    // Through the definition itself no status is written.
    let patch = json!({"status": {"storedVersions": ["v9"]}});
    let patched = subject.patch(&kind.definition_path(), "merge", &patch).await?.expect(200)?;
    ensure!(patched["status"]["storedVersions"] == json!(["v1"]), "{}", patched["status"]);
    kind.end().await
}

async fn discovered(subject: &Subject) -> anyhow::Result<()> {
    let group = "apiextensions.k8s.io";
    let groups = subject.get("/apis").await?.expect(200)?;
    let listed = groups["groups"].as_array().into_iter().flatten().find(|one| one["name"] == group);
    let alone = subject.get(&format!("/apis/{group}")).await?.expect(200)?;
    for document in [listed.unwrap_or(&Value::Null), &alone] {
        let mut versions = document["versions"].as_array().into_iter().flatten();
        ensure!(versions.any(|one| one["version"] == "v1"), "no v1 of {group} in {document}");
    }
    let resources = subject.get(&format!("/apis/{group}/v1")).await?.expect(200)?;
    let mut all = resources["resources"].as_array().into_iter().flatten();
    ensure!(all.any(|one| one["name"] == "customresourcedefinitions"), "{resources}");
    let kind = CustomKind::define(subject, &[open_version("v1", true)], &json!({})).await?;
    for version in ["v2", "v2beta1"] {
        let accept = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        loop {
            let answer = subject.get_as("/apis", &accept).await?;
            let content = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
            let told = content.is_some_and(|content| content.contains("as=APIGroupDiscoveryList"));
            // The beta form went in some release; then the plain one is the answer.
            if version == "v2beta1" && !told {
                break;
            }
            let whole = answer.expect(200)?;
            let mut groups = whole["items"].as_array().into_iter().flatten();
            let ours = groups.find(|one| one["metadata"]["name"] == *kind.group).cloned().unwrap_or_default();
            let resource = &ours["versions"][0]["resources"][0];
            if resource["resource"] == "widgets" {
                ensure!(
                    resource["scope"] == "Namespaced" && resource["singularResource"] == "widget",
                    "{resource}"
                );
                ensure!(resource["responseKind"]["kind"] == "Widget", "{resource}");
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    kind.end().await
}

async fn defaults(subject: &Subject) -> anyhow::Result<()> {
    let text = json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {"a": text, "b": text}});
    let kind = CustomKind::define(subject, &[version("v1", true, schema)], &json!({})).await?;
    let space = subject.namespace("definitions").await?;
    let objects = kind.objects("v1", &space.name);
    let made = subject.post(&objects, &kind.object("v1", "x", &json!({}))).await?.expect(201)?;
    ensure!(made.get("a").is_none(), "{made}");
    let root = "/spec/versions/0/schema/openAPIV3Schema/properties";
    let patch = json!([{"op": "add", "path": format!("{root}/a/default"), "value": "A"}]);
    subject.patch(&kind.definition_path(), "json", &patch).await?.expect(200)?;
    let first = format!("{objects}/x");
    let read = subject.wait_for(&first, |answer| answer.json["a"] == "A").await?.json;
    ensure!(
        read["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"],
        "reading wrote: {read}"
    );
    let second = subject.post(&objects, &kind.object("v1", "y", &json!({}))).await?.expect(201)?;
    ensure!(second["a"] == "A", "{second}");
    let patch = json!([
        {"op": "remove", "path": format!("{root}/a/default")},
        {"op": "add", "path": format!("{root}/b/default"), "value": "B"},
    ]);
    subject.patch(&kind.definition_path(), "json", &patch).await?.expect(200)?;
    let read = subject.wait_for(&format!("{objects}/y"), |answer| answer.json["b"] == "B").await?.json;
    ensure!(read["a"] == "A", "what was stored stays: {read}");
    let read = subject.wait_for(&first, |answer| answer.json["b"] == "B").await?.json;
    ensure!(read.get("a").is_none(), "what was never stored is gone with its default: {read}");
    kind.end().await?;
    space.end().await
}

async fn watched(subject: &Subject) -> anyhow::Result<()> {
    let kind = CustomKind::define(subject, &[open_version("v1", true)], &json!({"scope": "Cluster"})).await?;
    let objects = format!("/apis/{}/v1/widgets", kind.group);
    let mut watches = Vec::new();
    for name in ["a", "b"] {
        watches.push(
            subject
                .watch(&format!("{objects}?fieldSelector=metadata.name%3D{name}&timeoutSeconds=600"))
                .await?,
        );
    }
    for name in ["a", "b"] {
        let made = subject.post(&objects, &kind.object("v1", name, &json!({"num": 1}))).await?.expect(201)?;
        ensure!(made["metadata"]["uid"].is_string() && made["metadata"].get("namespace").is_none(), "{made}");
    }
    for name in ["a", "b"] {
        subject.patch(&format!("{objects}/{name}"), "merge", &json!({"num": 9999})).await?.expect(200)?;
        subject.delete(&format!("{objects}/{name}")).await?.expect(200)?;
    }
    // `expect` takes the next event: what is told of the other one would come before.
    for (watch, name) in watches.iter_mut().zip(["a", "b"]) {
        watch.expect("ADDED", name).await?;
        let changed = watch.expect("MODIFIED", name).await?;
        ensure!(changed["num"] == 9999, "{changed}");
        watch.expect("DELETED", name).await?;
    }
    kind.end().await
}
