//! What only Linux or only Windows can do.

use serde_json::Value;

use super::validation::visit_containers;
use crate::json::{given, text, truth};
use crate::path::Path;
use crate::problems::Problems;

const NOT_LINUX: &str = "windows options cannot be set for a linux pod";
const NOT_WINDOWS: &str = "cannot be set for a windows pod";

/// `os`, and what goes with it.
pub(super) fn validate(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let Some(os) = given(spec, "os") else { return };
    match text(os, "name") {
        "" => problems.required(at.field("os").field("name"), ""),
        "linux" => linux(problems, at, spec),
        "windows" => windows(problems, at, spec),
        name => problems.unsupported(at.field("os"), name, &["linux", "windows"]),
    }
}

fn linux(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    if given(&spec["securityContext"], "windowsOptions").is_some() {
        problems.forbidden(at.field("securityContext").field("windowsOptions"), NOT_LINUX);
    }
    visit_containers(at, spec, |at, container| {
        if given(&container["securityContext"], "windowsOptions").is_some() {
            problems.forbidden(at.field("securityContext").field("windowsOptions"), NOT_LINUX);
        }
    });
}

fn windows(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let context = &spec["securityContext"];
    let inside = at.field("securityContext");
    let mut refuse = |holder: &Value, at: &Path<'_>, keys: &[&str], flags_count: bool| {
        for key in keys {
            let set = match holder.get(*key) {
                None | Some(Value::Null) => false,
                Some(Value::Bool(flag)) => *flag || flags_count,
                Some(Value::Array(items)) => !items.is_empty(),
                Some(_) => true,
            };
            if set {
                problems.forbidden(at.field(key), NOT_WINDOWS);
            }
        }
    };
    refuse(context, &inside, &["appArmorProfile", "seLinuxOptions"], true);
    refuse(spec, at, &["hostUsers"], true);
    refuse(spec, at, &["hostPID", "hostIPC"], false);
    refuse(context, &inside, &["seccompProfile", "fsGroup", "fsGroupChangePolicy", "sysctls"], true);
    refuse(spec, at, &["shareProcessNamespace"], true);
    let groups =
        ["runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy"];
    refuse(context, &inside, &groups, true);
    visit_containers(at, spec, |at, container| {
        let keys = [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ];
        refuse(&container["securityContext"], &at.field("securityContext"), &keys, true);
    });
}

/// Containers of Windows that run as processes of the host: all or none, and only in the host's network.
pub(super) fn windows_host_process(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let flag = |holder: &Value| holder["securityContext"]["windowsOptions"]["hostProcess"].as_bool();
    let pod = flag(spec);
    let (mut all, mut inside) = (0, 0);
    visit_containers(at, spec, |at, container| {
        all += 1;
        let own = flag(container);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            let at = at.field("securityContext");
            problems.invalid(at.field("windowsOptions").field("hostProcess"), own, &why);
        }
        inside += usize::from(own.or(pod) == Some(true));
    });
    if inside == 0 {
        return;
    }
    if inside != all {
        let why =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        problems.invalid(at, "", why);
    }
    if !truth(spec, "hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        problems.invalid(at.field("hostNetwork"), false, why);
    }
}

/// Whether the pod's system is Windows.
pub(super) fn is_windows(spec: &Value) -> bool {
    text(&spec["os"], "name") == "windows"
}
