//! `StorageClass`.

use std::collections::{BTreeMap, BTreeSet};

use api_machinery::names;
use serde_json::Value;

use super::{parameters, provisioner};
use crate::checks::{columns, deprecated_node_label, each};
use crate::columns::age;
use crate::json::{default, default_text, list, text, truth};
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::{KindRules, name_with_default, or};

/// `storage.k8s.io/v1.StorageClass`.
pub const STORAGE_CLASS: KindRules = KindRules {
    defaults: |object| {
        default_text(object, "reclaimPolicy", "Delete");
        default(object, "volumeBindingMode", "Immediate");
    },
    validate: |problems, object| {
        provisioner(problems, object, "provisioner");
        parameters(problems, object);
        let policy = text(object, "reclaimPolicy");
        if !matches!(policy, "" | "Delete" | "Retain") {
            problems.unsupported("reclaimPolicy", policy, &["Delete", "Retain"]);
        }
        match object["volumeBindingMode"].as_str() {
            None => problems.required("volumeBindingMode", ""),
            Some("Immediate" | "WaitForFirstConsumer") => {}
            Some(other) => {
                problems.unsupported("volumeBindingMode", other, &["Immediate", "WaitForFirstConsumer"]);
            }
        }
        topologies(problems, object);
    },
    validate_update: |problems, object, old| {
        for key in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            problems.immutable_or_empty(key, object.get(key), old.get(key));
        }
    },
    warnings: |object, _| {
        let mut warnings = Vec::new();
        let at = Path::new("allowedTopologies");
        for (index, term) in list(object, "allowedTopologies").iter().enumerate() {
            for (number, expression) in list(term, "matchLabelExpressions").iter().enumerate() {
                if let Some(why) = deprecated_node_label(text(expression, "key")) {
                    let term = at.index(index);
                    let at = term.field("matchLabelExpressions");
                    warnings.push(format!("{}: {why}", at.index(number).field("key")));
                }
            }
        }
        warnings
    },
    shown_name: |object| name_with_default(object, "storageclass.kubernetes.io/is-default-class"),
    columns: || {
        columns(&["Provisioner", "ReclaimPolicy", "VolumeBindingMode", "AllowVolumeExpansion", "Age"])
    },
    cells: |object, now| {
        vec![
            text(object, "provisioner").into(),
            or(text(object, "reclaimPolicy"), "Delete"),
            or(text(object, "volumeBindingMode"), "Immediate"),
            truth(object, "allowVolumeExpansion").into(),
            age(object, now),
        ]
    },
    ..KindRules::NEW
};

fn topologies(problems: &mut Problems, object: &Value) {
    let all = Path::new("allowedTopologies");
    let mut seen: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (index, term) in list(object, "allowedTopologies").iter().enumerate() {
        let term_at = all.index(index);
        let at = term_at.field("matchLabelExpressions");
        let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (index, expression) in list(term, "matchLabelExpressions").iter().enumerate() {
            let at = at.index(index);
            let mut values = BTreeSet::new();
            if list(expression, "values").is_empty() {
                problems.required(at.field("values"), "");
            }
            for (index, value) in list(expression, "values").iter().enumerate() {
                let value = value.as_str().unwrap_or_default();
                if !values.insert(value) {
                    problems.duplicate(at.field("values").index(index), value);
                }
            }
            let key = text(expression, "key");
            each(problems, at.field("key"), key, names::qualified_name(key));
            if keys.insert(key, values).is_some() {
                problems.duplicate(at.field("key"), key);
            }
        }
        if seen.contains(&keys) {
            problems.duplicate(at, "");
        }
        seen.push(keys);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    fn class() -> Value {
        json!({"provisioner": "a.b/c", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})
    }

    #[test]
    fn bad_classes_are_refused_where_upstream_refuses_them() {
        for (key, value, wanted) in [
            ("provisioner", json!(""), "provisioner: Required value"),
            (
                "reclaimPolicy",
                json!("Recycle"),
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            ),
            (
                "volumeBindingMode",
                json!("x"),
                "volumeBindingMode: Unsupported value: \"x\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
            ),
            ("parameters", json!({"": "x"}), "parameters: Invalid value: \"\": field can not be empty."),
            (
                "allowedTopologies",
                json!([{"matchLabelExpressions": [{"key": "a", "values": ["x", "x"]}]}]),
                "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"x\"",
            ),
        ] {
            let mut object = class();
            object[key] = value;
            assert_eq!(findings(&STORAGE_CLASS, &object), [wanted]);
        }
        let mut object = class();
        object["parameters"] = json!({"a": "b"});
        assert_eq!(
            update_findings(&STORAGE_CLASS, &object, &class()),
            ["parameters: Invalid value: {\"a\":\"b\"}: field is immutable"]
        );
    }
}
