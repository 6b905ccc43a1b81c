//! Feeds the authorizer with the roles and bindings that are stored.

use std::sync::Arc;

use access::Authorizer;
use access::authorization::{GROUP, RbacKind};
use tokio_util::sync::CancellationToken;

use crate::watch_cache::{Change, ResourceCache, WatchCache};

const RESOURCES: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// Takes in what is there, then follows until `shutdown`.
pub(super) fn feed(authorizer: Arc<Authorizer>, cache: &WatchCache, shutdown: &CancellationToken) {
    for resource in RESOURCES {
        let (Some(cache), Some(kind)) = (cache.storage(GROUP, resource), RbacKind::of_resource(resource))
        else {
            continue;
        };
        load(&authorizer, &cache);
        let (authorizer, shutdown) = (Arc::clone(&authorizer), shutdown.clone());
        tokio::spawn(async move {
            shutdown.run_until_cancelled(follow(authorizer, cache, kind)).await;
        });
    }
}

fn load(authorizer: &Authorizer, cache: &ResourceCache) {
    for object in cache.objects("", None) {
        apply(authorizer, &object.encoded.to_value());
    }
}

fn apply(authorizer: &Authorizer, object: &serde_json::Value) {
    if let Err(error) = authorizer.apply(object) {
        tracing::error!(%error, name = %object["metadata"]["name"], "a stored role or binding is damaged");
    }
}

async fn follow(authorizer: Arc<Authorizer>, cache: Arc<ResourceCache>, kind: RbacKind) {
    loop {
        let (revision, _) = cache.snapshot("", None);
        // Subscribing first and loading again after it leaves no gap; applying twice does no harm.
        let Some(mut subscription) = cache.subscribe(revision, Arc::new(|_| true)) else { continue };
        load(&authorizer, &cache);
        while let Ok(deliveries) = subscription.next().await {
            for delivery in deliveries {
                match delivery.change {
                    Change::Deleted => {
                        authorizer.remove(kind, &delivery.object.namespace, &delivery.object.name)
                    }
                    Change::Added | Change::Modified => {
                        apply(&authorizer, &delivery.object.encoded.to_value())
                    }
                }
            }
        }
    }
}
