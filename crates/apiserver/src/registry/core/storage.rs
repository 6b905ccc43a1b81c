//! Volumes as cluster objects: claims, volumes and their classes.

use serde_json::{Value, json};

use kind_rules::columns::{Column, age};
use kind_rules::json::{child, default, default_text, existing, list, present, text};
use kind_rules::rules::{KindRules, or};

/// Access modes in kubectl's letters.
fn modes(object: &Value, key: &str) -> String {
    let given = list(object, key);
    let letters = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let found: Vec<&str> =
        letters.iter().filter(|(name, _)| given.contains(&json!(name))).map(|(_, short)| *short).collect();
    found.join(",")
}

fn phase(object: &Value) -> Value {
    if present(&object["metadata"], "deletionTimestamp") {
        return "Terminating".into();
    }
    object["status"]["phase"].clone()
}

/// `v1.PersistentVolume`.
pub(crate) const VOLUME: KindRules = KindRules {
    defaults: |object| {
        if let Some(status) = child(object, "status") {
            default_text(status, "phase", "Pending");
        }
        if let Some(spec) = existing(object, "spec") {
            default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
            default_text(spec, "volumeMode", "Filesystem");
            if let Some(path) = existing(spec, "hostPath") {
                default(path, "type", "");
            }
        }
    },
    validate: |problems, object| {
        let spec = &object["spec"];
        if list(spec, "accessModes").is_empty() {
            problems.required("spec.accessModes", "");
        }
        if !present(&spec["capacity"], "storage") {
            problems.required("spec.capacity", "");
        }
    },
    columns: || {
        let mut columns = vec![Column::object_name()];
        let middle = [
            "Capacity",
            "Access Modes",
            "Reclaim Policy",
            "Status",
            "Claim",
            "StorageClass",
            "VolumeAttributesClass",
            "Reason",
        ];
        columns.extend(middle.map(Column::new));
        columns.extend([Column::age(), Column::wide("VolumeMode")]);
        columns
    },
    cells: |object, now| {
        let spec = &object["spec"];
        let claim = &spec["claimRef"];
        let claim = match claim {
            Value::Object(_) => format!("{}/{}", text(claim, "namespace"), text(claim, "name")),
            _ => String::new(),
        };
        vec![
            spec["capacity"]["storage"].clone(),
            modes(spec, "accessModes").into(),
            spec["persistentVolumeReclaimPolicy"].clone(),
            phase(object),
            claim.into(),
            text(spec, "storageClassName").into(),
            or(text(spec, "volumeAttributesClassName"), "<unset>"),
            text(&object["status"], "reason").into(),
            age(object, now),
            or(text(spec, "volumeMode"), "<unset>"),
        ]
    },
    ..KindRules::NEW
};
