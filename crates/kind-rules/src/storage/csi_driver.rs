//! `CSIDriver`.

use serde_json::{Value, json};

use crate::checks::{columns, count_generation};
use crate::columns::age;
use crate::json::{default, existing, integer, list, present, remove, set, text, truth};
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::{KindRules, or};

const WARNING: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to \
                       prevent possible logging of tokens in volume attributes";

/// `storage.k8s.io/v1.CSIDriver`.
pub const CSI_DRIVER: KindRules = KindRules {
    defaults: |object| {
        let Some(spec) = existing(object, "spec") else { return };
        default(spec, "attachRequired", true);
        default(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        for key in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
            default(spec, key, false);
        }
        if list(spec, "volumeLifecycleModes").is_empty() {
            set(spec, "volumeLifecycleModes", json!(["Persistent"]));
        }
    },
    prepare_create: |object| drop_scaling(object, &Value::Null),
    prepare_update: |object, old| {
        drop_scaling(object, old);
        count_generation(object, old, "spec");
    },
    validate: |problems, object| validate(problems, &object["spec"]),
    validate_update: |problems, object, old| {
        let (new, old) = (&object["spec"], &old["spec"]);
        // The first path is upstream's slip, which clients see.
        for (key, at) in [
            ("attachRequired", "spec.attachedRequired"),
            ("volumeLifecycleModes", "spec.volumeLifecycleModes"),
        ] {
            problems.immutable_or_empty(at, new.get(key), old.get(key));
        }
    },
    warnings: |object, old| {
        let spec = &object["spec"];
        let changed = old.is_none_or(|old| old["spec"].get("tokenRequests") != spec.get("tokenRequests"));
        let asks = !list(spec, "tokenRequests").is_empty() && !present(spec, "serviceAccountTokenInSecrets");
        if changed && asks { vec![WARNING.to_owned()] } else { Vec::new() }
    },
    unconditional_update: false,
    columns: || {
        columns(&[
            "AttachRequired:boolean",
            "PodInfoOnMount:boolean",
            "StorageCapacity:boolean",
            "TokenRequests",
            "RequiresRepublish:boolean",
            "Modes",
            "Age",
        ])
    },
    cells: |object, now| {
        let spec = &object["spec"];
        let audiences: Vec<&str> =
            list(spec, "tokenRequests").iter().map(|own| text(own, "audience")).collect();
        let tokens = if present(spec, "tokenRequests") { audiences.join(",") } else { "<unset>".to_owned() };
        let modes: Vec<&str> = list(spec, "volumeLifecycleModes").iter().filter_map(Value::as_str).collect();
        vec![
            spec["attachRequired"].as_bool().unwrap_or(true).into(),
            truth(spec, "podInfoOnMount").into(),
            truth(spec, "storageCapacity").into(),
            tokens.into(),
            truth(spec, "requiresRepublish").into(),
            or(&modes.join(","), "<none>"),
            age(object, now),
        ]
    },
    ..KindRules::NEW
};

/// Volume limit scaling is off by default.
fn drop_scaling(object: &mut Value, old: &Value) {
    const KEY: &str = "preventPodSchedulingIfMissing";
    if !present(&old["spec"], KEY)
        && let Some(spec) = existing(object, "spec")
    {
        remove(spec, KEY);
    }
}

fn validate(problems: &mut Problems, spec: &Value) {
    let at = Path::new("spec");
    // The first path is upstream's slip, which clients see.
    for (key, shown) in [
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ] {
        if !present(spec, key) {
            problems.required(at.field(shown), "");
        }
    }
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    if let Some(policy) = spec["fsGroupPolicy"].as_str().filter(|policy| !policies.contains(policy)) {
        problems.unsupported(at.field("fsGroupPolicy"), policy, &policies);
    }
    tokens(problems, &at.field("tokenRequests"), list(spec, "tokenRequests"));
    for mode in list(spec, "volumeLifecycleModes") {
        if mode != "Persistent" && mode != "Ephemeral" {
            problems.unsupported_of(at.field("volumeLifecycleModes"), mode, &["Persistent", "Ephemeral"]);
        }
    }
    if !present(spec, "seLinuxMount") {
        problems.required(at.field("seLinuxMount"), "");
    }
    let key = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(seconds) = spec[key].as_i64().filter(|seconds| *seconds < 10) {
        problems.invalid(at.field(key), seconds, "must be greater than or equal to 10 seconds");
    }
    let key = "serviceAccountTokenInSecrets";
    if present(spec, key) && list(spec, "tokenRequests").is_empty() {
        let detail = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        problems.invalid(at.field(key), &spec[key], detail);
    }
}

fn tokens(problems: &mut Problems, at: &Path<'_>, requests: &[Value]) {
    for (index, request) in requests.iter().enumerate() {
        let here = at.index(index);
        let audience = text(request, "audience");
        if requests[..index].iter().any(|earlier| text(earlier, "audience") == audience) {
            problems.duplicate(here.field("audience"), audience);
            continue;
        }
        if !present(request, "expirationSeconds") {
            continue;
        }
        let seconds = integer(request, "expirationSeconds");
        if seconds < 600 {
            let detail = "may not specify a duration less than 10 minutes";
            problems.invalid(here.field("expirationSeconds"), seconds, detail);
        }
        if seconds > 1 << 32 {
            let detail = "may not specify a duration larger than 2^32 seconds";
            problems.invalid(here.field("expirationSeconds"), seconds, detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::findings;

    #[test]
    fn bad_drivers_are_refused_where_upstream_refuses_them() {
        for (key, value, wanted) in [
            (
                "fsGroupPolicy",
                json!("x"),
                "spec.fsGroupPolicy: Unsupported value: \"x\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            ),
            (
                "volumeLifecycleModes",
                json!(["x"]),
                "spec.volumeLifecycleModes: Unsupported value: \"x\": supported values: \"Persistent\", \"Ephemeral\"",
            ),
            (
                "tokenRequests",
                json!([{"audience": "a"}, {"audience": "a"}]),
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            ),
            (
                "tokenRequests",
                json!([{"audience": "a", "expirationSeconds": 1}]),
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
            ),
            (
                "nodeAllocatableUpdatePeriodSeconds",
                json!(9),
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
            ),
        ] {
            let mut object = json!({"spec": {}});
            object["spec"][key] = value;
            (CSI_DRIVER.defaults)(&mut object);
            assert_eq!(findings(&CSI_DRIVER, &object), [wanted]);
        }
    }
}
