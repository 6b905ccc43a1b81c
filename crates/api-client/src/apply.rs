//! Server-side apply and patches.

use std::fmt::Debug;

use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Applies `object` (which must carry `apiVersion` and `kind`) as `manager`. Fields the manager applied before and
/// leaves out now are removed; with `force`, fields that others own are taken over, else they are a conflict (409).
///
/// # Errors
/// As the server answers; [`crate::error::is_conflict`] for fields that another manager owns.
pub async fn apply<K>(
    api: &Api<K>,
    name: &str,
    manager: &str,
    force: bool,
    object: &(impl Serialize + Debug),
) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = PatchParams { force, field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Apply(object)).await
}

/// The same for the status subresource.
///
/// # Errors
/// As [`apply`].
pub async fn apply_status<K>(
    api: &Api<K>,
    name: &str,
    manager: &str,
    force: bool,
    object: &(impl Serialize + Debug),
) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = PatchParams { force, field_manager: Some(manager.to_owned()), ..PatchParams::default() };
    api.patch_status(name, &params, &Patch::Apply(object)).await
}

/// What a server-side apply would make of the object, without doing it.
///
/// # Errors
/// As [`apply`].
pub async fn apply_dry_run<K>(
    api: &Api<K>,
    name: &str,
    manager: &str,
    force: bool,
    object: &(impl Serialize + Debug),
) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = PatchParams {
        force,
        dry_run: true,
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    };
    api.patch(name, &params, &Patch::Apply(object)).await
}

/// JSON merge patch (RFC 7386). With `metadata.resourceVersion` in `patch` it fails with a conflict when the object
/// has changed; with `metadata.uid` when it is another object of the same name.
///
/// # Errors
/// As the server answers.
pub async fn merge<K>(api: &Api<K>, name: &str, manager: &str, patch: &Value) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    api.patch(name, &by(manager), &Patch::Merge(patch)).await
}

/// JSON merge patch of the status subresource; see [`merge`].
///
/// # Errors
/// As the server answers.
pub async fn merge_status<K>(api: &Api<K>, name: &str, manager: &str, patch: &Value) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    api.patch_status(name, &by(manager), &Patch::Merge(patch)).await
}

/// Strategic merge patch: built-in kinds only.
///
/// # Errors
/// As the server answers.
pub async fn strategic<K>(api: &Api<K>, name: &str, manager: &str, patch: &Value) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    api.patch(name, &by(manager), &Patch::Strategic(patch)).await
}

/// Strategic merge patch of the status subresource: built-in kinds only.
///
/// # Errors
/// As the server answers.
pub async fn strategic_status<K>(api: &Api<K>, name: &str, manager: &str, patch: &Value) -> kube::Result<K>
where
    K: Clone + DeserializeOwned + Debug,
{
    api.patch_status(name, &by(manager), &Patch::Strategic(patch)).await
}

/// Deletes exactly the object with `uid`; fails with a conflict when another one bears its name by now. Returns the
/// object when it still exists and only began to go (finalizers, grace).
///
/// # Errors
/// As the server answers; not found when it is gone already.
pub async fn delete_exactly<K>(
    api: &Api<K>,
    name: &str,
    uid: &str,
    propagation: PropagationPolicy,
) -> kube::Result<Option<K>>
where
    K: Clone + DeserializeOwned + Debug,
{
    let params = DeleteParams {
        propagation_policy: Some(propagation),
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    Ok(api.delete(name, &params).await?.left())
}

fn by(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() }
}
