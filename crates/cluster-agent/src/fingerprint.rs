//! What of an object is a matter of desired state: everything but its status and what the server alone writes. Pure.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// SHA-256 of what drift can be in.
pub(crate) type Fingerprint = [u8; 32];

/// Metadata that people and controllers set.
const METADATA: [&str; 4] = ["labels", "annotations", "finalizers", "ownerReferences"];

/// A digest of the parts of a live object in which drift can be. Equal digests: nothing to repair.
pub(crate) fn of(object: &Value) -> Fingerprint {
    let mut parts = serde_json::Map::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        match key.as_str() {
            "status" | "metadata" => {}
            _ => drop(parts.insert(key.clone(), value.clone())),
        }
    }
    for key in METADATA {
        if let Some(value) = object["metadata"].get(key) {
            parts.insert(format!("metadata.{key}"), value.clone());
        }
    }
    Sha256::digest(Value::Object(parts).to_string()).into()
}

/// Who else wrote to the object last, by its managed fields: a manager other than `own`, not counting status.
pub(crate) fn other_writer(object: &Value, own: &str) -> Option<String> {
    let fields = object["metadata"]["managedFields"].as_array()?;
    let others = fields
        .iter()
        .filter(|entry| entry["manager"] != own && entry["subresource"].as_str() != Some("status"));
    let newest = others.max_by_key(|entry| entry["time"].as_str().unwrap_or_default().to_owned())?;
    newest["manager"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn status_and_versions_are_no_drift() {
        let object = json!({"kind":"A","metadata":{"name":"x","labels":{"a":"b"},"resourceVersion":"1","managedFields":[]},"spec":{"a":1},"status":{"b":1}});
        let mut other = object.clone();
        other["status"]["b"] = json!(2);
        other["metadata"]["resourceVersion"] = json!("2");
        assert_eq!(of(&object), of(&other));
        other["metadata"]["labels"]["a"] = json!("c");
        assert_ne!(of(&object), of(&other));
    }

    #[test]
    fn the_newest_other_writer_is_named() {
        let object = json!({"metadata":{"managedFields":[
            {"manager":"fairlead/a","time":"2026-01-03T00:00:00Z"},
            {"manager":"kubectl-edit","time":"2026-01-02T00:00:00Z"},
            {"manager":"old","time":"2026-01-01T00:00:00Z"},
            {"manager":"controller","subresource":"status","time":"2026-01-09T00:00:00Z"}]}});
        assert_eq!(other_writer(&object, "fairlead/a").as_deref(), Some("kubectl-edit"));
    }
}
