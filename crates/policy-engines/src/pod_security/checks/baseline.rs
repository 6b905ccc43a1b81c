//! Checks of the baseline level, but for the profiles of security modules.

use serde_json::Value;

use super::Violation;
use super::pod::{Names, Pod, containers, list, plural, quoted, setters, text};

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let mut added = Names::new();
    let bad = pod.bad(|container| {
        let all = list(&container["securityContext"]["capabilities"], "add").iter().filter_map(Value::as_str);
        let own: Vec<&str> = all.filter(|name| !DEFAULT_CAPABILITIES.contains(name)).collect();
        added.extend(own.iter().map(|name| (*name).to_owned()));
        !own.is_empty()
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers(&bad),
        quoted(&added)
    );
    Violation::of("non-default capabilities", detail)
}

pub(super) fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|key| pod.spec[**key] == true)
        .map(|key| format!("{key}=true"))
        .collect();
    if set.is_empty() { None } else { Violation::of("host namespaces", set.join(", ")) }
}

pub(super) fn host_path(pod: &Pod<'_>) -> Option<Violation> {
    let names: Vec<&str> = pod
        .volumes()
        .iter()
        .filter(|volume| !volume["hostPath"].is_null())
        .map(|volume| text(volume, "name"))
        .collect();
    if names.is_empty() {
        return None;
    }
    Violation::of(
        "hostPath volumes",
        format!("{} {}", plural("volume", "volumes", names.len()), quoted(&names)),
    )
}

pub(super) fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = Names::new();
    let bad = pod.bad(|container| {
        let own = list(container, "ports").iter().filter_map(|port| port["hostPort"].as_i64());
        let own: Vec<String> = own.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let any = !own.is_empty();
        ports.extend(own);
        any
    });
    if bad.is_empty() {
        return None;
    }
    let each: Vec<&str> = ports.iter().map(String::as_str).collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&bad),
        plural("uses", "use", bad.len()),
        plural("hostPort", "hostPorts", ports.len()),
        each.join(", ")
    );
    Violation::of("hostPort", detail)
}

pub(super) fn host_probes(pod: &Pod<'_>) -> Option<Violation> {
    let mut hosts = Names::new();
    let mut bad = Names::new();
    for container in pod.containers() {
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|key| &container[key]);
        let hooks = ["postStart", "preStop"].map(|key| &container["lifecycle"][key]);
        for handler in probes.into_iter().chain(hooks) {
            for action in ["httpGet", "tcpSocket"] {
                let host = text(&handler[action], "host");
                if !host.is_empty() {
                    hosts.insert(host.to_owned());
                    bad.insert(text(container, "name").to_owned());
                }
            }
        }
    }
    if bad.is_empty() {
        return None;
    }
    let bad: Vec<&str> = bad.iter().map(String::as_str).collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&bad),
        plural("uses", "use", bad.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted(&hosts)
    );
    Violation::of("probe or lifecycle host", detail)
}

pub(super) fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.bad(|container| container["securityContext"]["privileged"] == true);
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.privileged=true", containers(&bad));
    Violation::of("privileged", detail)
}

pub(super) fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = Names::new();
    let bad = pod.bad(|container| match container["securityContext"]["procMount"].as_str() {
        None | Some("Default") => false,
        Some(kind) => {
            kinds.insert(kind.to_owned());
            true
        }
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.procMount to {}", containers(&bad), quoted(&kinds));
    Violation::of("procMount", detail)
}

pub(super) fn proc_mount_1_35(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { proc_mount(pod) }
}

/// In the order in which they were allowed; each edition allows a longer beginning.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn sysctls(pod: &Pod<'_>, allowed: &[&str]) -> Option<Violation> {
    let all = list(pod.security(), "sysctls").iter().map(|sysctl| text(sysctl, "name"));
    let bad: Vec<&str> = all.filter(|name| !allowed.contains(name)).collect();
    if bad.is_empty() { None } else { Violation::of("forbidden sysctls", bad.join(", ")) }
}

pub(super) fn sysctls_1_0(pod: &Pod<'_>) -> Option<Violation> {
    sysctls(pod, &SYSCTLS[..5])
}

pub(super) fn sysctls_1_27(pod: &Pod<'_>) -> Option<Violation> {
    sysctls(pod, &SYSCTLS[..6])
}

pub(super) fn sysctls_1_29(pod: &Pod<'_>) -> Option<Violation> {
    sysctls(pod, &SYSCTLS[..10])
}

pub(super) fn sysctls_1_32(pod: &Pod<'_>) -> Option<Violation> {
    sysctls(pod, &SYSCTLS)
}

pub(super) fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let set = |security: &Value| security["windowsOptions"]["hostProcess"] == true;
    let bad = pod.bad(|container| set(&container["securityContext"]));
    let who = setters(set(pod.security()), &bad)?;
    Violation::of(
        "hostProcess",
        format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
    )
}
