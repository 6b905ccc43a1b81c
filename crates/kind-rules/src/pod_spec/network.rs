//! What sharing the node's network or users demands.

use serde_json::Value;

use super::validation::{Scope, shares_users, visit_containers};
use crate::json::{integer, list, truth};
use crate::path::Path;
use crate::problems::Problems;

/// In the host's network a container port has to be the host port.
pub(super) fn host_ports(problems: &mut Problems, at: &Path<'_>, spec: &Value, scope: Scope<'_>) {
    if !truth(spec, "hostNetwork") {
        return;
    }
    let at = at.field("containers");
    for (index, container) in list(spec, "containers").iter().enumerate() {
        let at = at.index(index);
        let at = at.field("ports");
        for (number, port) in list(container, "ports").iter().enumerate() {
            let (host, inside) = (integer(port, "hostPort"), integer(port, "containerPort"));
            if (scope.is_pod || host != 0) && host != inside {
                let why = "must match `containerPort` when `hostNetwork` is true";
                problems.invalid(at.index(number).field("hostPort"), host, why);
            }
        }
    }
}

/// `hostUsers: false` goes with no other namespace of the host.
pub(super) fn host_users(problems: &mut Problems, at: &Path<'_>, spec: &Value, scope: Scope<'_>) {
    const WHY: &str = "when `hostUsers` is false";
    if shares_users(spec) {
        return;
    }
    let tolerated = scope.old.is_some_and(|old| truth(old, "hostNetwork") && !shares_users(old));
    if truth(spec, "hostNetwork") && !tolerated {
        problems.forbidden(at.field("hostNetwork"), WHY);
    }
    // Upstream's own spelling of these two fields.
    if truth(spec, "hostPID") {
        problems.forbidden(at.field("HostPID"), WHY);
    }
    if truth(spec, "hostIPC") {
        problems.forbidden(at.field("HostIPC"), WHY);
    }
    visit_containers(at, spec, |at, container| {
        if !list(container, "volumeDevices").is_empty() {
            problems.forbidden(at.field("volumeDevices"), WHY);
        }
    });
}
