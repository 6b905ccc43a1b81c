//! Signed releases: what is written at a Profile is handed on with its Assignments. The hub only carries them; agents whose
//! owner pinned keys judge them.

use std::sync::Arc;

use fleet_objects::{
    ANNOTATION_SIGNATURES, Assignment, AssignmentSpec, AssignmentState, Cluster, partition_namespace,
};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::Caches;
use super::known::KnownAssignment;
use crate::error::Error;
use crate::service::Shared;

/// Writes the signatures of its profile at an assignment that is about to be made.
pub(super) fn put(caches: &Caches, assignment: &mut Assignment) {
    if let Some(wanted) = wanted(caches, &assignment.spec) {
        assignment.annotations_mut().insert(ANNOTATION_SIGNATURES.to_owned(), wanted);
    }
}

/// The step of a JSON patch that puts the signatures at an assignment that will say `spec`; `None`: they are there.
pub(super) fn step(caches: &Caches, assignment: &KnownAssignment, spec: &AssignmentSpec) -> Option<Value> {
    step_to(wanted(caches, spec), assignment)
}

fn step_to(wanted: Option<String>, assignment: &KnownAssignment) -> Option<Value> {
    let path = format!("/metadata/annotations/{}", ANNOTATION_SIGNATURES.replace('/', "~1"));
    match (wanted, assignment.signatures.as_deref()) {
        (Some(wanted), Some(known)) if wanted == known => None,
        (Some(wanted), _) if assignment.is_annotated => {
            Some(json!({"op": "add", "path": path, "value": wanted}))
        }
        (Some(wanted), _) => {
            let annotations = json!({ANNOTATION_SIGNATURES: wanted});
            Some(json!({"op": "add", "path": "/metadata/annotations", "value": annotations}))
        }
        (None, Some(_)) => Some(json!({"op": "remove", "path": path})),
        (None, None) => None,
    }
}

/// Brings the signatures at the other assignments of one partition up to date.
pub(super) async fn copy(
    shared: &Shared,
    caches: &Caches,
    cluster: &Cluster,
    existing: &[Arc<KnownAssignment>],
) -> Result<(), Error> {
    let namespace = partition_namespace(&cluster.name_any());
    for assignment in existing {
        let wanted = wanted(caches, &assignment.spec);
        if assignment.signatures.as_deref() == wanted.as_deref() {
            continue;
        }
        let name = &assignment.name;
        let api: Api<Assignment> = Api::namespaced(shared.client.clone(), &namespace);
        let patch = json!({"metadata": {"annotations": {ANNOTATION_SIGNATURES: wanted}}});
        let failed = Error::api(format!("hand signatures on to assignment {name} of {}", cluster.name_any()));
        match api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(written) => caches.assignments.observe(&written.into()),
            // Removed in this very pass.
            Err(error) if api_client::error::is_not_found(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn wanted(caches: &Caches, spec: &AssignmentSpec) -> Option<String> {
    let profile = &spec.profile;
    let present = spec.state == AssignmentState::Present;
    let profile = caches.profiles.find(&profile.namespace, &profile.name).filter(|_| present)?;
    profile.annotations().get(ANNOTATION_SIGNATURES).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of the annotations when the signatures are to be `wanted`.
    fn patched(annotations: Value, wanted: Option<&str>) -> Value {
        let mut object = json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Assignment",
            "metadata": {"namespace": "cluster-dev", "name": "default.app"},
            "spec": {"profile": {"namespace": "default", "name": "app"}, "generation": 1, "hubEpoch": "e", "state": "Present"},
        });
        if !annotations.is_null() {
            object["metadata"]["annotations"] = annotations;
        }
        let known: Assignment = serde_json::from_value(object.clone()).expect("an assignment");
        let step = step_to(wanted.map(str::to_owned), &known.into());
        let patch: json_patch::Patch =
            serde_json::from_value(Value::Array(step.into_iter().collect())).expect("a patch");
        json_patch::patch(&mut object, &patch).expect("it can be applied");
        object["metadata"]["annotations"].take()
    }

    #[test]
    fn signatures_come_change_and_go_and_what_people_wrote_stays() {
        let signed = |text: &str| json!({ANNOTATION_SIGNATURES: text});
        assert_eq!(patched(Value::Null, Some("a")), signed("a"));
        assert_eq!(patched(json!({}), Some("a")), signed("a"));
        let own = json!({"own": "1"});
        assert_eq!(patched(own.clone(), Some("a")), json!({"own": "1", ANNOTATION_SIGNATURES: "a"}));
        assert_eq!(patched(signed("a"), Some("b")), signed("b"));
        assert_eq!(patched(signed("a"), Some("a")), signed("a"));
        assert_eq!(patched(signed("a"), None), json!({}));
        assert_eq!(patched(own.clone(), None), own);
        assert_eq!(patched(Value::Null, None), Value::Null);
    }
}
