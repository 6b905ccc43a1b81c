//! `apps/v1.ControllerRevision`.

use serde_json::Value;

use crate::columns::{Column, age};
use crate::json::{given, integer, list, same_field, text};
use crate::path::Path;
use crate::problems::{IMMUTABLE, Problems};
use crate::rules::KindRules;
use crate::workload::counts;

/// What Kubernetes demands of controller revisions.
pub const RULES: KindRules = KindRules {
    validate: |problems, object| {
        validate_both(problems, object);
        match given(object, "data") {
            None => problems.required("data", "data is mandatory"),
            Some(Value::Object(_)) => {}
            Some(_) => problems.required("data", "data must be a valid JSON object"),
        }
    },
    validates_updates: false,
    validate_update: |problems, object, old| {
        validate_both(problems, object);
        if !same_field(object, old, "data") {
            problems.invalid("data", object.get("data"), IMMUTABLE);
        }
    },
    columns: || {
        vec![
            Column::object_name(),
            Column::new("Controller").saying("Controller of the object"),
            Column::described("Revision", "ControllerRevision", "revision"),
            Column::age(),
        ]
    },
    cells: |object, now| {
        let controller =
            list(&object["metadata"], "ownerReferences").iter().find(|owner| owner["controller"] == true);
        let controller = controller.map_or_else(
            || "<none>".to_owned(),
            |owner| {
                let api = text(owner, "apiVersion");
                let group = api.split_once('/').map_or("", |(group, _)| group);
                let kind = text(owner, "kind").to_lowercase();
                let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
                format!("{kind}/{}", text(owner, "name"))
            },
        );
        vec![controller.into(), integer(object, "revision").into(), age(object, now)]
    },
    ..KindRules::NEW
};

fn validate_both(problems: &mut Problems, object: &Value) {
    counts(problems, &Path::new(""), object, &["revision"]);
}
