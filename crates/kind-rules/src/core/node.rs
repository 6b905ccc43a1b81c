//! `v1.Node`.

use serde_json::{Value, json};

use crate::addresses;
use crate::columns::{Column, age};
use crate::json::{default, entries, existing, given, list, number, remove, set, text, texts, truth};
use crate::names::{label_value, qualified_name};
use crate::path::Path;
use crate::pod_spec::{quantity_value, taint_effect};
use crate::problems::{Problems, Verbatim, quoted};
use crate::rules::{KindRules, or};

const FEATURE_BYTES: usize = 253;

/// What Kubernetes demands of nodes.
pub const RULES: KindRules = KindRules {
    defaults: |object| {
        if let Some(status) = existing(object, "status")
            && let Some(capacity) = given(status, "capacity").cloned()
        {
            default(status, "allocatable", capacity);
        }
        // The two spellings of the network are kept in step.
        if let Some(spec) = existing(object, "spec") {
            let (one, all) =
                (text(spec, "podCIDR").to_owned(), texts(spec, "podCIDRs").next().map(str::to_owned));
            match all {
                Some(first) if one.is_empty() => set(spec, "podCIDR", first),
                Some(first) if first == one => {}
                _ if one.is_empty() => {}
                // The older field wins where they contradict each other.
                _ => set(spec, "podCIDRs", json!([one])),
            }
        }
    },
    prepare_create: |object| {
        // The feature DynamicKubeletConfig is gone: what asks for it is not stored.
        if let Some(spec) = existing(object, "spec") {
            remove(spec, "configSource");
        }
    },
    validate: |problems, object| {
        taints(problems, object);
        resources(problems, object);
        if let Some(swap) = given(&object["status"]["nodeInfo"]["swap"], "capacity")
            && swap.as_i64().is_some_and(|capacity| capacity <= 0)
        {
            problems.invalid("metadata.nodeSwapStatus.capacity", swap, "must be greater than zero");
        }
        features(problems, object);
        networks(problems, &object["spec"]);
    },
    // Upstream asks both of an update.
    validate_update: |problems, object, old| steps(problems, object, old),
    validate_status: |problems, object, old| {
        (RULES.validate)(problems, object);
        steps(problems, object, old);
    },
    warnings: |object, _| warnings(object),
    selectable: &["spec.unschedulable"],
    field_value: |object, _| Some(truth(&object["spec"], "unschedulable").to_string()),
    counts_generation: false,
    columns: || {
        let info = |name, field| Column::described(name, "NodeSystemInfo", field);
        vec![
            Column::object_name(),
            Column::new("Status").saying("The status of the node"),
            Column::new("Roles").saying("The roles of the node"),
            Column::age(),
            info("Version", "kubeletVersion"),
            Column::described("Internal-IP", "NodeStatus", "addresses").in_wide(),
            Column::described("External-IP", "NodeStatus", "addresses").in_wide(),
            info("OS-Image", "osImage").in_wide(),
            info("Kernel-Version", "kernelVersion").in_wide(),
            info("Container-Runtime", "containerRuntimeVersion").in_wide(),
        ]
    },
    cells: |node, now| {
        let info = &node["status"]["nodeInfo"];
        let mut kernel = match text(info, "kernelVersion") {
            "" => "<unknown>".to_owned(),
            version => version.to_owned(),
        };
        if !text(info, "architecture").is_empty() {
            kernel = format!("{kernel} ({})", text(info, "architecture"));
        }
        vec![
            status(node).into(),
            roles(node).into(),
            age(node, now),
            text(info, "kubeletVersion").into(),
            address(node, "InternalIP"),
            address(node, "ExternalIP"),
            or(text(info, "osImage"), "<unknown>"),
            kernel.into(),
            or(text(info, "containerRuntimeVersion"), "<unknown>"),
        ]
    },
    ..KindRules::NEW
};

fn taints(problems: &mut Problems, object: &Value) {
    // Upstream's own spelling of the path.
    let at = Path::new("metadata.taints");
    let taints = list(&object["spec"], "taints");
    for (index, taint) in taints.iter().enumerate() {
        let at = at.index(index);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        problems.check(at.field("key"), key, qualified_name);
        let wrong = label_value(value);
        if !wrong.is_empty() {
            problems.invalid(at.field("value"), value, &wrong.join(";"));
        }
        taint_effect(problems, at.field("effect"), effect, false);
        let repeated =
            taints[..index].iter().any(|other| text(other, "key") == key && text(other, "effect") == effect);
        if repeated {
            let time = given(taint, "timeAdded").map_or_else(|| "null".to_owned(), Value::to_string);
            let shown = format!(
                "{{\"Key\":{},\"Value\":{},\"Effect\":{},\"TimeAdded\":{time}}}",
                quoted(key),
                quoted(value),
                quoted(effect)
            );
            problems.duplicate_because(at, Verbatim(&shown), "taints must be unique by key and effect pair");
        }
    }
}

fn resources(problems: &mut Problems, object: &Value) {
    for kind in ["capacity", "allocatable"] {
        for (name, amount) in entries(&object["status"], kind) {
            quantity_value(problems, format_args!("status.{kind}.{name}"), name, amount);
        }
    }
}

fn features(problems: &mut Problems, object: &Value) {
    let at = Path::new("status.declaredFeatures");
    let all: Vec<&str> = texts(&object["status"], "declaredFeatures").collect();
    for (index, feature) in all.iter().enumerate() {
        let at_this = at.index(index);
        if feature.len() > FEATURE_BYTES {
            let why = format!(
                "invalid feature name {}: must be no more than {FEATURE_BYTES} characters",
                quoted(feature)
            );
            problems.invalid(at_this, *feature, &why);
        } else if !is_feature(feature) {
            let why = format!(
                "invalid feature name {}: must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes",
                quoted(feature)
            );
            problems.invalid(at_this, *feature, &why);
        }
        if let Some(next) = all.get(index + 1) {
            if feature == next {
                problems.duplicate(at.index(index + 1), *next);
            } else if feature > next {
                problems.invalid(at.index(index + 1), *next, "list must be sorted alphabetically");
            }
        }
    }
}

fn is_feature(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.split('/').all(|part| {
            part.starts_with(|c: char| c.is_ascii_alphabetic())
                && part.bytes().all(|b| b.is_ascii_alphanumeric())
        })
}

fn networks(problems: &mut Problems, spec: &Value) {
    let at = Path::new("spec.podCIDRs");
    let all: Vec<&str> = texts(spec, "podCIDRs").collect();
    for (index, network) in all.iter().enumerate() {
        addresses::legacy_cidr(problems, at.index(index), network, &[]);
    }
    if all.len() > 1 {
        let sixes = all.iter().filter(|network| network.contains(':')).count();
        if all.len() > 2 || sixes != 1 {
            let why = "may specify no more than one CIDR for each IP family";
            problems.invalid(at, spec.get("podCIDRs"), why);
        }
    }
}

fn steps(problems: &mut Problems, object: &Value, old: &Value) {
    let all = list(&object["status"], "addresses");
    for (index, address) in all.iter().enumerate().filter(|(index, address)| all[..*index].contains(address))
    {
        let shown = format!(
            "{{\"Type\":{},\"Address\":{}}}",
            quoted(text(address, "type")),
            quoted(text(address, "address"))
        );
        problems.duplicate(Path::new("status.addresses").index(index), Verbatim(&shown));
    }
    let (new, before) = (&object["spec"], &old["spec"]);
    let (now, then) = (list(new, "podCIDRs"), list(before, "podCIDRs"));
    let moved =
        if now.len() == then.len() { now.iter().zip(then).filter(|(a, b)| a != b).count() } else { 1 };
    if !then.is_empty() {
        for _ in 0..moved {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            problems.forbidden("spec.podCIDRs", why);
        }
    }
    let provider = text(before, "providerID");
    if !provider.is_empty() && text(new, "providerID") != provider {
        let why = "node updates may not change providerID except from \"\" to valid";
        problems.forbidden("spec.providerID", why);
    }
    if number(new, "externalID").is_some() || text(new, "externalID") != text(before, "externalID") {
        problems.forbidden("spec.externalID", "may not be updated");
    }
}

fn warnings(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if given(&object["spec"], "configSource").is_some() {
        found.push("spec.configSource: the feature is no longer supported".to_owned());
    }
    if !text(&object["spec"], "externalID").is_empty() {
        found.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    for (index, network) in texts(&object["spec"], "podCIDRs").enumerate() {
        found.extend(addresses::cidr_warnings(format_args!("spec.podCIDRs[{index}]"), network));
    }
    found
}

fn status(node: &Value) -> String {
    let ready = list(&node["status"], "conditions").iter().find(|c| text(c, "type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "status")) {
        None => "Unknown".to_owned(),
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
    };
    if truth(&node["spec"], "unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> String {
    let roles: std::collections::BTreeSet<&str> = entries(&node["metadata"], "labels")
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then(|| value.as_str().unwrap_or_default()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    if roles.is_empty() {
        return "<none>".to_owned();
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address(node: &Value, kind: &str) -> Value {
    let found = list(&node["status"], "addresses").iter().find(|address| text(address, "type") == kind);
    or(found.map_or("", |address| text(address, "address")), "<none>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_row() {
        let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0"}}});
        let cells = (RULES.cells)(&node, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[0], "Ready,SchedulingDisabled");
        assert_eq!(cells[1], "control-plane");
        assert_eq!(cells[4], "10.0.0.1");
        assert_eq!(cells[5], "<none>");
    }

    #[test]
    fn taints_are_unique() {
        let node = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]}});
        let mut problems = Problems::default();
        (RULES.validate)(&mut problems, &node);
        assert_eq!(problems.into_causes()[0].field, "metadata.taints[1]");
    }
}
