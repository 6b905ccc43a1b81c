//! What an update of a service keeps, and what goes with a change of type (upstream's `patchAllocatedValues`,
//! `dropTypeDependentFields` and `normalizeClusterIPs`).

use serde_json::{Value, json};

use super::{is_balanced, is_external, needs_address, needs_health_check, takes_node_ports};
use crate::json::{existing, given, integer, list, list_mut, remove, same_field, set, text};

/// A client that leaves out what the server gave keeps it; what the new type cannot have goes, unless the client changed
/// it too.
pub fn carry_over(object: &mut Value, old: &Value) {
    let old = &old["spec"];
    let Some(spec) = existing(object, "spec") else { return };
    if needs_address(old) && needs_address(spec) {
        if text(spec, "clusterIP").is_empty() {
            copy(spec, old, "clusterIP");
        }
        if list(spec, "clusterIPs").is_empty() && text(spec, "clusterIP") == text(old, "clusterIP") {
            copy(spec, old, "clusterIPs");
        }
    }
    if takes_node_ports(old) && takes_node_ports(spec) {
        keep_node_ports(spec, old);
    }
    if needs_health_check(old) && needs_health_check(spec) && integer(spec, "healthCheckNodePort") == 0 {
        copy(spec, old, "healthCheckNodePort");
    }
    drop_dependent(spec, old);
}

fn copy(spec: &mut Value, old: &Value, key: &str) {
    match given(old, key) {
        Some(value) => set(spec, key, value.clone()),
        None => drop(remove(spec, key)),
    }
}

/// Ports of the same name keep their node ports.
fn keep_node_ports(spec: &mut Value, old: &Value) {
    let numbers = |spec: &Value| -> Vec<i64> {
        list(spec, "ports").iter().map(|port| integer(port, "nodePort")).filter(|port| *port != 0).collect()
    };
    let now = numbers(spec);
    let mut used: Vec<i64> = numbers(old).into_iter().filter(|port| now.contains(port)).collect();
    for port in list_mut(spec, "ports") {
        if integer(port, "nodePort") != 0 {
            continue;
        }
        let name = text(port, "name");
        let before = list(old, "ports").iter().rfind(|other| text(other, "name") == name);
        let number = before.map_or(0, |before| integer(before, "nodePort"));
        if number != 0 && !used.contains(&number) {
            set(port, "nodePort", number);
            used.push(number);
        }
    }
}

fn drop_dependent(spec: &mut Value, old: &Value) {
    if needs_address(old) && !needs_address(spec) {
        if same_field(spec, old, "clusterIPs") && same_field(spec, old, "clusterIP") {
            remove(spec, "clusterIP");
            remove(spec, "clusterIPs");
        }
        for key in ["ipFamilies", "ipFamilyPolicy"] {
            drop_same(spec, old, key);
        }
    }
    if takes_node_ports(old) && !takes_node_ports(spec) {
        let numbers = |spec: &Value| -> std::collections::BTreeSet<i64> {
            list(spec, "ports")
                .iter()
                .map(|port| integer(port, "nodePort"))
                .filter(|port| *port != 0)
                .collect()
        };
        if numbers(spec).is_subset(&numbers(old)) {
            list_mut(spec, "ports").iter_mut().for_each(|port| drop(remove(port, "nodePort")));
        }
    }
    if needs_health_check(old) && !needs_health_check(spec) {
        drop_same(spec, old, "healthCheckNodePort");
    }
    if is_balanced(old) && !is_balanced(spec) {
        drop_same(spec, old, "allocateLoadBalancerNodePorts");
        drop_same(spec, old, "loadBalancerClass");
    }
    if is_external(old) && !is_external(spec) {
        drop_same(spec, old, "externalTrafficPolicy");
    }
}

fn drop_same(spec: &mut Value, old: &Value, key: &str) {
    if same_field(spec, old, key) {
        remove(spec, key);
    }
}

/// The two spellings of the address are brought in step, where a client wrote only one of them.
pub fn normalize(object: &mut Value, old: Option<&Value>) {
    let Some(spec) = existing(object, "spec") else { return };
    let own = text(spec, "clusterIP").to_owned();
    let Some(old) = old.map(|old| &old["spec"]) else {
        if !own.is_empty() && list(spec, "clusterIPs").is_empty() {
            set(spec, "clusterIPs", json!([own]));
        }
        return;
    };
    let before = text(old, "clusterIP");
    if list(spec, "clusterIPs").is_empty() && !list(old, "clusterIPs").is_empty() && own == before {
        copy(spec, old, "clusterIPs");
    }
    if own != before && (same_field(spec, old, "clusterIPs") || list(spec, "clusterIPs").is_empty()) {
        if own.is_empty() {
            remove(spec, "clusterIPs");
        } else {
            set(spec, "clusterIPs", json!([own]));
        }
    }
}
