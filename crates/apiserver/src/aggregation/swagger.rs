//! The aggregated servers' part of OpenAPI v2 (upstream `kube-aggregator/pkg/controllers/openapi/aggregator`). Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::Remote;

const REFERENCE: &str = "#/definitions/";

/// Of a server's document what lies below `root`, with the definitions that it needs; `None`: nothing does.
pub(super) fn part(document: &Value, root: &str) -> Option<Value> {
    let below =
        |path: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let paths: Map<String, Value> = document["paths"]
        .as_object()?
        .iter()
        .filter(|(path, _)| below(path))
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    if paths.is_empty() {
        return None;
    }
    let mut needed = BTreeSet::new();
    let mut open: Vec<String> = Vec::new();
    paths.values().for_each(|item| references(item, &mut |name| open.push(name.to_owned())));
    let mut definitions = Map::new();
    while let Some(name) = open.pop() {
        let Some(definition) = document["definitions"].get(&name).filter(|_| needed.insert(name.clone()))
        else {
            continue;
        };
        references(definition, &mut |name| open.push(name.to_owned()));
        definitions.insert(name, definition.clone());
    }
    Some(serde_json::json!({"paths": paths, "definitions": definitions}))
}

/// Every definition that a part of a document refers to.
fn references(value: &Value, found: &mut dyn FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str().and_then(|text| text.strip_prefix(REFERENCE)) {
                    Some(name) if key == "$ref" => found(name),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Adds what those that answer have told to this server's own document. Paths of ours stay; a definition of a name that
/// is taken by another is renamed.
pub(crate) fn into_swagger(document: &mut Value, remotes: &[Arc<Remote>]) {
    for remote in remotes.iter().filter(|remote| remote.is_available()) {
        if let Some(part) = remote.known.load().swagger.clone() {
            add(document, part);
        }
    }
}

fn add(document: &mut Value, mut part: Value) {
    let mut renamed = BTreeMap::new();
    for (name, definition) in part["definitions"].as_object().into_iter().flatten() {
        let taken = |name: &str| document["definitions"].get(name).is_some_and(|own| own != definition);
        if !taken(name) {
            continue;
        }
        let mut number = 2;
        while taken(&format!("{name}_v{number}")) {
            number += 1;
        }
        renamed.insert(name.clone(), format!("{name}_v{number}"));
    }
    if !renamed.is_empty() {
        rename(&mut part, &renamed);
    }
    for section in ["paths", "definitions"] {
        let Some(theirs) = part.get_mut(section).and_then(Value::as_object_mut) else { continue };
        let Some(ours) = document.get_mut(section).and_then(Value::as_object_mut) else { continue };
        for (key, value) in std::mem::take(theirs) {
            let key = if section == "definitions" { renamed.get(&key).cloned().unwrap_or(key) } else { key };
            ours.entry(key).or_insert(value);
        }
    }
}

fn rename(value: &mut Value, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let name = value.as_str().and_then(|text| text.strip_prefix(REFERENCE));
                match name.and_then(|name| names.get(name)).filter(|_| key == "$ref") {
                    Some(new) => *value = Value::String(format!("{REFERENCE}{new}")),
                    None => rename(value, names),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_serve_is_added_under_names_of_its_own() {
        let reference = |name: &str| json!({"$ref": format!("{REFERENCE}{name}")});
        let theirs = json!({
            "paths": {"/apis/g/v1/things": {"get": {"schema": reference("Thing")}}, "/apis/other/v1/x": {}, "/apis/g/v10": {}},
            "definitions": {"Thing": {"properties": {"meta": reference("Meta")}}, "Meta": {"type": "object"}, "Unused": {}},
        });
        let part = part(&theirs, "/apis/g/v1").unwrap();
        assert_eq!(part["paths"].as_object().unwrap().keys().collect::<Vec<_>>(), ["/apis/g/v1/things"]);
        assert_eq!(part["definitions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["Meta", "Thing"]);
        let mut ours = json!({"paths": {"/api": {}}, "definitions": {"Meta": {"type": "string"}}});
        add(&mut ours, part.clone());
        assert_eq!(ours["definitions"]["Meta"], json!({"type": "string"}), "ours stays");
        assert_eq!(ours["definitions"]["Meta_v2"], json!({"type": "object"}));
        assert_eq!(ours["definitions"]["Thing"]["properties"]["meta"], reference("Meta_v2"));
        assert_eq!(ours["paths"]["/apis/g/v1/things"]["get"]["schema"], reference("Thing"));
        let once = ours.clone();
        add(&mut ours, part);
        assert_eq!(ours["paths"], once["paths"]);
        assert!(super::part(&theirs, "/apis/none/v1").is_none());
    }
}
