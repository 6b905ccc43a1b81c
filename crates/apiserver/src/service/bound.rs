//! Whether what a token is bound to is still there: answered from the watch cache.

use std::sync::Arc;

use access::tokens::{BoundKind, BoundObjects};
use async_trait::async_trait;

use crate::registry::objects::ObjectAccess;

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
        let cache = self.0.cache.storage("", resource)?;
        cache.get(namespace, name).map(|object| object.uid.clone())
    }
}
