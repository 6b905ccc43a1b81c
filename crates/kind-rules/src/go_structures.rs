//! Objects as upstream's messages show them: its internal structures, which have no JSON names, with every field in the
//! order of the structure.
//!
//! The structures are facts of `pkg/apis/core/types.go`, kept in `tables/go_structures.txt`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::line_diff;

const TABLE: &str = include_str!("../tables/go_structures.txt");
/// Fields that v1 has in the pod's spec and the internal form in its security context.
const MOVED: [&str; 5] = ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"];
/// Metadata has JSON names in upstream's internal form too; in the order of its structure.
const METADATA: [&str; 14] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
];

/// A field of a structure.
#[derive(Clone, Copy)]
enum Field {
    /// Its fields are the holder's.
    Embedded(&'static str),
    Named {
        go: &'static str,
        json: &'static str,
        shape: &'static str,
    },
}

/// JSON whose fields have an order.
enum Node {
    Text(String),
    List(Vec<Node>),
    Fields(Vec<(String, Node)>),
}

fn structures() -> &'static BTreeMap<&'static str, Vec<Field>> {
    static STRUCTURES: OnceLock<BTreeMap<&str, Vec<Field>>> = OnceLock::new();
    STRUCTURES.get_or_init(|| {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        let field = |text: &'static str| {
            if let Some(embedded) = text.strip_prefix('+') {
                return Some(Field::Embedded(embedded));
            }
            let (go, rest) = text.split_once('=')?;
            let (json, shape) = rest.split_once(':')?;
            Some(Field::Named { go, json, shape })
        };
        lines
            .filter_map(|line| {
                let mut words = line.split(' ');
                Some((words.next()?, words.filter_map(field).collect()))
            })
            .collect()
    })
}

/// A value of a structure on one line, as upstream repeats a bad value.
#[must_use]
pub fn shown(structure: &str, value: &Value) -> String {
    let mut out = String::new();
    compact(&node(structure, value), &mut out);
    out
}

/// What two values of a structure differ in: a unified diff of their forms.
#[must_use]
pub fn difference(structure: &str, old: &Value, new: &Value) -> String {
    let text = |value: &Value| {
        let mut out = String::new();
        indented(&node(structure, value), 0, &mut out);
        out
    };
    line_diff::unified(&text(old), &text(new))
}

fn node(structure: &str, value: &Value) -> Node {
    let mut fields = Vec::new();
    add_fields(structure, value, &mut fields);
    Node::Fields(fields)
}

fn add_fields(structure: &str, value: &Value, out: &mut Vec<(String, Node)>) {
    for field in structures().get(structure).into_iter().flatten() {
        match *field {
            Field::Embedded("metav1.ObjectMeta") => add_metadata(&value["metadata"], out),
            Field::Embedded(structure) => add_fields(structure, value, out),
            Field::Named { go, json, shape } => {
                let own = value.get(json).filter(|own| !own.is_null());
                let node = if shape == "*PodSecurityContext" {
                    node("PodSecurityContext", &security_context(value))
                } else {
                    shaped(shape, own)
                };
                out.push((go.to_owned(), node));
            }
        }
    }
}

fn add_metadata(metadata: &Value, out: &mut Vec<(String, Node)>) {
    for key in METADATA {
        if let Some(own) = metadata.get(key).filter(|own| !crate::json::is_nothing(own)) {
            out.push((key.to_owned(), plain(own)));
        }
    }
}

fn security_context(spec: &Value) -> Value {
    let mut all = spec.get("securityContext").and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
    for key in MOVED {
        if let Some(own) = spec.get(key) {
            all.insert(key.to_owned(), own.clone());
        }
    }
    Value::Object(all)
}

fn shaped(shape: &str, value: Option<&Value>) -> Node {
    let empty = |text: &str| Node::Text(text.to_owned());
    match (shape, value) {
        ("s", None) => empty("\"\""),
        ("q", None) => empty("\"0\""),
        ("0", None) => empty("0"),
        ("b", None) => empty("false"),
        ("s" | "q" | "0" | "b" | "n", Some(value)) => plain(value),
        (list, Some(Value::Array(items))) if list.starts_with('[') => {
            Node::List(items.iter().map(|item| node(&list[1..], item)).collect())
        }
        (pointer, None) if pointer.starts_with(['*', '[', 'n']) => empty("null"),
        (structure, value) => node(structure.trim_start_matches(['*', '[']), value.unwrap_or(&Value::Null)),
    }
}

fn plain(value: &Value) -> Node {
    match value {
        Value::Array(items) => Node::List(items.iter().map(plain).collect()),
        Value::Object(map) => {
            Node::Fields(map.iter().map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        other => Node::Text(escaped(&other.to_string())),
    }
}

/// Go writes texts so that a browser takes them for no markup.
fn escaped(text: &str) -> String {
    text.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

fn key(name: &str) -> String {
    escaped(&Value::from(name).to_string())
}

fn compact(node: &Node, out: &mut String) {
    match node {
        Node::Text(text) => out.push_str(text),
        Node::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                compact(item, out);
            }
            out.push(']');
        }
        Node::Fields(fields) => {
            out.push('{');
            for (index, (name, value)) in fields.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(&key(name));
                out.push(':');
                compact(value, out);
            }
            out.push('}');
        }
    }
}

/// A space for each level. Bounded by the depth of what was decoded.
fn indented(node: &Node, depth: usize, out: &mut String) {
    let line = |depth: usize, out: &mut String| {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', depth));
    };
    match node {
        Node::List(items) if !items.is_empty() => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                line(depth + 1, out);
                indented(item, depth + 1, out);
            }
            line(depth, out);
            out.push(']');
        }
        Node::Fields(fields) if !fields.is_empty() => {
            out.push('{');
            for (index, (name, value)) in fields.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                line(depth + 1, out);
                out.push_str(&key(name));
                out.push_str(": ");
                indented(value, depth + 1, out);
            }
            line(depth, out);
            out.push('}');
        }
        other => compact(other, out),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_named_structure_is_in_the_table() {
        for fields in structures().values() {
            for field in fields {
                let named = match *field {
                    Field::Embedded(structure) => structure,
                    Field::Named { shape, .. } => shape.trim_start_matches(['*', '[']),
                };
                let known = matches!(named, "s" | "q" | "0" | "b" | "n" | "metav1.ObjectMeta");
                assert!(known || structures().contains_key(named), "{named}");
            }
        }
    }

    #[test]
    fn a_source_says_all_that_it_is_not() {
        let source = json!({"hostPath": {"path": "/<a>", "type": ""}});
        let text = shown("PersistentVolumeSource", &source);
        assert!(text.starts_with(
            "{\"GCEPersistentDisk\":null,\"AWSElasticBlockStore\":null,\"HostPath\":{\"Path\":\"/\\u003ca\\u003e\",\"Type\":\"\"},\"Glusterfs\":null,"
        ));
    }

    #[test]
    fn a_difference_shows_its_surroundings() {
        let claim = |size: &str| json!({"resources": {"requests": {"storage": size}}, "accessModes": ["ReadWriteOnce"]});
        assert_eq!(
            difference("PersistentVolumeClaimSpec", &claim("1Gi"), &claim("2Gi")),
            "@@ -6,7 +6,7 @@\n  \"Resources\": {\n   \"Limits\": null,\n   \"Requests\": {\n-   \"storage\": \"1Gi\"\n+   \"storage\": \"2Gi\"\n   }\n  },\n  \"VolumeName\": \"\",\n"
        );
    }
}
