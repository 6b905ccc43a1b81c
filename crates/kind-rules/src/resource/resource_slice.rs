//! `ResourceSlice`.

use serde_json::Value;

use super::{driver, items, unique};
use crate::checks::{columns, count_generation, first_generation};
use crate::columns::age;
use crate::json::{integer, list, present, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;

const DEVICES_MAX: usize = 128;
/// Where devices have taints or share counters.
const ADVANCED_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const POOL_NAME_MAX: usize = 253;
const ONE: &str =
    "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";

/// `resource.k8s.io/v1.ResourceSlice`.
pub const RESOURCE_SLICE: KindRules = KindRules {
    prepare_create: first_generation,
    prepare_update: |object, old| count_generation(object, old, "spec"),
    validate: |problems, object| validate(problems, &object["spec"]),
    validate_update: |problems, object, old| {
        let (new, old) = (&object["spec"], &old["spec"]);
        problems.immutable("spec.pool.name", new["pool"].get("name"), old["pool"].get("name"));
        for key in ["driver", "nodeName"] {
            problems.immutable(Path::new("spec").field(key), new.get(key), old.get(key));
        }
    },
    selectable: &["spec.nodeName", "spec.driver"],
    columns: || columns(&["Node", "Driver", "Pool", "Age"]),
    cells: |object, now| {
        let spec = &object["spec"];
        vec![
            text(spec, "nodeName").into(),
            text(spec, "driver").into(),
            text(&spec["pool"], "name").into(),
            age(object, now),
        ]
    },
    ..KindRules::NEW
};

fn validate(problems: &mut Problems, spec: &Value) {
    let at = Path::new("spec");
    driver(problems, at.field("driver"), text(spec, "driver"));
    pool(problems, &at.field("pool"), &spec["pool"]);
    nodes(problems, &at, spec);
    if present(spec, "sharedCounters") && present(spec, "devices") {
        problems.invalid(at, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let advanced =
        |device: &Value| !list(device, "taints").is_empty() || !list(device, "consumesCounters").is_empty();
    let most = if list(spec, "devices").iter().any(advanced) { ADVANCED_DEVICES_MAX } else { DEVICES_MAX };
    for (key, most) in [("devices", most), ("sharedCounters", COUNTER_SETS_MAX)] {
        let all = items(problems, &at, spec, key, most);
        let here = at.field(key);
        for (index, own) in all.iter().enumerate() {
            problems.check(here.index(index).field("name"), text(own, "name"), names::dns1123_label);
            if key == "devices" && spec["perDeviceNodeSelection"] == true {
                device_nodes(problems, &here.index(index), own);
            }
        }
        unique(problems, &here, all, |own| text(own, "name"));
    }
}

/// Where the slice leaves it to its devices.
fn device_nodes(problems: &mut Problems, at: &Path<'_>, device: &Value) {
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
                       `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    let said =
        ["nodeName", "nodeSelector", "allNodes"].into_iter().filter(|key| present(device, key)).count();
    match said {
        0 => problems.required(at, ONE),
        1 => {}
        _ => problems.invalid(at, &Value::Null, ONE),
    }
}

fn pool(problems: &mut Problems, at: &Path<'_>, pool: &Value) {
    let name = text(pool, "name");
    if name.is_empty() {
        problems.required(at.field("name"), "");
    } else {
        if name.len() > POOL_NAME_MAX {
            problems.too_many_bytes(at.field("name"), POOL_NAME_MAX);
        }
        for part in name.split('/') {
            problems.check(at.field("name"), part, names::dns1123_subdomain);
        }
    }
    if integer(pool, "resourceSliceCount") <= 0 {
        let count = integer(pool, "resourceSliceCount");
        problems.invalid(at.field("resourceSliceCount"), count, "must be greater than zero");
    }
    if integer(pool, "generation") < 0 {
        let generation = integer(pool, "generation");
        let detail = "must be greater than or equal to zero";
        problems.invalid(at.field("generation"), generation, detail);
    }
}

/// On which nodes the devices are: exactly one way of saying it.
fn nodes(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let mut said = Vec::new();
    match spec["nodeName"].as_str() {
        Some("") => {
            problems.invalid(at.field("nodeName"), "", "must be either unset or set to a non-empty string");
        }
        Some(name) => {
            said.push("`nodeName`");
            problems.check(at.field("nodeName"), name, names::dns1123_subdomain);
        }
        None => {}
    }
    if present(spec, "nodeSelector") {
        said.push("`nodeSelector`");
        let here = at.field("nodeSelector");
        let terms = list(&spec["nodeSelector"], "nodeSelectorTerms");
        if terms.is_empty() {
            problems.required(here.field("nodeSelectorTerms"), "must have at least one node selector term");
        }
        if terms.len() != 1 {
            let terms = &spec["nodeSelector"]["nodeSelectorTerms"];
            problems.invalid(
                here.field("nodeSelectorTerms"),
                terms,
                "must have exactly one node selector term",
            );
        }
    }
    for (key, shown) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        match spec[key].as_bool() {
            Some(true) => said.push(shown),
            Some(false) => problems.invalid(at.field(key), false, "must be either unset or set to true"),
            None => {}
        }
    }
    match said.len() {
        0 => problems.required(at, ONE),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", said.join(", "));
            problems.invalid(at, shown, &format!("{ONE}, but multiple fields are set"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn a_slice_says_in_one_way_where_its_devices_are() {
        let of = |key: &str, value: Value| {
            let mut object = json!({"spec": {"driver": "d", "pool": {"name": "p", "resourceSliceCount": 1}, "allNodes": true}});
            object["spec"][key] = value;
            object
        };
        assert!(findings(&RESOURCE_SLICE, &of("x", json!(1))).is_empty());
        for (key, value, wanted) in [
            (
                "nodeName",
                json!("n"),
                format!(
                    "spec: Invalid value: \"{{`nodeName`, `allNodes`}}\": {ONE}, but multiple fields are set"
                ),
            ),
            ("driver", json!(""), "spec.driver: Required value".to_owned()),
            (
                "devices",
                json!([{"name": "a"}, {"name": "a"}]),
                "spec.devices[1]: Duplicate value: \"a\"".to_owned(),
            ),
        ] {
            assert_eq!(findings(&RESOURCE_SLICE, &of(key, value)), [wanted]);
        }
        let other = of("driver", json!("e"));
        assert_eq!(
            update_findings(&RESOURCE_SLICE, &other, &of("x", json!(1))),
            ["spec.driver: Invalid value: \"e\": field is immutable"]
        );
    }
}
