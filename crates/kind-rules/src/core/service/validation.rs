//! What is wrong with a service (upstream's `validateService` and its companions).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{is_balanced, is_external, is_headless, needs_health_check};
use crate::addresses;
use crate::json::{entries, given, integer, list, number, text, texts};
use crate::names::{self, dns1123_label, dns1123_subdomain, qualified_name};
use crate::net;
use crate::path::Path;
use crate::pod_spec::port_or_name;
use crate::problems::Problems;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";
const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const ONLY_BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";
/// A day.
const AFFINITY_SECONDS: i64 = 86_400;

pub(super) fn validate(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let spec = &object["spec"];
    let before = old.map(|old| &old["spec"]);
    let notes = &object["metadata"]["annotations"];
    if let (Some(mode), Some(hints)) = (given(notes, MODE), given(notes, HINTS))
        && mode != hints
    {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        problems.invalid(Path::new("metadata.annotations").key(MODE), mode, &why);
    }
    let at = Path::new("spec");
    let headless = is_headless(spec);
    let kind = text(spec, "type");
    if list(spec, "ports").is_empty() && !headless && kind != "ExternalName" {
        problems.required(at.field("ports"), "");
    }
    if headless && matches!(kind, "LoadBalancer" | "NodePort") {
        let why = format!("may not be set to 'None' for {kind} services");
        problems.invalid(at.field("clusterIPs").index(0), "None", &why);
    }
    if kind == "ExternalName" {
        external_name(problems, &at, spec);
    }
    ports(problems, &at.field("ports"), spec);
    names::labels(problems, &at.field("selector"), spec, "selector");
    affinity(problems, &at, spec);
    cluster_ips(problems, &at, spec, before);
    external_ips(problems, &at.field("externalIPs"), spec, before);
    match kind {
        "" => problems.required(at.field("type"), ""),
        kind if TYPES.contains(&kind) => {}
        kind => problems.unsupported(at.field("type"), kind, &TYPES),
    }
    repeated_ports(problems, &at.field("ports"), spec);
    source_ranges(problems, object, old);
    balancer(problems, &at, spec);
    traffic(problems, &at, spec);
}

fn external_name(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    const WHY: &str = "may not be set for ExternalName services";
    for key in ["clusterIPs", "ipFamilies"] {
        if !list(spec, key).is_empty() {
            problems.forbidden(at.field(key), WHY);
        }
    }
    if given(spec, "ipFamilyPolicy").is_some() {
        problems.forbidden(at.field("ipFamilyPolicy"), WHY);
    }
    let name = text(spec, "externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    problems.check_required(at.field("externalName"), name, dns1123_subdomain);
}

fn ports(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let ports = list(spec, "ports");
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        let name = text(port, "name");
        if name.is_empty() {
            if ports.len() > 1 {
                problems.required(at.field("name"), "");
            }
        } else {
            problems.check(at.field("name"), name, dns1123_label);
            if ports[..index].iter().any(|other| text(other, "name") == name) {
                problems.duplicate(at.field("name"), name);
            }
        }
        problems.in_range(at.field("port"), integer(port, "port"), 1, 65_535);
        protocol(problems, &at.field("protocol"), text(port, "protocol"));
        port_or_name(problems, at.field("targetPort"), &port["targetPort"]);
        if let Some(protocol) = given(port, "appProtocol") {
            problems.check(at.field("appProtocol"), protocol.as_str().unwrap_or_default(), qualified_name);
        }
    }
}

/// Of ports of services and endpoints.
pub(crate) fn protocol(problems: &mut Problems, at: &Path<'_>, protocol: &str) {
    match protocol {
        "" => problems.required(at, ""),
        "TCP" | "UDP" | "SCTP" => {}
        protocol => problems.unsupported(at, protocol, &["SCTP", "TCP", "UDP"]),
    }
}

fn affinity(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let field = at.field("sessionAffinityConfig");
    let config = given(spec, "sessionAffinityConfig");
    match text(spec, "sessionAffinity") {
        "" => problems.required(at.field("sessionAffinity"), ""),
        "ClientIP" => {
            const WHY: &str = "when session affinity type is ClientIP";
            let client = config.and_then(|config| given(config, "clientIP"));
            let at = field.field("clientIP");
            let seconds = client.and_then(|client| number(client, "timeoutSeconds"));
            match (config, client, seconds) {
                (None, ..) => problems.required(field, WHY),
                (_, None, _) => problems.required(at, WHY),
                (.., None) => problems.required(at.field("timeoutSeconds"), WHY),
                (.., Some(seconds)) if !(1..=AFFINITY_SECONDS).contains(&seconds) => {
                    let why = format!("must be greater than 0 and less than {AFFINITY_SECONDS}");
                    problems.invalid(at.field("timeoutSeconds"), seconds, &why);
                }
                _ => {}
            }
        }
        "None" => {
            if config.is_some() {
                problems.forbidden(field, "must not be set when session affinity is None");
            }
        }
        other => problems.unsupported(at.field("sessionAffinity"), other, &["ClientIP", "None"]),
    }
}

/// Upstream's `ValidateServiceClusterIPsRelatedFields`.
/// What is wrong with the addresses and their families: the server asks before it gives any out.
pub fn cluster_ips(problems: &mut Problems, at: &Path<'_>, spec: &Value, old: Option<&Value>) {
    if text(spec, "type") == "ExternalName" {
        return;
    }
    let field = at.field("clusterIPs");
    let (own, all) = (text(spec, "clusterIP"), list(spec, "clusterIPs"));
    let shown = spec.get("clusterIPs");
    if own.is_empty() {
        if !all.is_empty() {
            problems.invalid(field, shown, "must be empty when `clusterIP` is not specified");
        }
    } else if all.is_empty() {
        problems.required(field, "");
    } else if all[0] != own {
        problems.invalid(field, shown, "first value must match `clusterIP`");
    }
    let families: Vec<&str> = texts(spec, "ipFamilies").collect();
    for (index, family) in families.iter().enumerate() {
        let at = at.field("ipFamilies");
        if !matches!(*family, "IPv4" | "IPv6") {
            problems.unsupported(at.index(index), *family, &["IPv4", "IPv6"]);
        }
        if families[..index].contains(family) {
            problems.duplicate(at.index(index), *family);
        }
    }
    if let Some(policy) = given(spec, "ipFamilyPolicy")
        && !matches!(policy.as_str(), Some("SingleStack" | "PreferDualStack" | "RequireDualStack"))
    {
        let supported = ["PreferDualStack", "RequireDualStack", "SingleStack"];
        problems.unsupported(at.field("ipFamilyPolicy"), policy, &supported);
    }
    let known: Vec<&str> = old.map(|old| texts(old, "clusterIPs").collect()).unwrap_or_default();
    let before = problems.len();
    for (index, ip) in texts(spec, "clusterIPs").enumerate() {
        if index == 0 && ip == "None" {
            if all.len() > 1 {
                problems.invalid(field, shown, "'None' must be the first and only value");
            }
            continue;
        }
        addresses::legacy_ip(problems, field.index(index), ip, &known);
    }
    let wrong = problems.len() > before;
    if all.len() > 2 {
        problems.invalid(field, shown, "may only hold up to 2 values");
    }
    if wrong {
        return;
    }
    let sixes = texts(spec, "clusterIPs").filter(|ip| addresses::is_ipv6(ip)).count();
    if all.len() > 1 && (sixes == 0 || sixes == all.len()) {
        problems.invalid(field, shown, "may specify no more than one IP for each IP family");
    }
    if is_headless(spec) {
        return;
    }
    for (index, (ip, family)) in texts(spec, "clusterIPs").zip(&families).enumerate() {
        if matches!(*family, "IPv4" | "IPv6") && (*family == "IPv6") != addresses::is_ipv6(ip) {
            let why = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            problems.invalid(field.index(index), ip, &why);
        }
    }
}

fn external_ips(problems: &mut Problems, at: &Path<'_>, spec: &Value, old: Option<&Value>) {
    let known: Vec<&str> = old.map(|old| texts(old, "externalIPs").collect()).unwrap_or_default();
    for (index, ip) in texts(spec, "externalIPs").enumerate() {
        let before = problems.len();
        addresses::legacy_ip(problems, at.index(index), ip, &known);
        if problems.len() == before {
            net::endpoint_ip(problems, at.index(index), ip);
        }
    }
}

fn repeated_ports(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let ports = list(spec, "ports");
    if text(spec, "type") == "ClusterIP" {
        for (index, _) in ports.iter().enumerate().filter(|(_, port)| integer(port, "nodePort") != 0) {
            let why = "may not be used when `type` is 'ClusterIP'";
            problems.forbidden(at.index(index).field("nodePort"), why);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let number = integer(port, "nodePort");
        if number != 0 && !seen.insert((text(port, "protocol"), number)) {
            problems.duplicate(at.index(index).field("nodePort"), number);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let (protocol, number) = (text(port, "protocol"), integer(port, "port"));
        if !seen.insert((protocol, number)) {
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":\"{protocol}\",\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\"NodePort\":0}}"
            );
            problems.duplicate(at.index(index), crate::problems::Verbatim(&shown));
        }
    }
}

fn source_ranges(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let spec = &object["spec"];
    // Upstream's own spelling of the field.
    let field = Path::new("spec.LoadBalancerSourceRanges");
    if !list(spec, "loadBalancerSourceRanges").is_empty() {
        if !is_balanced(spec) {
            problems.forbidden(field, ONLY_BALANCED);
        }
        let known: Vec<&str> = old
            .map(|old| texts(&old["spec"], "loadBalancerSourceRanges").map(str::trim).collect())
            .unwrap_or_default();
        for (index, range) in texts(spec, "loadBalancerSourceRanges").enumerate() {
            addresses::legacy_cidr(problems, field.index(index), range.trim(), &known);
        }
        return;
    }
    let note = |object: &Value| given(&object["metadata"]["annotations"], SOURCE_RANGES).cloned();
    let Some(ranges) = note(object) else { return };
    let notes = Path::new("metadata.annotations");
    let field = notes.key(SOURCE_RANGES);
    if !is_balanced(spec) {
        problems.forbidden(field, ONLY_BALANCED);
    }
    let text = ranges.as_str().unwrap_or_default().trim();
    if old.is_none_or(|old| note(old).as_ref() != Some(&ranges)) && !text.is_empty() {
        for range in text.split(',') {
            addresses::legacy_cidr(problems, field, range.trim(), &[]);
        }
    }
}

fn balancer(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let allocates = given(spec, "allocateLoadBalancerNodePorts").is_some();
    if allocates && !is_balanced(spec) {
        problems.forbidden(at.field("allocateLoadBalancerNodePorts"), ONLY_BALANCED);
    }
    if !allocates && is_balanced(spec) {
        problems.required("allocateLoadBalancerNodePorts", "");
    }
    if let Some(class) = given(spec, "loadBalancerClass") {
        let at = at.field("loadBalancerClass");
        if is_balanced(spec) {
            problems.check(at, class.as_str().unwrap_or_default(), qualified_name);
        } else {
            problems.forbidden(at, ONLY_BALANCED);
        }
    }
}

fn traffic(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let field = at.field("externalTrafficPolicy");
    let external = is_external(spec);
    match text(spec, "externalTrafficPolicy") {
        "" if external => problems.required(field, ""),
        "" => {}
        policy if !external => {
            problems.invalid(field, policy, "may only be set for externally-accessible services");
        }
        "Cluster" | "Local" => {}
        policy => problems.unsupported(field, policy, &["Cluster", "Local"]),
    }
    let field = at.field("healthCheckNodePort");
    match (needs_health_check(spec), integer(spec, "healthCheckNodePort")) {
        (false, 0) => {}
        (false, port) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            problems.invalid(field, port, why);
        }
        (true, 0) => problems.required(field, ""),
        (true, port) => problems.in_range(field, port, 1, 65_535),
    }
    let field = at.field("internalTrafficPolicy");
    match given(spec, "internalTrafficPolicy") {
        None if matches!(text(spec, "type"), "NodePort" | "LoadBalancer" | "ClusterIP") => {
            problems.required(field, "");
        }
        None => {}
        Some(policy) if matches!(policy.as_str(), Some("Cluster" | "Local")) => {}
        Some(policy) => problems.unsupported(field, policy, &["Cluster", "Local"]),
    }
    if let Some(how) = given(spec, "trafficDistribution") {
        let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        if !how.as_str().is_some_and(|how| supported.contains(&how)) {
            problems.unsupported_of(at.field("trafficDistribution"), how, &supported);
        }
    }
}

const SET: &str = "may not change once set";

/// What may change between two versions.
pub(super) fn steps(problems: &mut Problems, object: &Value, old: &Value) {
    let (new, before) = (&object["spec"], &old["spec"]);
    let at = Path::new("spec");
    let external = |spec: &Value| text(spec, "type") == "ExternalName";
    if !external(new) && !external(before) {
        ip_steps(problems, &at, new, before);
        family_steps(problems, &at, new, before);
    }
    if is_balanced(before) && is_balanced(new) {
        let (class, then) = (given(new, "loadBalancerClass"), given(before, "loadBalancerClass"));
        if class != then {
            problems.invalid(at.field("loadBalancerClass"), class, SET);
        }
    }
    if needs_health_check(before)
        && needs_health_check(new)
        && integer(new, "healthCheckNodePort") != integer(before, "healthCheckNodePort")
    {
        problems.forbidden(at.field("healthCheckNodePort"), "field is immutable");
    }
}

fn ip_steps(problems: &mut Problems, at: &Path<'_>, new: &Value, old: &Value) {
    if is_headless(old) && is_headless(new) {
        return;
    }
    let field = at.field("clusterIPs");
    let (now, then) = (list(new, "clusterIPs"), list(old, "clusterIPs"));
    let shown = new.get("clusterIPs");
    if now.len() == then.len() {
        for (index, _) in now.iter().zip(then).enumerate().filter(|(_, (now, then))| now != then) {
            problems.invalid(field.index(index), shown, SET);
        }
        return;
    }
    if now.is_empty() {
        problems.invalid(field.index(0), shown, "primary clusterIP can not be unset");
    } else if !then.is_empty() && now[0] != then[0] {
        problems.invalid(field.index(0), shown, SET);
    }
    if now.len() == 1 && then.len() > 1 && text(new, "ipFamilyPolicy") != "SingleStack" {
        let why = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        problems.invalid(at.field("ipFamilyPolicy"), given(new, "ipFamilyPolicy"), why);
    }
}

fn family_steps(problems: &mut Problems, at: &Path<'_>, new: &Value, old: &Value) {
    if is_headless(new) || is_headless(old) {
        return;
    }
    let field = at.field("ipFamilies");
    let (now, then) = (list(new, "ipFamilies"), list(old, "ipFamilies"));
    if now.len() == then.len() {
        for _ in now.iter().zip(then).filter(|(now, then)| now != then) {
            problems.invalid(field.index(0), new.get("ipFamilies"), SET);
        }
        return;
    }
    if then.len() > now.len() && list(new, "clusterIPs").is_empty() {
        problems.invalid(field.index(0), new.get("ipFamilies"), "primary ipFamily can not be unset");
    }
    if let (Some(first), Some(before)) = (now.first(), then.first())
        && first != before
    {
        problems.invalid(field.index(0), new.get("clusterIPs"), SET);
    }
    if now.len() == 1 && then.len() > 1 && text(new, "ipFamilyPolicy") != "SingleStack" {
        let why = "must be set to 'SingleStack' when releasing the secondary ipFamily";
        problems.invalid(at.field("ipFamilyPolicy"), given(new, "ipFamilyPolicy"), why);
    }
}

/// `services/status`.
pub(super) fn status(problems: &mut Problems, object: &Value, old: &Value) {
    let at = Path::new("status.loadBalancer.ingress");
    let ingress = list(&object["status"]["loadBalancer"], "ingress");
    if !is_balanced(&object["spec"]) {
        if !ingress.is_empty() {
            problems.forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'");
        }
        return;
    }
    let known: Vec<&str> =
        list(&old["status"]["loadBalancer"], "ingress").iter().map(|ingress| text(ingress, "ip")).collect();
    for (index, ingress) in ingress.iter().enumerate() {
        let at = at.index(index);
        let ip = text(ingress, "ip");
        if !ip.is_empty() {
            addresses::legacy_ip(problems, at.field("ip"), ip, &known);
        }
        match given(ingress, "ipMode") {
            None if !ip.is_empty() => {
                problems.required(at.field("ipMode"), "must be specified when `ip` is set")
            }
            None => {}
            Some(_) if ip.is_empty() => {
                problems.forbidden(at.field("ipMode"), "may not be specified when `ip` is not set");
            }
            Some(mode) if matches!(mode.as_str(), Some("VIP" | "Proxy")) => {}
            Some(mode) => problems.unsupported(at.field("ipMode"), mode, &["Proxy", "VIP"]),
        }
        let host = text(ingress, "hostname");
        problems.check_optional(at.field("hostname"), host, dns1123_subdomain);
        if addresses::parse_sloppy(host).is_some() {
            problems.invalid(at.field("hostname"), host, "must be a DNS name, not an IP address");
        }
    }
}

/// Whether a service says anything of families that a network of one cannot serve; for the server that knows its
/// networks. Answers field, value and explanation.
#[must_use]
pub fn beyond_ipv4(spec: &Value) -> Vec<(String, Value, &'static str)> {
    let mut found = Vec::new();
    let selectorless = is_headless(spec) && entries(spec, "selector").next().is_none();
    if selectorless || text(spec, "type") == "ExternalName" {
        return found;
    }
    if text(spec, "ipFamilyPolicy") == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        found.push(("spec.ipFamilyPolicy".to_owned(), json!("RequireDualStack"), why));
    }
    for (index, family) in texts(spec, "ipFamilies").enumerate().filter(|(_, family)| *family == "IPv6") {
        found.push((format!("spec.ipFamilies[{index}]"), json!(family), "not configured on this cluster"));
    }
    found
}
