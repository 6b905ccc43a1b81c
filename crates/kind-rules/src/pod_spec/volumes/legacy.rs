//! Sources of storage systems that came before CSI. Nobody mounts most of them any more; objects that name them are
//! held to the same rules as ever.

use serde_json::Value;

use super::{paths, required};
use crate::json::{entries, given, integer, list, number, text, truth};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

/// Why an iSCSI volume's name is too long.
pub const ISCSI_LENGTH: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";

/// The source `kind` of a pod's volume at `at`.
pub fn source(problems: &mut Problems, at: &Path<'_>, kind: &str, source: &Value) {
    match kind {
        "gitRepo" => {
            required(problems, at, source, &["repository"]);
            paths::descending(problems, at.field("directory"), text(source, "directory"));
        }
        "gcePersistentDisk" => {
            required(problems, at, source, &["pdName"]);
            partition(problems, at, source);
        }
        "awsElasticBlockStore" => {
            required(problems, at, source, &["volumeID"]);
            partition(problems, at, source);
        }
        "nfs" => {
            required(problems, at, source, &["server", "path"]);
            if !text(source, "path").starts_with('/') {
                problems.invalid(at.field("path"), text(source, "path"), "must be an absolute path");
            }
        }
        "iscsi" => iscsi(problems, at, source, "must be valid format starting with iqn, eui, or naa"),
        "glusterfs" => required(problems, at, source, &["endpoints", "path"]),
        "flocker" => flocker(problems, at, source),
        "rbd" => {
            monitors(problems, at, source);
            required(problems, at, source, &["image"]);
        }
        "cephfs" => monitors(problems, at, source),
        "cinder" => {
            required(problems, at, source, &["volumeID"]);
            secret(problems, at, source, &["name"]);
        }
        "quobyte" => quobyte(problems, at, source),
        "fc" => fibre_channel(problems, at, source),
        "flexVolume" => flex(problems, at, source),
        "azureFile" => required(problems, at, source, &["secretName", "shareName"]),
        "azureDisk" => azure_disk(problems, at, source),
        "vsphereVolume" => required(problems, at, source, &["volumePath"]),
        "photonPersistentDisk" => required(problems, at, source, &["pdID"]),
        "portworxVolume" => required(problems, at, source, &["volumeID"]),
        "scaleIO" => required(problems, at, source, &["gateway", "system", "volumeName"]),
        "storageos" => {
            storage_os(problems, at, source);
            secret(problems, at, source, &["name"]);
        }
        _ => {}
    }
}

/// The same for a persistent volume, whose references to secrets have namespaces.
pub fn persistent(problems: &mut Problems, at: &Path<'_>, kind: &str, source: &Value, volume: &str) {
    match kind {
        "iscsi" => {
            if given(source, "initiatorName").is_some()
                && volume.len() + 1 + text(source, "targetPortal").len() > 64
            {
                problems.invalid(at.field("targetportal"), text(source, "targetPortal"), ISCSI_LENGTH);
            }
            iscsi(problems, at, source, "must be valid format");
            secret(problems, at, source, &["name"]);
        }
        "glusterfs" => {
            required(problems, at, source, &["endpoints", "path"]);
            if let Some(namespace) = given(source, "endpointsNamespace").and_then(Value::as_str) {
                let at = at.field("endpointsNamespace");
                if namespace.is_empty() {
                    let why = "if the endpointnamespace is set, it must be a valid namespace name";
                    problems.invalid(at, namespace, why);
                } else {
                    problems.check(at, namespace, names::dns1123_label);
                }
            }
        }
        "cinder" => {
            required(problems, at, source, &["volumeID"]);
            secret(problems, at, source, &["name", "namespace"]);
        }
        "azureFile" => {
            required(problems, at, source, &["secretName", "shareName"]);
            if given(source, "secretNamespace").is_some_and(|namespace| namespace == "") {
                problems.required(at.field("secretNamespace"), "");
            }
        }
        "storageos" => {
            storage_os(problems, at, source);
            secret(problems, at, source, &["name", "namespace"]);
        }
        _ => self::source(problems, at, kind, source),
    }
}

fn partition(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    let partition = integer(source, "partition");
    if !(0..=255).contains(&partition) {
        problems.invalid(at.field("partition"), partition, "must be between 1 and 255, inclusive");
    }
}

fn monitors(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    if list(source, "monitors").is_empty() {
        problems.required(at.field("monitors"), "");
    }
}

fn secret(problems: &mut Problems, at: &Path<'_>, source: &Value, keys: &[&str]) {
    if let Some(reference) = given(source, "secretRef") {
        required(problems, &at.field("secretRef"), reference, keys);
    }
}

fn storage_os(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    problems.check_required(at.field("volumeName"), text(source, "volumeName"), names::dns1123_label);
    problems.check_optional(
        at.field("volumeNamespace"),
        text(source, "volumeNamespace"),
        names::dns1123_label,
    );
}

/// What is wrong with an iSCSI name; `prefix` is said of one that begins with nothing known.
fn initiator(name: &str, prefix: &'static str) -> Option<&'static str> {
    let word =
        |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_alphanumeric());
    let fine = match name.get(..3) {
        Some("iqn") => is_iqn(name),
        // Any character stands between (upstream's pattern has a bare dot).
        Some("eui") => name.get(4..).is_some_and(|rest| word(rest, 16)),
        Some("naa") => name.get(4..).is_some_and(|rest| word(rest, 32)),
        _ => return Some(prefix),
    };
    (!fine).then_some("must be valid format")
}

/// `iqn.yyyy-mm.domain:name`.
fn is_iqn(name: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let Some((date, rest)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once('.')) else {
        return false;
    };
    let dated = date.len() == 7 && date.get(4..5) == Some("-") && digits(&date[..4]) && digits(&date[5..]);
    let Some((domain, own)) = rest.split_once(':') else { return false };
    dated
        && !domain.is_empty()
        && domain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && !own.is_empty()
        && !own.contains([',', ';', '*', '&', '$', '|'])
        && !own.contains(char::is_whitespace)
}

fn iscsi(problems: &mut Problems, at: &Path<'_>, source: &Value, prefix: &'static str) {
    required(problems, at, source, &["targetPortal"]);
    let iqn = text(source, "iqn");
    if iqn.is_empty() {
        problems.required(at.field("iqn"), "");
    } else if let Some(why) = initiator(iqn, prefix) {
        problems.invalid(at.field("iqn"), iqn, why);
    }
    problems.in_range(at.field("lun"), integer(source, "lun"), 0, 255);
    let authenticates = truth(source, "chapAuthDiscovery") || truth(source, "chapAuthSession");
    if authenticates && given(source, "secretRef").is_none() {
        problems.required(at.field("secretRef"), "");
    }
    if let Some(name) = given(source, "initiatorName").and_then(Value::as_str)
        && let Some(why) = initiator(name, prefix)
    {
        problems.invalid(at.field("initiatorname"), name, why);
    }
}

fn flocker(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    let (name, id) = (text(source, "datasetName"), text(source, "datasetUUID"));
    if name.is_empty() && id.is_empty() {
        problems.required(at, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !id.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        problems.invalid(at, "resource", why);
    }
    if name.contains('/') {
        problems.invalid(at.field("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(source, "registry");
    if registry.is_empty() {
        problems.required(at.field("registry"), PAIRS);
    } else if text(source, "tenant").len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        problems.required(at.field("tenant"), why);
    } else {
        for pair in registry.split(',') {
            let host = pair.rsplit_once(':').map(|(host, _)| host);
            if host.is_none_or(|host| host.contains(':') && !host.starts_with('[')) {
                problems.invalid(at.field("registry"), registry, PAIRS);
            }
        }
    }
    required(problems, at, source, &["volume"]);
}

fn fibre_channel(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    let (targets, ids) = (list(source, "targetWWNs"), list(source, "wwids"));
    if targets.is_empty() && ids.is_empty() {
        problems.required(at.field("targetWWNs"), "must specify either targetWWNs or wwids, but not both");
    }
    if !targets.is_empty() && !ids.is_empty() {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        problems.invalid(at.field("targetWWNs"), &source["targetWWNs"], why);
    }
    if !targets.is_empty() {
        match number(source, "lun") {
            None => problems.required(at.field("lun"), "lun is required if targetWWNs is specified"),
            Some(lun) => problems.in_range(at.field("lun"), lun, 0, 255),
        }
    }
}

fn flex(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    required(problems, at, source, &["driver"]);
    let at = at.field("options");
    for (key, _) in entries(source, "options") {
        let domain = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            problems.invalid(at.key(key), key, "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

fn azure_disk(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    required(problems, at, source, &["diskName", "diskURI"]);
    let mut choice = |key: &str, supported: &[&str]| {
        if let Some(value) = given(source, key)
            && !value.as_str().is_some_and(|value| supported.contains(&value))
        {
            problems.unsupported(at.field(key), value, supported);
        }
    };
    choice("cachingMode", &["None", "ReadOnly", "ReadWrite"]);
    choice("kind", &["Dedicated", "Managed", "Shared"]);
    let uri = text(source, "diskURI");
    match given(source, "kind").and_then(Value::as_str) {
        Some("Managed") if !uri.starts_with("/subscriptions/") => {
            let form = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
            problems.unsupported(at.field("diskURI"), uri, &[form]);
        }
        Some(kind) if kind != "Managed" && !uri.starts_with("https://") => {
            let form = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
            problems.unsupported(at.field("diskURI"), uri, &[form]);
        }
        _ => {}
    }
}
