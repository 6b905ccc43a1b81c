//! Which Secrets there are, and in which version; nothing of what they say is kept.

use agent_protocol::TOKEN_SECRET_TYPE;
use api_client::{CacheOptions, ObjectCache};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::core::PartialObjectMeta;

/// Names, uids and versions.
pub(crate) type KnownSecrets = ObjectCache<PartialObjectMeta<Secret>>;

/// Follows those that `api` shows, except the tokens that clusters join with.
pub(crate) fn follow(api: Api<PartialObjectMeta<Secret>>, name: &str) -> KnownSecrets {
    let options = CacheOptions::new(name).fields(format!("type!={TOKEN_SECRET_TYPE}"));
    ObjectCache::start(api, options.strip(bare))
}

fn bare(secret: &mut PartialObjectMeta<Secret>) {
    secret.metadata.annotations = None;
    secret.metadata.labels = None;
    secret.metadata.owner_references = None;
}
