//! The forms objects come in.

use anyhow::ensure;
use serde_json::json;

use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::subject::{Subject, field};

pub(super) const CASES: &[Case] = &[
    case!("media types/tables have columns and rows", ApiServer, [], tables),
    case!("media types/metadata alone", ApiServer, [], metadata),
    case!("media types/YAML both ways", ApiServer, [], yaml),
    case!("media types/protobuf begins with its magic", ApiServer, [], protobuf),
    case!(
        "media types/what cannot be a table is refused",
        ApiServer,
        [
            "Servers with support for Table transformation should return a 406 for a backend which does not implement metadata",
        ],
        no_table
    ),
];

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

async fn tables(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("media").await?;
    subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    for path in [space.core("configmaps?fieldSelector=metadata.name%3Da"), space.core("configmaps/a")] {
        let table = subject.get_as(&path, TABLE).await?.expect(200)?;
        ensure!(table["kind"] == "Table" && table["apiVersion"] == "meta.k8s.io/v1", "{table}");
        let columns: Vec<_> = field(&table, "/columnDefinitions")?
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|column| column["name"].as_str())
            .collect();
        ensure!(columns == ["Name", "Data", "Age"], "{columns:?}");
        let row = field(&table, "/rows/0")?;
        ensure!(row["cells"][0] == "a" && row["cells"][1] == 1, "{row}");
        ensure!(row["object"]["kind"] == "PartialObjectMetadata", "{row}");
    }
    let whole = subject.get_as(&space.core("configmaps/a?includeObject=Object"), TABLE).await?.expect(200)?;
    ensure!(whole["rows"][0]["object"]["kind"] == "ConfigMap", "{whole}");
    let none = subject.get_as(&space.core("configmaps/a?includeObject=None"), TABLE).await?.expect(200)?;
    ensure!(none["rows"][0].get("object").is_none_or(serde_json::Value::is_null), "{none}");
    space.end().await
}

async fn metadata(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("media").await?;
    subject.post(&space.core("configmaps"), &config_map("a", "1")).await?.expect(201)?;
    let accept = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let one = subject.get_as(&space.core("configmaps/a"), accept).await?.expect(200)?;
    ensure!(one["kind"] == "PartialObjectMetadata" && one.get("data").is_none(), "{one}");
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let list = subject.get_as(&space.core("configmaps"), accept).await?.expect(200)?;
    ensure!(list["kind"] == "PartialObjectMetadataList", "{list}");
    space.end().await
}

async fn yaml(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("media").await?;
    let headers = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  key: \"1\"\n";
    let answer = subject.send(http::Method::POST, &space.core("configmaps"), &headers, text).await?;
    ensure!(answer.code == 201, "{}", String::from_utf8_lossy(&answer.bytes));
    let shown = String::from_utf8_lossy(&answer.bytes).into_owned();
    ensure!(shown.contains("kind: ConfigMap"), "{shown}");
    let refused = subject.get_as(&space.core("configmaps?watch=1"), "application/yaml").await?;
    // The refusal itself is YAML.
    ensure!(refused.code == 406, "{}", refused.code);
    space.end().await
}

async fn protobuf(subject: &Subject) -> anyhow::Result<()> {
    let accept = "application/vnd.kubernetes.protobuf";
    for path in ["/api/v1/namespaces/default", "/api/v1/namespaces"] {
        let answer = subject.get_as(path, accept).await?;
        ensure!(answer.code == 200, "{}", answer.code);
        ensure!(
            answer.bytes.starts_with(b"k8s\0"),
            "{path}: {:?}",
            &answer.bytes[..8.min(answer.bytes.len())]
        );
        let content = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
        ensure!(content == Some(accept), "{content:?}");
    }
    let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
    subject.get_as("/api/v1/namespaces", table).await?.refused(406, "NotAcceptable")?;
    let first = "application/vnd.kubernetes.protobuf;q=0.1,application/json;q=0.9";
    subject.get_as("/api/v1/namespaces/default", first).await?.expect(200)?;
    Ok(())
}

async fn no_table(subject: &Subject) -> anyhow::Result<()> {
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let headers = [("content-type", "application/json"), ("accept", TABLE)];
    let answer = subject.send(http::Method::POST, path, &headers, review.to_string()).await?;
    ensure!(answer.code == 406, "{} {}", answer.code, answer.json);
    Ok(())
}
