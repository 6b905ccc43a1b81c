//! What stored CustomResourceDefinitions call for besides requests: names that were given back go to who waits for them,
//! definitions that another writer left without a status get one, and a definition on its way out takes its instances
//! with it (upstream's naming, establishing and finalizing controllers).

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api_machinery::custom_resource::{CLEANUP_FINALIZER, GROUP, RESOURCE, status};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use kube_objects::Status;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::handlers::create::seconds;
use crate::registry::objects::{ObjectAccess, Written, encode};
use crate::registry::strategy::Objects;
use crate::watch_cache::{CachedObject, Change, ResourceCache};

/// Deletions under way at once, so that the store commits many together.
const CONCURRENCY: usize = 64;
/// Before a failed step is tried again, and how often instances that somebody holds by a finalizer are looked at.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the stored definitions until `shutdown`.
pub(super) fn follow(objects: Arc<ObjectAccess>, shutdown: CancellationToken) {
    let Some(cache) = objects.cache.storage(GROUP, RESOURCE) else { return };
    let follower = Follower { objects, ending: Arc::default(), shutdown: shutdown.clone() };
    tokio::spawn(async move {
        shutdown.run_until_cancelled(follower.run(cache)).await;
    });
}

struct Follower {
    objects: Arc<ObjectAccess>,
    /// Definitions whose instances are being deleted.
    ending: Arc<Mutex<HashSet<String>>>,
    shutdown: CancellationToken,
}

impl Follower {
    async fn run(&self, cache: Arc<ResourceCache>) {
        loop {
            let (revision, all) = cache.snapshot("", None);
            let Some(mut subscription) = cache.subscribe(revision, Arc::new(|_| true)) else { continue };
            let mut pending: BTreeSet<String> = all.iter().map(|object| object.name().to_owned()).collect();
            loop {
                pending = self.settle(pending).await;
                let next = subscription.next();
                let next = if pending.is_empty() {
                    next.await
                } else {
                    match tokio::time::timeout(RETRY, next).await {
                        Ok(next) => next,
                        Err(_) => continue,
                    }
                };
                // Out of history: everything is looked at anew.
                let Ok(deliveries) = next else { break };
                for delivery in deliveries {
                    pending.insert(delivery.object.name().to_owned());
                    pending.extend(self.waiting(&delivery.object, delivery.change));
                }
            }
        }
    }

    /// Who may have waited for a name that `changed` has given back.
    fn waiting(&self, changed: &CachedObject, change: Change) -> Vec<String> {
        if change == Change::Added {
            return Vec::new();
        }
        let group = changed.name().split_once('.').map_or("", |(_, group)| group);
        let others = self.objects.kinds.definitions_of(group);
        others
            .iter()
            .filter(|other| !other.names_accepted && other.name != changed.name())
            .map(|other| other.name.clone())
            .collect()
    }

    /// Looks at each; answers those that have to be looked at again.
    async fn settle(&self, names: BTreeSet<String>) -> BTreeSet<String> {
        let mut again = BTreeSet::new();
        for name in names {
            if let Err(error) = self.look_at(&name).await {
                tracing::warn!(name, error = %error.message, "failed to settle a definition");
                again.insert(name);
            }
        }
        again
    }

    async fn look_at(&self, name: &str) -> Result<(), Status> {
        let Some(definition) = self.objects.get(GROUP, RESOURCE, "", name).await? else { return Ok(()) };
        if is_ending(&definition) {
            if self.ending.lock().insert(name.to_owned()) {
                self.end(name.to_owned());
            }
            return Ok(());
        }
        let group = definition["spec"]["group"].as_str().unwrap_or_default();
        let in_use = self.objects.names_in_use(group, name);
        if status::is_settled(&definition, &in_use) {
            return Ok(());
        }
        let change = |object: &mut Value| {
            status::accept(object, &in_use, &seconds(Timestamp::now()));
            Ok(true)
        };
        self.objects.modify(GROUP, RESOURCE, "", name, &change).await.map(drop)
    }

    /// Deletes the instances of a definition, then the definition, beside everything else.
    fn end(&self, name: String) {
        let (objects, ending, shutdown) =
            (Arc::clone(&self.objects), Arc::clone(&self.ending), self.shutdown.clone());
        tokio::spawn(async move {
            let ended = async {
                while let Err(error) = end(&objects, &name).await {
                    tracing::warn!(name, error = %error.message, "failed to end a definition");
                    tokio::time::sleep(RETRY).await;
                }
            };
            shutdown.run_until_cancelled(ended).await;
            ending.lock().remove(&name);
        });
    }
}

fn is_ending(definition: &Value) -> bool {
    let finalizers = definition["metadata"]["finalizers"].as_array();
    !definition["metadata"]["deletionTimestamp"].is_null()
        && finalizers.is_some_and(|list| list.iter().any(|each| each == CLEANUP_FINALIZER))
}

async fn end(objects: &ObjectAccess, name: &str) -> Result<(), Status> {
    let say = |reason: &'static str, message: &'static str, status: &'static str| {
        move |object: &mut Value| {
            let now = seconds(Timestamp::now());
            status::set_condition(object, "Terminating", status, reason, message, &now);
            Ok(true)
        }
    };
    let begun = say("InstanceDeletionInProgress", "CustomResource deletion is in progress", "True");
    if !objects.modify(GROUP, RESOURCE, "", name, &begun).await? {
        return Ok(());
    }
    let established = objects.kinds.definition(name).filter(|definition| definition.established);
    let done = match established {
        Some(definition) => {
            let cache = objects.cache.storage(&definition.group, &definition.plural);
            if let Some(cache) = cache {
                delete_all(objects, &cache).await?;
            }
            say("InstanceDeletionCompleted", "removed all instances", "False")
        }
        None => say("NeverEstablished", "resource was never established", "False"),
    };
    release(objects, name, &done).await
}

/// Deletes every object of a storage and waits until the last has gone. One that somebody holds by a finalizer is
/// marked, and waited for.
async fn delete_all(objects: &ObjectAccess, cache: &Arc<ResourceCache>) -> Result<(), Status> {
    loop {
        objects.catch_up().await?;
        let left = cache.objects("", None);
        if left.is_empty() {
            return Ok(());
        }
        futures::stream::iter(left)
            .map(|object| delete_one(objects, cache, object))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<Vec<()>>()
            .await?;
        objects.catch_up().await?;
        if cache.len() > 0 {
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn delete_one(
    objects: &ObjectAccess,
    cache: &ResourceCache,
    object: Arc<CachedObject>,
) -> Result<(), Status> {
    let mut value = object.encoded.to_value();
    let place =
        if object.namespace().is_empty() { String::new() } else { format!("{}/", object.namespace()) };
    let key = format!("{}{place}{}", cache.prefix(), object.name());
    let metadata = &mut value["metadata"];
    let held = metadata["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    if held && !metadata["deletionTimestamp"].is_null() {
        return Ok(());
    }
    // A write that somebody else was faster with is looked at in the next round.
    if held {
        metadata["deletionTimestamp"] = json!(seconds(Timestamp::now()));
        metadata["deletionGracePeriodSeconds"] = json!(0);
        objects.replace(key, object.encoded.revision(), encode(&value)).await?;
    } else {
        objects.remove(key, object.encoded.revision()).await?;
    }
    Ok(())
}

/// Takes the finalizer off; with the last one the definition goes.
async fn release(
    objects: &ObjectAccess,
    name: &str,
    done: &(dyn Fn(&mut Value) -> Result<bool, Status> + Send + Sync),
) -> Result<(), Status> {
    let Some(resource) = objects.kinds.catalogue().stored(GROUP, RESOURCE).cloned() else { return Ok(()) };
    loop {
        let Some(current) = objects.current(&resource, "", name).await? else { return Ok(()) };
        let mut value = current.encoded.to_value();
        done(&mut value)?;
        let mut left = Vec::new();
        if let Some(list) = value["metadata"]["finalizers"].as_array() {
            left.extend(list.iter().filter(|each| *each != CLEANUP_FINALIZER).cloned());
        }
        let (key, revision) = (ObjectAccess::key(&resource, "", name), current.encoded.revision());
        let written = if left.is_empty() {
            objects.remove(key, revision).await?
        } else {
            value["metadata"]["finalizers"] = Value::Array(left);
            objects.replace(key, revision, encode(&value)).await?
        };
        if matches!(written, Written::At(_)) {
            return Ok(());
        }
    }
}
