//! What is no mistake but hardly meant: told in `Warning` headers (upstream's `pkg/api/pod/warnings.go`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::resources::amount;
use super::validation::visit_containers;
use crate::addresses;
use crate::checks::deprecated_node_label;
use crate::json::{entries, given, list, number, text, texts};
use crate::names;
use crate::path::Path;
use crate::problems::quoted;

mod overlaps;
mod ports;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

const VOLUMES: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    // Upstream's own spelling of the field.
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Of `holder.metadata` and `holder.spec`, where `holder` is a pod or a template at `at`.
#[must_use]
pub fn warnings(at: &Path<'_>, holder: &Value, is_template: bool) -> Vec<String> {
    let (metadata, spec) = (&holder["metadata"], &holder["spec"]);
    let mut found = Vec::new();
    let within = at.field("spec");
    placement(&mut found, &within, spec);
    let notes = at.field("metadata");
    let notes = notes.field("annotations");
    for (key, why) in ANNOTATIONS {
        if given(&metadata["annotations"], key).is_some() {
            found.push(format!("{}: {why}", notes.key(key)));
        }
    }
    volumes(&mut found, &within.field("volumes"), spec);
    duplicates(&mut found, &within, spec);
    for name in ["memory", "ephemeral-storage"] {
        fractional(&mut found, &within.field("overhead"), &spec["overhead"], name);
    }
    confinement(&mut found, &notes, &within, metadata, spec, is_template);
    visit_containers(&within, spec, |at, container| {
        for kind in ["limits", "requests"] {
            let at = at.field("resources");
            for name in ["memory", "ephemeral-storage"] {
                fractional(&mut found, &at.field(kind), &container["resources"][kind], name);
            }
        }
        hidden_variables(&mut found, &at.field("env"), container);
    });
    ports::warn(&mut found, &within, spec);
    if number(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        let at = within.field("terminationGracePeriodSeconds");
        found.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    null_selectors(&mut found, &within.field("affinity"), &spec["affinity"]);
    odd_addresses(&mut found, &within, spec);
    found
}

fn placement(found: &mut Vec<String>, at: &Path<'_>, spec: &Value) {
    for (key, _) in entries(spec, "nodeSelector") {
        if let Some(why) = deprecated_node_label(key) {
            found.push(format!("{}: {why}", at.field("nodeSelector").key(key)));
        }
    }
    let nodes = &spec["affinity"]["nodeAffinity"];
    let affinity = at.field("affinity");
    let affinity = affinity.field("nodeAffinity");
    let required = affinity.field(REQUIRED);
    let terms = required.field("nodeSelectorTerms");
    for (index, term) in list(&nodes[REQUIRED], "nodeSelectorTerms").iter().enumerate() {
        node_term(found, &terms.index(index), term, false);
    }
    let preferred = affinity.field(PREFERRED);
    for (index, term) in list(nodes, PREFERRED).iter().enumerate() {
        node_term(found, &preferred.index(index).field("preference"), &term["preference"], true);
    }
    let spread = at.field("topologySpreadConstraints");
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = spread.index(index);
        let key = text(constraint, "topologyKey");
        if let Some(why) = deprecated_node_label(key) {
            found.push(format!("{}: {key} is {why}", at.field("topologyKey")));
        }
        if given(constraint, "labelSelector").is_none() {
            found.push(format!("{}: {NULL_SELECTOR}", at.field("labelSelector")));
        }
    }
}

const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";

/// Of one node selector term; with `values`, label values are judged too.
fn node_term(found: &mut Vec<String>, at: &Path<'_>, term: &Value, values: bool) {
    let at = at.field("matchExpressions");
    for (index, expression) in list(term, "matchExpressions").iter().enumerate() {
        let at = at.index(index);
        let key = text(expression, "key");
        if let Some(why) = deprecated_node_label(key) {
            found.push(format!("{}: {key} is {why}", at.field("key")));
        }
        for (number, value) in texts(expression, "values").enumerate().filter(|_| values) {
            for why in names::label_value(value) {
                found.push(format!("{}: {value} is invalid, {why}", at.field("values").index(number)));
            }
        }
    }
}

fn volumes(found: &mut Vec<String>, at: &Path<'_>, spec: &Value) {
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let at = at.index(index);
        for (key, shown, why) in VOLUMES {
            if given(volume, key).is_some() {
                found.push(format!("{}: {why}", at.field(shown)));
            }
        }
        if let Some(claim) = given(&volume["ephemeral"], "volumeClaimTemplate") {
            let at = at.field("ephemeral");
            let at = at.field("volumeClaimTemplate");
            claim_spec(found, &at.field("spec"), &claim["spec"]);
        }
    }
    overlaps::warn(found, spec);
}

/// Of a claim's spec.
pub(crate) fn claim_spec(found: &mut Vec<String>, at: &Path<'_>, spec: &Value) {
    let at = at.field("resources");
    for kind in ["requests", "limits"] {
        fractional(found, &at.field(kind), &spec["resources"][kind], "storage");
    }
}

/// Bytes come whole.
fn fractional(found: &mut Vec<String>, at: &Path<'_>, amounts: &Value, name: &str) {
    if let Some(value) = amounts.get(name).and_then(amount)
        && value.millis() % 1000 != 0
    {
        let shown = quoted(&value.to_string());
        found.push(format!("{}: fractional byte value {shown} is invalid, must be an integer", at.key(name)));
    }
}

fn duplicates(found: &mut Vec<String>, at: &Path<'_>, spec: &Value) {
    let mut seen = BTreeSet::new();
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        let ip = text(alias, "ip");
        if !seen.insert(ip) {
            let at = at.field("hostAliases");
            found.push(format!("{}: duplicate ip {}", at.index(index).field("ip"), quoted(ip)));
        }
    }
    let mut seen = BTreeSet::new();
    let secrets = at.field("imagePullSecrets");
    for (index, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        let name = text(secret, "name");
        if !seen.insert(name) {
            found.push(format!("{}: duplicate name {}", secrets.index(index).field("name"), quoted(name)));
        }
    }
    for (index, secret) in list(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            found.push(format!("{}: invalid empty name \"\"", secrets.index(index).field("name")));
        }
    }
}

fn confinement(
    found: &mut Vec<String>,
    notes: &Path<'_>,
    at: &Path<'_>,
    metadata: &Value,
    spec: &Value,
    is_template: bool,
) {
    const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    let annotations = &metadata["annotations"];
    if !annotations.is_object() {
        return;
    }
    let mut seccomp = |key: &str, context: &Value| {
        if given(context, "seccompProfile").is_none() && given(annotations, key).is_some() {
            found.push(format!("{}: {SECCOMP}", notes.key(key)));
        }
    };
    seccomp("seccomp.security.alpha.kubernetes.io/pod", &spec["securityContext"]);
    visit_containers(at, spec, |_, container| {
        let key = format!("container.seccomp.security.alpha.kubernetes.io/{}", text(container, "name"));
        seccomp(&key, &container["securityContext"]);
    });
    visit_containers(at, spec, |_, container| {
        let key = format!("container.apparmor.security.beta.kubernetes.io/{}", text(container, "name"));
        let field = given(&container["securityContext"], "appArmorProfile");
        if is_template && field.is_none() && given(annotations, &key).is_some() {
            let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            found.push(format!("{}: {why}", notes.key(&key)));
        }
    });
}

fn hidden_variables(found: &mut Vec<String>, at: &Path<'_>, container: &Value) {
    let mut seen = BTreeSet::new();
    for (index, variable) in list(container, "env").iter().enumerate() {
        let name = text(variable, "name");
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        let value = text(variable, "value");
        let extends =
            given(variable, "valueFrom").is_none() && value != reference && value.contains(&reference);
        if !extends {
            found.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                at.index(index),
                quoted(name)
            ));
        }
    }
}

fn null_selectors(found: &mut Vec<String>, at: &Path<'_>, affinity: &Value) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = at.field(kind);
        let required = at.field(REQUIRED);
        for (index, term) in list(&affinity[kind], REQUIRED).iter().enumerate() {
            if given(term, "labelSelector").is_none() {
                found.push(format!("{}: {NULL_SELECTOR}", required.index(index).field("labelSelector")));
            }
        }
        let preferred = at.field(PREFERRED);
        for (index, term) in list(&affinity[kind], PREFERRED).iter().enumerate() {
            if given(&term["podAffinityTerm"], "labelSelector").is_none() {
                let at = preferred.index(index);
                let at = at.field("podAffinityTerm");
                found.push(format!("{}: {NULL_SELECTOR}", at.field("labelSelector")));
            }
        }
    }
}

fn odd_addresses(found: &mut Vec<String>, at: &Path<'_>, spec: &Value) {
    let servers = at.field("dnsConfig");
    let servers = servers.field("nameservers");
    for (index, server) in texts(&spec["dnsConfig"], "nameservers").enumerate() {
        found.extend(addresses::ip_warning(servers.index(index), server));
    }
    let aliases = at.field("hostAliases");
    for (index, alias) in list(spec, "hostAliases").iter().enumerate() {
        found.extend(addresses::ip_warning(aliases.index(index).field("ip"), text(alias, "ip")));
    }
}
