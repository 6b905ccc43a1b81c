//! `Lease`.

use serde_json::Value;

use crate::checks::columns;
use crate::columns::age;
use crate::json::{existing, present, remove, text};
use crate::path::Path;
use crate::problems::NOT_NEGATIVE;
use crate::rules::KindRules;

/// Fields of coordinated leader election, which is off by default.
const COORDINATED: [&str; 2] = ["strategy", "preferredHolder"];

/// `coordination.k8s.io/v1.Lease`.
pub const LEASE: KindRules = KindRules {
    prepare_create: |object| drop_coordinated(object, &Value::Null),
    prepare_update: drop_coordinated,
    validate: |problems, object| {
        let (spec, at) = (&object["spec"], Path::new("spec"));
        if let Some(seconds) = spec["leaseDurationSeconds"].as_i64().filter(|seconds| *seconds <= 0) {
            problems.invalid(at.field("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        if let Some(count) = spec["leaseTransitions"].as_i64().filter(|count| *count < 0) {
            problems.invalid(at.field("leaseTransitions"), count, NOT_NEGATIVE);
        }
        let strategy = text(spec, "strategy");
        if present(spec, "strategy") {
            let at = at.field("strategy");
            if strategy.contains('/') {
                let why = api_machinery::names::qualified_name(strategy);
                crate::checks::each(problems, at.field("strategy"), strategy, why);
            } else if strategy != "OldestEmulationVersion" {
                problems.unsupported(at.field("strategy"), strategy, &["OldestEmulationVersion"]);
            }
        }
        if !text(spec, "preferredHolder").is_empty() && strategy.is_empty() {
            let detail = "may only be specified if `strategy` is defined";
            problems.forbidden(at.field("preferredHolder"), detail);
        }
    },
    create_on_update: true,
    unconditional_update: false,
    columns: || columns(&["Holder", "Age"]),
    cells: |object, now| vec![text(&object["spec"], "holderIdentity").into(), age(object, now)],
    ..KindRules::NEW
};

fn drop_coordinated(object: &mut Value, old: &Value) {
    let Some(spec) = existing(object, "spec") else { return };
    for key in COORDINATED {
        if !present(&old["spec"], key) {
            remove(spec, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::findings;

    #[test]
    fn bad_leases_are_refused_where_upstream_refuses_them() {
        for (spec, wanted) in [
            (
                json!({"leaseDurationSeconds": 0}),
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                json!({"leaseTransitions": -1}),
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            ),
        ] {
            assert_eq!(findings(&LEASE, &json!({"spec": spec})), [wanted]);
        }
        let mut lease = json!({"spec": {"strategy": "x", "holderIdentity": "h"}});
        (LEASE.prepare_create)(&mut lease);
        assert_eq!(lease["spec"], json!({"holderIdentity": "h"}));
    }
}
