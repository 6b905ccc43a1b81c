//! `VolumeAttributesClass`.

use super::{parameters, provisioner};
use crate::checks::columns;
use crate::columns::age;
use crate::json::{entries, text};
use crate::rules::KindRules;

/// `storage.k8s.io/v1.VolumeAttributesClass`.
pub const VOLUME_ATTRIBUTES_CLASS: KindRules = KindRules {
    validate: |problems, object| {
        provisioner(problems, object, "driverName");
        parameters(problems, object);
        if entries(object, "parameters").next().is_none() {
            problems.required("parameters", "must contain at least one key/value pair");
        }
    },
    validates_updates: false,
    validate_update: |problems, object, old| {
        if text(object, "driverName") != text(old, "driverName") {
            problems.forbidden("driverName", "updates to driverName are forbidden.");
        }
        if object.get("parameters") != old.get("parameters") {
            problems.forbidden("parameters", "updates to parameters are forbidden.");
        }
        (VOLUME_ATTRIBUTES_CLASS.validate)(problems, object);
    },
    columns: || columns(&["DriverName", "Age"]),
    cells: |object, now| vec![text(object, "driverName").into(), age(object, now)],
    ..KindRules::NEW
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn a_class_has_parameters_and_keeps_them() {
        assert_eq!(
            findings(&VOLUME_ATTRIBUTES_CLASS, &json!({"driverName": "a.b"})),
            ["parameters: Required value: must contain at least one key/value pair"]
        );
        let of = |value: &str| json!({"driverName": "a.b", "parameters": {"a": value}});
        assert_eq!(
            update_findings(&VOLUME_ATTRIBUTES_CLASS, &of("2"), &of("1")),
            ["parameters: Forbidden: updates to parameters are forbidden."]
        );
    }
}
