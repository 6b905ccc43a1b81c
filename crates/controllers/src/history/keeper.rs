//! Carries the plan out.

use api_client::{apply, error::is_already_exists};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{PostParams, PropagationPolicy};
use serde_json::json;

use super::plan::{Kept, Owner, Plan, plan};
use crate::{
    context::{BY_CONTROLLER, Context},
    error::{Doing, Error, Gone},
    objects::is_controlled_by,
};

/// Records the owner's template and forgets what is too old. `None` when the name for it is taken by something else:
/// the owner must count a collision and try again.
pub(crate) async fn keep(
    context: &Context,
    owner: &Owner<'_>,
    manager: &str,
    in_use: impl Fn(&str, &str) -> bool,
) -> Result<Option<Kept>, Error> {
    let uid = owner.metadata.uid.as_deref().unwrap_or_default();
    let Plan { kept, create, renumber, delete } =
        plan(owner, &context.revisions.by_index(BY_CONTROLLER, uid), in_use);
    let namespace = owner.metadata.namespace.as_deref().unwrap_or_default();
    let api = context.api::<ControllerRevision>(namespace);
    let subject = || format!("{namespace}/{}", kept.name);
    // On its way out it makes nothing any more that the garbage collector would have to find.
    if let Some(revision) = create.filter(|_| owner.metadata.deletion_timestamp.is_none()) {
        match api.create(&PostParams::default(), &revision).await {
            Ok(revision) => context.revisions.observe(&revision),
            Err(error) if api_client::error::is_namespace_terminating(&error) => {}
            Err(error) if is_already_exists(&error) => {
                let found =
                    api.get_opt(&kept.name).await.doing("reading the ControllerRevision", subject())?;
                let ours = found
                    .filter(|found| is_controlled_by(&found.metadata, uid) && found.data == revision.data);
                match ours {
                    Some(revision) => context.revisions.observe(&revision),
                    None => return Ok(None),
                }
            }
            Err(error) => return Err(error).doing("recording the ControllerRevision", subject()),
        }
    }
    if let Some((name, number)) = renumber {
        let written = apply::merge(&api, &name, manager, &json!({"revision": number})).await;
        if let Some(revision) =
            written.unless_gone().doing("renumbering the ControllerRevision", subject())?
        {
            context.revisions.observe(&revision);
        }
    }
    for revision in delete {
        let name = revision.metadata.name.as_deref().unwrap_or_default();
        let uid = revision.metadata.uid.as_deref().unwrap_or_default();
        apply::delete_exactly(&api, name, uid, PropagationPolicy::Background)
            .await
            .unless_gone()
            .doing("forgetting the ControllerRevision", format!("{namespace}/{name}"))?;
        context.revisions.observe_deleted(&revision);
    }
    Ok(Some(kept))
}
