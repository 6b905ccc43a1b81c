//! Fields of features that are off in 1.36: they are not stored, unless the object has them already.

use serde_json::Value;

use crate::json::{existing, given, list, list_mut, remove};

/// Drops them from a pod's or template's spec; `old` is the spec it replaces, or null (upstream's
/// `DropDisabledPodFields`).
pub fn drop_disabled(spec: &mut Value, old: &Value) {
    if given(old, "schedulingGroup").is_none() {
        remove(spec, "schedulingGroup");
    }
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list_mut(spec, kind) {
            if let Some(lifecycle) = existing(container, "lifecycle") {
                let dropped = remove(lifecycle, "stopSignal").is_some();
                if dropped && lifecycle.as_object().is_some_and(serde_json::Map::is_empty) {
                    remove(container, "lifecycle");
                }
            }
        }
    }
    for key in ["clusterTrustBundle", "podCertificate"] {
        let in_use = list(old, "volumes")
            .iter()
            .flat_map(|volume| list(&volume["projected"], "sources"))
            .any(|source| given(source, key).is_some());
        if in_use {
            continue;
        }
        for volume in list_mut(spec, "volumes") {
            let Some(projected) = existing(volume, "projected") else { continue };
            for source in list_mut(projected, "sources") {
                remove(source, key);
            }
        }
    }
}
