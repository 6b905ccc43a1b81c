//! `v1.PersistentVolume`.

use serde_json::{Map, Value, json};

use super::persistent_volume_claim::{access_modes, basic, shown_class, shown_modes, volume_mode};
use crate::columns::{Column, age};
use crate::json::{child, default_text, entries, existing, given, list, same, same_field, set, text};
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::path::Path;
use crate::pod_spec::volumes::{csi_driver_name, legacy, paths, required};
use crate::pod_spec::{amount, canonical, default_source, has_bad_required_value, node_selector};
use crate::problems::{IMMUTABLE, Problems};
use crate::rules::{KindRules, or};

/// The sources in upstream's order of looking at them, with the name that upstream says of a second one.
const KINDS: [(&str, &str); 22] = [
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephFS"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
    ("csi", "csi"),
];

const RECYCLES: &str = "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";

/// What Kubernetes demands of persistent volumes.
pub const RULES: KindRules = KindRules {
    defaults: |object| {
        if let Some(status) = child(object, "status") {
            default_text(status, "phase", "Pending");
        }
        if let Some(spec) = existing(object, "spec") {
            default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
            default_text(spec, "volumeMode", "Filesystem");
            default_source(spec);
        }
    },
    prepare_create: |object| {
        let now = object["metadata"]["creationTimestamp"].clone();
        set(object, "status", json!({"phase": "Pending", "lastPhaseTransitionTime": now}));
    },
    warnings: |object, _| {
        let recycles = text(&object["spec"], "persistentVolumeReclaimPolicy") == "Recycle";
        recycles.then(|| RECYCLES.to_owned()).into_iter().collect()
    },
    validate: |problems, object| validate(problems, object, &Value::Null),
    validates_updates: false,
    validate_update: |problems, object, old| {
        validate(problems, object, old);
        steps(problems, object, old);
    },
    columns: || {
        let spec = |name, field| Column::described(name, "PersistentVolumeSpec", field);
        vec![
            Column::object_name(),
            spec("Capacity", "capacity"),
            spec("Access Modes", "accessModes"),
            spec("Reclaim Policy", "persistentVolumeReclaimPolicy"),
            Column::described("Status", "PersistentVolumeStatus", "phase"),
            spec("Claim", "claimRef"),
            Column::new("StorageClass").saying("StorageClass of the pv"),
            Column::new("VolumeAttributesClass").saying("VolumeAttributesClass of the pv"),
            Column::described("Reason", "PersistentVolumeStatus", "reason"),
            Column::age(),
            spec("VolumeMode", "volumeMode").in_wide(),
        ]
    },
    cells: |object, now| {
        let spec = &object["spec"];
        let claim = &spec["claimRef"];
        let claim = match claim {
            Value::Object(_) => format!("{}/{}", text(claim, "namespace"), text(claim, "name")),
            _ => String::new(),
        };
        let phase = if given(&object["metadata"], "deletionTimestamp").is_some() {
            "Terminating"
        } else {
            text(&object["status"], "phase")
        };
        vec![
            given(&spec["capacity"], "storage").map_or_else(|| "0".to_owned(), canonical).into(),
            shown_modes(spec, "accessModes").into(),
            text(spec, "persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.into(),
            shown_class(object).into(),
            or(text(spec, "volumeAttributesClassName"), "<unset>"),
            text(&object["status"], "reason").into(),
            age(object, now),
            or(text(spec, "volumeMode"), "<unset>"),
        ]
    },
    counts_generation: false,
    ..KindRules::NEW
};

fn validate(problems: &mut Problems, object: &Value, old: &Value) {
    let spec = &object["spec"];
    let at = Path::new("spec");
    if list(spec, "accessModes").is_empty() {
        problems.required(at.field("accessModes"), "");
    }
    access_modes(problems, &at, spec);
    capacity(problems, &at.field("capacity"), spec);
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !matches!(policy, "" | "Delete" | "Recycle" | "Retain") {
        let supported = ["Delete", "Recycle", "Retain"];
        problems.unsupported(at.field("persistentVolumeReclaimPolicy"), policy, &supported);
    }
    let affinity = given(spec, "nodeAffinity");
    if let Some(affinity) = affinity {
        let at = at.field("nodeAffinity");
        match given(affinity, "required") {
            None => problems.required(at.field("required"), "must specify required node constraints"),
            Some(selector) => {
                let tolerated = has_bad_required_value(&old["spec"]["nodeAffinity"]["required"]);
                node_selector(problems, &at.field("required"), selector, tolerated);
            }
        }
    }
    sources(problems, &at, object, affinity.is_some());
    let root = text(&spec["hostPath"], "path");
    if policy == "Recycle" && !root.is_empty() && root.split('/').all(|part| part.is_empty() || part == ".") {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        problems.forbidden(at.field("persistentVolumeReclaimPolicy"), why);
    }
    problems.check_optional(at.field("storageClassName"), text(spec, "storageClassName"), dns1123_subdomain);
    volume_mode(problems, &at, spec);
    if let Some(class) = given(spec, "volumeAttributesClassName").and_then(Value::as_str) {
        let field = at.field("volumeAttributesClassName");
        if class.is_empty() {
            problems.required(field, "an empty string is disallowed");
        }
        problems.check_optional(field, class, dns1123_subdomain);
        if given(spec, "csi").is_none() {
            problems.required(at.field("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn capacity(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let count = entries(spec, "capacity").count();
    if count == 0 {
        problems.required(at, "");
    }
    if given(&spec["capacity"], "storage").is_none() || count > 1 {
        problems.unsupported_of(at, given(spec, "capacity"), &["storage"]);
    }
    for (name, size) in entries(spec, "capacity") {
        basic(problems, &at.key(name), size);
        if amount(size).is_some_and(|size| size.is_negative() || size.is_zero()) {
            problems.invalid(at.key(name), canonical(size), "must be greater than zero");
        }
    }
}

fn sources(problems: &mut Problems, at: &Path<'_>, object: &Value, has_affinity: bool) {
    let spec = &object["spec"];
    let mut found = false;
    for (kind, shown) in KINDS {
        let Some(source) = given(spec, kind) else { continue };
        if found && kind != "flexVolume" {
            problems.forbidden(at.field(shown), "may not specify more than 1 volume type");
            continue;
        }
        found = true;
        let within = at.field(kind);
        match kind {
            "hostPath" => paths::host_path(problems, &within, source),
            "local" => {
                required(problems, &within, source, &["path"]);
                paths::no_backsteps(problems, within.field("path"), text(source, "path"));
                if !has_affinity {
                    problems.required(at.field("nodeAffinity"), "Local volume requires node affinity");
                }
            }
            "csi" => csi(problems, &within, source),
            "gcePersistentDisk" => {
                legacy::source(problems, &at.field("persistentDisk"), kind, source);
            }
            _ => legacy::persistent(problems, &within, kind, source, text(&object["metadata"], "name")),
        }
    }
    if !found {
        problems.required(at, "must specify a volume type");
    }
}

fn csi(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    csi_driver_name(problems, &at.field("driver"), text(source, "driver"));
    required(problems, at, source, &["volumeHandle"]);
    for key in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if let Some(secret) = given(source, key) {
            let at = at.field(key);
            problems.check_required(at.field("name"), text(secret, "name"), dns1123_subdomain);
            problems.check_required(at.field("namespace"), text(secret, "namespace"), dns1123_label);
        }
    }
}

fn steps(problems: &mut Problems, object: &Value, old: &Value) {
    let source = |object: &Value| -> Value {
        let all = object["spec"].as_object().into_iter().flatten();
        let kinds = all.filter(|(key, _)| KINDS.iter().any(|(kind, _)| kind == key));
        Value::Object(kinds.map(|(key, value)| (key.clone(), value.clone())).collect::<Map<_, _>>())
    };
    let (mut new, before) = (source(object), source(old));
    // A secret for growing may still be named.
    if given(&before["csi"], "controllerExpandSecretRef").is_none()
        && before["csi"].is_object()
        && let Some(csi) = existing(&mut new, "csi")
    {
        crate::json::remove(csi, "controllerExpandSecretRef");
    }
    if !same(&new, &before) {
        let why = format!(
            "spec.persistentvolumesource is immutable after creation\n{}",
            crate::go_structures::difference("PersistentVolumeSource", &before, &new)
        );
        problems.forbidden("spec.persistentvolumesource", &why);
    }
    let (now, then) = (&object["spec"], &old["spec"]);
    // Upstream says these two without their parent.
    problems.immutable("volumeMode", given(now, "volumeMode"), given(then, "volumeMode"));
    if given(then, "nodeAffinity").is_some() && !same_field(now, then, "nodeAffinity") {
        let why = format!("{IMMUTABLE}, except for updating from beta label to GA");
        if !same(&stable_labels(&then["nodeAffinity"]), &stable_labels(&now["nodeAffinity"])) {
            problems.invalid("nodeAffinity", given(now, "nodeAffinity"), &why);
        }
    }
    let class = |spec: &Value| given(spec, "volumeAttributesClassName").is_some();
    if class(then) && !class(now) {
        problems.forbidden("spec.volumeAttributesClassName", "update from non-nil value to nil is forbidden");
    }
}

/// The same with the successors of labels that have one.
fn stable_labels(affinity: &Value) -> Value {
    const LABELS: [(&str, &str); 5] = [
        ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
        ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ];
    let mut text = affinity.to_string();
    for (beta, stable) in LABELS {
        text = text.replace(&format!("\"{beta}\""), &format!("\"{stable}\""));
    }
    serde_json::from_str(&text).unwrap_or_default()
}
