//! Signed releases: what is written at a Profile is handed on with its Assignments. The hub only carries them; agents whose
//! owner pinned keys judge them.

use std::sync::Arc;

use fleet_objects::{ANNOTATION_SIGNATURES, Assignment, AssignmentState, Cluster, partition_namespace};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::Caches;
use crate::error::Error;
use crate::service::Shared;

/// Writes the signatures of its profile at an assignment that is about to be written.
pub(super) fn put(caches: &Caches, assignment: &mut Assignment) {
    let Some(wanted) = wanted(caches, assignment) else {
        if let Some(annotations) = &mut assignment.metadata.annotations {
            annotations.remove(ANNOTATION_SIGNATURES);
        }
        return;
    };
    assignment.annotations_mut().insert(ANNOTATION_SIGNATURES.to_owned(), wanted);
}

/// Brings the signatures at the other assignments of one partition up to date.
pub(super) async fn copy(
    shared: &Shared,
    caches: &Caches,
    cluster: &Cluster,
    existing: &[Arc<Assignment>],
) -> Result<(), Error> {
    let namespace = partition_namespace(&cluster.name_any());
    for assignment in existing {
        let wanted = wanted(caches, assignment);
        if assignment.annotations().get(ANNOTATION_SIGNATURES) == wanted.as_ref() {
            continue;
        }
        let name = assignment.name_any();
        let api: Api<Assignment> = Api::namespaced(shared.client.clone(), &namespace);
        let patch = json!({"metadata": {"annotations": {ANNOTATION_SIGNATURES: wanted}}});
        let failed = Error::api(format!("hand signatures on to assignment {name} of {}", cluster.name_any()));
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(written) => caches.assignments.observe(&written),
            // Removed in this very pass.
            Err(error) if api_client::error::is_not_found(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

fn wanted(caches: &Caches, assignment: &Assignment) -> Option<String> {
    let profile = &assignment.spec.profile;
    let present = assignment.spec.state == AssignmentState::Present;
    let profile = caches.profiles.find(&profile.namespace, &profile.name).filter(|_| present)?;
    profile.annotations().get(ANNOTATION_SIGNATURES).cloned()
}
