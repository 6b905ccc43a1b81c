//! Writers at once, deletions in steps, watches from nowhere.

use anyhow::ensure;
use serde_json::{Value, json};

use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::operations::version;
use crate::subject::Subject;

pub(super) const CASES: &[Case] = &[
    case!("races/patches at once all count", ApiServer, [], patches),
    case!("races/of those who put back the same version one wins", ApiServer, [], updates),
    case!("races/of those who make the same object one wins", ApiServer, [], creations),
    case!("races/how dependents fare is written on their owner", ApiServer, [], propagation),
    case!("races/what is being deleted takes changes but stays doomed", ApiServer, [], doomed),
    case!("races/a watch from nowhere begins with what there is", ApiServer, [], watch_from_nowhere),
    case!("races/collections are deleted as they are listed", ApiServer, [], collections),
];

/// Fewer than upstream tries again when another writer was faster.
const AT_ONCE: usize = 4;

async fn patches(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("races").await?;
    subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let path = space.core("configmaps/a");
    let patch = async |index: usize| {
        let body = json!({"data": {format!("key-{index}"): "1"}});
        subject.patch(&path, "merge", &body).await?.expect(200)
    };
    for result in futures::future::join_all((0..AT_ONCE).map(patch)).await {
        result?;
    }
    let whole = subject.get(&path).await?.expect(200)?;
    let count = whole["data"].as_object().map_or(0, serde_json::Map::len);
    ensure!(count == AT_ONCE + 1, "a patch was lost: {}", whole["data"]);
    space.end().await
}

async fn updates(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("races").await?;
    let made = subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let path = space.core("configmaps/a");
    let put = async |index: usize| {
        let mut body = made.clone();
        body["data"]["key"] = json!(format!("by {index}"));
        subject.put(&path, &body).await
    };
    let answers = futures::future::join_all((0..AT_ONCE).map(put)).await;
    let answers = answers.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let codes: Vec<u16> = answers.iter().map(|answer| answer.code).collect();
    ensure!(codes.iter().filter(|code| **code == 200).count() == 1, "{codes:?}");
    ensure!(codes.iter().filter(|code| **code == 409).count() == AT_ONCE - 1, "{codes:?}");
    space.end().await
}

async fn creations(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("races").await?;
    let all = space.core("configmaps");
    let map = config_map("a", "1");
    let make = async |_: usize| subject.post(&all, &map).await;
    let answers = futures::future::join_all((0..AT_ONCE).map(make)).await;
    let answers = answers.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let codes: Vec<u16> = answers.iter().map(|answer| answer.code).collect();
    ensure!(codes.iter().filter(|code| **code == 201).count() == 1, "{codes:?}");
    ensure!(codes.iter().filter(|code| **code == 409).count() == AT_ONCE - 1, "{codes:?}");
    space.end().await
}

fn finalizers(object: &Value) -> Vec<&str> {
    let list = object["metadata"]["finalizers"].as_array().into_iter().flatten();
    let mut names: Vec<&str> = list.filter_map(Value::as_str).collect();
    names.sort_unstable();
    names
}

async fn propagation(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("races").await?;
    for (policy, wanted) in [
        (json!({"propagationPolicy": "Foreground"}), vec!["example.com/held", "foregroundDeletion"]),
        (json!({"propagationPolicy": "Orphan"}), vec!["example.com/held", "orphan"]),
        (json!({"orphanDependents": true}), vec!["example.com/held", "orphan"]),
        (json!({"orphanDependents": false}), vec!["example.com/held"]),
        (json!({"propagationPolicy": "Background"}), vec!["example.com/held"]),
    ] {
        let mut map = config_map("a", "1");
        map["metadata"]["finalizers"] = json!(["example.com/held"]);
        subject.post(&space.core("configmaps"), &map).await?.expect(201)?;
        let path = space.core("configmaps/a");
        // Only the old way to ask for dependents is answered so.
        let code = if policy["orphanDependents"] == false { 202 } else { 200 };
        let pending = subject.delete_with(&path, &policy).await?.expect(code)?;
        ensure!(
            finalizers(&pending) == wanted,
            "{policy}: {wanted:?} expected, not {:?}",
            finalizers(&pending)
        );
        ensure!(pending["metadata"]["deletionTimestamp"].is_string(), "{}", pending["metadata"]);
        let free = json!({"metadata": {"finalizers": null}});
        subject.patch(&path, "merge", &free).await?.expect(200)?;
        subject.get(&path).await?.refused(404, "NotFound")?;
    }
    space.end().await
}

async fn doomed(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("races").await?;
    let mut map = config_map("a", "1");
    map["metadata"]["finalizers"] = json!(["example.com/held"]);
    subject.post(&space.core("configmaps"), &map).await?.expect(201)?;
    let path = space.core("configmaps/a");
    let first = subject.delete(&path).await?.expect(200)?;
    let patch = json!({"data": {"key": "2"}, "metadata": {"deletionTimestamp": null}});
    let changed = subject.patch(&path, "merge", &patch).await?.expect(200)?;
    ensure!(changed["data"]["key"] == "2", "{changed}");
    ensure!(changed["metadata"]["deletionTimestamp"] == first["metadata"]["deletionTimestamp"], "{changed}");
    ensure!(version(&changed)? > version(&first)?, "{changed}");
    let again = subject.delete(&path).await?.expect(200)?;
    ensure!(again["metadata"]["deletionTimestamp"] == first["metadata"]["deletionTimestamp"], "{again}");
    subject.post(&space.core("configmaps"), &config_map("a", "3")).await?.refused(409, "AlreadyExists")?;
    // A document without finalizers lets it go.
    subject.put(&path, &config_map("a", "4")).await?.expect(200)?;
    subject.get(&path).await?.refused(404, "NotFound")?;
    space.end().await
}

async fn watch_from_nowhere(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("races").await?;
    subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    for query in ["", "&resourceVersion=0"] {
        let path = space.core(&format!("configmaps?fieldSelector=metadata.name%3Da{query}"));
        let mut watch = subject.watch(&path).await?;
        watch.expect("ADDED", "a").await?;
        let patch = json!({"data": {"key": format!("changed{query}")}});
        subject.patch(&space.core("configmaps/a"), "merge", &patch).await?.expect(200)?;
        watch.expect("MODIFIED", "a").await?;
    }
    // One object by its own path.
    let mut watch = subject.watch(&space.core("configmaps?fieldSelector=metadata.name%3Db")).await?;
    subject.post(&space.core("configmaps"), &config_map("b", "1")).await?.expect(201)?;
    watch.expect("ADDED", "b").await?;
    space.end().await
}

async fn collections(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("races").await?;
    for name in ["a", "b", "c"] {
        let mut map = config_map(name, "1");
        map["metadata"]["labels"] = json!({"set": "ours"});
        subject.post(&space.core("configmaps"), &map).await?.expect(201)?;
    }
    let all = space.core("configmaps");
    let tried = subject.delete(&format!("{all}?labelSelector=set&dryRun=All")).await?.expect(200)?;
    ensure!(tried["kind"] == "ConfigMapList" && crate::operations::count(&tried, "items") == 3, "{tried}");
    let one = subject.delete(&format!("{all}?fieldSelector=metadata.name%3Db")).await?.expect(200)?;
    ensure!(one["items"][0]["metadata"]["name"] == "b", "what was deleted is answered: {one}");
    let left = subject.get(&format!("{all}?labelSelector=set")).await?.expect(200)?;
    ensure!(crate::operations::count(&left, "items") == 2, "{left}");
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Other"});
    subject.delete_with(&format!("{all}?labelSelector=set"), &options).await?.refused(422, "Invalid")?;
    subject.delete(&format!("{all}?labelSelector=set")).await?.expect(200)?;
    let left = subject.get(&format!("{all}?labelSelector=set")).await?.expect(200)?;
    ensure!(left["items"] == json!([]), "{left}");
    space.end().await
}
