//! The roles and bindings a cluster is born with, from the manifests upstream publishes them as.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The manifests, in the order in which their objects stand in the table.
const MANIFESTS: [&str; 6] = [
    "cluster-roles.yaml",
    "controller-roles.yaml",
    "cluster-role-bindings.yaml",
    "controller-role-bindings.yaml",
    "namespace-roles.yaml",
    "namespace-role-bindings.yaml",
];

/// The table for `crates/access/tables/rbac_bootstrap.json`: a JSON array, an object a line. `directory` is the data's
/// `kubernetes-1.36/rbac-bootstrap`.
pub(crate) fn table(directory: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for name in MANIFESTS {
        let path = directory.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).with_context(|| format!("parse {}", path.display()))?;
        for document in &documents {
            for object in document["items"].as_array().into_iter().flatten() {
                lines.push(serde_json::to_string(&cleaned(object.clone()))?);
            }
        }
    }
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

/// Go writes an empty list of rules as `null`.
fn cleaned(mut object: Value) -> Value {
    if object.get("rules").is_some_and(Value::is_null) {
        object["rules"] = Value::Array(Vec::new());
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("creationTimestamp");
    }
    object
}
