//! The three patches over one deployment, and what they leave.

use api_machinery::patch::{json_patch, merge_patch, strategic_merge_patch};
use serde_json::{Value, json};

use super::objects::deployment;

/// The first byte tells nothing: each document is tried as every kind of patch.
pub(super) fn run(input: &[u8]) {
    let Ok(patch) = serde_json::from_slice::<Value>(input) else { return };
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "a", "labels": {"a": "b"}, "finalizers": ["a", "b"]},
        "spec": {"replicas": 1, "template": {"spec": {
            "containers": [{"name": "a", "image": "i", "ports": [{"containerPort": 1}]}, {"name": "b", "image": "j"}],
            "volumes": [{"name": "v", "emptyDir": {}}]}}}});
    let _ = json_patch(&object, &patch);
    if let Ok(once) = merge_patch(&object, &patch) {
        assert_eq!(merge_patch(&once, &patch).ok().as_ref(), Some(&once), "a merge patch twice is not once");
    }
    let _ = strategic_merge_patch(&object, &patch, deployment());
}
