//! What a server says it serves, and that it is so.

use anyhow::ensure;
use serde_json::Value;

use crate::case;
use crate::case::Case;
use crate::subject::{Subject, field, text};

pub(super) const CASES: &[Case] = &[
    case!(
        "discovery/every group version lists its resources",
        ApiServer,
        [
            "Discovery should locate the groupVersion and a resource within each APIGroup",
            "Discovery should validate PreferredVersion for each APIGroup",
        ],
        groups
    ),
    case!(
        "discovery/the aggregated form says the same",
        ApiServer,
        [
            "AggregatedDiscovery should support raw aggregated discovery endpoint Accept headers",
            "AggregatedDiscovery should support aggregated discovery interface",
        ],
        aggregated
    ),
    case!(
        "discovery/the version is told",
        ApiServer,
        ["server version should find the server version"],
        version
    ),
    case!("discovery/health is told", ApiServer, [], health),
    case!("discovery/OpenAPI v3 documents are found by their index", ApiServer, [], openapi_v3),
    case!("discovery/OpenAPI v2 has merge keys", ApiServer, [], openapi_v2),
    case!("discovery/entity tags save the second answer", ApiServer, [], entity_tags),
];

fn list<'a>(document: &'a Value, pointer: &str) -> anyhow::Result<&'a Vec<Value>> {
    field(document, pointer)?.as_array().ok_or_else(|| anyhow::anyhow!("no list at {pointer} of {document}"))
}

async fn groups(subject: &Subject) -> anyhow::Result<()> {
    let groups = subject.get("/apis").await?.expect(200)?;
    ensure!(groups["kind"] == "APIGroupList", "{groups}");
    for group in list(&groups, "/groups")? {
        let preferred = text(group, "/preferredVersion/groupVersion")?;
        let mut found = false;
        for version in list(group, "/versions")? {
            let version = text(version, "/groupVersion")?;
            found |= version == preferred;
            let resources = subject.get(&format!("/apis/{version}")).await?.expect(200)?;
            ensure!(resources["groupVersion"] == version, "{resources}");
            ensure!(!list(&resources, "/resources")?.is_empty(), "{version} has no resources");
        }
        ensure!(found, "{preferred} is not among the versions of {group}");
        let single = subject.get(&format!("/apis/{}", text(group, "/name")?)).await?.expect(200)?;
        ensure!(single["versions"] == group["versions"], "{single}");
    }
    let core = subject.get("/api/v1").await?.expect(200)?;
    let pods = list(&core, "/resources")?.iter().find(|resource| resource["name"] == "pods");
    let pods = pods.ok_or_else(|| anyhow::anyhow!("no pods in {core}"))?;
    ensure!(pods["namespaced"] == true && pods["shortNames"][0] == "po", "{pods}");
    Ok(())
}

async fn aggregated(subject: &Subject) -> anyhow::Result<()> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    for root in ["/api", "/apis"] {
        let answer = subject.get_as(root, accept).await?;
        let content =
            answer.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        ensure!(content == accept, "{root}: {content}");
        let document = answer.expect(200)?;
        ensure!(document["kind"] == "APIGroupDiscoveryList", "{document}");
        ensure!(document["apiVersion"] == "apidiscovery.k8s.io/v2", "{document}");
        for group in list(&document, "/items")? {
            let name = group["metadata"]["name"].as_str().unwrap_or_default();
            for version in list(group, "/versions")? {
                let version_name = text(version, "/version")?;
                let path = if name.is_empty() {
                    format!("/api/{version_name}")
                } else {
                    format!("/apis/{name}/{version_name}")
                };
                let plain = subject.get(&path).await?.expect(200)?;
                let top: Vec<&str> = list(&plain, "/resources")?
                    .iter()
                    .filter_map(|resource| resource["name"].as_str())
                    .filter(|name| !name.contains('/'))
                    .collect();
                for resource in list(version, "/resources")? {
                    let resource = text(resource, "/resource")?;
                    ensure!(
                        top.contains(&resource)
                            || list(&plain, "/resources")?.iter().any(|plain| {
                                plain["name"]
                                    .as_str()
                                    .is_some_and(|name| name.starts_with(&format!("{resource}/")))
                            }),
                        "{path} does not list {resource}"
                    );
                }
            }
        }
    }
    let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    let fallback = format!("{beta},application/json");
    ensure!(subject.get_as("/apis", &fallback).await?.code == 200);
    Ok(())
}

async fn version(subject: &Subject) -> anyhow::Result<()> {
    let version = subject.get("/version").await?.expect(200)?;
    for key in ["major", "minor", "gitVersion", "platform"] {
        ensure!(version[key].is_string(), "{key} of {version}");
    }
    Ok(())
}

async fn health(subject: &Subject) -> anyhow::Result<()> {
    for path in ["/healthz", "/livez", "/readyz"] {
        let answer = subject.get(path).await?;
        ensure!(
            answer.code == 200 && &answer.bytes[..] == b"ok",
            "{path}: {} {:?}",
            answer.code,
            answer.bytes
        );
        let verbose = subject.get(&format!("{path}?verbose")).await?;
        let lines = String::from_utf8_lossy(&verbose.bytes).into_owned();
        ensure!(lines.contains("[+]ping ok"), "{path}?verbose: {lines}");
    }
    let ping = subject.get("/livez/ping").await?;
    ensure!(ping.code == 200 && &ping.bytes[..] == b"ok", "{:?}", ping.bytes);
    Ok(())
}

async fn openapi_v3(subject: &Subject) -> anyhow::Result<()> {
    let index = subject.get("/openapi/v3").await?.expect(200)?;
    let path = text(&index, "/paths/apis~1apps~1v1/serverRelativeURL")?;
    ensure!(path.contains("hash="), "{path}");
    let document = subject.get(path).await?.expect(200)?;
    let deployment = field(&document, "/components/schemas/io.k8s.api.apps.v1.Deployment")?;
    ensure!(deployment["x-kubernetes-group-version-kind"][0]["kind"] == "Deployment", "{deployment}");
    let path = field(&document, "/paths/~1apis~1apps~1v1~1namespaces~1{namespace}~1deployments/post")?;
    let parameters = path["parameters"].to_string();
    ensure!(parameters.contains("\"fieldValidation\""), "kubectl looks for fieldValidation in {parameters}");
    Ok(())
}

async fn openapi_v2(subject: &Subject) -> anyhow::Result<()> {
    let document = subject.get("/openapi/v2").await?.expect(200)?;
    let containers = field(&document, "/definitions/io.k8s.api.core.v1.PodSpec/properties/containers")?;
    ensure!(containers["x-kubernetes-patch-merge-key"] == "name", "{containers}");
    ensure!(containers["x-kubernetes-list-type"] == "map", "{containers}");
    Ok(())
}

async fn entity_tags(subject: &Subject) -> anyhow::Result<()> {
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let first = subject.get_as("/apis", accept).await?;
    let tag = first.headers.get("etag").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    ensure!(!tag.is_empty(), "no entity tag");
    let headers = [("accept", accept), ("if-none-match", tag.as_str())];
    let second = subject.send(http::Method::GET, "/apis", &headers, "").await?;
    // Something may have been added in between: then the tag must differ.
    let now = second.headers.get("etag").and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(second.code == 304 || now != tag, "{} with the same tag", second.code);
    Ok(())
}
