//! Asking one cluster through the hub.

use anyhow::Context as _;
use fleet_objects::cluster_proxy_path;
use http::{Request, header};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::kinds;
use crate::failure::{Code, Failure};

/// Objects in one answer.
const PAGE: usize = 500;

/// Objects of one cluster at most: what a person looks through, and more than that.
const MAX_OBJECTS: usize = 50_000;

/// One answer at most: five hundred objects of 128 kB.
const MAX_ANSWER: usize = 64 << 20;

const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// What is wanted of every cluster.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) kind: String,
    pub(super) name: Option<String>,
    /// `None`: every namespace.
    pub(super) namespace: Option<String>,
    pub(super) selector: Option<String>,
    pub(super) table: bool,
}

/// What a cluster answered.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// A table's columns.
    pub(super) columns: Vec<Value>,
    /// A table's rows, or objects.
    pub(super) items: Vec<Value>,
    /// Whether the kind's objects are in namespaces.
    pub(super) namespaced: bool,
}

/// Asks for everything, page by page.
pub(super) async fn fetch(client: &Client, cluster: &str, query: &Query) -> Result<Found, Failure> {
    let base = cluster_proxy_path(cluster);
    let documents = discovery(client, cluster).await?;
    let served = kinds::find(&documents, &query.kind);
    let served = served
        .ok_or_else(|| Failure::usage(format!("the server doesn't have a resource type {:?}", query.kind)))?;
    let namespace = match &query.namespace {
        Some(namespace) if served.namespaced => format!("/namespaces/{}", escape(namespace)),
        _ => String::new(),
    };
    let path = format!("{base}{}{namespace}/{}", served.root, served.plural);
    let mut found = Found { namespaced: served.namespaced, ..Found::default() };
    let accept = if query.table { TABLE } else { "application/json" };
    let mut next = String::new();
    loop {
        let answer = ask(client, &format!("{path}?{}", parameters(query, &next)), accept).await?;
        let key = if query.table { "rows" } else { "items" };
        if found.columns.is_empty() {
            found.columns = answer["columnDefinitions"].as_array().cloned().unwrap_or_default();
        }
        let kind = answer["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).map(str::to_owned);
        let version = answer["apiVersion"].clone();
        for mut item in answer[key].as_array().cloned().unwrap_or_default() {
            // The items of a list do not say what they are.
            if let (false, Some(kind), Some(object)) = (query.table, &kind, item.as_object_mut()) {
                object.entry("kind").or_insert_with(|| kind.clone().into());
                object.entry("apiVersion").or_insert_with(|| version.clone());
            }
            found.items.push(item);
        }
        next = answer["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        if next.is_empty() {
            return Ok(found);
        }
        if found.items.len() >= MAX_OBJECTS {
            return Err(Failure::negative(format!("it holds more than {MAX_OBJECTS}; ask for less with -l")));
        }
    }
}

fn parameters(query: &Query, next: &str) -> String {
    let mut text = format!("limit={PAGE}");
    if let Some(selector) = &query.selector {
        text.push_str(&format!("&labelSelector={}", escape(selector)));
    }
    if let Some(name) = &query.name {
        text.push_str(&format!("&fieldSelector={}", escape(&format!("metadata.name={name}"))));
    }
    if !next.is_empty() {
        text.push_str(&format!("&continue={}", escape(next)));
    }
    text
}

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A text as it can stand in a path's segment or a query.
pub(in crate::commands) fn escape(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// What a cluster serves: the aggregated discovery documents of `/api` and `/apis`.
pub(in crate::commands) async fn discovery(client: &Client, cluster: &str) -> Result<Vec<Value>, Failure> {
    let base = cluster_proxy_path(cluster);
    let mut documents = Vec::new();
    for root in ["/api", "/apis"] {
        documents.push(ask(client, &format!("{base}{root}"), DISCOVERY).await?);
    }
    Ok(documents)
}

async fn ask(client: &Client, path: &str, accept: &str) -> Result<Value, Failure> {
    let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty());
    send(client, request.map_err(|error| Failure::usage(error.to_string()))?).await
}

/// Sends a request by way of the hub; what the cluster says against it is the failure.
pub(in crate::commands) async fn send(client: &Client, request: Request<Body>) -> Result<Value, Failure> {
    let unreachable = |error: anyhow::Error| Failure::new(Code::Unreachable, error);
    let answer = client.send(request).await.context("the hub does not answer").map_err(unreachable)?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let bytes = body.map_err(|error| unreachable(anyhow::anyhow!("the answer was cut: {error}")))?.to_bytes();
    let value: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    if status.is_success() {
        return Ok(value);
    }
    let said = value["message"].as_str().map_or_else(|| format!("HTTP status {status}"), str::to_owned);
    let code = if status.is_client_error() { Code::Negative } else { Code::Unreachable };
    Err(Failure::new(code, anyhow::Error::msg(said)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_type_is_a_value_and_no_more() {
        let query = Query {
            kind: "pods".to_owned(),
            name: Some("a&limit=0".to_owned()),
            namespace: None,
            selector: Some("app in (a,b)".to_owned()),
            table: true,
        };
        assert_eq!(
            parameters(&query, "x/y=="),
            "limit=500&labelSelector=app%20in%20%28a%2Cb%29&fieldSelector=metadata.name%3Da%26limit%3D0&continue=x%2Fy%3D%3D"
        );
    }
}
