//! Testkube's `TestWorkflow` and `TestWorkflowTemplate` documents as ours.
//!
//! Their language is ours with other places for some fields, so that a document is moved, not translated: a step's `run`
//! becomes the step's own container, `artifacts.paths` its `artifacts`, the instances of `parallel` get steps. What has no
//! counterpart is named, field by field; nothing is left out silently.

mod moves;

use serde_json::{Map, Value, json};

/// The groups whose documents are read.
const GROUPS: [&str; 1] = ["testworkflows.testkube.io"];

/// A document, moved.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// Ours; `None` when the document is of no kind that is read.
    pub document: Option<Value>,
    /// What could not be moved: path of the field and why. The document lacks it.
    pub lost: Vec<(String, String)>,
}

/// Whether a document is one of Testkube's that [`document`] reads.
#[must_use]
pub fn is_testkube(document: &Value) -> bool {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    version.split_once('/').is_some_and(|(group, _)| GROUPS.contains(&group))
        && matches!(document["kind"].as_str(), Some("TestWorkflow" | "TestWorkflowTemplate"))
}

/// Moves a document.
#[must_use]
pub fn document(document: &Value) -> Imported {
    if !is_testkube(document) {
        let (kind, version) = (&document["kind"], &document["apiVersion"]);
        let why = format!("{} of {} is not read", text(kind), text(version));
        return Imported { document: None, lost: vec![("kind".to_owned(), why)] };
    }
    let mut mover = moves::Mover::default();
    let mut spec = mover.workflow(&document["spec"], "spec");
    if let Some(description) = document["description"].as_str() {
        spec.insert("description".to_owned(), json!(description));
    }
    let kind = document["kind"].as_str().unwrap_or_default();
    if let Some(concurrency) = spec.get_mut("concurrency").and_then(Value::as_object_mut) {
        concurrency.entry("group").or_insert_with(|| document["metadata"]["name"].clone());
    }
    if kind == "TestWorkflow" {
        // Where Testkube's containers start and where its files lie.
        spec.entry("workspace").or_insert(json!("/data"));
    }
    let mut metadata = Map::new();
    for key in ["name", "namespace", "labels", "annotations"] {
        if let Some(value) = document["metadata"].get(key) {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let document = json!({
        "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec,
    });
    Imported { document: Some(document), lost: mover.lost }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("nothing")
}

#[cfg(test)]
mod tests;
