//! Errors are Status documents whose reason, code and details clients branch on.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::case;
use crate::case::Case;
use crate::subject::{Subject, text};

pub(super) const CASES: &[Case] = &[
    case!("errors/not found names the object", ApiServer, [], not_found),
    case!("errors/conflicts tell what exists from what changed", ApiServer, [], conflicts),
    case!(
        "errors/invalid objects name their fields",
        ApiServer,
        [
            "ConfigMap should fail to create ConfigMap with empty key",
            "Secrets should fail to create secret due to empty secret key",
        ],
        invalid
    ),
    case!("errors/requests that make no sense are refused as such", ApiServer, [], malformed),
    case!("errors/names are generated", ApiServer, [], generated),
    case!("errors/dry runs change nothing", ApiServer, [], dry_run),
];

/// A config map without a namespace.
pub(super) fn config_map(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": value}})
}

async fn not_found(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("errors").await?;
    for verb in ["GET", "DELETE", "PUT"] {
        let path = space.core("configmaps/nothing");
        let answer = match verb {
            "GET" => subject.get(&path).await?,
            "DELETE" => subject.delete(&path).await?,
            _ => {
                let mut body = config_map("nothing", "1");
                body["metadata"]["uid"] = json!("00000000-0000-0000-0000-000000000000");
                body["metadata"]["resourceVersion"] = json!("1");
                subject.put(&path, &body).await?
            }
        };
        answer.refused(404, "NotFound")?;
        ensure!(answer.message() == "configmaps \"nothing\" not found", "{}", answer.json);
        ensure!(
            answer.json["details"] == json!({"name": "nothing", "kind": "configmaps"}),
            "{}",
            answer.json["details"]
        );
        ensure!(answer.json["kind"] == "Status" && answer.json["apiVersion"] == "v1", "{}", answer.json);
    }
    let answer = subject.get("/apis/apps/v1/namespaces/default/nothings").await?;
    ensure!(answer.code == 404, "{}", answer.code);
    space.end().await
}

async fn conflicts(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("errors").await?;
    let all = space.core("configmaps");
    let created = subject.post(&all, &config_map("a", "1")).await?.expect(201)?;
    let again = subject.post(&all, &config_map("a", "1")).await?;
    again.refused(409, "AlreadyExists")?;
    ensure!(again.message() == "configmaps \"a\" already exists", "{}", again.json);
    let one = space.core("configmaps/a");
    let mut changed = created.clone();
    changed["data"]["key"] = json!("2");
    let updated = subject.put(&one, &changed).await?.expect(200)?;
    ensure!(text(&updated, "/metadata/resourceVersion")? != text(&created, "/metadata/resourceVersion")?);
    let stale = subject.put(&one, &changed).await?;
    stale.refused(409, "Conflict")?;
    ensure!(
        stale.message()
            == "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your \
                changes to the latest version and try again",
        "{}",
        stale.json
    );
    let same = subject.put(&one, &updated).await?.expect(200)?;
    ensure!(
        same["metadata"]["resourceVersion"] == updated["metadata"]["resourceVersion"],
        "nothing was changed"
    );
    space.end().await
}

async fn invalid(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("errors").await?;
    let mut empty = config_map("a", "1");
    empty["data"] = json!({"": "x"});
    let answer = subject.post(&space.core("configmaps"), &empty).await?;
    answer.refused(422, "Invalid")?;
    let cause = &answer.json["details"]["causes"][0];
    ensure!(cause["reason"] == "FieldValueInvalid" && cause["field"] == "data[]", "{}", answer.json);
    let named = subject.post(&space.core("configmaps"), &config_map("Not_A_Name", "1")).await?;
    named.refused(422, "Invalid")?;
    ensure!(named.json["details"]["causes"][0]["field"] == "metadata.name", "{}", named.json);
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"": "eA=="}});
    subject.post(&space.core("secrets"), &secret).await?.refused(422, "Invalid")?;
    space.end().await
}

async fn malformed(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("errors").await?;
    let all = space.core("configmaps");
    let json = [("content-type", "application/json")];
    let broken = subject.send(http::Method::POST, &all, &json, "{\"apiVersion\":").await?;
    broken.refused(400, "BadRequest")?;
    let xml = [("content-type", "application/xml")];
    let other = subject.send(http::Method::POST, &all, &xml, "<a/>").await?;
    other.refused(415, "UnsupportedMediaType")?;
    subject.get_as(&all, "image/png").await?.refused(406, "NotAcceptable")?;
    let elsewhere =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "other"}});
    subject.post(&all, &elsewhere).await?.refused(400, "BadRequest")?;
    let kind = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    subject.post(&all, &kind).await?.refused(400, "BadRequest")?;
    subject.post(&all, &config_map("a", "1")).await?.expect(201)?;
    let renamed = subject.put(&space.core("configmaps/a"), &config_map("b", "1")).await?;
    renamed.refused(400, "BadRequest")?;
    ensure!(
        renamed.message() == "the name of the object (b) does not match the name on the URL (a)",
        "{}",
        renamed.json
    );
    subject
        .send(http::Method::POST, &space.core("configmaps/a"), &json, "{}")
        .await?
        .refused(405, "MethodNotAllowed")?;
    let unknown = subject.get(&format!("{all}?fieldSelector=data.key%3D1")).await?;
    unknown.refused(400, "BadRequest")?;
    space.end().await
}

async fn generated(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("errors").await?;
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "made-"}});
    let created = subject.post(&space.core("configmaps"), &body).await?.expect(201)?;
    let name = text(&created, "/metadata/name")?;
    let suffix = name.strip_prefix("made-").unwrap_or_default();
    ensure!(suffix.len() == 5, "{name}");
    ensure!(suffix.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)), "{name}");
    let neither = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}});
    let refused = subject.post(&space.core("configmaps"), &neither).await?;
    refused.refused(422, "Invalid")?;
    ensure!(refused.message().contains("name or generateName is required"), "{}", refused.json);
    space.end().await
}

async fn dry_run(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("errors").await?;
    let all = space.core("configmaps");
    let tried = subject.post(&format!("{all}?dryRun=All"), &config_map("a", "1")).await?.expect(201)?;
    ensure!(tried["metadata"]["uid"].is_string(), "{tried}");
    subject.get(&space.core("configmaps/a")).await?.refused(404, "NotFound")?;
    let wrong = subject.post(&format!("{all}?dryRun=Some"), &config_map("a", "1")).await?;
    ensure!(wrong.code == 400 || wrong.code == 422, "{}", wrong.json);
    subject.post(&all, &config_map("a", "1")).await?.expect(201)?;
    let path = space.core("configmaps/a");
    subject.delete(&format!("{path}?dryRun=All")).await?.expect(200)?;
    let patch = json!({"data": {"key": "2"}});
    let patched = subject.patch(&format!("{path}?dryRun=All"), "merge", &patch).await?.expect(200)?;
    ensure!(patched["data"]["key"] == "2", "{patched}");
    let kept = subject.get(&path).await?.expect(200)?;
    ensure!(kept["data"]["key"] == "1", "{kept}");
    space.end().await
}
