//! Checks of AppArmor, SELinux and seccomp, at both levels.

use serde_json::Value;

use super::Violation;
use super::pod::{Names, Pod, containers, plural, quoted, setters, text};

const APP_ARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// The type of a profile that is set and neither of the two harmless ones.
fn bad_profile(security: &Value, key: &str) -> Option<String> {
    let profile = security.get(key).filter(|profile| !profile.is_null())?;
    let kind = text(profile, "type");
    (!matches!(kind, "RuntimeDefault" | "Localhost")).then(|| kind.to_owned())
}

pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = Names::new();
    let own = bad_profile(pod.security(), "appArmorProfile");
    let bad = pod.bad(|container| {
        let kind = bad_profile(&container["securityContext"], "appArmorProfile");
        let any = kind.is_some();
        kinds.extend(kind);
        any
    });
    let mut who: Vec<String> = setters(own.is_some(), &bad).into_iter().collect();
    kinds.extend(own);
    let mut annotations: Vec<String> = pod
        .annotations()
        .filter(|(key, value)| {
            let harmless = value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
            key.starts_with(APP_ARMOR_ANNOTATION) && !harmless
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    annotations.sort();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = kinds.into_iter().chain(annotations).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    Violation::of(
        reason,
        format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&values)),
    )
}

/// What SELinux options may say.
#[derive(Default)]
struct SelinuxFaults {
    types: Names,
    user: bool,
    role: bool,
}

impl SelinuxFaults {
    fn note(&mut self, security: &Value, allowed: &[&str]) -> bool {
        let Some(options) = security.get("seLinuxOptions").filter(|options| !options.is_null()) else {
            return false;
        };
        let kind = text(options, "type");
        let (bad_type, user, role) = (
            !kind.is_empty() && !allowed.contains(&kind),
            !text(options, "user").is_empty(),
            !text(options, "role").is_empty(),
        );
        if bad_type {
            self.types.insert(kind.to_owned());
        }
        self.user |= user;
        self.role |= role;
        bad_type || user || role
    }
}

fn selinux(pod: &Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let mut faults = SelinuxFaults::default();
    let own = faults.note(pod.security(), allowed);
    let bad = pod.bad(|container| faults.note(&container["securityContext"], allowed));
    let who = setters(own, &bad)?;
    let mut what = Vec::new();
    if !faults.types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", faults.types.len()), quoted(&faults.types)));
    }
    if faults.user {
        what.push("user may not be set".to_owned());
    }
    if faults.role {
        what.push("role may not be set".to_owned());
    }
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    Violation::of("seLinuxOptions", detail)
}

pub(super) fn selinux_1_0(pod: &Pod<'_>) -> Option<Violation> {
    selinux(pod, &["container_t", "container_init_t", "container_kvm_t"])
}

pub(super) fn selinux_1_31(pod: &Pod<'_>) -> Option<Violation> {
    selinux(pod, &["container_t", "container_init_t", "container_kvm_t", "container_engine_t"])
}

/// Before seccomp had fields.
pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let names: Vec<String> =
        pod.containers().map(|container| format!("{SECCOMP_CONTAINER}{}", text(container, "name"))).collect();
    let found: Names = pod
        .annotations()
        .filter(|(key, _)| *key == SECCOMP_POD || names.iter().any(|name| name == key))
        .filter(|(_, value)| {
            !matches!(*value, "runtime/default" | "docker/default") && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if found.is_empty() {
        return None;
    }
    let each: Vec<&str> = found.iter().map(String::as_str).collect();
    let what = plural("annotation", "annotations", each.len());
    Violation::of("seccompProfile", format!("forbidden {what} {}", each.join(", ")))
}

pub(super) fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = Names::new();
    let own = bad_profile(pod.security(), "seccompProfile");
    let bad = pod.bad(|container| {
        let kind = bad_profile(&container["securityContext"], "seccompProfile");
        let any = kind.is_some();
        kinds.extend(kind);
        any
    });
    let who = setters(own.is_some(), &bad)?;
    kinds.extend(own);
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&kinds));
    Violation::of("seccompProfile", detail)
}

pub(super) fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if let Some(violation) = seccomp_baseline(pod) {
        return Some(violation);
    }
    let set = |security: &Value| security.get("seccompProfile").is_some_and(|profile| !profile.is_null());
    if set(pod.security()) {
        return None;
    }
    let bad = pod.bad(|container| !set(&container["securityContext"]));
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        containers(&bad)
    );
    Violation::of("seccompProfile", detail)
}

pub(super) fn seccomp_restricted_1_25(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { seccomp_restricted(pod) }
}
