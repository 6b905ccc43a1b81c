//! The types: one line per schema, `NAME JSON`, sorted by name, without descriptions; and which type a kind is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::bail;
use serde_json::Value;

/// A schema's name (`io.k8s.api.core.v1.Pod`) and its OpenAPI v3 form without descriptions.
pub(crate) type Types = BTreeMap<String, Value>;

const KINDS: &str = "x-kubernetes-group-version-kind";

/// Reads the schemas of all documents. The same type stands in many of them; what may differ is only which kinds it
/// serves as (`DeleteOptions` is one of each group), so those are united.
pub(crate) fn read(directory: &Path) -> anyhow::Result<Types> {
    let mut types = Types::new();
    for path in super::files(directory, "json")? {
        let mut document = super::read_json(&path)?;
        let Some(schemas) = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut) else {
            continue;
        };
        for (name, mut schema) in std::mem::take(schemas) {
            strip_descriptions(&mut schema);
            match types.get_mut(&name) {
                None => drop(types.insert(name, schema)),
                Some(known) => unite(&name, known, schema)?,
            }
        }
    }
    types.values_mut().for_each(sort_kinds);
    Ok(types)
}

/// A `description` is text in a schema; under `properties` it is a field of that name and stays.
fn strip_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(strip_descriptions);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_descriptions),
        _ => {}
    }
}

fn unite(name: &str, known: &mut Value, mut other: Value) -> anyhow::Result<()> {
    let mut kinds = take_kinds(known);
    kinds.extend(take_kinds(&mut other));
    if *known != other {
        bail!("type {name} differs between two documents");
    }
    if !kinds.is_empty() {
        known[KINDS] = Value::Array(kinds);
    }
    Ok(())
}

fn take_kinds(schema: &mut Value) -> Vec<Value> {
    match schema.as_object_mut().and_then(|map| map.remove(KINDS)) {
        Some(Value::Array(kinds)) => kinds,
        _ => Vec::new(),
    }
}

fn sort_kinds(schema: &mut Value) {
    let kinds: BTreeMap<String, Value> =
        take_kinds(schema).into_iter().map(|kind| (kind.to_string(), kind)).collect();
    if !kinds.is_empty() {
        schema[KINDS] = kinds.into_values().collect();
    }
}

/// The table of types.
pub(crate) fn lines(types: &Types) -> String {
    let mut out = String::new();
    for (name, schema) in types {
        let _ = writeln!(out, "{name} {schema}");
    }
    out
}

/// The table of kinds: `GROUP/VERSION/KIND TYPE`, sorted; the core group leaves the group empty.
pub(crate) fn kinds(types: &Types) -> String {
    let mut rows = BTreeSet::new();
    for (name, schema) in types {
        for kind in schema.get(KINDS).and_then(Value::as_array).into_iter().flatten() {
            let part = |key: &str| kind.get(key).and_then(Value::as_str).unwrap_or_default();
            rows.insert(format!("{}/{}/{} {name}\n", part("group"), part("version"), part("kind")));
        }
    }
    rows.into_iter().collect()
}
