//! Lists: selectors, pages, and which state they show.

use anyhow::{anyhow, ensure};
use serde_json::{Value, json};

use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::subject::{Namespace, Subject, text};

pub(super) const CASES: &[Case] = &[
    case!("lists/selectors by label and field", ApiServer, [], selectors),
    case!(
        "lists/pages show one state",
        ApiServer,
        ["Servers with support for API chunking should return chunks of results for list calls",],
        pages
    ),
    case!("lists/combinations of versions that make no sense", ApiServer, [], combinations),
    case!("lists/an exact past state", ApiServer, [], exact),
    case!("lists/a version from the future", ApiServer, [], future),
];

async fn filled(subject: &Subject, count: usize) -> anyhow::Result<Namespace<'_>> {
    let space = subject.namespace("lists").await?;
    for index in 0..count {
        let mut map = config_map(&format!("m{index}"), "1");
        map["metadata"]["labels"] =
            json!({"set": "ours", "parity": if index % 2 == 0 { "even" } else { "odd" }});
        subject.post(&space.core("configmaps"), &map).await?.expect(201)?;
    }
    Ok(space)
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

async fn selectors(subject: &Subject) -> anyhow::Result<()> {
    let space = filled(subject, 4).await?;
    for (query, wanted) in [
        ("labelSelector=parity%3Dodd", vec!["m1", "m3"]),
        ("labelSelector=parity%20in%20(odd),set", vec!["m1", "m3"]),
        ("labelSelector=set%3Dours,parity!%3Dodd", vec!["m0", "m2"]),
        ("labelSelector=parity%20notin%20(odd,even),set", vec![]),
        ("fieldSelector=metadata.name%3Dm2", vec!["m2"]),
        ("fieldSelector=metadata.name!%3Dm2&labelSelector=set", vec!["m0", "m1", "m3"]),
    ] {
        let list = subject.get(&space.core(&format!("configmaps?{query}"))).await?.expect(200)?;
        ensure!(names(&list) == wanted, "{query}: {:?}", names(&list));
    }
    let wrong = subject.get(&space.core("configmaps?labelSelector=%3D%3Dx")).await?;
    wrong.refused(400, "BadRequest")?;
    space.end().await
}

async fn pages(subject: &Subject) -> anyhow::Result<()> {
    let space = filled(subject, 7).await?;
    let query = "configmaps?labelSelector=set";
    let first = subject.get(&space.core(&format!("{query}&limit=3"))).await?.expect(200)?;
    ensure!(names(&first) == ["m0", "m1", "m2"], "{:?}", names(&first));
    let version = text(&first, "/metadata/resourceVersion")?.to_owned();
    // With a selector the number of those left is not known to the server.
    ensure!(first["metadata"].get("remainingItemCount").is_none(), "{}", first["metadata"]);
    subject.delete(&space.core("configmaps/m6")).await?.expect(200)?;
    let (mut seen, mut token) = (3, text(&first, "/metadata/continue")?.to_owned());
    while !token.is_empty() {
        let path = space.core(&format!("{query}&limit=3&continue={token}"));
        let page = subject.get(&path).await?.expect(200)?;
        ensure!(text(&page, "/metadata/resourceVersion")? == version, "{}", page["metadata"]);
        seen += names(&page).len();
        token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    }
    ensure!(seen == 7, "{seen} objects on all pages of one state");
    let rest = subject.get(&space.core("configmaps?limit=1")).await?.expect(200)?;
    let remaining =
        rest["metadata"]["remainingItemCount"].as_i64().ok_or_else(|| anyhow!("{}", rest["metadata"]))?;
    ensure!(remaining >= 5, "{remaining}");
    space.end().await
}

async fn combinations(subject: &Subject) -> anyhow::Result<()> {
    let space = filled(subject, 3).await?;
    let page = subject.get(&space.core("configmaps?limit=1")).await?.expect(200)?;
    let token = text(&page, "/metadata/continue")?;
    for query in [
        "resourceVersionMatch=Exact".to_owned(),
        "resourceVersionMatch=Exact&resourceVersion=0".to_owned(),
        "resourceVersionMatch=Other&resourceVersion=1".to_owned(),
        format!("limit=1&continue={token}&resourceVersionMatch=NotOlderThan"),
        "resourceVersion=x".to_owned(),
        "continue=rubbish".to_owned(),
        "limit=x".to_owned(),
    ] {
        let answer = subject.get(&space.core(&format!("configmaps?{query}"))).await?;
        ensure!(matches!(answer.code, 400 | 422), "{query}: {} {}", answer.code, answer.json);
    }
    space.end().await
}

async fn exact(subject: &Subject) -> anyhow::Result<()> {
    let space = filled(subject, 2).await?;
    let before = subject.get(&space.core("configmaps?labelSelector=set")).await?.expect(200)?;
    let version = text(&before, "/metadata/resourceVersion")?;
    subject.delete(&space.core("configmaps/m0")).await?.expect(200)?;
    let query = format!("configmaps?labelSelector=set&resourceVersion={version}&resourceVersionMatch=Exact");
    let past = subject.get(&space.core(&query)).await?.expect(200)?;
    ensure!(names(&past) == ["m0", "m1"], "{:?}", names(&past));
    ensure!(text(&past, "/metadata/resourceVersion")? == version, "{}", past["metadata"]);
    let now = subject.get(&space.core("configmaps?labelSelector=set")).await?.expect(200)?;
    ensure!(names(&now) == ["m1"], "{:?}", names(&now));
    let query =
        format!("configmaps?labelSelector=set&resourceVersion={version}&resourceVersionMatch=NotOlderThan");
    subject.get(&space.core(&query)).await?.expect(200)?;
    space.end().await
}

async fn future(subject: &Subject) -> anyhow::Result<()> {
    let answer = subject.get("/api/v1/namespaces/default/configmaps?resourceVersion=999999999999").await?;
    ensure!(answer.code == 504 && answer.reason() == "Timeout", "{} {}", answer.code, answer.json);
    ensure!(answer.message().contains("Too large resource version"), "{}", answer.json);
    let cause = &answer.json["details"]["causes"][0]["reason"];
    ensure!(cause == "ResourceVersionTooLarge", "{}", answer.json);
    ensure!(answer.json["details"]["retryAfterSeconds"] == 1, "{}", answer.json);
    Ok(())
}
