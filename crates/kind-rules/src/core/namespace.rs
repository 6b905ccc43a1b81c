//! `v1.Namespace`.

use serde_json::{Value, json};

use crate::columns::{Column, age};
use crate::json::{child, list, set, text, texts};
use crate::meta;
use crate::names::{NameRule, qualified_name};
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;

/// What Kubernetes demands of namespaces. A server runs `finalize` besides.
pub const RULES: KindRules = KindRules {
    names: NameRule::DnsLabel,
    defaults: |object| {
        let name = text(&object["metadata"], "name").to_owned();
        label(object, &name);
    },
    prepare_create: |object| {
        set(object, "status", json!({"phase": "Active"}));
        let Some(spec) = child(object, "spec") else { return };
        let mut finalizers = list(spec, "finalizers").to_vec();
        if !finalizers.contains(&json!("kubernetes")) {
            finalizers.push(json!("kubernetes"));
        }
        set(spec, "finalizers", finalizers);
    },
    prepare_update: |object, old| {
        set(object, "spec", old["spec"].clone());
        set(object, "status", old["status"].clone());
    },
    validate: validate_finalizers,
    validates_updates: false,
    validate_status: |problems, object, _| {
        // Upstream's own spelling of the field.
        let (at, phase) = (Path::new("status.Phase"), text(&object["status"], "phase"));
        let leaving = crate::json::present(&object["metadata"], "deletionTimestamp");
        if !leaving && phase != "Active" {
            problems.invalid(at, phase, "may only be 'Active' if `deletionTimestamp` is empty");
        } else if leaving && phase != "Terminating" {
            problems.invalid(at, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty");
        }
    },
    columns: || {
        vec![
            Column::object_name(),
            Column::new("Status").saying("The status of the namespace"),
            Column::age(),
        ]
    },
    cells: |object, now| vec![text(&object["status"], "phase").into(), age(object, now)],
    selectable: &["status.phase"],
    counts_generation: false,
    ..KindRules::NEW
};

/// The label that lets selectors choose namespaces by name.
pub fn label(object: &mut Value, name: &str) {
    if !name.is_empty()
        && let Some(labels) = child(object, "metadata").and_then(|metadata| child(metadata, "labels"))
    {
        set(labels, "kubernetes.io/metadata.name", name);
    }
}

/// What is wrong with the finalizers of its spec.
pub fn validate_finalizers(problems: &mut Problems, object: &Value) {
    let at = Path::new("spec.finalizers");
    for finalizer in texts(&object["spec"], "finalizers") {
        problems.check(at, finalizer, qualified_name);
        meta::standard_finalizer(problems, at, finalizer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_can_be_chosen_by_name() {
        let mut namespace =
            json!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "forged"}}});
        (RULES.defaults)(&mut namespace);
        assert_eq!(namespace["metadata"]["labels"]["kubernetes.io/metadata.name"], "n");
    }

    #[test]
    fn its_phase_follows_its_deletion() {
        let mut problems = Problems::default();
        (RULES.validate_status)(&mut problems, &json!({"status": {"phase": "Terminating"}}), &Value::Null);
        assert_eq!(problems.into_causes()[0].field, "status.Phase");
        let mut problems = Problems::default();
        (RULES.validate)(&mut problems, &json!({"spec": {"finalizers": ["kubernetes", "a", "b/c"]}}));
        assert_eq!(problems.len(), 1);
    }
}
