//! Security contexts of pods and containers.

mod windows;

use serde_json::Value;

use super::validation::Scope;
use super::volumes::paths;
use crate::json::{given, list, number, text, texts, truth};
use crate::path::Path;
use crate::problems::{Problems, Verbatim, quoted};

/// Largest uid and gid.
const MAXIMUM_ID: i64 = i32::MAX as i64;
const SYSCTL_BYTES: usize = 253;
/// PATH_MAX less the terminating zero.
const PROFILE_BYTES: usize = 4095;

fn id(problems: &mut Problems, at: &Path<'_>, context: &Value, key: &str) {
    if let Some(id) = number(context, key) {
        problems.in_range(at.field(key), id, 0, MAXIMUM_ID);
    }
}

fn optional_choice(problems: &mut Problems, at: &Path<'_>, context: &Value, key: &str, supported: &[&str]) {
    if let Some(value) = given(context, key)
        && !value.as_str().is_some_and(|text| supported.contains(&text))
    {
        problems.unsupported(at.field(key), value, supported);
    }
}

/// `spec.securityContext`; `at` is the spec's.
pub(super) fn pod(problems: &mut Problems, at: &Path<'_>, spec: &Value, scope: Scope<'_>) {
    let context = &spec["securityContext"];
    if !context.is_object() {
        return;
    }
    let at = at.field("securityContext");
    for key in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(problems, &at, context, key);
    }
    for (index, group) in list(context, "supplementalGroups").iter().enumerate() {
        let at = at.field("supplementalGroups");
        problems.in_range(at.index(index), group.as_i64().unwrap_or_default(), 0, MAXIMUM_ID);
    }
    if truth(spec, "shareProcessNamespace") && truth(spec, "hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        problems.invalid(at.field("shareProcessNamespace"), true, why);
    }
    sysctls(problems, &at.field("sysctls"), spec, scope);
    optional_choice(problems, &at, context, "fsGroupChangePolicy", &["Always", "OnRootMismatch"]);
    seccomp(problems, &at.field("seccompProfile"), &context["seccompProfile"]);
    windows::options(problems, &at.field("windowsOptions"), &context["windowsOptions"]);
    app_armor(problems, &at.field("appArmorProfile"), &context["appArmorProfile"]);
    optional_choice(problems, &at, context, "supplementalGroupsPolicy", &["Merge", "Strict"]);
    // `MountOption` waits for the feature SELinuxMount; what an object has already it may keep.
    let tolerated =
        scope.old.is_some_and(|old| given(&old["securityContext"], "seLinuxChangePolicy").is_some());
    let policies: &[&str] = if tolerated { &["MountOption", "Recursive"] } else { &["Recursive"] };
    optional_choice(problems, &at, context, "seLinuxChangePolicy", policies);
}

fn sysctls(problems: &mut Problems, at: &Path<'_>, spec: &Value, scope: Scope<'_>) {
    let sysctls = list(&spec["securityContext"], "sysctls");
    let tolerated = scope.old.is_some_and(|old| {
        list(&old["securityContext"], "sysctls").iter().any(|s| host_sysctl(old, text(s, "name")).is_some())
    });
    for (index, sysctl) in sysctls.iter().enumerate() {
        let at = at.index(index);
        let at = at.field("name");
        let name = text(sysctl, "name");
        if name.is_empty() {
            problems.required(at, "");
        } else if !is_sysctl(name) {
            const SEGMENT: &str = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
            let why = format!(
                "must have at most {SYSCTL_BYTES} characters and match regex ^({SEGMENT}[\\./])*{SEGMENT}$"
            );
            problems.invalid(at, name, &why);
        } else if sysctls[..index].iter().any(|other| text(other, "name") == name) {
            problems.duplicate(at, name);
        }
        if !tolerated && let Some(why) = host_sysctl(spec, name) {
            problems.invalid(at, name, why);
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let segment = |segment: &str| {
        let bytes = segment.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    name.len() <= SYSCTL_BYTES && name.split(['.', '/']).all(segment)
}

/// Why a sysctl of a namespace cannot be set in a pod that has the host's.
fn host_sysctl(spec: &Value, name: &str) -> Option<&'static str> {
    // Dots after the first slash separate nothing (`net/ipv4/conf/eth0.1/…`).
    let swap = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('/'));
    let name: String = if swap {
        name.chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect()
    } else {
        name.to_owned()
    };
    let stem = name.split('*').next().unwrap_or_default();
    let ipc = matches!(
        stem,
        "kernel.sem"
            | "kernel.shmall"
            | "kernel.shmmax"
            | "kernel.shmmni"
            | "kernel.shm_rmid_forced"
            | "kernel.shm"
            | "kernel.msgmax"
            | "kernel.msgmnb"
            | "kernel.msgmni"
            | "kernel.msg"
    ) || stem.starts_with("fs.mqueue.");
    if truth(spec, "hostNetwork") && stem.starts_with("net.") {
        Some("may not be specified when 'hostNetwork' is true")
    } else if truth(spec, "hostIPC") && ipc {
        Some("may not be specified when 'hostIPC' is true")
    } else {
        None
    }
}

/// A container's `securityContext`; `shares_users`: the pod does not have users of its own.
pub(super) fn container(problems: &mut Problems, at: &Path<'_>, context: &Value, shares_users: bool) {
    if !context.is_object() {
        return;
    }
    for key in ["runAsUser", "runAsGroup"] {
        id(problems, at, context, key);
    }
    if let Some(mount) = given(context, "procMount") {
        let at = at.field("procMount");
        if !matches!(mount.as_str(), Some("Default" | "Unmasked")) {
            problems.unsupported_of(at, mount, &["Default", "Unmasked"]);
        }
        if shares_users && mount == "Unmasked" {
            problems.invalid(at, mount, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(problems, &at.field("seccompProfile"), &context["seccompProfile"]);
    if context["allowPrivilegeEscalation"] == false {
        if truth(context, "privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            problems.invalid(at, Verbatim(&internal(context)), why);
        }
        for _ in texts(&context["capabilities"], "add").filter(|capability| *capability == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            problems.invalid(at, Verbatim(&internal(context)), why);
        }
    }
    windows::options(problems, &at.field("windowsOptions"), &context["windowsOptions"]);
    app_armor(problems, &at.field("appArmorProfile"), &context["appArmorProfile"]);
}

/// A security context as upstream shows its internal structure: Go's names, and every field.
fn internal(context: &Value) -> String {
    // The order is that of Go's structure.
    const FIELDS: [(&str, &str); 12] = [
        ("Capabilities", "capabilities"),
        ("Privileged", "privileged"),
        ("SELinuxOptions", "seLinuxOptions"),
        ("WindowsOptions", "windowsOptions"),
        ("RunAsUser", "runAsUser"),
        ("RunAsGroup", "runAsGroup"),
        ("RunAsNonRoot", "runAsNonRoot"),
        ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem"),
        ("AllowPrivilegeEscalation", "allowPrivilegeEscalation"),
        ("ProcMount", "procMount"),
        ("SeccompProfile", "seccompProfile"),
        ("AppArmorProfile", "appArmorProfile"),
    ];
    let parts: Vec<String> = FIELDS
        .iter()
        .map(|(go, json)| match (*json, &context[*json]) {
            ("capabilities", Value::Object(own)) => {
                let part = |key: &str| own.get(key).unwrap_or(&Value::Null).to_string();
                format!("\"{go}\":{{\"Add\":{},\"Drop\":{}}}", part("add"), part("drop"))
            }
            (_, value) => format!("\"{go}\":{value}"),
        })
        .collect();
    format!("{{{}}}", parts.join(","))
}

const SECCOMP: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(problems: &mut Problems, at: &Path<'_>, profile: &Value) {
    if !profile.is_object() {
        return;
    }
    let kind = text(profile, "type");
    match kind {
        "" => problems.required(at.field("type"), "type is required when seccompProfile is set"),
        kind if SECCOMP.contains(&kind) => {}
        kind => problems.unsupported_of(at.field("type"), kind, &SECCOMP),
    }
    let local = given(profile, "localhostProfile").and_then(Value::as_str);
    match (kind, local) {
        ("Localhost", None) => {
            problems.required(at.field("localhostProfile"), "must be set when seccomp type is Localhost");
        }
        ("Localhost", Some(path)) => paths::descending(problems, at.field("localhostProfile"), path),
        (_, Some(path)) => {
            let shown = format!("{{\"Type\":{},\"LocalhostProfile\":{}}}", quoted(kind), quoted(path));
            let why = "can only be set when seccomp type is Localhost";
            problems.invalid(at.field("localhostProfile"), Verbatim(&shown), why);
        }
        (_, None) => {}
    }
}

fn app_armor(problems: &mut Problems, at: &Path<'_>, profile: &Value) {
    const NEEDED: &str = "must be set when AppArmor type is Localhost";
    if !profile.is_object() {
        return;
    }
    let field = at.field("localhostProfile");
    let local = given(profile, "localhostProfile").and_then(Value::as_str);
    match (text(profile, "type"), local) {
        ("Localhost", None) => problems.required(field, NEEDED),
        ("Localhost", Some(path)) => {
            if path.trim() != path {
                problems.invalid(field, path, "must not be padded with whitespace");
            } else if path.is_empty() {
                problems.required(field, NEEDED);
            }
            if path.len() > PROFILE_BYTES {
                problems.too_many_bytes(field, PROFILE_BYTES);
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(path)) => {
            problems.invalid(field, path, "can only be set when AppArmor type is Localhost");
        }
        ("RuntimeDefault" | "Unconfined", None) => {}
        ("", _) => problems.required(at.field("type"), "type is required when appArmorProfile is set"),
        (kind, _) => problems.unsupported_of(at.field("type"), kind, &SECCOMP),
    }
}
