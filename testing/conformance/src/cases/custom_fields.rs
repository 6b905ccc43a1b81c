//! Fields of custom resources that no schema names, or that come twice.

use anyhow::ensure;
use http::Method;
use serde_json::{Value, json};

use crate::case;
use crate::case::Case;
use crate::custom_kind::{CustomKind, open_version, version};
use crate::subject::{Answer, Subject};

pub(super) const CASES: &[Case] = &[
    case!(
        "custom fields/any are welcome without a schema",
        ApiServer,
        ["FieldValidation should create/apply a CR with unknown fields for CRD with no validation schema"],
        open
    ),
    case!(
        "custom fields/those of the schema, and no others",
        ApiServer,
        [
            "FieldValidation should create/apply a valid CR for CRD with validation schema",
            "FieldValidation should create/apply an invalid CR with extra properties for CRD with validation schema",
        ],
        known
    ),
    case!(
        "custom fields/unknown ones of metadata, at the root and below",
        ApiServer,
        [
            "FieldValidation should detect unknown metadata fields in both the root and embedded object of a CR"
        ],
        metadata
    ),
    case!(
        "custom fields/twice is too often even where any are kept",
        ApiServer,
        ["FieldValidation should detect duplicates in a CR when preserving unknown fields"],
        duplicates
    ),
];

fn spec() -> Value {
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "properties": {
            "cronSpec": {"type": "string", "pattern": "^(\\d+|\\*)(/\\d+)?(\\s+(\\d+|\\*)(/\\d+)?){4}$"},
            "foo": text,
            "template": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
            "ports": {
                "type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["containerPort", "protocol"],
                "items": {
                    "type": "object", "required": ["containerPort", "protocol"],
                    "properties": {
                        "containerPort": {"type": "integer", "format": "int32"}, "hostIP": text, "name": text,
                        "protocol": text,
                    },
                },
            },
        },
    })
}

fn fields() -> Value {
    json!({"spec": {
        "foo": "foo1", "cronSpec": "* * * * */5",
        "ports": [{"name": "x", "containerPort": 80, "protocol": "TCP"}],
    }})
}

async fn apply(subject: &Subject, objects: &str, document: impl ToString) -> anyhow::Result<Answer> {
    let path = format!("{objects}/w?fieldManager=test&fieldValidation=Strict");
    let headers = [("content-type", "application/apply-patch+yaml")];
    subject.send(Method::PATCH, &path, &headers, document.to_string()).await
}

async fn open(subject: &Subject) -> anyhow::Result<()> {
    let kind = CustomKind::define(subject, &[open_version("v1", true)], &json!({})).await?;
    let space = subject.namespace("fields").await?;
    let objects = kind.objects("v1", &space.name);
    let mut widget = kind.object("v1", "w", &fields());
    widget["spec"]["unknown"] = json!("uk1");
    let made = apply(subject, &objects, &widget).await?.expect(201)?;
    ensure!(made["spec"] == widget["spec"], "{widget} expected, not {made}");
    kind.end().await?;
    space.end().await
}

async fn known(subject: &Subject) -> anyhow::Result<()> {
    let schema = json!({"type": "object", "properties": {"spec": spec()}});
    let kind = CustomKind::define(subject, &[version("v1", true, schema)], &json!({})).await?;
    let space = subject.namespace("fields").await?;
    let objects = kind.objects("v1", &space.name);
    let widget = kind.object("v1", "w", &fields());
    apply(subject, &objects, &widget).await?.expect(201)?;
    let mut extra = widget.clone();
    extra["unknownField"] = json!("unknown");
    let refused = apply(subject, &objects, &extra).await?;
    ensure!(matches!(refused.code, 400 | 500), "{} {}", refused.code, refused.json);
    ensure!(
        refused.message().contains(".unknownField: field not declared in schema"),
        "{}",
        refused.message()
    );
    extra["metadata"]["name"] = json!("created");
    let refused = subject.post(&format!("{objects}?fieldValidation=Strict"), &extra).await?;
    refused.refused(400, "BadRequest")?;
    ensure!(
        refused.message().contains("strict decoding error: unknown field \"unknownField\""),
        "{}",
        refused.message()
    );
    let warned = subject.post(&format!("{objects}?fieldValidation=Warn"), &extra).await?;
    ensure!(warned.code == 201 && warned.json.get("unknownField").is_none(), "not pruned: {}", warned.json);
    ensure!(warned.warnings() == ["unknown field \"unknownField\""], "{:?}", warned.warnings());
    kind.end().await?;
    space.end().await
}

async fn metadata(subject: &Subject) -> anyhow::Result<()> {
    let schema = json!({"type": "object", "properties": {"spec": spec()}});
    let kind = CustomKind::define(subject, &[version("v1", true, schema)], &json!({})).await?;
    let space = subject.namespace("fields").await?;
    let objects = kind.objects("v1", &space.name);
    let mut widget = kind.object("v1", "w", &fields());
    widget["metadata"]["unknownMeta"] = json!("unknown");
    widget["spec"]["template"] = json!({
        "apiVersion": "foo/v1", "kind": "Sub", "metadata": {"unknownSubMeta": "unknown", "name": "subobject"},
    });
    let refused = apply(subject, &objects, &widget).await?;
    ensure!(matches!(refused.code, 400 | 500), "{} {}", refused.code, refused.json);
    let message = refused.message();
    let fault = "field not declared in schema";
    let below = message.contains(&format!(".spec.template.metadata.unknownSubMeta: {fault}"));
    ensure!(below || message.contains(&format!(".metadata.unknownMeta: {fault}")), "{message}");
    let refused = subject.post(&format!("{objects}?fieldValidation=Strict"), &widget).await?;
    refused.refused(400, "BadRequest")?;
    for path in ["metadata.unknownMeta", "spec.template.metadata.unknownSubMeta"] {
        let wanted = format!("unknown field \"{path}\"");
        ensure!(refused.message().contains(&wanted), "{wanted} expected in {}", refused.message());
    }
    kind.end().await?;
    space.end().await
}

async fn duplicates(subject: &Subject) -> anyhow::Result<()> {
    let kind = CustomKind::define(subject, &[open_version("v1", true)], &json!({})).await?;
    let space = subject.namespace("fields").await?;
    let objects = kind.objects("v1", &space.name);
    let version = format!("{}/v1", kind.group);
    let text = format!(
        "apiVersion: {version}\nkind: Widget\nmetadata:\n  name: w\nspec:\n  unknown: uk1\n  foo: foo1\n  foo: foo2\n"
    );
    let refused = apply(subject, &objects, text).await?;
    refused.refused(400, "BadRequest")?;
    ensure!(refused.message().contains("line 8: key \"foo\" already set in map"), "{}", refused.message());
    let text = format!(
        "{{\"apiVersion\":\"{version}\",\"kind\":\"Widget\",\"metadata\":{{\"name\":\"w\"}},\"spec\":{{\"foo\":1,\"foo\":2}}}}"
    );
    let headers = [("content-type", "application/json")];
    let path = format!("{objects}?fieldValidation=Strict");
    let refused = subject.send(Method::POST, &path, &headers, text).await?;
    refused.refused(400, "BadRequest")?;
    ensure!(refused.message().contains("duplicate field \"spec.foo\""), "{}", refused.message());
    kind.end().await?;
    space.end().await
}
