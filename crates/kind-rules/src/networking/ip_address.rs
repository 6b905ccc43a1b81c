//! `IPAddress`.

use api_machinery::names;

use crate::checks::{columns, each, path_segment};
use crate::json::{present, text};
use crate::names::NameRule;
use crate::path::Path;
use crate::problems::{IMMUTABLE, Verbatim, go_form};
use crate::rules::KindRules;

/// `networking.k8s.io/v1.IPAddress`: its name is the address.
pub const IP_ADDRESS: KindRules = KindRules {
    names: NameRule::IpAddress,
    validate: |problems, object| {
        let at = Path::new("spec.parentRef");
        if !present(&object["spec"], "parentRef") {
            return problems.required(at, "");
        }
        let parent = &object["spec"]["parentRef"];
        let group = text(parent, "group");
        if !group.is_empty() {
            each(problems, at.field("group"), group, names::dns1123_subdomain(group));
        }
        path_segment(problems, at.field("resource"), text(parent, "resource"));
        path_segment(problems, at.field("name"), text(parent, "name"));
        let namespace = text(parent, "namespace");
        each(problems, at.field("namespace"), namespace, names::path_segment(namespace));
    },
    validate_update: |problems, object, old| {
        let parent = &object["spec"]["parentRef"];
        if *parent != old["spec"]["parentRef"] {
            let shown = go_form(
                parent,
                &[
                    ("group", "Group", "\"\""),
                    ("resource", "Resource", "\"\""),
                    ("namespace", "Namespace", "\"\""),
                    ("name", "Name", "\"\""),
                ],
            );
            problems.invalid("spec.parentRef", Verbatim(&shown), IMMUTABLE);
        }
    },
    selectable: &[
        "spec.parentRef.group",
        "spec.parentRef.resource",
        "spec.parentRef.namespace",
        "spec.parentRef.name",
    ],
    // Upstream has an age in the row and no column for it.
    columns: || columns(&["ParentRef"]),
    cells: |object, _| {
        let parent = &object["spec"]["parentRef"];
        if !parent.is_object() {
            return vec!["<none>".into()];
        }
        let (group, namespace) = (text(parent, "group"), text(parent, "namespace"));
        let mut shown = text(parent, "resource").to_owned();
        if !group.is_empty() {
            shown = format!("{shown}.{group}");
        }
        shown = shown.to_lowercase();
        if !namespace.is_empty() {
            shown = format!("{shown}/{namespace}");
        }
        vec![format!("{shown}/{}", text(parent, "name")).into()]
    },
    ..KindRules::NEW
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::findings;

    #[test]
    fn an_address_names_what_holds_it() {
        assert_eq!(findings(&IP_ADDRESS, &json!({"spec": {}})), ["spec.parentRef: Required value"]);
        let object = json!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "kubernetes"}}});
        assert!(findings(&IP_ADDRESS, &object).is_empty());
        assert_eq!((IP_ADDRESS.cells)(&object, jiff::Timestamp::UNIX_EPOCH), ["services/default/kubernetes"]);
    }
}
