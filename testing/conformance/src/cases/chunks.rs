//! Lists in pages, with all counts, and pages of a state that is compacted away.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::case;
use crate::case::{Case, skip};
use crate::subject::{Namespace, Subject, text};

pub(super) const CASES: &[Case] = &[
    case!(
        "chunks/count what is left, in one state and order",
        ApiServer,
        ["Servers with support for API chunking should return chunks of results for list calls"],
        counted
    ),
    case!(
        "chunks/go on in the present when the state is compacted away",
        ApiServer,
        [
            "Servers with support for API chunking should support continue listing from the last key if the original version has been compacted away, though the list is inconsistent [Slow]"
        ],
        compacted
    ),
];

/// Templates in all.
const COUNT: usize = 40;

async fn filled(subject: &Subject) -> anyhow::Result<Namespace<'_>> {
    let space = subject.namespace("chunks").await?;
    let create = async |index: usize| {
        let template = json!({
            "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": format!("template-{index:04}")},
            "template": {"spec": {"containers": [{"name": "c", "image": "example.com/c:1"}]}},
        });
        subject.post(&space.core("podtemplates"), &template).await?.expect(201)
    };
    for result in futures::future::join_all((0..COUNT).map(create)).await {
        result?;
    }
    Ok(space)
}

/// Checks a page that begins at item `found`; answers the next beginning and the token.
fn page(list: &Value, limit: usize, found: usize) -> anyhow::Result<(usize, String)> {
    let items = list["items"].as_array().context("no items")?;
    ensure!(items.len() <= limit, "{} items on a page of {limit}", items.len());
    for (index, item) in items.iter().enumerate() {
        let wanted = format!("template-{:04}", found + index);
        ensure!(item["metadata"]["name"] == *wanted, "{wanted} expected, not {}", item["metadata"]["name"]);
    }
    let token = list["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    let left = &list["metadata"]["remainingItemCount"];
    let next = found + items.len();
    if token.is_empty() {
        ensure!(left.is_null() && next == COUNT, "the last page: {}", list["metadata"]);
    } else {
        ensure!(*left == COUNT - next, "{} are left, not {left}", COUNT - next);
    }
    Ok((next, token))
}

async fn counted(subject: &Subject) -> anyhow::Result<()> {
    let space = filled(subject).await?;
    let all = space.core("podtemplates");
    let (mut found, mut token, mut version) = (0, String::new(), String::new());
    loop {
        let list = subject.get(&format!("{all}?limit=17&continue={token}")).await?.expect(200)?;
        let own = text(&list, "/metadata/resourceVersion")?;
        ensure!(version.is_empty() || version == own, "another state on a later page: {}", list["metadata"]);
        version = own.to_owned();
        (found, token) = page(&list, 17, found)?;
        if token.is_empty() {
            break;
        }
    }
    let whole = subject.get(&format!("{all}?limit={}", COUNT + 1)).await?.expect(200)?;
    page(&whole, COUNT + 1, 0)?;
    space.end().await
}

/// A token of the first state there was: what a client holds that paused for very long. (Tokens are opaque to clients; this
/// is the form that every version of Kubernetes writes.)
fn aged(token: &str) -> Option<String> {
    let mut token: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    token.get("rv")?;
    token["rv"] = json!(1);
    Some(URL_SAFE_NO_PAD.encode(token.to_string()))
}

async fn compacted(subject: &Subject) -> anyhow::Result<()> {
    let space = filled(subject).await?;
    let all = space.core("podtemplates");
    let limit = COUNT / 10;
    let first = subject.get(&format!("{all}?limit={limit}")).await?.expect(200)?;
    let (mut found, token) = page(&first, limit, 0)?;
    let aged = aged(&token).ok_or_else(|| skip("the subject's continue tokens have a form of their own"))?;
    let expired = subject.get(&format!("{all}?limit={limit}&continue={aged}")).await?;
    if expired.code == 200 {
        space.end().await?;
        return Err(skip("the subject has compacted nothing away yet"));
    }
    expired.refused(410, "Expired")?;
    let mut token = text(&expired.json, "/metadata/continue")?.to_owned();
    ensure!(!token.is_empty(), "no token to go on with: {}", expired.json);
    let mut version = String::new();
    while !token.is_empty() {
        let list = subject.get(&format!("{all}?limit={limit}&continue={token}")).await?.expect(200)?;
        let own = text(&list, "/metadata/resourceVersion")?;
        ensure!(version.is_empty() || version == own, "another state on a later page: {}", list["metadata"]);
        version = own.to_owned();
        (found, token) = page(&list, limit, found)?;
    }
    ensure!(found == COUNT, "{found} templates on all pages, not {COUNT}");
    space.end().await
}
