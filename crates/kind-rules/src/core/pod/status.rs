//! `pods/status` (upstream's `ValidatePodStatusUpdate`).

use serde_json::Value;

use super::update::annotations;
use crate::addresses;
use crate::json::{child, default_text, given, integer, list, list_mut, set, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

/// What a status update cannot take away.
pub(super) fn prepare(object: &mut Value, old: &Value) {
    if let Some(metadata) = child(object, "metadata") {
        super::update::restore(metadata, &old["metadata"], "ownerReferences");
    }
    let Some(status) = child(object, "status") else { return };
    default_text(status, "phase", "Pending");
    if !text(&old["status"], "qosClass").is_empty() {
        default_text(status, "qosClass", text(&old["status"], "qosClass"));
    }
    let observed = integer(&old["status"], "observedGeneration");
    if integer(status, "observedGeneration") == 0 && observed != 0 {
        set(status, "observedGeneration", observed);
    }
    let before = list(&old["status"], "conditions");
    for condition in list_mut(status, "conditions") {
        let kind = text(condition, "type");
        let then = before.iter().find(|other| text(other, "type") == kind);
        let observed = then.map_or(0, |then| integer(then, "observedGeneration"));
        if integer(condition, "observedGeneration") == 0 && observed != 0 {
            set(condition, "observedGeneration", observed);
        }
    }
}

pub(super) fn validate(problems: &mut Problems, object: &Value, old: &Value) {
    annotations(problems, object, old);
    let (status, before) = (&object["status"], &old["status"]);
    let at = Path::new("status");
    conditions(problems, &at.field("conditions"), status);
    nominated(problems, &at.field("nominatedNodeName"), status, old);
    let observed = integer(status, "observedGeneration");
    if observed < 0 {
        problems.invalid(at.field("observedGeneration"), observed, "must be a non-negative integer");
    }
    problems.immutable_or_empty(at.field("qosClass"), status.get("qosClass"), before.get("qosClass"));
    for (kind, containers) in
        [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")]
    {
        transitions(problems, &at.field(kind), status, before, kind, &old["spec"], containers);
    }
    ended_for_good(problems, &at.field("ephemeralContainerStatuses"), status, before);
    claims(problems, &at.field("resourceClaimStatuses"), status, &object["spec"]);
    for (list_key, one) in [("podIPs", "podIP"), ("hostIPs", "hostIP")] {
        ips(problems, &at.field(list_key), status, before, list_key, one);
    }
    for kind in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        users(problems, &at.field(kind), list(status, kind), text(&object["spec"]["os"], "name"));
    }
}

fn conditions(problems: &mut Problems, at: &Path<'_>, status: &Value) {
    for (index, condition) in list(status, "conditions").iter().enumerate() {
        let at = at.index(index);
        let observed = integer(condition, "observedGeneration");
        if observed < 0 {
            problems.invalid(at.field("observedGeneration"), observed, "must be a non-negative integer");
        }
        // Upstream's own spelling of the field.
        problems.check(at.field("Type"), text(condition, "type"), names::qualified_name);
    }
}

fn nominated(problems: &mut Problems, at: &Path<'_>, status: &Value, old: &Value) {
    let (name, before) = (text(status, "nominatedNodeName"), text(&old["status"], "nominatedNodeName"));
    if name.is_empty() || name == before {
        return;
    }
    problems.check(at, name, names::dns1123_subdomain);
    if !text(&old["spec"], "nodeName").is_empty() {
        problems.forbidden(at, "may not be set on pods that are already bound to a node");
    }
}

const BACK: &str = "may not be transitioned to non-terminated state";

fn terminated(status: &Value) -> Option<&Value> {
    given(&status["state"], "terminated")
}

/// A container that has ended starts again only where its restart policy lets it.
fn transitions(
    problems: &mut Problems,
    at: &Path<'_>,
    status: &Value,
    before: &Value,
    kind: &str,
    spec: &Value,
    containers: &str,
) {
    if could_restart_all(spec) {
        return;
    }
    for (index, then) in list(before, kind).iter().enumerate() {
        let Some(end) = terminated(then) else { continue };
        let now = list(status, kind).iter().find(|now| text(now, "name") == text(then, "name"));
        if now.is_none_or(|now| terminated(now).is_some()) {
            continue;
        }
        let container = list(spec, containers).iter().find(|own| text(own, "name") == text(then, "name"));
        if !container.is_some_and(|container| may_restart(container, spec, integer(end, "exitCode"))) {
            problems.forbidden(at.index(index).field("state"), BACK);
        }
    }
}

fn could_restart_all(spec: &Value) -> bool {
    ["initContainers", "containers"].iter().flat_map(|key| list(spec, key)).any(|container| {
        list(container, "restartPolicyRules")
            .iter()
            .any(|rule| text(rule, "action") == "RestartAllContainers")
    })
}

fn may_restart(container: &Value, spec: &Value, code: i64) -> bool {
    if given(container, "restartPolicy").is_some() {
        for rule in list(container, "restartPolicyRules") {
            let codes = &rule["exitCodes"];
            let listed = list(codes, "values").iter().any(|value| value.as_i64() == Some(code));
            let applies = match text(codes, "operator") {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            };
            if applies {
                return text(rule, "action") == "Restart";
            }
        }
    }
    let policy = match text(container, "restartPolicy") {
        "" => text(spec, "restartPolicy"),
        own => own,
    };
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn ended_for_good(problems: &mut Problems, at: &Path<'_>, status: &Value, before: &Value) {
    const KIND: &str = "ephemeralContainerStatuses";
    for (index, then) in list(before, KIND).iter().enumerate() {
        let back = list(status, KIND)
            .iter()
            .any(|now| text(now, "name") == text(then, "name") && terminated(now).is_none());
        if terminated(then).is_some() && back {
            problems.forbidden(at.index(index).field("state"), BACK);
        }
    }
}

fn claims(problems: &mut Problems, at: &Path<'_>, status: &Value, spec: &Value) {
    let statuses = list(status, "resourceClaimStatuses");
    for (index, own) in statuses.iter().enumerate() {
        let at = at.index(index);
        let name = text(own, "name");
        if !list(spec, "resourceClaims").iter().any(|claim| text(claim, "name") == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            problems.invalid(at.field("name"), name, why);
        }
        if statuses[..index].iter().any(|other| text(other, "name") == name) {
            problems.duplicate(at.field("name"), name);
        }
        if let Some(claim) = given(own, "resourceClaimName") {
            let claim = claim.as_str().unwrap_or_default();
            problems.check(at.field("resourceClaimName"), claim, names::dns1123_subdomain);
        }
    }
}

fn ips(problems: &mut Problems, at: &Path<'_>, status: &Value, before: &Value, key: &str, one: &str) {
    let given_ips: Vec<&str> = list(status, key).iter().map(|ip| text(ip, "ip")).collect();
    let old: Vec<&str> = list(before, key).iter().map(|ip| text(ip, "ip")).collect();
    let Some(first) = given_ips.first() else { return };
    if key == "hostIPs" && *first != text(status, one) {
        problems.invalid(at.index(0).field("ip"), first, "must be equal to `hostIP`");
    }
    for (index, ip) in given_ips.iter().enumerate() {
        addresses::legacy_ip(problems, at.index(index), ip, &old);
    }
    if given_ips.len() > 1 {
        let sixes = given_ips.iter().filter(|ip| addresses::is_ipv6(ip)).count();
        if given_ips.len() > 2 || sixes != 1 {
            let why = "may specify no more than one IP for each IP family";
            problems.invalid(at, status.get(key), why);
        }
    }
}

fn users(problems: &mut Problems, at: &Path<'_>, statuses: &[Value], os: &str) {
    const MOST: i64 = i32::MAX as i64;
    for (index, status) in statuses.iter().enumerate() {
        let Some(linux) = given(&status["user"], "linux") else { continue };
        let at = at.index(index);
        let at = at.field("user");
        let at = at.field("linux");
        if os == "windows" {
            problems.forbidden(at, "cannot be set for a windows pod");
            continue;
        }
        for key in ["uid", "gid"] {
            problems.in_range(at.field(key), integer(linux, key), 0, MOST);
        }
        for (number, group) in list(linux, "supplementalGroups").iter().enumerate() {
            let at = at.field("supplementalGroups");
            problems.in_range(at.index(number), group.as_i64().unwrap_or_default(), 0, MOST);
        }
    }
}
