//! Deletion: preconditions, finalizers, collections, propagation, namespaces.

use anyhow::ensure;
use serde_json::json;

use super::patches::deployment;
use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::subject::{Subject, text};

pub(super) const CASES: &[Case] = &[
    case!("deletion/preconditions must hold", ApiServer, [], preconditions),
    case!("deletion/finalizers hold an object", ApiServer, [], finalizers),
    case!(
        "deletion/collections by selector",
        ApiServer,
        ["PodTemplates should delete a collection of pod templates",],
        collections
    ),
    case!(
        "deletion/dependents go with their owner",
        Controllers,
        ["Garbage collector should delete RS created by deployment when not orphaning",],
        dependents
    ),
    case!(
        "deletion/orphans stay",
        Controllers,
        [
            "Garbage collector should orphan RS created by deployment when deleteOptions.PropagationPolicy is Orphan",
        ],
        orphans
    ),
    case!(
        "deletion/a namespace takes all with it",
        Controllers,
        [
            "Namespaces [Serial] should ensure that all pods are removed when a namespace is deleted",
            "Namespaces [Serial] should ensure that all services are removed when a namespace is deleted",
        ],
        namespaces
    ),
];

async fn preconditions(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("deletion").await?;
    let created = subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let path = space.core("configmaps/a");
    let uid = text(&created, "/metadata/uid")?;
    let wrong = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "other"}});
    let refused = subject.delete_with(&path, &wrong).await?;
    refused.refused(409, "Conflict")?;
    let record = format!(
        "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match the UID in \
         record ({uid}). The object might have been deleted and then recreated"
    );
    ensure!(refused.message() == record, "{}", refused.json);
    let stale = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid, "resourceVersion": "1"}});
    subject.delete_with(&path, &stale).await?.refused(409, "Conflict")?;
    let right = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
    let gone = subject.delete_with(&path, &right).await?.expect(200)?;
    ensure!(gone["status"] == "Success" && gone["details"]["uid"] == uid, "{gone}");
    space.end().await
}

async fn finalizers(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("deletion").await?;
    let mut map = config_map("a", "1");
    map["metadata"]["finalizers"] = json!(["example.com/held"]);
    subject.post(&space.core("configmaps"), &map).await?.expect(201)?;
    let path = space.core("configmaps/a");
    let pending = subject.delete(&path).await?.expect(200)?;
    ensure!(pending["metadata"]["deletionTimestamp"].is_string(), "{pending}");
    let held = subject.get(&path).await?.expect(200)?;
    ensure!(held["metadata"]["deletionGracePeriodSeconds"] == 0, "{}", held["metadata"]);
    let more = json!({"metadata": {"finalizers": ["example.com/held", "example.com/more"]}});
    let refused = subject.patch(&path, "merge", &more).await?;
    ensure!(refused.code == 422, "no finalizer may be added now: {} {}", refused.code, refused.json);
    subject.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).await?.expect(200)?;
    subject.get(&path).await?.refused(404, "NotFound")?;
    space.end().await
}

async fn collections(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("deletion").await?;
    for (name, label) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let template = json!({
            "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name, "labels": {"set": label}},
            "template": {"spec": {"containers": [{"name": "c", "image": "example.com/c:1"}]}},
        });
        subject.post(&space.core("podtemplates"), &template).await?.expect(201)?;
    }
    subject.delete(&space.core("podtemplates?labelSelector=set%3Dx")).await?.expect(200)?;
    let left = subject.get(&space.core("podtemplates")).await?.expect(200)?;
    ensure!(left["items"].as_array().is_some_and(|items| items.len() == 1), "{left}");
    ensure!(left["items"][0]["metadata"]["name"] == "c", "{left}");
    space.end().await
}

async fn dependents(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("deletion").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let sets = space.of("apps/v1", "replicasets");
    let count = |answer: &crate::subject::Answer, wanted: usize| {
        answer.json["items"].as_array().is_some_and(|items| items.len() == wanted)
    };
    subject.wait_for(&sets, |answer| count(answer, 1)).await?;
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
    subject.delete_with(&space.of("apps/v1", "deployments/d"), &options).await?.expect(200)?;
    subject.wait_for(&sets, |answer| count(answer, 0)).await?;
    space.end().await
}

async fn orphans(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("deletion").await?;
    subject.post(&space.of("apps/v1", "deployments"), &deployment("d")).await?.expect(201)?;
    let sets = space.of("apps/v1", "replicasets");
    subject.wait_for(&sets, |answer| answer.json["items"][0]["metadata"]["name"].is_string()).await?;
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Orphan"});
    let path = space.of("apps/v1", "deployments/d");
    subject.delete_with(&path, &options).await?.expect(200)?;
    subject.wait_for(&path, |answer| answer.code == 404).await?;
    let left = subject.get(&sets).await?.expect(200)?;
    ensure!(left["items"][0]["metadata"]["ownerReferences"].is_null(), "{left}");
    space.end().await
}

async fn namespaces(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("deletion").await?;
    subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    subject.post(&space.core("services"), &service).await?.expect(201)?;
    let path = format!("/api/v1/namespaces/{}", space.name);
    let ending = subject.delete(&path).await?.expect(200)?;
    ensure!(ending["status"]["phase"] == "Terminating", "{ending}");
    let refused = subject.post(&space.core("configmaps"), &config_map("b", "1")).await?;
    ensure!(matches!(refused.code, 403 | 404), "{} {}", refused.code, refused.json);
    subject.wait_for(&path, |answer| answer.code == 404).await?;
    Ok(())
}
