//! `v1.Service`: what can be said of it without knowing which addresses are taken.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::addresses;
use crate::columns::{Column, age};
use crate::json::{default, default_text, existing, given, integer, list, list_mut, set, text, texts};
use crate::names::{self, NameRule};
use crate::rules::{KindRules, or};

mod update;
mod validation;

pub use update::{carry_over, normalize};
pub(crate) use validation::protocol;
pub use validation::{beyond_ipv4, cluster_ips};

/// What Kubernetes demands of services. Addresses and node ports are given out by the server between `prepare_*` and
/// `validate`.
pub const RULES: KindRules = KindRules {
    names: NameRule::DnsLabel,
    defaults,
    prepare_create: |object| {
        set(object, "status", json!({"loadBalancer": {}}));
        normalize(object, None);
    },
    prepare_update: |object, old| {
        carry_over(object, old);
        normalize(object, Some(old));
    },
    validate: |problems, object| validation::validate(problems, object, None),
    validates_updates: false,
    validate_update: |problems, object, old| {
        validation::steps(problems, object, old);
        validation::validate(problems, object, Some(old));
    },
    validate_status: validation::status,
    warnings: |object, _| warnings(object),
    columns: || {
        vec![
            Column::object_name(),
            Column::described("Type", "ServiceSpec", "type"),
            Column::described("Cluster-IP", "ServiceSpec", "clusterIP"),
            Column::described("External-IP", "ServiceSpec", "externalIPs"),
            Column::described("Port(s)", "ServiceSpec", "ports"),
            Column::age(),
            Column::described("Selector", "ServiceSpec", "selector").in_wide(),
        ]
    },
    cells,
    selectable: &["spec.clusterIP", "spec.type"],
    counts_generation: false,
    ..KindRules::NEW
};

fn defaults(object: &mut Value) {
    let Some(spec) = existing(object, "spec") else { return };
    default_text(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => drop(crate::json::remove(spec, "sessionAffinityConfig")),
        "ClientIP" if given(&spec["sessionAffinityConfig"]["clientIP"], "timeoutSeconds").is_none() => {
            set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10_800}}));
        }
        _ => {}
    }
    default_text(spec, "type", "ClusterIP");
    for port in list_mut(spec, "ports") {
        default_text(port, "protocol", "TCP");
        let target = &port["targetPort"];
        if target.is_null() || *target == 0 || *target == "" {
            let number = port.get("port").cloned().unwrap_or(Value::Null);
            set(port, "targetPort", number);
        }
    }
    if is_external(spec) {
        default_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(text(spec, "type"), "NodePort" | "LoadBalancer" | "ClusterIP") {
        default(spec, "internalTrafficPolicy", "Cluster");
    }
    if is_balanced(spec) {
        default(spec, "allocateLoadBalancerNodePorts", true);
        let balancer = existing(object, "status").and_then(|status| existing(status, "loadBalancer"));
        for ingress in balancer.map_or(&mut [][..], |balancer| list_mut(balancer, "ingress")) {
            if !text(ingress, "ip").is_empty() {
                default(ingress, "ipMode", "VIP");
            }
        }
    }
}

/// Of type `LoadBalancer`.
#[must_use]
pub fn is_balanced(spec: &Value) -> bool {
    text(spec, "type") == "LoadBalancer"
}

/// Reached from outside the cluster (upstream's `ExternallyAccessible`).
#[must_use]
pub fn is_external(spec: &Value) -> bool {
    match text(spec, "type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !list(spec, "externalIPs").is_empty(),
        _ => false,
    }
}

/// Whether a load balancer has to be told which nodes have endpoints (upstream's `NeedsHealthCheck`).
#[must_use]
pub fn needs_health_check(spec: &Value) -> bool {
    is_balanced(spec) && text(spec, "externalTrafficPolicy") == "Local"
}

/// Whether its ports are node ports too.
#[must_use]
pub fn takes_node_ports(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

/// Whether it has an address of the service network, or says that it wants none.
#[must_use]
pub fn needs_address(spec: &Value) -> bool {
    matches!(text(spec, "type"), "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Without an address of its own.
#[must_use]
pub fn is_headless(spec: &Value) -> bool {
    matches!(list(spec, "clusterIPs"), [only] if only == "None")
}

fn warnings(object: &Value) -> Vec<String> {
    let spec = &object["spec"];
    let mut found = Vec::new();
    if given(&object["metadata"]["annotations"], "service.kubernetes.io/topology-aware-hints").is_some() {
        found.push("annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead".to_owned());
    }
    if !matches!(text(spec, "clusterIP"), "" | "None") {
        for (index, ip) in texts(spec, "clusterIPs").enumerate() {
            found.extend(addresses::ip_warning(format_args!("spec.clusterIPs[{index}]"), ip));
        }
    }
    let external = !list(spec, "externalIPs").is_empty();
    let headless = is_headless(spec);
    if headless {
        if !text(spec, "loadBalancerIP").is_empty() {
            found.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if external {
            found.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if text(spec, "sessionAffinity") != "None" {
            found.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    for (index, ip) in texts(spec, "externalIPs").enumerate() {
        found.extend(addresses::ip_warning(format_args!("spec.externalIPs[{index}]"), ip));
    }
    let named = text(spec, "type") == "ExternalName";
    if external && !headless && !named {
        found.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    if !text(spec, "loadBalancerIP").is_empty() {
        found.extend(addresses::ip_warning("spec.loadBalancerIP", text(spec, "loadBalancerIP")));
    }
    for (index, range) in texts(spec, "loadBalancerSourceRanges").enumerate() {
        found.extend(addresses::cidr_warnings(format_args!("spec.loadBalancerSourceRanges[{index}]"), range));
    }
    if named && external {
        found.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !named && !text(spec, "externalName").is_empty() {
        found.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(spec, "trafficDistribution") == "PreferClose" {
        found.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
    found
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let spec = &object["spec"];
    vec![
        text(spec, "type").into(),
        or(texts(spec, "clusterIPs").next().unwrap_or_default(), "<none>"),
        external_address(object).into(),
        or(&shown_ports(spec), "<none>"),
        age(object, now),
        names::shown_labels(spec, "selector").into(),
    ]
}

fn shown_ports(spec: &Value) -> String {
    let each: Vec<String> = list(spec, "ports")
        .iter()
        .map(|port| match integer(port, "nodePort") {
            0 => format!("{}/{}", integer(port, "port"), text(port, "protocol")),
            node => format!("{}:{node}/{}", integer(port, "port"), text(port, "protocol")),
        })
        .collect();
    each.join(",")
}

/// Addresses of a load balancer's status, sorted, each once.
#[must_use]
pub fn load_balancer_addresses(object: &Value) -> Vec<String> {
    let found: std::collections::BTreeSet<String> = list(&object["status"]["loadBalancer"], "ingress")
        .iter()
        .map(|ingress| match text(ingress, "ip") {
            "" => text(ingress, "hostname").to_owned(),
            ip => ip.to_owned(),
        })
        .filter(|address| !address.is_empty())
        .collect();
    found.into_iter().collect()
}

fn external_address(object: &Value) -> String {
    let spec = &object["spec"];
    let given: Vec<String> = texts(spec, "externalIPs").map(str::to_owned).collect();
    let joined = |all: Vec<String>, otherwise: &str| {
        if all.is_empty() { otherwise.to_owned() } else { all.join(",") }
    };
    match text(spec, "type") {
        "ExternalName" => text(spec, "externalName").to_owned(),
        "LoadBalancer" => {
            joined(load_balancer_addresses(object).into_iter().chain(given).collect(), "<pending>")
        }
        "ClusterIP" | "NodePort" => joined(given, "<none>"),
        _ => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests;
