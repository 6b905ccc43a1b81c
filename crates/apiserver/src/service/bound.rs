//! Whether what a token is bound to is still there: answered from the watch cache.

use std::sync::Arc;

use access::tokens::{BoundKind, BoundObjects};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use memchr::memmem;

use crate::registry::objects::ObjectAccess;
use crate::watch_cache::CachedObject;

/// How long tokens go on after the end of their object's deletion grace (upstream's `LegacyServiceAccountToken` leeway).
const LEEWAY: SignedDuration = SignedDuration::from_secs(60);

/// The server's own objects.
pub(super) struct StoredObjects(pub(super) Arc<ObjectAccess>);

#[async_trait]
impl BoundObjects for StoredObjects {
    async fn uid(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<String> {
        let (resource, namespace) = match kind {
            BoundKind::ServiceAccount => ("serviceaccounts", namespace),
            BoundKind::Pod => ("pods", namespace),
            BoundKind::Secret => ("secrets", namespace),
            BoundKind::Node => ("nodes", ""),
        };
        // A token may be used right after its account was written: read what is acknowledged.
        self.0.catch_up().await.ok()?;
        let object = self.0.cache.storage("", resource)?.get(namespace, name)?;
        (!is_long_gone(&object, Timestamp::now())).then(|| object.uid().to_owned())
    }
}

fn is_long_gone(object: &CachedObject, now: Timestamp) -> bool {
    // Each request with a token comes here: only what is on its way out is read.
    if memmem::find(object.encoded.stored(), b"\"deletionTimestamp\"").is_none() {
        return false;
    }
    let object = object.encoded.to_value();
    let end =
        object["metadata"]["deletionTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    end.is_some_and(|end| end + LEEWAY < now)
}
