//! Follows the server and keeps the store up to date.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use foundation::{backoff::Backoff, random::SystemRandom};
use futures::StreamExt;
use kube::runtime::watcher::{self, Config, Event};

use super::{CacheOptions, Cached, Change, Inner, ObjectKey, Source, tell};

/// How the cache comes back after the server failed or went away.
const RETRY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(20));
/// Pages of a list where the server doesn't stream lists.
const PAGE: u32 = 500;

/// Runs until the cache is dropped.
pub(super) async fn follow<K: Cached>(
    inner: Weak<Inner<K>>,
    source: impl Source<K>,
    options: CacheOptions<K>,
) {
    let mut streaming = true;
    let mut failures = 0;
    loop {
        let outcome = follow_once(&inner, &source, &options, streaming, &mut failures).await;
        let Some(inner) = inner.upgrade() else { return };
        match outcome {
            Ended::Dropped => return,
            Ended::NoStreaming(why) => {
                tracing::debug!(
                    cache = options.name,
                    why,
                    "the server doesn't stream lists; listing instead"
                );
                streaming = false;
                continue;
            }
            Ended::Failed(why) => {
                failures += 1;
                tracing::debug!(
                    cache = options.name,
                    failures,
                    why,
                    "following the server failed; trying again"
                );
                *inner.last_error.lock() = Some(why);
            }
        }
        drop(inner);
        tokio::time::sleep(RETRY.delay(failures, &SystemRandom)).await;
    }
}

enum Ended {
    Dropped,
    NoStreaming(String),
    Failed(String),
}

async fn follow_once<K: Cached>(
    inner: &Weak<Inner<K>>,
    source: &impl Source<K>,
    options: &CacheOptions<K>,
    streaming: bool,
    failures: &mut u32,
) -> Ended {
    let mut config = Config { page_size: Some(PAGE), ..Config::default() };
    config.label_selector.clone_from(&options.label_selector);
    config.field_selector.clone_from(&options.field_selector);
    if streaming {
        config = config.streaming_lists();
    }
    let mut events = source.watch(config);
    let mut listed: Option<HashSet<ObjectKey>> = None;
    let mut initial = true;
    loop {
        // Servers before 1.27 ignore the request for a streaming list: they send the objects and never say that these
        // are all.
        let event = if initial && streaming {
            match tokio::time::timeout(options.streaming_patience, events.next()).await {
                Ok(event) => event,
                Err(_) => {
                    return Ended::NoStreaming("no end of the initial objects was announced".to_owned());
                }
            }
        } else {
            events.next().await
        };
        let Some(inner) = inner.upgrade() else { return Ended::Dropped };
        match event {
            None => return Ended::Failed("the watch ended".to_owned()),
            Some(Err(error)) if initial && streaming && refuses_streaming(&error) => {
                return Ended::NoStreaming(error.to_string());
            }
            Some(Err(error)) if initial => return Ended::Failed(error.to_string()),
            Some(Err(error)) => {
                // The watcher goes on by itself, from where it was or with a relist.
                *failures += 1;
                *inner.last_error.lock() = Some(error.to_string());
                drop(inner);
                tokio::time::sleep(RETRY.delay(*failures, &SystemRandom)).await;
                continue;
            }
            Some(Ok(Event::Init)) => listed = Some(HashSet::new()),
            Some(Ok(Event::InitApply(object))) => {
                let key = object.object_key();
                inner.apply(object, false);
                listed.get_or_insert_default().insert(key);
            }
            Some(Ok(Event::InitDone)) => {
                relisted(&inner, source, &listed.take().unwrap_or_default()).await;
                initial = false;
                inner.synced.send_replace(true);
            }
            Some(Ok(Event::Apply(object))) => inner.apply(object, false),
            Some(Ok(Event::Delete(object))) => inner.remove(&object, false),
        }
        if *failures > 0 && listed.is_none() {
            *failures = 0;
            *inner.last_error.lock() = None;
        }
        if inner.store.read().len() > options.max_objects {
            drop_everything(&inner);
            return Ended::Failed(format!("more than {} objects: the cache gave up", options.max_objects));
        }
    }
}

fn refuses_streaming(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => {
            matches!(status.code, 400 | 405 | 415 | 422)
        }
        watcher::Error::WatchError(status) => matches!(status.code, 400 | 422),
        _ => false,
    }
}

/// Takes out what the finished list lacks.
async fn relisted<K: Cached>(inner: &Arc<Inner<K>>, source: &impl Source<K>, listed: &HashSet<ObjectKey>) {
    let (gone, doubtful) = inner.store.read().absent_from(listed);
    for key in gone {
        take_out(inner, &key);
    }
    for key in doubtful {
        match source.read(&key).await {
            Ok(Some(object)) => inner.apply(object, false),
            Ok(None) => take_out(inner, &key),
            // It stays for now; its next change or the next relist settles it.
            Err(error) => tracing::debug!(%key, %error, "could not tell whether the object still exists"),
        }
    }
    inner.store.write().relisted();
}

fn take_out<K: Cached>(inner: &Inner<K>, key: &ObjectKey) {
    let present = inner.store.read().get(key);
    if let Some(object) = present {
        inner.remove(&object, false);
    }
}

fn drop_everything<K: Cached>(inner: &Inner<K>) {
    let listeners = inner.listeners.lock();
    let objects = inner.store.read().list();
    for object in objects {
        let key = object.object_key();
        if let Some(old) = inner.store.write().remove(&key, &object, false) {
            tell(&listeners, Change { key: &key, old: Some(&old), new: None });
        }
    }
}
