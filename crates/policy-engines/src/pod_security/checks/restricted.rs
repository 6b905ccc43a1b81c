//! Checks of the restricted level, but for the profiles of security modules.

use serde_json::Value;

use super::Violation;
use super::pod::{Names, Pod, containers, list, plural, quoted, setters, text};

pub(super) fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.bad(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
    Violation::of("allowPrivilegeEscalation != false", detail)
}

pub(super) fn privilege_escalation_1_25(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { privilege_escalation(pod) }
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let of = |container: &Value, key: &str| -> Vec<String> {
        let all = list(&container["securityContext"]["capabilities"], key).iter();
        all.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let keeping = pod.bad(|container| !of(container, "drop").iter().any(|name| name == "ALL"));
    let mut added = Names::new();
    let adding = pod.bad(|container| {
        let own: Vec<String> =
            of(container, "add").into_iter().filter(|name| name != "NET_BIND_SERVICE").collect();
        let any = !own.is_empty();
        added.extend(own);
        any
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details
            .push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            quoted(&added)
        ));
    }
    if details.is_empty() { None } else { Violation::of("unrestricted capabilities", details.join("; ")) }
}

pub(super) fn capabilities_1_25(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { capabilities(pod) }
}

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// In upstream's order: a volume of two kinds counts as the first.
const OTHER_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let mut kinds = Names::new();
    let mut names = Vec::new();
    for volume in pod.volumes() {
        let has = |key: &&&str| !volume[**key].is_null();
        if VOLUMES.iter().any(|key| has(&key)) {
            continue;
        }
        names.push(text(volume, "name"));
        kinds.insert(OTHER_VOLUMES.iter().find(has).map_or("unknown", |kind| kind).to_owned());
    }
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quoted(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(&kinds)
    );
    Violation::of("restricted volume types", detail)
}

pub(super) fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let of = |security: &Value| security["runAsNonRoot"].as_bool();
    let own = of(pod.security());
    let bad = pod.bad(|container| of(&container["securityContext"]) == Some(false));
    if let Some(who) = setters(own == Some(false), &bad) {
        return Violation::of(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if own == Some(true) {
        return None;
    }
    let bad = pod.bad(|container| of(&container["securityContext"]).is_none());
    if bad.is_empty() {
        return None;
    }
    let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&bad));
    Violation::of(REASON, detail)
}

pub(super) fn run_as_non_root_1_35(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { run_as_non_root(pod) }
}

pub(super) fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    let root = |security: &Value| security["runAsUser"] == 0;
    let bad = pod.bad(|container| root(&container["securityContext"]));
    let who = setters(root(pod.security()), &bad)?;
    Violation::of("runAsUser=0", format!("{who} must not set runAsUser=0"))
}

pub(super) fn run_as_user_1_35(pod: &Pod<'_>) -> Option<Violation> {
    if pod.has_user_namespace() { None } else { run_as_user(pod) }
}
