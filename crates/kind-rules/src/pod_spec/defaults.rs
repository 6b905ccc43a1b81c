//! What upstream's `SetDefaults_Pod…`, `SetDefaults_Container` and the volumes' functions fill in.

use serde_json::{Map, Value, json};

use super::resources::{aggregate, is_huge_page, is_overcommit_allowed, is_pod_level_resource};
use crate::core::persistent_volume_claim;
use crate::json::{
    child, default, default_text, entries, existing, given, integer, list_mut, set, text, truth,
};

/// A pod: its spec, and what templates do not get.
pub fn default_pod(object: &mut Value) {
    let Some(spec) = existing(object, "spec") else { return };
    default_pod_spec(spec);
    for key in ["initContainers", "containers"] {
        for container in list_mut(spec, key) {
            if let Some(resources) = existing(container, "resources") {
                requests_from_limits(resources);
            }
        }
    }
    share_resources(spec);
    default(spec, "enableServiceLinks", true);
    if truth(spec, "hostNetwork") {
        for key in ["initContainers", "containers"] {
            for port in list_mut(spec, key).iter_mut().flat_map(|container| list_mut(container, "ports")) {
                // In the host's network a container port is a host port.
                let number = integer(port, "containerPort");
                if integer(port, "hostPort") == 0 && number != 0 {
                    set(port, "hostPort", number);
                }
            }
        }
    }
}

/// A pod template in the field `template`: its spec.
pub fn default_template(object: &mut Value) {
    if let Some(spec) = existing(object, "template").and_then(|template| existing(template, "spec")) {
        default_pod_spec(spec);
    }
}

/// A pod spec, of a pod or of a template.
pub fn default_pod_spec(spec: &mut Value) {
    default_text(spec, "dnsPolicy", "ClusterFirst");
    default_text(spec, "restartPolicy", "Always");
    default_text(spec, "schedulerName", "default-scheduler");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "securityContext", json!({}));
    // The old name of the field is kept in step for old clients.
    if !text(spec, "serviceAccountName").is_empty() {
        let name = text(spec, "serviceAccountName").to_owned();
        set(spec, "serviceAccount", name);
    } else if !text(spec, "serviceAccount").is_empty() {
        let name = text(spec, "serviceAccount").to_owned();
        set(spec, "serviceAccountName", name);
    }
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        list_mut(spec, key).iter_mut().for_each(default_container);
    }
    list_mut(spec, "volumes").iter_mut().for_each(default_volume);
}

fn default_container(container: &mut Value) {
    if text(container, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text(container, "image"));
        set(container, "imagePullPolicy", policy);
    }
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    for port in list_mut(container, "ports") {
        default_text(port, "protocol", "TCP");
    }
    for variable in list_mut(container, "env") {
        if let Some(source) = existing(variable, "valueFrom") {
            default_reference(source);
            if let Some(file) = existing(source, "fileKeyRef") {
                default(file, "optional", false);
            }
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = existing(container, probe) {
            default_probe(probe);
        }
    }
    if let Some(lifecycle) = existing(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(http) = existing(lifecycle, hook).and_then(|hook| existing(hook, "httpGet")) {
                default_http(http);
            }
        }
    }
}

fn default_reference(source: &mut Value) {
    if let Some(reference) = existing(source, "fieldRef") {
        default_text(reference, "apiVersion", "v1");
    }
    if let Some(reference) = existing(source, "resourceFieldRef") {
        default(reference, "divisor", "0");
    }
}

/// A resource with a limit and no request requests its limit.
fn requests_from_limits(resources: &mut Value) {
    let limits: Vec<(String, Value)> =
        entries(resources, "limits").map(|(name, amount)| (name.clone(), amount.clone())).collect();
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = child(resources, "requests") {
        for (name, amount) in limits {
            default(requests, &name, amount);
        }
    }
}

/// Pod-level resources are completed from the containers' (upstream's `defaultHugePagePodLimits` and
/// `defaultPodRequests`).
fn share_resources(spec: &mut Value) {
    let Some(resources) = given(spec, "resources") else { return };
    let some = |kind: &str| entries(resources, kind).next().is_some();
    if !some("limits") && !some("requests") {
        return;
    }
    let mut more = Map::new();
    for (name, sum) in aggregate(spec, "limits") {
        let known = resources["requests"].get(&name).is_some() || resources["limits"].get(&name).is_some();
        if is_huge_page(&name) && !known {
            more.insert(name, sum.to_string().into());
        }
    }
    merge(spec, "limits", more);
    let resources = &spec["resources"];
    if entries(resources, "limits").next().is_none() {
        return;
    }
    let mut more = Map::new();
    for (name, sum) in aggregate(spec, "requests") {
        if is_pod_level_resource(&name) && is_overcommit_allowed(&name) {
            more.insert(name, sum.to_string().into());
        }
    }
    for (name, limit) in entries(resources, "limits").filter(|(name, _)| is_pod_level_resource(name)) {
        more.entry(name.clone()).or_insert_with(|| limit.clone());
    }
    merge(spec, "requests", more);
}

fn merge(spec: &mut Value, kind: &str, more: Map<String, Value>) {
    if more.is_empty() {
        return;
    }
    if let Some(map) = existing(spec, "resources").and_then(|resources| child(resources, kind)) {
        for (name, amount) in more {
            default(map, &name, amount);
        }
    }
}

/// `Always` for the tag `latest` or none (and no digest), else `IfNotPresent`; also for what is no image's name.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let slash = name.rfind('/').map_or(0, |at| at + 1);
    let (name, tag) = match name[slash..].rfind(':') {
        Some(at) => (&name[..slash + at], Some(&name[slash + at + 1..])),
        None => (name, None),
    };
    let is_tag = |tag: &str| {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        (1..=128).contains(&tag.len())
            && tag.bytes().next().is_some_and(word)
            && tag.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
    };
    let is_digest = |digest: &str| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    };
    let sound = is_repository(name) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest);
    let latest = match tag {
        Some(tag) => tag == "latest",
        None => digest.is_none(),
    };
    if sound && latest { "Always" } else { "IfNotPresent" }
}

/// Whether a name without tag and digest is a repository's, as container registries have them: lower case after the
/// domain.
fn is_repository(name: &str) -> bool {
    let identifier =
        name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let path = match name.split_once('/') {
        Some((domain, path))
            if domain.contains(['.', ':']) || domain == "localhost" || domain.to_lowercase() != domain =>
        {
            path
        }
        _ => name,
    };
    let part = |part: &str| {
        let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        edge(part.bytes().next())
            && edge(part.bytes().last())
            && part.bytes().all(|b| edge(Some(b)) || matches!(b, b'.' | b'_' | b'-'))
            && !part.contains("..")
            && !part.contains("___")
    };
    !identifier && path.split('/').all(part)
}

fn default_probe(probe: &mut Value) {
    for (key, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        // Zero counts as not given.
        if integer(probe, key) == 0 {
            set(probe, key, value);
        }
    }
    if let Some(http) = existing(probe, "httpGet") {
        default_http(http);
    }
    if let Some(grpc) = existing(probe, "grpc") {
        default(grpc, "service", "");
    }
}

fn default_http(http: &mut Value) {
    default_text(http, "path", "/");
    default_text(http, "scheme", "HTTP");
}

fn default_volume(volume: &mut Value) {
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = existing(volume, source) {
            default(source, "defaultMode", 0o644);
        }
    }
    if let Some(source) = existing(volume, "downwardAPI") {
        list_mut(source, "items").iter_mut().for_each(default_reference);
    }
    if let Some(projected) = existing(volume, "projected") {
        for source in list_mut(projected, "sources") {
            if let Some(token) = existing(source, "serviceAccountToken") {
                default(token, "expirationSeconds", 3600);
            }
            if let Some(source) = existing(source, "downwardAPI") {
                list_mut(source, "items").iter_mut().for_each(default_reference);
            }
            if let Some(certificate) = existing(source, "podCertificate") {
                default(certificate, "maxExpirationSeconds", 86_400);
            }
        }
    }
    let claim = existing(volume, "ephemeral").and_then(|source| existing(source, "volumeClaimTemplate"));
    if let Some(spec) = claim.and_then(|template| existing(template, "spec")) {
        persistent_volume_claim::default_spec(spec);
    }
    if let Some(image) = existing(volume, "image")
        && text(image, "pullPolicy").is_empty()
    {
        let policy = pull_policy(text(image, "reference"));
        set(image, "pullPolicy", policy);
    }
    default_source(volume);
    let sources = volume.as_object().map_or(0, |map| {
        map.iter().filter(|(key, value)| key.as_str() != "name" && !value.is_null()).count()
    });
    if sources == 0 && volume.is_object() {
        set(volume, "emptyDir", json!({}));
    }
}

/// Sources that pods and persistent volumes share.
pub(crate) fn default_source(holder: &mut Value) {
    if let Some(path) = existing(holder, "hostPath") {
        default(path, "type", "");
    }
    if let Some(iscsi) = existing(holder, "iscsi") {
        default_text(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = existing(holder, "rbd") {
        default_text(rbd, "pool", "rbd");
        default_text(rbd, "user", "admin");
        default_text(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = existing(holder, "azureDisk") {
        default(disk, "cachingMode", "ReadWrite");
        default(disk, "kind", "Shared");
        default(disk, "fsType", "ext4");
        default(disk, "readOnly", false);
    }
    if let Some(scale) = existing(holder, "scaleIO") {
        default_text(scale, "storageMode", "ThinProvisioned");
        default_text(scale, "fsType", "xfs");
    }
}

#[cfg(test)]
mod tests {
    use super::pull_policy;

    #[test]
    fn policies_follow_the_tag() {
        for image in ["a", "a:latest", "r.io:5000/a/b", "a:latest@sha256:0123456789abcdef0123456789abcdef"] {
            assert_eq!(pull_policy(image), "Always", "{image}");
        }
        for image in ["a:1", "r.io:5000/a:1", "a@sha256:0123456789abcdef0123456789abcdef", "", "UPPER", "a b"]
        {
            assert_eq!(pull_policy(image), "IfNotPresent", "{image}");
        }
    }
}
