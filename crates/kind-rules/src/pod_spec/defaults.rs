//! What upstream's `SetDefaults_Pod*`, `SetDefaults_Container` and the volumes' functions fill in.

use serde_json::{Value, json};

use crate::json::{child, default, default_text, entries, existing, list_mut, present, set, text, truth};

/// A pod template: its spec.
pub fn default_template(object: &mut Value) {
    if let Some(spec) = existing(object, "template").and_then(|template| existing(template, "spec")) {
        default_pod_spec(spec);
    }
}

/// A pod spec.
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
    let host_network = truth(spec, "hostNetwork");
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list_mut(spec, key) {
            default_container(container, host_network);
        }
    }
    for volume in list_mut(spec, "volumes") {
        default_volume(volume);
    }
    for constraint in list_mut(spec, "topologySpreadConstraints") {
        default_text(constraint, "whenUnsatisfiable", "DoNotSchedule");
    }
}

fn default_container(container: &mut Value, host_network: bool) {
    if text(container, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text(container, "image"));
        set(container, "imagePullPolicy", policy);
    }
    default_text(container, "terminationMessagePath", "/dev/termination-log");
    default_text(container, "terminationMessagePolicy", "File");
    default(container, "resources", json!({}));
    for port in list_mut(container, "ports") {
        default_text(port, "protocol", "TCP");
        // In the host's network a container port is a host port.
        let number = port.get("containerPort").cloned();
        if host_network && let Some(number) = number {
            default(port, "hostPort", number);
        }
    }
    for variable in list_mut(container, "env") {
        let Some(source) = existing(variable, "valueFrom") else { continue };
        if let Some(reference) = existing(source, "fieldRef") {
            default_text(reference, "apiVersion", "v1");
        }
        if let Some(reference) = existing(source, "resourceFieldRef") {
            default(reference, "divisor", "0");
        }
    }
    if let Some(resources) = existing(container, "resources") {
        requests_from_limits(resources);
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

/// `Always` for the tag `latest` or none (and no digest), else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    let latest = match image.rsplit('/').next() {
        _ if image.contains('@') => false,
        Some(last) => last.split_once(':').is_none_or(|(_, tag)| tag == "latest"),
        None => true,
    };
    if latest { "Always" } else { "IfNotPresent" }
}

fn default_probe(probe: &mut Value) {
    for (key, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        // Zero counts as not given.
        if probe.get(key).and_then(Value::as_i64).unwrap_or_default() == 0 {
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
    if let Some(items) = existing(volume, "downwardAPI") {
        default_field_references(items);
    }
    if let Some(projected) = existing(volume, "projected") {
        for source in list_mut(projected, "sources") {
            if let Some(token) = existing(source, "serviceAccountToken") {
                default(token, "expirationSeconds", 3600);
            }
            if let Some(items) = existing(source, "downwardAPI") {
                default_field_references(items);
            }
        }
    }
    if let Some(path) = existing(volume, "hostPath") {
        default(path, "type", "");
    }
    if let Some(claim) = existing(volume, "ephemeral")
        .and_then(|source| existing(source, "volumeClaimTemplate"))
        .and_then(|template| existing(template, "spec"))
    {
        default_text(claim, "volumeMode", "Filesystem");
    }
    if let Some(iscsi) = existing(volume, "iscsi") {
        default_text(iscsi, "iscsiInterface", "default");
    }
    let sources = volume.as_object().map_or(0, |map| {
        map.iter().filter(|(key, value)| key.as_str() != "name" && !value.is_null()).count()
    });
    if sources == 0 && present(volume, "name") {
        set(volume, "emptyDir", json!({}));
    }
}

fn default_field_references(source: &mut Value) {
    for item in list_mut(source, "items") {
        if let Some(reference) = existing(item, "fieldRef") {
            default_text(reference, "apiVersion", "v1");
        }
        if let Some(reference) = existing(item, "resourceFieldRef") {
            default(reference, "divisor", "0");
        }
    }
}
