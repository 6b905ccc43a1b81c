//! Watches: nothing missed, nothing twice, in order.

use anyhow::ensure;
use serde_json::json;

use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::subject::{Subject, text};

pub(super) const CASES: &[Case] = &[
    case!(
        "watches/tell what is added, changed and deleted",
        ApiServer,
        ["Watchers should observe add, update, and delete watch notifications on configmaps",],
        changes
    ),
    case!(
        "watches/go on from any version",
        ApiServer,
        [
            "Watchers should be able to restart watching from the last resource version observed by the previous watch",
            "Watchers should be able to start watching from a specific resource version",
        ],
        resumed
    ),
    case!(
        "watches/objects come and go with a selection",
        ApiServer,
        ["Watchers should observe an object deletion if it stops meeting the requirements of the selector",],
        selection
    ),
    case!(
        "watches/all see one order",
        ApiServer,
        ["Watchers should receive events on concurrent watches in same order",],
        one_order
    ),
    case!("watches/begin with the state when asked", ApiServer, [], watch_list),
    case!("watches/refuse what they cannot do", ApiServer, [], refusals),
    case!("watches/end when told", ApiServer, [], timeouts),
    case!("watches/a version from too long ago is expired", ApiServer, [], expired),
];

async fn changes(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("watches").await?;
    let list = subject.get(&space.core("configmaps")).await?.expect(200)?;
    let version = text(&list, "/metadata/resourceVersion")?;
    let query = format!("configmaps?resourceVersion={version}&fieldSelector=metadata.name%3Da");
    let mut watch = subject.watch(&space.core(&query)).await?;
    let created = subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let added = watch.expect("ADDED", "a").await?;
    ensure!(added["metadata"]["resourceVersion"] == created["metadata"]["resourceVersion"], "{added}");
    ensure!(added["kind"] == "ConfigMap" && added["apiVersion"] == "v1", "{added}");
    let patch = json!({"data": {"key": "2"}});
    subject.patch(&space.core("configmaps/a"), "merge", &patch).await?.expect(200)?;
    let modified = watch.expect("MODIFIED", "a").await?;
    ensure!(modified["data"]["key"] == "2", "{modified}");
    subject.delete(&space.core("configmaps/a")).await?.expect(200)?;
    let deleted = watch.expect("DELETED", "a").await?;
    let version = |object: &serde_json::Value| {
        object["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or_default()
    };
    ensure!(version(&deleted) > version(&modified), "the deletion has a version of its own");
    ensure!(deleted["data"]["key"] == "2", "the last state: {deleted}");
    space.end().await
}

async fn resumed(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("watches").await?;
    let all = space.core("configmaps");
    let created = subject.post(&all, &config_map("a", "1")).await?.expect(201)?;
    for value in ["2", "3"] {
        let patch = json!({"data": {"key": value}});
        subject.patch(&space.core("configmaps/a"), "merge", &patch).await?.expect(200)?;
    }
    subject.delete(&space.core("configmaps/a")).await?.expect(200)?;
    let version = text(&created, "/metadata/resourceVersion")?;
    let mut watch =
        subject.watch(&format!("{all}?resourceVersion={version}&fieldSelector=metadata.name%3Da")).await?;
    let second = watch.expect("MODIFIED", "a").await?;
    ensure!(second["data"]["key"] == "2", "{second}");
    drop(watch);
    let version = text(&second, "/metadata/resourceVersion")?;
    let mut watch =
        subject.watch(&format!("{all}?resourceVersion={version}&fieldSelector=metadata.name%3Da")).await?;
    ensure!(watch.expect("MODIFIED", "a").await?["data"]["key"] == "3");
    watch.expect("DELETED", "a").await?;
    space.end().await
}

async fn selection(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("watches").await?;
    let mut map = config_map("a", "1");
    map["metadata"]["labels"] = json!({"watched": "yes"});
    let list = subject.get(&space.core("configmaps")).await?.expect(200)?;
    let version = text(&list, "/metadata/resourceVersion")?;
    let query = format!("configmaps?resourceVersion={version}&labelSelector=watched%3Dyes");
    let mut watch = subject.watch(&space.core(&query)).await?;
    subject.post(&space.core("configmaps"), &map).await?.expect(201)?;
    watch.expect("ADDED", "a").await?;
    let path = space.core("configmaps/a");
    let relabel = |value: &str| json!({"metadata": {"labels": {"watched": value}}});
    subject.patch(&path, "merge", &relabel("no")).await?.expect(200)?;
    let gone = watch.expect("DELETED", "a").await?;
    ensure!(gone["metadata"]["labels"]["watched"] == "yes", "its last state in the selection: {gone}");
    subject.patch(&path, "merge", &json!({"data": {"key": "unseen"}})).await?.expect(200)?;
    subject.patch(&path, "merge", &relabel("yes")).await?.expect(200)?;
    let back = watch.expect("ADDED", "a").await?;
    ensure!(back["data"]["key"] == "unseen", "{back}");
    subject.delete(&path).await?.expect(200)?;
    watch.expect("DELETED", "a").await?;
    space.end().await
}

async fn one_order(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("watches").await?;
    let list = subject.get(&space.core("configmaps")).await?.expect(200)?;
    let version = text(&list, "/metadata/resourceVersion")?;
    let path = space.core(&format!("configmaps?resourceVersion={version}&labelSelector=ordered"));
    let mut watches = Vec::new();
    for _ in 0..5 {
        watches.push(subject.watch(&path).await?);
    }
    let create = async |index: usize| {
        let mut map = config_map(&format!("m{index}"), "1");
        map["metadata"]["labels"] = json!({"ordered": "yes"});
        subject.post(&space.core("configmaps"), &map).await?.expect(201)
    };
    for result in futures::future::join_all((0..20).map(create)).await {
        result?;
    }
    let mut orders = Vec::new();
    for watch in &mut watches {
        let mut order = Vec::new();
        while order.len() < 20 {
            let object = watch.find("ADDED").await?;
            order.push(text(&object, "/metadata/resourceVersion")?.to_owned());
        }
        orders.push(order);
    }
    ensure!(orders.windows(2).all(|pair| pair[0] == pair[1]), "{orders:?}");
    space.end().await
}

async fn watch_list(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("watches").await?;
    for name in ["a", "b"] {
        subject.post(&space.core("configmaps"), &config_map(name, "1")).await?.expect(201)?;
    }
    let query =
        "configmaps?sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = subject.watch(&space.core(query)).await?;
    let mut names = Vec::new();
    loop {
        let Some((kind, object)) = watch.next().await? else { anyhow::bail!("ended before the bookmark") };
        if kind == "BOOKMARK" {
            let mark = &object["metadata"]["annotations"]["k8s.io/initial-events-end"];
            ensure!(mark == "true", "{object}");
            break;
        }
        ensure!(kind == "ADDED", "{kind} {object}");
        names.push(text(&object, "/metadata/name")?.to_owned());
    }
    ensure!(names.contains(&"a".to_owned()) && names.contains(&"b".to_owned()), "{names:?}");
    subject.delete(&space.core("configmaps/a")).await?.expect(200)?;
    watch.expect("DELETED", "a").await?;
    space.end().await
}

async fn refusals(subject: &Subject) -> anyhow::Result<()> {
    for query in [
        "sendInitialEvents=true&allowWatchBookmarks=true",
        "sendInitialEvents=true&resourceVersionMatch=Exact",
        "resourceVersionMatch=NotOlderThan",
    ] {
        let path = format!("/api/v1/namespaces/default/configmaps?watch=1&{query}");
        let answer = subject.get(&path).await?;
        ensure!(
            answer.code == 422 && answer.reason() == "Invalid",
            "{query}: {} {}",
            answer.code,
            answer.json
        );
    }
    Ok(())
}

async fn timeouts(subject: &Subject) -> anyhow::Result<()> {
    let path = "/api/v1/namespaces/default/configmaps?timeoutSeconds=1&fieldSelector=metadata.name%3Dnothing";
    let mut watch = subject.watch(path).await?;
    while let Some((kind, object)) = watch.next().await? {
        ensure!(kind == "BOOKMARK", "{kind} {object}");
    }
    Ok(())
}

async fn expired(subject: &Subject) -> anyhow::Result<()> {
    let path = "/api/v1/namespaces/default/configmaps?resourceVersion=1&resourceVersionMatch=Exact";
    let answer = subject.get(path).await?;
    // Nothing has been compacted away in a server that is five minutes old.
    ensure!(matches!(answer.code, 200 | 410), "{} {}", answer.code, answer.json);
    if answer.code == 410 {
        ensure!(answer.reason() == "Expired", "{}", answer.json);
    }
    Ok(())
}
