//! A kind that a case defines, of a group of its own.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::subject::{Subject, text};

/// Where definitions are.
pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// A defined, established and served kind: `Widget`, in namespaces. Taken away by [`CustomKind::end`].
#[derive(Debug)]
pub struct CustomKind<'a> {
    subject: &'a Subject,
    /// Its group, which no other case has.
    pub group: String,
}

/// A group that nobody has.
#[must_use]
pub fn fresh_group() -> String {
    format!("g{}.example.com", &uuid::Uuid::new_v4().simple().to_string()[..8])
}

/// A version whose objects may have any field.
#[must_use]
pub fn open_version(name: &str, storage: bool) -> Value {
    version(name, storage, json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}))
}

/// A served version of this schema.
#[must_use]
pub fn version(name: &str, storage: bool, schema: Value) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
}

/// A definition of `Widget` in this group; `more` replaces fields of its spec.
#[must_use]
pub fn definition(group: &str, versions: &[Value], more: &Value) -> Value {
    let mut spec = json!({
        "group": group, "scope": "Namespaced", "versions": versions,
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("widgets.{group}")}, "spec": spec,
    })
}

/// Whether a definition says that it is established.
#[must_use]
pub fn established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|one| one["type"] == "Established" && one["status"] == "True")
}

impl<'a> CustomKind<'a> {
    /// Defines one and waits until every served version is.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn define(subject: &'a Subject, versions: &[Value], more: &Value) -> anyhow::Result<Self> {
        let group = fresh_group();
        subject.post(DEFINITIONS, &definition(&group, versions, more)).await?.expect(201)?;
        let kind = Self { subject, group };
        subject.wait_for(&kind.definition_path(), |answer| established(&answer.json)).await?;
        for version in versions.iter().filter(|version| version["served"] == true) {
            let name = text(version, "/name")?;
            let path = format!("/apis/{}/{name}/widgets", kind.group);
            // An empty list asks no conversion webhook.
            subject.wait_for(&path, |answer| answer.code == 200).await.with_context(|| path.clone())?;
        }
        Ok(kind)
    }

    /// Where its definition is.
    #[must_use]
    pub fn definition_path(&self) -> String {
        format!("{DEFINITIONS}/widgets.{}", self.group)
    }

    /// The path of the objects of a namespace.
    #[must_use]
    pub fn objects(&self, version: &str, namespace: &str) -> String {
        format!("/apis/{}/{version}/namespaces/{namespace}/widgets", self.group)
    }

    /// An object with these fields.
    #[must_use]
    pub fn object(&self, version: &str, name: &str, fields: &Value) -> Value {
        let mut object = json!({
            "apiVersion": format!("{}/{version}", self.group), "kind": "Widget", "metadata": {"name": name},
        });
        for (key, value) in fields.as_object().into_iter().flatten() {
            object[key] = value.clone();
        }
        object
    }

    /// Deletes the definition and with it all objects.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn end(self) -> anyhow::Result<()> {
        self.subject.delete(&self.definition_path()).await?.expect(200)?;
        self.subject.wait_for(&self.definition_path(), |answer| answer.code == 404).await?;
        Ok(())
    }
}
