//! What the documents of OpenAPI say of custom resources, and what follows for `kubectl`'s validation and `explain`.

use anyhow::ensure;
use http::Method;
use serde_json::{Value, json};

use crate::case;
use crate::case::Case;
use crate::custom_kind::{CustomKind, DEFINITIONS, definition, established, open_version, version};
use crate::subject::{Subject, text};

pub(super) const CASES: &[Case] = &[
    case!(
        "published/a schema is published as it was given",
        ApiServer,
        ["CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD with validation schema"],
        schema_published
    ),
    case!(
        "published/what has no schema is any object",
        ApiServer,
        [
            "CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD without validation schema",
            "CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields at the schema root",
        ],
        open_root
    ),
    case!(
        "published/unknown fields are kept where they may be",
        ApiServer,
        [
            "CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for CRD preserving unknown fields in an embedded object"
        ],
        open_below
    ),
    case!(
        "published/definitions of many groups, versions and kinds",
        ApiServer,
        [
            "CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of different groups",
            "CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group but different versions",
            "CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] works for multiple CRDs of same group and version but different kinds",
        ],
        many
    ),
    case!(
        "published/renamed and withdrawn versions are followed",
        ApiServer,
        [
            "CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] updates the published spec when one version gets renamed",
            "CustomResourcePublishOpenAPI [Privileged:ClusterAdmin] removes definition from spec when one version gets changed to not be served",
        ],
        followed
    ),
];

/// The document of OpenAPI v2, read again only when it changed.
#[derive(Default)]
struct Document {
    tag: String,
    definitions: Value,
}

impl Document {
    /// Waits until the definition of this name is as `wanted` says; `None`: there is none.
    async fn until(
        &mut self,
        subject: &Subject,
        name: &str,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) -> anyhow::Result<()> {
        loop {
            let headers = [("if-none-match", self.tag.as_str()), ("accept", "application/json")];
            let answer = subject.send(Method::GET, "/openapi/v2", &headers, "").await?;
            if answer.code != 304 {
                let tag = answer.headers.get("etag").and_then(|tag| tag.to_str().ok()).unwrap_or_default();
                ensure!(!tag.is_empty(), "no entity tag");
                self.tag = tag.to_owned();
                let mut document = answer.expect(200)?;
                self.definitions = document["definitions"].take();
            }
            if wanted(self.definitions.get(name)) {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// `com.example.g1.v1.Widget`.
fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<_> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

/// A published definition without what the server adds: the fields of every object, its kinds.
fn bare(published: &Value) -> Value {
    let mut bare = published.clone();
    if let Some(fields) = bare.as_object_mut() {
        fields.remove("x-kubernetes-group-version-kind");
    }
    if let Some(properties) = bare["properties"].as_object_mut() {
        ["apiVersion", "kind", "metadata"].iter().for_each(|name| drop(properties.remove(*name)));
    }
    bare
}

fn schema() -> Value {
    let name = json!({"type": "string", "description": "Name of Bar."});
    json!({
        "type": "object", "description": "Foo for testing",
        "properties": {
            "spec": {"type": "object", "description": "Specification of Foo", "properties": {
                "bars": {"type": "array", "description": "List of Bars", "items": {
                    "type": "object", "required": ["name"], "properties": {
                        "name": name,
                        "feeling": {"type": "string", "enum": ["Great", "Down"]},
                        "bazs": {"type": "array", "items": {"type": "string"}},
                    },
                }},
            }},
            "status": {"type": "object", "properties": {
                "bars": {"type": "array", "items": {"type": "object", "properties": {
                    "available": {"type": "boolean"}, "type": {"type": "string", "pattern": "in-tree|out-of-tree"},
                }}},
            }},
        },
    })
}

async fn schema_published(subject: &Subject) -> anyhow::Result<()> {
    let kind = CustomKind::define(subject, &[version("v1", true, schema())], &json!({})).await?;
    let space = subject.namespace("published").await?;
    let name = definition_name(&kind.group, "v1", "Widget");
    let mut document = Document::default();
    document.until(subject, &name, |found| found.is_some_and(|found| bare(found) == schema())).await?;
    let path = format!("/openapi/v3/apis/{}/v1", kind.group);
    let third = subject.wait_for(&path, |answer| answer.code == 200).await?.json;
    let published = &third["components"]["schemas"][&name];
    ensure!(bare(published) == schema(), "OpenAPI v3: {} expected, not {published}", schema());
    let own = &published["x-kubernetes-group-version-kind"][0];
    ensure!(*own == json!({"group": kind.group, "version": "v1", "kind": "Widget"}), "{own}");
    ensure!(published["properties"]["metadata"].to_string().contains("ObjectMeta"), "{published}");
    // What kubectl leaves to the server since fields are validated there.
    let objects = kind.objects("v1", &space.name);
    let strict = format!("{objects}?fieldValidation=Strict");
    let widget = |bar: Value| kind.object("v1", "w", &json!({"spec": {"bars": [bar]}}));
    subject.post(&strict, &widget(json!({"name": "test-bar"}))).await?.expect(201)?;
    subject.delete(&format!("{objects}/w")).await?.expect(200)?;
    let applied = format!("{objects}/w?fieldManager=test&fieldValidation=Strict");
    subject.patch(&applied, "apply", &widget(json!({"name": "test-bar"}))).await?.expect(201)?;
    subject.delete(&format!("{objects}/w")).await?.expect(200)?;
    let unwanted = subject.post(&strict, &widget(json!({"name": "a", "feeling": "Other"}))).await?;
    unwanted.refused(422, "Invalid")?;
    let message = "spec.bars[0].feeling: Unsupported value: \"Other\": supported values: \"Great\", \"Down\"";
    ensure!(unwanted.message().contains(message), "{message:?} expected in {}", unwanted.message());
    let nameless = subject.post(&strict, &widget(json!({"feeling": "Great"}))).await?;
    nameless.refused(422, "Invalid")?;
    ensure!(nameless.message().contains("spec.bars[0].name: Required value"), "{}", nameless.message());
    let unknown = subject.post(&strict, &kind.object("v1", "w", &json!({"spec": {"foo": true}}))).await?;
    unknown.refused(400, "BadRequest")?;
    ensure!(unknown.message().contains("unknown field \"spec.foo\""), "{}", unknown.message());
    kind.end().await?;
    document.until(subject, &name, |found| found.is_none()).await?;
    subject.wait_for(&path, |answer| answer.code == 404).await?;
    space.end().await
}

async fn open_root(subject: &Subject) -> anyhow::Result<()> {
    let kind = CustomKind::define(subject, &[open_version("v1", true)], &json!({})).await?;
    let name = definition_name(&kind.group, "v1", "Widget");
    Document::default()
        .until(subject, &name, |found| found.is_some_and(|found| found["type"] == "object"))
        .await?;
    kept(subject, &kind, json!({"a": {"b": [{"c": "d"}]}})).await?;
    kind.end().await
}

async fn open_below(subject: &Subject) -> anyhow::Result<()> {
    let schema = json!({"type": "object", "description": "Nested for testing", "properties": {
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "description": "Anything"},
    }});
    let kind = CustomKind::define(subject, &[version("v1", true, schema.clone())], &json!({})).await?;
    let name = definition_name(&kind.group, "v1", "Widget");
    let path = format!("/openapi/v3/apis/{}/v1", kind.group);
    let third = subject.wait_for(&path, |answer| answer.code == 200).await?.json;
    let published = bare(&third["components"]["schemas"][&name]);
    ensure!(published == schema, "{schema} expected, not {published}");
    kept(subject, &kind, json!({"spec": {"b": [{"c": "d"}]}})).await?;
    let objects = kind.objects("v1", "default");
    let outside = kind.object("v1", "w", &json!({"other": 1}));
    let refused = subject.post(&format!("{objects}?fieldValidation=Strict&dryRun=All"), &outside).await?;
    refused.refused(400, "BadRequest")?;
    ensure!(refused.message().contains("unknown field \"other\""), "{}", refused.message());
    kind.end().await
}

/// Fields that no schema names are accepted and kept, created or applied.
async fn kept(subject: &Subject, kind: &CustomKind<'_>, fields: Value) -> anyhow::Result<()> {
    let space = subject.namespace("published").await?;
    let objects = kind.objects("v1", &space.name);
    let widget = kind.object("v1", "w", &fields);
    let whole = |made: &Value| {
        let fields = fields.as_object().into_iter().flatten();
        fields.into_iter().all(|(key, value)| made[key] == *value)
    };
    let made = subject.post(&format!("{objects}?fieldValidation=Strict"), &widget).await?.expect(201)?;
    ensure!(whole(&made), "{fields} expected in {made}");
    subject.delete(&format!("{objects}/w")).await?.expect(200)?;
    let path = format!("{objects}/w?fieldManager=test&fieldValidation=Strict");
    let applied = subject.patch(&path, "apply", &widget).await?.expect(201)?;
    ensure!(whole(&applied), "{fields} expected in {applied}");
    space.end().await
}

/// Another kind of the same group.
fn gadgets(group: &str, versions: &[Value]) -> Value {
    let names =
        json!({"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"});
    let mut other = definition(group, versions, &json!({"names": names}));
    other["metadata"]["name"] = json!(format!("gadgets.{group}"));
    other
}

async fn many(subject: &Subject) -> anyhow::Result<()> {
    let other_schema = json!({"type": "object", "description": "Waldo for testing", "properties": {
        "spec": {"type": "object", "properties": {"dummy": {"type": "object"}}},
    }});
    let versions = [version("v1", true, schema()), version("v2beta1", false, other_schema.clone())];
    let first = CustomKind::define(subject, &versions, &json!({})).await?;
    let second =
        CustomKind::define(subject, &[version("v1", true, other_schema.clone())], &json!({})).await?;
    let third = gadgets(&first.group, &[version("v1", true, other_schema.clone())]);
    let third = subject.post(DEFINITIONS, &third).await?.expect(201)?;
    let third_path = format!("{DEFINITIONS}/{}", text(&third, "/metadata/name")?);
    subject.wait_for(&third_path, |answer| established(&answer.json)).await?;
    let mut document = Document::default();
    for (group, version, kind, wanted) in [
        (&first.group, "v1", "Widget", &schema()),
        (&first.group, "v2beta1", "Widget", &other_schema),
        (&second.group, "v1", "Widget", &other_schema),
        (&first.group, "v1", "Gadget", &other_schema),
    ] {
        let name = definition_name(group, version, kind);
        document.until(subject, &name, |found| found.is_some_and(|found| bare(found) == *wanted)).await?;
    }
    subject.delete(&third_path).await?.expect(200)?;
    let gone = definition_name(&first.group, "v1", "Gadget");
    let stays = definition_name(&first.group, "v1", "Widget");
    document.until(subject, &gone, |found| found.is_none()).await?;
    document.until(subject, &stays, |found| found.is_some()).await?;
    first.end().await?;
    second.end().await
}

async fn followed(subject: &Subject) -> anyhow::Result<()> {
    let versions = [version("v2", true, schema()), version("v3", false, schema())];
    let kind = CustomKind::define(subject, &versions, &json!({})).await?;
    let name = |version: &str| definition_name(&kind.group, version, "Widget");
    let whole = |found: Option<&Value>| found.is_some_and(|found| bare(found) == schema());
    let mut document = Document::default();
    document.until(subject, &name("v3"), whole).await?;
    let rename = json!([
        {"op": "test", "path": "/spec/versions/1/name", "value": "v3"},
        {"op": "replace", "path": "/spec/versions/1/name", "value": "v4"},
    ]);
    subject.patch(&kind.definition_path(), "json", &rename).await?.expect(200)?;
    document.until(subject, &name("v4"), whole).await?;
    document.until(subject, &name("v3"), |found| found.is_none()).await?;
    document.until(subject, &name("v2"), whole).await?;
    let withdraw = json!([{"op": "replace", "path": "/spec/versions/1/served", "value": false}]);
    subject.patch(&kind.definition_path(), "json", &withdraw).await?.expect(200)?;
    document.until(subject, &name("v4"), |found| found.is_none()).await?;
    document.until(subject, &name("v2"), whole).await?;
    let unserved = format!("/apis/{}/v4/widgets", kind.group);
    subject.wait_for(&unserved, |answer| answer.code == 404).await?;
    // A server may say 429 while it follows the definition.
    subject.wait_for(&format!("/apis/{}/v2/widgets", kind.group), |answer| answer.code == 200).await?;
    kind.end().await
}
