//! Sources that the hub pulls: each is looked at when it changes, when somebody asks, and every so often; what is new becomes
//! the content of its profile, which goes through the fleet as any other change does.
//!
//! Never: removes a profile or its content because a source is gone, empty or not reached.

pub(crate) mod check;
mod due;
mod publish;
mod pull;
mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use api_client::{CacheOptions, ObjectCache};
use fleet_objects::ANNOTATION_SYNC;
use fleet_objects::source::Source;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kube::{Api, ResourceExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::service::Shared;
use due::{Last, Look};

/// Under which name profiles get their content.
pub(crate) const FIELD_MANAGER: &str = "fairlead-source";
/// Sources pulled at once: each may take a few children and some disk.
const TOGETHER: usize = 2;

/// `namespace/name` with the uid: one that was made anew is another.
type Key = (String, String, String);

/// A look that has ended, and what is to be remembered of it.
type Looked = (Key, Last);

/// Keeps profiles at their sources until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let cache: ObjectCache<Source> =
        ObjectCache::start(Api::all(shared.client.clone()), CacheOptions::new("sources"));
    let changed = Arc::new(Notify::new());
    let wake = Arc::clone(&changed);
    cache.on_change(move |_| wake.notify_one());
    if shutdown.run_until_cancelled(cache.has_synced()).await.is_none() {
        return;
    }
    pull::clean(&shared.data_dir).await;
    let mut last: BTreeMap<Key, Last> = BTreeMap::new();
    let mut busy: BTreeSet<Key> = BTreeSet::new();
    let mut under_way: FuturesUnordered<BoxFuture<'static, Looked>> = FuturesUnordered::new();
    loop {
        let sources = cache.list();
        let here: BTreeSet<Key> = sources.iter().map(|source| key(source)).collect();
        last.retain(|key, _| here.contains(key));
        let mut next: Option<Instant> = None;
        for source in sources {
            let key = key(&source);
            if busy.contains(&key) {
                continue;
            }
            match due::look(&source, last.get(&key), Instant::now()) {
                Look::Never => {}
                Look::At(at) => next = Some(next.map_or(at, |next| next.min(at))),
                // One that ends wakes this loop, and then it is the next one's turn.
                Look::Now if busy.len() >= TOGETHER => {}
                Look::Now => {
                    busy.insert(key.clone());
                    under_way.push(one(Arc::clone(&shared), cache.clone(), source, key).boxed());
                }
            }
        }
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed.notified() => {}
            () = due => {}
            Some((key, looked)) = under_way.next() => {
                busy.remove(&key);
                last.insert(key, looked);
            }
        }
    }
}

/// One look at one source. What went wrong is told in its status.
async fn one(shared: Arc<Shared>, cache: ObjectCache<Source>, source: Arc<Source>, key: Key) -> Looked {
    let pulled = pull::pull(&shared, &source).await;
    if let Err(failure) = &pulled {
        tracing::info!(source = %format!("{}/{}", key.0, key.1), reason = failure.reason, "{}", failure.message);
    }
    let good = pulled.is_ok();
    let written = publish::status(&shared, &cache, &source, pulled).await;
    if let Err(error) = &written {
        tracing::debug!(error = error as &dyn std::error::Error, "a source's status was not written");
    }
    let last = Last {
        at: Instant::now(),
        generation: source.metadata.generation,
        sync: source.annotations().get(ANNOTATION_SYNC).cloned(),
        good: good && written.is_ok(),
    };
    (key, last)
}

fn key(source: &Source) -> Key {
    let uid = source.metadata.uid.clone().unwrap_or_default();
    (source.namespace().unwrap_or_default(), source.name_any(), uid)
}
