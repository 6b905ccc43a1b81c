//! A pod spec as a whole.

use std::collections::BTreeSet;

use serde_json::Value;

use super::containers::{self, Surroundings};
use super::{affinity, dns, network, os, resources, security, spread, tolerations, volumes};
use crate::json::{given, list, number, text, truth};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

/// Where a pod spec stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// It is a pod's own, not a template's.
    pub is_pod: bool,
    /// The pod's metadata, when it is known.
    pub metadata: Option<&'a Value>,
    /// The spec it replaces: what was tolerated there stays tolerated.
    pub old: Option<&'a Value>,
}

impl<'a> Scope<'a> {
    /// The pod's name; "" for templates and while it is not known.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.metadata.map_or("", |metadata| text(metadata, "name"))
    }
}

const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

/// Checks a pod spec at `at`.
pub fn validate(problems: &mut Problems, at: &Path<'_>, spec: &Value, scope: Scope<'_>) {
    if given(spec, "terminationGracePeriodSeconds").is_none() {
        problems.required(at.field("terminationGracePeriodSeconds"), "");
    }
    let sources = volumes::validate(problems, &at.field("volumes"), spec, scope);
    let claims: BTreeSet<&str> = list(spec, "resourceClaims")
        .iter()
        .map(|claim| text(claim, "name"))
        .filter(|name| !name.is_empty())
        .collect();
    resources::pod_claims(problems, &at.field("resourceClaims"), spec, scope);
    let around = Surroundings { spec, volumes: &sources, claims: &claims, scope };
    containers::validate_all(problems, at, &around);
    resources::pod_level(problems, at, spec, &claims);
    network::host_ports(problems, at, spec, scope);
    named_choice(problems, at, spec, "restartPolicy", &["Always", "OnFailure", "Never"]);
    named_choice(problems, at, spec, "dnsPolicy", &DNS_POLICIES);
    names::labels(problems, &at.field("nodeSelector"), spec, "nodeSelector");
    security::pod(problems, at, spec, scope);
    affinity::validate(problems, &at.field("affinity"), &spec["affinity"], scope);
    dns::config(problems, &at.field("dnsConfig"), spec);
    gates(problems, at, spec);
    spread::validate(problems, &at.field("topologySpreadConstraints"), spec, scope);
    os::windows_host_process(problems, at, spec);
    network::host_users(problems, at, spec, scope);
    dns::host_name(problems, at, spec);
    identity(problems, at, spec);
    if !list(spec, "tolerations").is_empty() {
        tolerations::tolerations(problems, &at.field("tolerations"), list(spec, "tolerations"));
    }
    dns::host_aliases(problems, &at.field("hostAliases"), spec);
    classes(problems, at, spec);
    os::validate(problems, at, spec);
    containers::file_keys(problems, at, spec);
}

/// A required choice whose order of supported values is upstream's own.
fn named_choice(problems: &mut Problems, at: &Path<'_>, spec: &Value, key: &str, supported: &[&str]) {
    match text(spec, key) {
        "" => problems.required(at.field(key), ""),
        value if supported.contains(&value) => {}
        value => problems.unsupported_of(at.field(key), value, supported),
    }
}

fn gates(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    for (index, gate) in list(spec, "readinessGates").iter().enumerate() {
        let at = at.field("readinessGates");
        problems.check(
            at.index(index).field("conditionType"),
            text(gate, "conditionType"),
            names::qualified_name,
        );
    }
    let gates = list(spec, "schedulingGates");
    for (index, gate) in gates.iter().enumerate() {
        let at = at.field("schedulingGates");
        let name = text(gate, "name");
        problems.check(at.index(index), name, names::qualified_name);
        if gates[..index].iter().any(|other| text(other, "name") == name) {
            problems.duplicate(at.index(index), name);
        }
    }
}

fn identity(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    for key in ["serviceAccountName", "nodeName"] {
        problems.check_optional(at.field(key), text(spec, key), names::dns1123_subdomain);
    }
    if let Some(seconds) = number(spec, "activeDeadlineSeconds") {
        problems.in_range(at.field("activeDeadlineSeconds"), seconds, 1, i64::from(i32::MAX));
    }
    for key in ["hostname", "subdomain"] {
        problems.check_optional(at.field(key), text(spec, key), names::dns1123_label);
    }
}

fn classes(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    problems.check_optional(
        at.field("priorityClassName"),
        text(spec, "priorityClassName"),
        names::dns1123_subdomain,
    );
    if let Some(class) = given(spec, "runtimeClassName") {
        problems.check(
            at.field("runtimeClassName"),
            class.as_str().unwrap_or_default(),
            names::dns1123_subdomain,
        );
    }
    if given(spec, "preemptionPolicy").is_some() {
        named_choice(problems, at, spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"]);
    }
    if let Some(overhead) = given(spec, "overhead") {
        resources::overhead(problems, &at.field("overhead"), overhead);
    }
}

/// Every container of a spec, in upstream's order of a visit: init, ordinary, ephemeral; with its path.
pub fn visit_containers(at: &Path<'_>, spec: &Value, mut visit: impl FnMut(&Path<'_>, &Value)) {
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        let at = at.field(key);
        for (index, container) in list(spec, key).iter().enumerate() {
            visit(&at.index(index), container);
        }
    }
}

/// Whether the pod shares its node's users (`hostUsers` unset or true).
pub(super) fn shares_users(spec: &Value) -> bool {
    given(spec, "hostUsers").is_none() || truth(spec, "hostUsers")
}
