//! `RuntimeClass`.

use api_machinery::names;
use serde_json::Value;

use crate::checks::{columns, each, labels, tolerations};
use crate::columns::age;
use crate::json::{entries, list, present, text};
use crate::path::Path;
use crate::problems::{NOT_NEGATIVE, Verbatim, go_form};
use crate::rules::KindRules;

/// `node.k8s.io/v1.RuntimeClass`.
pub const RUNTIME_CLASS: KindRules = KindRules {
    validate: |problems, object| {
        let handler = text(object, "handler");
        if handler.is_empty() {
            problems.required("handler", "");
        } else {
            each(problems, "handler", handler, names::dns1123_label(handler));
        }
        let at = Path::new("overhead.limits");
        for (name, amount) in entries(&object["overhead"], "podFixed") {
            resource(problems, &at.key(name), name, amount);
        }
        let scheduling = &object["scheduling"];
        if present(object, "scheduling") {
            labels(problems, "scheduling.nodeSelector", scheduling, "nodeSelector");
            let (at, all) = (Path::new("scheduling.tolerations"), list(scheduling, "tolerations"));
            tolerations(problems, &at, all);
            let key =
                |own: &Value| ["key", "operator", "value", "effect"].map(|key| text(own, key).to_owned());
            for (index, own) in all.iter().enumerate() {
                if all[..index].iter().any(|earlier| key(earlier) == key(own)) {
                    let shown = go_form(
                        own,
                        &[
                            ("key", "Key", "\"\""),
                            ("operator", "Operator", "\"\""),
                            ("value", "Value", "\"\""),
                            ("effect", "Effect", "\"\""),
                            ("tolerationSeconds", "TolerationSeconds", "null"),
                        ],
                    );
                    problems.duplicate(at.index(index), Verbatim(&shown));
                }
            }
        }
    },
    validate_update: |problems, object, old| {
        problems.immutable("handler", object.get("handler"), old.get("handler"));
    },
    create_on_update: true,
    unconditional_update: false,
    warnings: |object, _| {
        entries(&object["scheduling"], "nodeSelector")
            .filter_map(|(key, _)| crate::checks::deprecated_node_label(key))
            .map(|why| format!("scheduling.nodeSelector: {why}"))
            .collect()
    },
    columns: || columns(&["Handler", "Age"]),
    cells: |object, now| vec![text(object, "handler").into(), age(object, now)],
    ..KindRules::NEW
};

/// A resource of a container, with an amount that is not negative.
fn resource(problems: &mut crate::problems::Problems, at: &Path<'_>, name: &str, amount: &Value) {
    each(problems, at, name, names::qualified_name(name));
    let known = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !known {
        problems.invalid(at, name, "must be a standard resource type or fully qualified");
        problems.invalid(at, name, "must be a standard resource for containers");
    }
    let shown = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
    if shown.parse::<api_machinery::quantity::Quantity>().is_ok_and(|parsed| parsed.is_negative()) {
        problems.invalid(at, shown.as_str(), NOT_NEGATIVE);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn bad_classes_are_refused_where_upstream_refuses_them() {
        for (object, wanted) in [
            (json!({"handler": ""}), "handler: Required value"),
            (
                json!({"handler": "a", "overhead": {"podFixed": {"cpu": "-1"}}}),
                "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"handler": "a", "scheduling": {"tolerations": [{"operator": "Equal"}]}}),
                "scheduling.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ),
        ] {
            assert_eq!(findings(&RUNTIME_CLASS, &object), [wanted]);
        }
        let (old, new) = (json!({"handler": "a"}), json!({"handler": "b"}));
        assert_eq!(
            update_findings(&RUNTIME_CLASS, &new, &old),
            ["handler: Invalid value: \"b\": field is immutable"]
        );
    }
}
