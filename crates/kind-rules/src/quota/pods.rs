//! Pods under a quota.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::json::{list, present, text};
use crate::resource_list::{ResourceList, Side, add_overhead, pod_total};

const NAMES: [&str; 11] = [
    "count/pods",
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// What every container has to say when a quota limits it.
const DEMANDED: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

pub(super) fn covers(name: &str) -> bool {
    let extended = |name: &str| name.contains('/') && !name.contains("kubernetes.io/");
    NAMES.contains(&name)
        || name.starts_with("hugepages-")
        || name.strip_prefix("requests.").is_some_and(|own| {
            own.starts_with("hugepages-")
                || own.starts_with("deviceclass.resource.kubernetes.io/")
                || extended(own)
        })
}

/// An ended pod still counts as an object; so does one whose grace is over and whose node did not say so.
pub(super) fn usage(pod: &Value, now: Timestamp) -> ResourceList {
    let mut usage = ResourceList::count("count/pods", 1);
    if !runs(pod, now) {
        return usage;
    }
    usage.add(&ResourceList::count("pods", 1));
    for side in [Side::Requests, Side::Limits] {
        let mut total = pod_total(pod, side, true);
        add_overhead(pod, side, &mut total);
        usage.add(&named(&total, side));
    }
    usage
}

/// Under the names that quotas have for them.
fn named(total: &ResourceList, side: Side) -> ResourceList {
    let mut named = ResourceList::default();
    for (name, amount) in &total.0 {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        let huge = name.starts_with("hugepages-");
        let extended = name.contains('/') && !name.contains("kubernetes.io/");
        let both = side == Side::Requests && (plain || huge);
        if both {
            named.0.insert(name.clone(), *amount);
        }
        if both || side == Side::Requests && extended {
            named.0.insert(format!("requests.{name}"), *amount);
        }
        if side == Side::Limits && plain {
            named.0.insert(format!("limits.{name}"), *amount);
        }
    }
    named
}

fn runs(pod: &Value, now: Timestamp) -> bool {
    if matches!(text(&pod["status"], "phase"), "Failed" | "Succeeded") {
        return false;
    }
    let metadata = &pod["metadata"];
    let end: Option<Timestamp> = text(metadata, "deletionTimestamp").parse().ok();
    match (end, metadata["deletionGracePeriodSeconds"].as_i64()) {
        (Some(end), Some(grace)) => {
            end.checked_add(SignedDuration::from_secs(grace)).is_ok_and(|last| now <= last)
        }
        _ => true,
    }
}

pub(super) fn unsaid(demanded: &[&str], pod: &Value) -> Option<String> {
    let spec = &pod["spec"];
    // What the pod says for all counts for each.
    if present(spec, "resources") && spec["resources"].as_object().is_some_and(|map| !map.is_empty()) {
        return None;
    }
    let demanded: Vec<&str> = demanded.iter().copied().filter(|name| DEMANDED.contains(name)).collect();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in list(spec, "containers").iter().chain(list(spec, "initContainers")) {
        let of = |side, key: &str| named(&ResourceList::of(&container["resources"][key]), side);
        let (requests, limits) = (of(Side::Requests, "requests"), of(Side::Limits, "limits"));
        for name in &demanded {
            if !requests.0.contains_key(*name) && !limits.0.contains_key(*name) {
                missing.entry(name).or_default().insert(text(container, "name"));
            }
        }
    }
    let each: Vec<String> = missing
        .into_iter()
        .map(|(name, who)| format!("{name} for: {}", who.into_iter().collect::<Vec<_>>().join(",")))
        .collect();
    (!each.is_empty()).then(|| format!("must specify {}", each.join("; ")))
}
