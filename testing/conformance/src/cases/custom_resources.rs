//! Kinds that users define.

use anyhow::ensure;
use serde_json::{Value, json};

use crate::case;
use crate::case::Case;
use crate::subject::{Subject, text};

pub(super) const CASES: &[Case] = &[
    case!(
        "custom resources/are served when their definition is established",
        ApiServer,
        [
            "CustomResourceDefinition resources [Privileged:ClusterAdmin] Simple CustomResourceDefinition creating/deleting custom resource definition objects works",
            "CustomResourceDefinition resources [Privileged:ClusterAdmin] should include custom resource definition resources in discovery documents",
        ],
        served
    ),
    case!(
        "custom resources/schemas prune, default and refuse",
        ApiServer,
        [
            "CustomResourceDefinition resources [Privileged:ClusterAdmin] custom resource defaulting for requests and from storage works",
        ],
        schemas
    ),
    case!("custom resources/status and scale", ApiServer, [], subresources),
    case!(
        "custom resources/are published in OpenAPI",
        ApiServer,
        ["CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema",],
        published
    ),
    case!("custom resources/rules in CEL", ApiServer, [], rules),
    case!("custom resources/definitions that make no sense", ApiServer, [], refused),
];

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A definition of a group of its own, established; deleted by [`Defined::end`].
struct Defined<'a> {
    subject: &'a Subject,
    group: String,
}

impl<'a> Defined<'a> {
    /// Of widgets whose color can be selected.
    async fn new(subject: &'a Subject, properties: Value) -> anyhow::Result<Self> {
        Self::with(subject, properties, json!([{"jsonPath": ".spec.color"}])).await
    }

    /// Of any others.
    async fn without_color(subject: &'a Subject, properties: Value) -> anyhow::Result<Self> {
        Self::with(subject, properties, json!([])).await
    }

    async fn with(subject: &'a Subject, properties: Value, selectable: Value) -> anyhow::Result<Self> {
        let group = format!("g{}.example.com", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("widgets.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["wdg"]},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "subresources": {"status": {}, "scale": {
                        "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
                    }},
                    "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
                    "selectableFields": selectable,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                        "spec": properties, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    }}},
                }],
            },
        });
        subject.post(DEFINITIONS, &definition).await?.expect(201)?;
        let path = format!("{DEFINITIONS}/widgets.{group}");
        subject
            .wait_for(&path, |answer| {
                let conditions = answer.json["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True")
            })
            .await?;
        let served = format!("/apis/{group}/v1/widgets");
        subject.wait_for(&served, |answer| answer.code == 200).await?;
        Ok(Self { subject, group })
    }

    fn api_version(&self) -> String {
        format!("{}/v1", self.group)
    }

    fn widget(&self, name: &str, spec: Value) -> Value {
        json!({"apiVersion": self.api_version(), "kind": "Widget", "metadata": {"name": name}, "spec": spec})
    }

    async fn end(self) -> anyhow::Result<()> {
        self.subject.delete(&format!("{DEFINITIONS}/widgets.{}", self.group)).await?.expect(200)?;
        let path = format!("{DEFINITIONS}/widgets.{}", self.group);
        self.subject.wait_for(&path, |answer| answer.code == 404).await?;
        Ok(())
    }
}

fn spec() -> Value {
    json!({"type": "object", "required": ["size"], "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 10},
        "color": {"type": "string", "enum": ["red", "green"], "default": "green"},
        "replicas": {"type": "integer"},
        "port": {"x-kubernetes-int-or-string": true},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }})
}

async fn served(subject: &Subject) -> anyhow::Result<()> {
    let (space, defined) = (subject.namespace("custom").await?, Defined::new(subject, spec()).await?);
    let resources = subject.get(&format!("/apis/{}", defined.api_version())).await?.expect(200)?;
    let names: Vec<_> = resources["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["name"].as_str())
        .collect();
    ensure!(
        names.contains(&"widgets") && names.contains(&"widgets/status") && names.contains(&"widgets/scale"),
        "{names:?}"
    );
    let groups = subject.get("/apis").await?.expect(200)?.to_string();
    ensure!(groups.contains(&defined.group), "the group is told");
    let all = space.of(&defined.api_version(), "widgets");
    let made = subject.post(&all, &defined.widget("w", json!({"size": 3}))).await?.expect(201)?;
    ensure!(made["metadata"]["generation"] == 1, "{made}");
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = subject.get_as(&all, table).await?.expect(200)?;
    ensure!(table["columnDefinitions"][1]["name"] == "Size" && table["rows"][0]["cells"][1] == 3, "{table}");
    let selected = subject.get(&format!("{all}?fieldSelector=spec.color%3Dgreen")).await?.expect(200)?;
    ensure!(selected["items"].as_array().is_some_and(|items| items.len() == 1), "{selected}");
    let none = subject.get(&format!("{all}?fieldSelector=spec.color%3Dred")).await?.expect(200)?;
    ensure!(none["items"].as_array().is_some_and(Vec::is_empty), "{none}");
    let group = defined.group.clone();
    defined.end().await?;
    ensure!(subject.get(&format!("/apis/{group}/v1/widgets")).await?.code == 404);
    space.end().await
}

async fn schemas(subject: &Subject) -> anyhow::Result<()> {
    let (space, defined) = (subject.namespace("custom").await?, Defined::new(subject, spec()).await?);
    let all = space.of(&defined.api_version(), "widgets");
    let free = json!({"size": 2, "nothing": 1, "free": {"any": {"thing": [1]}}, "port": "http"});
    let made = subject.post(&all, &defined.widget("w", free)).await?.expect(201)?;
    ensure!(
        made["spec"] == json!({"size": 2, "color": "green", "free": {"any": {"thing": [1]}}, "port": "http"}),
        "{}",
        made["spec"]
    );
    for (spec, field, reason) in [
        (json!({}), "spec.size", "FieldValueRequired"),
        (json!({"size": 11}), "spec.size", "FieldValueInvalid"),
        (json!({"size": 1, "color": "blue"}), "spec.color", "FieldValueNotSupported"),
        (json!({"size": "1"}), "spec.size", "FieldValueTypeInvalid"),
    ] {
        let refused = subject.post(&all, &defined.widget("x", spec)).await?;
        refused.refused(422, "Invalid")?;
        let cause = &refused.json["details"]["causes"][0];
        ensure!(cause["field"] == field && cause["reason"] == reason, "{}", refused.json);
    }
    let strict = format!("{all}?fieldValidation=Strict");
    let refused = subject.post(&strict, &defined.widget("x", json!({"size": 1, "nothing": 1}))).await?;
    refused.refused(400, "BadRequest")?;
    ensure!(refused.message().contains("unknown field \"spec.nothing\""), "{}", refused.json);
    defined.end().await?;
    space.end().await
}

async fn subresources(subject: &Subject) -> anyhow::Result<()> {
    let (space, defined) = (subject.namespace("custom").await?, Defined::new(subject, spec()).await?);
    let all = space.of(&defined.api_version(), "widgets");
    subject.post(&all, &defined.widget("w", json!({"size": 1, "replicas": 2}))).await?.expect(201)?;
    let scale = subject.get(&format!("{all}/w/scale")).await?.expect(200)?;
    ensure!(scale["kind"] == "Scale" && scale["spec"]["replicas"] == 2, "{scale}");
    let patch = json!({"spec": {"replicas": 5}});
    subject.patch(&format!("{all}/w/scale"), "merge", &patch).await?.expect(200)?;
    let patch = json!({"spec": {"size": 9}, "status": {"replicas": 4}});
    let patched = subject.patch(&format!("{all}/w/status"), "merge", &patch).await?.expect(200)?;
    ensure!(patched["spec"]["size"] == 1 && patched["spec"]["replicas"] == 5, "{patched}");
    ensure!(patched["status"]["replicas"] == 4 && patched["metadata"]["generation"] == 2, "{patched}");
    defined.end().await?;
    space.end().await
}

async fn published(subject: &Subject) -> anyhow::Result<()> {
    let defined = Defined::new(subject, spec()).await?;
    let key = format!("/paths/apis~1{}~1v1/serverRelativeURL", defined.group);
    let index = subject.wait_for("/openapi/v3", |answer| answer.json.pointer(&key).is_some()).await?;
    let document = subject.get(text(&index.json, &key)?).await?.expect(200)?;
    let reversed: Vec<_> = defined.group.split('.').rev().collect();
    let schema = format!(
        "/components/schemas/{}.v1.Widget/properties/spec/properties/size/maximum",
        reversed.join(".")
    );
    ensure!(document.pointer(&schema).and_then(Value::as_i64) == Some(10), "{schema}");
    let name = format!("/definitions/{}.v1.Widget/properties/spec/properties/size", reversed.join("."));
    subject.wait_for("/openapi/v2", |answer| answer.json.pointer(&name).is_some()).await?;
    defined.end().await
}

async fn rules(subject: &Subject) -> anyhow::Result<()> {
    let spec = json!({"type": "object", "properties": {"low": {"type": "integer"}, "high": {"type": "integer"}},
    "required": ["low", "high"],
    "x-kubernetes-validations": [
        {"rule": "self.low <= self.high", "message": "low must not be above high"},
        {"rule": "self.high >= oldSelf.high", "message": "high must not sink"},
    ]});
    let (space, defined) = (subject.namespace("custom").await?, Defined::without_color(subject, spec).await?);
    let all = space.of(&defined.api_version(), "widgets");
    subject.post(&all, &defined.widget("w", json!({"low": 1, "high": 5}))).await?.expect(201)?;
    let refused = subject.post(&all, &defined.widget("x", json!({"low": 2, "high": 1}))).await?;
    refused.refused(422, "Invalid")?;
    ensure!(refused.message().contains("low must not be above high"), "{}", refused.json);
    let lower = json!({"spec": {"high": 4}});
    let refused = subject.patch(&format!("{all}/w"), "merge", &lower).await?;
    refused.refused(422, "Invalid")?;
    ensure!(refused.message().contains("high must not sink"), "{}", refused.json);
    defined.end().await?;
    space.end().await
}

async fn refused(subject: &Subject) -> anyhow::Result<()> {
    let definition = |name: &str, version: Value| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
            "spec": {"group": "bad.example.com", "scope": "Namespaced",
                "names": {"plural": "bads", "singular": "bad", "kind": "Bad", "listKind": "BadList"},
                "versions": [version]},
        })
    };
    let plain = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let wrong_name = subject.post(DEFINITIONS, &definition("other.bad.example.com", plain.clone())).await?;
    wrong_name.refused(422, "Invalid")?;
    ensure!(
        wrong_name.message().contains("must be spec.names.plural+\".\"+spec.group"),
        "{}",
        wrong_name.json
    );
    let mut not_structural = plain.clone();
    not_structural["schema"] = json!({"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}});
    let refused = subject.post(DEFINITIONS, &definition("bads.bad.example.com", not_structural)).await?;
    refused.refused(422, "Invalid")?;
    let field = "spec.validation.openAPIV3Schema.properties[a].type";
    ensure!(refused.json["details"]["causes"][0]["field"] == field, "{}", refused.json);
    let mut no_storage = plain;
    no_storage["storage"] = json!(false);
    let refused = subject.post(DEFINITIONS, &definition("bads.bad.example.com", no_storage)).await?;
    refused.refused(422, "Invalid")?;
    ensure!(
        refused.message().contains("must have exactly one version marked as storage version"),
        "{}",
        refused.json
    );
    Ok(())
}
