//! Feeds the authorizer with the roles and bindings that are stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use access::Authorizer;
use access::authorization::{GROUP, RbacKind};
use storage::Revision;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::registry::objects::ObjectAccess;
use crate::watch_cache::{Change, ResourceCache, WatchCache};

const RESOURCES: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// How long the answer to a write of a role or binding may wait for the authorizer. Feeding takes microseconds; a server
/// that is that far behind answers all the same.
const SETTLE_LIMIT: Duration = Duration::from_secs(3);

/// How far the authorizer has been fed, so that who has written a role can wait until it counts.
pub(crate) struct RoleFeed {
    /// By resource: up to which event.
    fed: HashMap<&'static str, (Arc<ResourceCache>, watch::Receiver<Revision>)>,
}

impl RoleFeed {
    /// Takes in what is there, then follows until `shutdown`.
    pub(super) fn start(
        authorizer: &Arc<Authorizer>,
        cache: &WatchCache,
        shutdown: &CancellationToken,
    ) -> Self {
        let mut fed = HashMap::new();
        for resource in RESOURCES {
            let (Some(cache), Some(kind)) = (cache.storage(GROUP, resource), RbacKind::of_resource(resource))
            else {
                continue;
            };
            load(authorizer, &cache);
            let (told, heard) = watch::channel(Revision::default());
            fed.insert(resource, (Arc::clone(&cache), heard));
            let (authorizer, shutdown) = (Arc::clone(authorizer), shutdown.clone());
            tokio::spawn(async move {
                shutdown.run_until_cancelled(follow(authorizer, cache, kind, told)).await;
            });
        }
        Self { fed }
    }

    /// Whether decisions hang on this resource.
    pub(crate) fn feeds_on(group: &str, resource: &str) -> bool {
        group == GROUP && RESOURCES.contains(&resource)
    }

    /// Returns when decisions see every role and binding whose write was acknowledged before the call, or when that takes
    /// too long.
    pub(crate) async fn settle(&self, objects: &ObjectAccess) {
        let settled = tokio::time::timeout(SETTLE_LIMIT, async {
            if objects.catch_up().await.is_err() {
                return;
            }
            for (cache, heard) in self.fed.values() {
                let newest = cache.newest();
                // The follower ends with its server; then nobody decides either.
                let _ = heard.clone().wait_for(|fed| *fed >= newest).await;
            }
        });
        if settled.await.is_err() {
            tracing::warn!("the authorizer is behind the stored roles; a change counts a moment later");
        }
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

async fn follow(
    authorizer: Arc<Authorizer>,
    cache: Arc<ResourceCache>,
    kind: RbacKind,
    told: watch::Sender<Revision>,
) {
    loop {
        let (revision, _) = cache.snapshot("", None);
        // Subscribing first and loading again after it leaves no gap; applying twice does no harm.
        let Some(mut subscription) = cache.subscribe(revision, Arc::new(|_| true)) else { continue };
        load(&authorizer, &cache);
        told.send_replace(revision);
        while let Ok(deliveries) = subscription.next().await {
            for delivery in deliveries {
                match delivery.change {
                    Change::Deleted => {
                        authorizer.remove(kind, delivery.object.namespace(), delivery.object.name())
                    }
                    Change::Added | Change::Modified => {
                        apply(&authorizer, &delivery.object.encoded.to_value())
                    }
                }
            }
            told.send_replace(subscription.cursor());
        }
    }
}
