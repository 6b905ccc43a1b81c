//! Containers of a pod: ordinary, init and ephemeral.

use std::collections::BTreeSet;

use serde_json::Value;

use super::validation::{Scope, shares_users, visit_containers};
use super::volumes::Sources;
use super::{resources, security};
use crate::json::{given, integer, list, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

mod environment;
mod mounts;
pub(crate) mod probes;
mod restart;

pub use restart::resize_policy;

/// What a container's fields refer to.
pub(super) struct Surroundings<'a> {
    pub(super) spec: &'a Value,
    pub(super) volumes: &'a Sources<'a>,
    /// Names of the pod's resource claims.
    pub(super) claims: &'a BTreeSet<&'a str>,
    pub(super) scope: Scope<'a>,
}

/// All containers of a pod spec at `at`.
pub(super) fn validate_all(problems: &mut Problems, at: &Path<'_>, around: &Surroundings<'_>) {
    ordinary(problems, &at.field("containers"), around);
    initial(problems, &at.field("initContainers"), around);
    ephemeral(problems, &at.field("ephemeralContainers"), around);
}

fn ordinary(problems: &mut Problems, at: &Path<'_>, around: &Surroundings<'_>) {
    let containers = list(around.spec, "containers");
    if containers.is_empty() {
        return problems.required(at, "");
    }
    for (index, container) in containers.iter().enumerate() {
        let at = at.index(index);
        common(problems, &at, container, around);
        let name = text(container, "name");
        if containers[..index].iter().any(|other| text(other, "name") == name) {
            problems.duplicate(at.field("name"), name);
        }
        probes::lifecycle(problems, &at.field("lifecycle"), container, around.spec);
        probes::all(problems, &at, container);
        restart::policy(problems, &at, container);
    }
    host_port_conflicts(problems, at, containers);
}

fn initial(problems: &mut Problems, at: &Path<'_>, around: &Surroundings<'_>) {
    let containers = list(around.spec, "initContainers");
    let ordinary = list(around.spec, "containers");
    for (index, container) in containers.iter().enumerate() {
        let whole = at;
        let at = at.index(index);
        common(problems, &at, container, around);
        restart::of_init(problems, &at, container);
        let name = text(container, "name");
        let taken = |other: &Value| text(other, "name") == name;
        let before = containers[..index].iter().any(|other| !name.is_empty() && taken(other));
        if before || ordinary.iter().any(taken) {
            problems.duplicate(at.field("name"), name);
        }
        host_port_conflicts(problems, whole, std::slice::from_ref(container));
        if restart::is_sidecar(container) {
            probes::lifecycle(problems, &at.field("lifecycle"), container, around.spec);
            probes::all(problems, &at, container);
            continue;
        }
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if given(container, key).is_some() {
                let why = "may not be set for init containers without restartPolicy=Always";
                problems.forbidden(at.field(key), why);
            }
        }
        restart::no_restarting_resize(problems, &at, container, around.scope);
    }
}

fn ephemeral(problems: &mut Problems, at: &Path<'_>, around: &Surroundings<'_>) {
    const FORBIDDEN: &str = "cannot be set for an Ephemeral Container";
    let containers = list(around.spec, "ephemeralContainers");
    let others = || list(around.spec, "containers").iter().chain(list(around.spec, "initContainers"));
    for (index, container) in containers.iter().enumerate() {
        let at = at.index(index);
        common(problems, &at, container, around);
        trimmed_image(problems, &at, container);
        let name = text(container, "name");
        let taken = |other: &Value| text(other, "name") == name;
        if containers[..index].iter().any(taken) || others().any(taken) {
            problems.duplicate(at.field("name"), name);
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others().any(|other| text(other, "name") == target) {
            problems.not_found(at.field("targetContainerName"), target);
        }
        let refused = [
            "ports",
            "resources",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ];
        for key in refused {
            if given(container, key).is_some_and(|value| !crate::json::is_nothing(value)) {
                problems.forbidden(at.field(key), FORBIDDEN);
            }
        }
        let mounts = at.field("volumeMounts");
        for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
            for key in ["subPath", "subPathExpr"] {
                if !text(mount, key).is_empty() {
                    problems.forbidden(mounts.index(index).field(key), FORBIDDEN);
                }
            }
        }
    }
}

/// What is asked of every container (upstream's `validateContainerCommon`).
fn common(problems: &mut Problems, at: &Path<'_>, container: &Value, around: &Surroundings<'_>) {
    problems.check_required(at.field("name"), text(container, "name"), names::dns1123_label);
    if text(container, "image").is_empty() {
        problems.required(at.field("image"), "");
    }
    match text(container, "terminationMessagePolicy") {
        "" => problems.required(at.field("terminationMessagePolicy"), ""),
        "File" | "FallbackToLogsOnError" => {}
        policy => {
            let at = at.field("terminationMessagePolicy");
            problems.unsupported_of(at, policy, &["File", "FallbackToLogsOnError"]);
        }
    }
    ports(problems, &at.field("ports"), container);
    environment::validate(problems, at, container);
    mounts::mounts(problems, &at.field("volumeMounts"), container, around.volumes);
    mounts::devices(problems, &at.field("volumeDevices"), container, around.volumes);
    pull_policy(problems, &at.field("imagePullPolicy"), text(container, "imagePullPolicy"));
    resources::container(problems, &at.field("resources"), &container["resources"], around.claims);
    let pod_policy = text(around.spec, "restartPolicy");
    resize_policy(problems, &at.field("resizePolicy"), container, pod_policy);
    let shared = shares_users(around.spec);
    security::container(problems, &at.field("securityContext"), &container["securityContext"], shared);
    if around.scope.is_pod {
        // Upstream asks this of a pod's containers last.
        trimmed_image_of_pod(problems, at, container);
    }
}

/// Of images of volumes and containers.
pub(super) fn pull_policy(problems: &mut Problems, at: &Path<'_>, policy: &str) {
    match policy {
        "" => problems.required(at, ""),
        "Always" | "IfNotPresent" | "Never" => {}
        policy => problems.unsupported(at, policy, &["Always", "IfNotPresent", "Never"]),
    }
}

fn trimmed_image(problems: &mut Problems, at: &Path<'_>, container: &Value) {
    let image = text(container, "image");
    if image.trim() != image {
        problems.invalid(at.field("image"), image, "must not have leading or trailing whitespace");
    }
}

fn trimmed_image_of_pod(problems: &mut Problems, at: &Path<'_>, container: &Value) {
    // An ephemeral container has been asked already.
    if !at.is_under("ephemeralContainers") {
        trimmed_image(problems, at, container);
    }
}

fn ports(problems: &mut Problems, at: &Path<'_>, container: &Value) {
    let ports = list(container, "ports");
    for (index, port) in ports.iter().enumerate() {
        let at = at.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            let taken = || ports[..index].iter().any(|other| text(other, "name") == name);
            if wrong.is_empty() && taken() {
                problems.duplicate(at.field("name"), name);
            }
            for why in wrong {
                problems.invalid(at.field("name"), name, &why);
            }
        }
        let number = integer(port, "containerPort");
        if number == 0 {
            problems.required(at.field("containerPort"), "");
        } else {
            problems.in_range(at.field("containerPort"), number, 1, 65_535);
        }
        let host = integer(port, "hostPort");
        if host != 0 {
            problems.in_range(at.field("hostPort"), host, 1, 65_535);
        }
        match text(port, "protocol") {
            "" => problems.required(at.field("protocol"), ""),
            "TCP" | "UDP" | "SCTP" => {}
            protocol => problems.unsupported(at.field("protocol"), protocol, &["SCTP", "TCP", "UDP"]),
        }
    }
}

fn host_port_conflicts(problems: &mut Problems, at: &Path<'_>, containers: &[Value]) {
    let mut taken = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let at = at.index(index);
        let at = at.field("ports");
        for (number, port) in list(container, "ports").iter().enumerate() {
            let host = integer(port, "hostPort");
            let key = (text(port, "protocol"), text(port, "hostIP"), host);
            if host != 0 && !taken.insert(key) {
                let shown = format!("{}/{}/{host}", key.0, key.1);
                problems.duplicate(at.index(number).field("hostPort"), &shown);
            }
        }
    }
}

/// Variables from files: the file is in an emptyDir of the pod.
pub(super) fn file_keys(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    visit_containers(at, spec, |at, container| {
        let at = at.field("env");
        for (index, variable) in list(container, "env").iter().enumerate() {
            let Some(reference) = given(&variable["valueFrom"], "fileKeyRef") else { continue };
            let name = text(reference, "volumeName");
            let at = at.index(index);
            let at = at.field("valueFrom");
            let at = at.field("fileKeyRef");
            let at = at.field("volumeName");
            match list(spec, "volumes").iter().rfind(|volume| text(volume, "name") == name) {
                None => problems.not_found(at, name),
                Some(volume) if given(volume, "emptyDir").is_none() => {
                    problems.invalid(at, name, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    });
}
