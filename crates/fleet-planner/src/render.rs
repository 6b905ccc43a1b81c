//! A bundle and values to the objects of one cluster, checked and in the order they should be applied.

use std::collections::BTreeSet;

use fleet_objects::{HealthRule, LABEL_ASSIGNMENT, ObjectReference, assignment_label_value};
use serde_json::{Map, Value};

use crate::bundle::{Bundle, BundleRule};
use crate::health;
use crate::variables::{self, Values, VariableError};

/// An object to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// What it is. The namespace is as the manifest gave it: whether the kind has namespaces is the cluster's to say.
    pub reference: ObjectReference,
    /// When it is applied: [`PHASES`] for each layer before its own, and [`phase`] within it.
    pub phase: u16,
    /// The object with the assignment's label.
    pub object: Value,
    /// By which rule its health is judged, if not by the built-in ones.
    pub health: Option<HealthRule>,
}

/// Phases of a layer: the next power of two after those that [`phase`] knows.
pub const PHASES: u16 = 8;

/// Why a bundle cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A variable does not fit.
    #[error(transparent)]
    Variable(#[from] VariableError),
    /// An object without what every object has.
    #[error("object {index}: {problem}")]
    Malformed {
        /// Which, counted from 1.
        index: usize,
        /// What is missing or wrong.
        problem: String,
    },
    /// The same object twice.
    #[error("object {index}: {kind} {name:?} is there twice")]
    Duplicate {
        /// Which, counted from 1.
        index: usize,
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

/// Renders a bundle for `assignment` with every variable's value.
///
/// # Errors
/// The first thing wrong. Nothing is left out silently.
pub fn render(bundle: &Bundle, values: &Values, assignment: &str) -> Result<Vec<Rendered>, RenderError> {
    let label = assignment_label_value(assignment);
    let mut seen = BTreeSet::new();
    let mut rendered = Vec::with_capacity(bundle.objects.len());
    for (index, object) in bundle.objects.iter().enumerate() {
        let index = index + 1;
        let object = variables::substitute(object.clone(), values, &describe(object, index))?;
        let (reference, object) = prepare(object, index, &label)?;
        if !seen.insert(reference.clone()) {
            return Err(RenderError::Duplicate { index, kind: reference.kind, name: reference.name });
        }
        let layer = bundle.layers.iter().take_while(|layer| layer.from < index).count();
        let layer = u16::try_from(layer).unwrap_or(u16::MAX).min(u16::MAX / PHASES - 1);
        let is_for = |own: &&BundleRule| {
            own.layer.is_none_or(|own| own == usize::from(layer))
                && health::is_for(&own.rule, &reference.api_version, &reference.kind)
        };
        let health = bundle.health.iter().find(is_for).map(|own| own.rule.clone());
        let phase = layer * PHASES + u16::from(phase(&reference));
        rendered.push(Rendered { phase, reference, object, health });
    }
    // Stable: within a phase the author's order stays.
    rendered.sort_by_key(|object| object.phase);
    Ok(rendered)
}

/// An object as messages name it: by its number where it has no name.
pub(crate) fn describe(object: &Value, index: usize) -> String {
    let kind = object["kind"].as_str().unwrap_or("object");
    match object["metadata"]["name"].as_str() {
        Some(name) => format!("{kind} {name}"),
        None => format!("{kind} {index}"),
    }
}

fn prepare(mut object: Value, index: usize, label: &str) -> Result<(ObjectReference, Value), RenderError> {
    let malformed = |problem: &str| RenderError::Malformed { index, problem: problem.to_owned() };
    let text = |value: &Value, field: &str| -> Result<String, RenderError> {
        match value.as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(malformed(&format!("{field} must be a text that is not empty"))),
        }
    };
    let api_version = text(&object["apiVersion"], "apiVersion")?;
    let kind = text(&object["kind"], "kind")?;
    let map = object.as_object_mut().ok_or_else(|| malformed("not a map"))?;
    // What a server writes must not be applied: `kubectl get -o yaml` output is common input.
    map.remove("status");
    let Some(Value::Object(metadata)) = map.get_mut("metadata") else {
        return Err(malformed("metadata is missing"));
    };
    if metadata.contains_key("generateName") && !metadata.contains_key("name") {
        return Err(malformed("generateName cannot be enforced; give a name"));
    }
    for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generation", "selfLink"] {
        metadata.remove(field);
    }
    let name = text(metadata.get("name").unwrap_or(&Value::Null), "metadata.name")?;
    let namespace = match metadata.get("namespace") {
        None | Some(Value::Null) => None,
        Some(Value::String(namespace)) if namespace.is_empty() => None,
        Some(Value::String(namespace)) => Some(namespace.clone()),
        Some(_) => return Err(malformed("metadata.namespace must be a text")),
    };
    let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
    if labels.is_null() {
        *labels = Value::Object(Map::new());
    }
    let labels = labels.as_object_mut().ok_or_else(|| malformed("metadata.labels must be a map"))?;
    labels.insert(LABEL_ASSIGNMENT.to_owned(), Value::from(label));
    Ok((ObjectReference { api_version, kind, namespace, name }, object))
}

/// When an object is applied: 0 namespaces, 1 definitions of kinds, 2 what others refer to, 3 the rest, 4 workloads,
/// 5 kinds that are not built in, 6 webhooks and aggregated APIs (they may block what comes after), 7 Gatekeeper's constraints,
/// whose kinds its templates make.
#[must_use]
pub fn phase(reference: &ObjectReference) -> u8 {
    let group = reference.api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, reference.kind.as_str()) {
        ("", "Namespace") => 0,
        ("apiextensions.k8s.io", _) => 1,
        (
            "",
            "ServiceAccount" | "Secret" | "ConfigMap" | "PersistentVolume" | "LimitRange" | "ResourceQuota",
        )
        | ("storage.k8s.io" | "scheduling.k8s.io" | "rbac.authorization.k8s.io" | "node.k8s.io", _) => 2,
        ("admissionregistration.k8s.io" | "apiregistration.k8s.io", _) => 6,
        ("constraints.gatekeeper.sh", _) => 7,
        ("", "Pod" | "ReplicationController") | ("apps" | "batch", _) => 4,
        ("", _) | ("policy" | "autoscaling", _) => 3,
        (group, _) if group.ends_with(".k8s.io") => 3,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bundle(objects: Vec<Value>) -> Bundle {
        Bundle {
            format: 1,
            target_namespace: None,
            conflicts: fleet_objects::ConflictPolicy::Report,
            variables: Vec::new(),
            objects,
            layers: Vec::new(),
            depends_on: Vec::new(),
            health: Vec::new(),
        }
    }

    #[test]
    fn namespaces_come_first_and_server_fields_go() {
        let rendered = render(
            &bundle(vec![
                json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","uid":"x","resourceVersion":"1"},"status":{}}),
                json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","labels":null}}),
                json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"n"}}),
            ]),
            &Values::new(),
            "default.web",
        )
        .unwrap();
        let kinds: Vec<_> = rendered.iter().map(|object| object.reference.kind.as_str()).collect();
        assert_eq!(kinds, ["Namespace", "ConfigMap", "Deployment"]);
        assert_eq!(
            rendered[2].object,
            json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{LABEL_ASSIGNMENT:"default.web"}}})
        );
    }

    #[test]
    fn layers_come_one_after_the_other() {
        let map = |kind: &str, name: &str| json!({"apiVersion":"v1","kind":kind,"metadata":{"name":name}});
        let mut layered = bundle(vec![map("Pod", "a"), map("Pod", "b"), map("Namespace", "c")]);
        layered.layers = vec![crate::bundle::LayerStart { name: "late".into(), from: 1 }];
        let rendered = render(&layered, &Values::new(), "a.b").unwrap();
        let order: Vec<_> =
            rendered.iter().map(|one| (one.reference.name.as_str(), one.phase / PHASES)).collect();
        assert_eq!(order, [("a", 0), ("c", 1), ("b", 1)]);
        let rule = |current: &str| HealthRule {
            api_version: "v1".into(),
            kind: "Pod".into(),
            current: Some(current.into()),
            ..HealthRule::default()
        };
        layered.health = vec![
            BundleRule { layer: Some(1), rule: rule("late") },
            BundleRule { layer: None, rule: rule("everywhere") },
        ];
        let rendered = render(&layered, &Values::new(), "a.b").unwrap();
        let rules = rendered.iter().map(|one| one.health.as_ref().and_then(|rule| rule.current.as_deref()));
        assert_eq!(rules.collect::<Vec<_>>(), [Some("everywhere"), None, Some("late")]);
    }

    #[test]
    fn malformed_and_duplicate_objects_refuse_the_whole() {
        for bad in [
            json!({"kind":"A","metadata":{"name":"x"}}),
            json!({"apiVersion":"v1","kind":"A"}),
            json!({"apiVersion":"v1","kind":"A","metadata":{"generateName":"x-"}}),
            json!({"apiVersion":"v1","kind":"A","metadata":{"name":"x","labels":[]}}),
            json!({"apiVersion":"v1","kind":"A","metadata":{"name":7}}),
        ] {
            assert!(render(&bundle(vec![bad.clone()]), &Values::new(), "a.b").is_err(), "{bad}");
        }
        let twice = json!({"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}});
        let error = render(&bundle(vec![twice.clone(), twice]), &Values::new(), "a.b").unwrap_err();
        assert!(matches!(error, RenderError::Duplicate { index: 2, .. }));
    }
}
