//! The resources that a server offers by default: those of every group's stable versions. The discovery documents
//! come from a server with all versions switched on; alpha and beta versions are off unless asked for.

use std::path::Path;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

/// One line per resource in a JSON array: groups in the order of the group list (which clients read as precedence),
/// versions in the group's order, resources by name.
pub(crate) fn generate(directory: &Path) -> anyhow::Result<String> {
    let mut rows = read(directory, "", "v1", "api__v1.json")?;
    let groups = super::read_json(&directory.join("apis.json"))?;
    for group in list(&groups, "groups") {
        let name = text(group, "name");
        for version in list(group, "versions") {
            let version = text(version, "version");
            if is_stable(version) {
                rows.extend(read(directory, name, version, &format!("apis__{name}__{version}.json"))?);
            }
        }
    }
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

/// `v1`, `v2`; not `v1beta1`.
fn is_stable(version: &str) -> bool {
    version.strip_prefix('v').is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn read(directory: &Path, group: &str, version: &str, file: &str) -> anyhow::Result<Vec<Value>> {
    let document = super::read_json(&directory.join(file))?;
    let (subresources, resources): (Vec<&Value>, Vec<&Value>) =
        list(&document, "resources").iter().partition(|resource| text(resource, "name").contains('/'));
    let mut rows = Vec::new();
    for resource in resources {
        let mut row = common(resource, group, version);
        row.insert("name".into(), json!(text(resource, "name")));
        row.insert("singular".into(), json!(text(resource, "singularName")));
        row.insert("namespaced".into(), resource.get("namespaced").cloned().unwrap_or(Value::Bool(false)));
        for (from, to) in [
            ("shortNames", "short_names"),
            ("categories", "categories"),
            ("storageVersionHash", "storage_version_hash"),
        ] {
            if let Some(value) = resource.get(from) {
                row.insert(to.into(), value.clone());
            }
        }
        rows.push(row);
    }
    for subresource in subresources {
        let (parent, name) = text(subresource, "name").split_once('/').unwrap_or_default();
        let mut row = common(subresource, group, version);
        row.insert("name".into(), json!(name));
        let parent = rows
            .iter_mut()
            .find(|row| row.get("name").and_then(Value::as_str) == Some(parent))
            .with_context(|| format!("{file} has a subresource of {parent}, and no {parent}"))?;
        if let Value::Array(all) = parent.entry("subresources").or_insert_with(|| json!([])) {
            all.push(Value::Object(row));
        }
    }
    Ok(rows.into_iter().map(Value::Object).collect())
}

/// What resources and subresources share. A subresource's kind may be of another group (`Scale` of `autoscaling/v1`).
fn common(resource: &Value, group: &str, version: &str) -> Map<String, Value> {
    let or = |key: &str, otherwise: &str| match text(resource, key) {
        "" => otherwise.to_owned(),
        own => own.to_owned(),
    };
    let mut row = Map::new();
    row.insert("group".into(), json!(or("group", group)));
    row.insert("version".into(), json!(or("version", version)));
    row.insert("kind".into(), json!(text(resource, "kind")));
    row.insert("verbs".into(), resource.get("verbs").cloned().unwrap_or_else(|| json!([])));
    row
}

fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
