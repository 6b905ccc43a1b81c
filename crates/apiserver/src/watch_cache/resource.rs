//! The objects of one storage and their recent history.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::RwLock;
use serde_json::Value;
use storage::mvcc::history_allowance;
use storage::{KeyValue, Revision};
use tokio::sync::watch;

use super::pace::{Pace, Wake};
use super::pieces::{self, Pieces};
use super::subscription::{Delivery, Filter, Subscription};
use super::{CachedEvent, CachedObject};
use crate::catalogue::Resource;

/// How much history a storage keeps for watchers that come back or are slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistoryBounds {
    /// Events younger than this are kept while the other bounds allow (upstream keeps at least 75 s).
    pub(crate) age: Duration,
    /// Never more events than this.
    pub(crate) events: usize,
    /// So many bytes of objects that only history keeps alive, and more where many live ([`history_allowance`]).
    pub(crate) bytes: usize,
}

impl Default for HistoryBounds {
    fn default() -> Self {
        Self { age: Duration::from_secs(90), events: 32_768, bytes: 16 << 20 }
    }
}

/// Events newer than this many keep their encoded frames: watchers that keep up are within a few of the newest.
const FRAMED_EVENTS: usize = 64;

/// About how many bytes of objects a watcher is handed at once: thousands may hold theirs while their clients do not read.
const BATCH_BYTES: usize = 64 << 10;

/// Whether an object is wanted.
pub(crate) type Wanted<'a> = Box<dyn Fn(&CachedObject) -> bool + Send + Sync + 'a>;

/// Which objects a list wants.
pub(crate) struct Scope<'a> {
    /// "" for all.
    pub(crate) namespace: &'a str,
    /// The first key within the scope that counts; "" for the beginning.
    pub(crate) start: &'a str,
    /// `None`: all.
    pub(crate) limit: Option<usize>,
    /// `None`: every object.
    pub(crate) wanted: Option<Wanted<'a>>,
}

/// What a scope showed.
pub(crate) struct CachedPage {
    /// The newest event that is shown.
    pub(crate) newest: Revision,
    /// In key order.
    pub(crate) objects: Vec<Arc<CachedObject>>,
    /// How many more there are, counted only where every object is wanted.
    pub(crate) rest: usize,
}

/// The objects and recent events of one storage.
#[derive(Debug)]
pub(crate) struct ResourceCache {
    prefix: String,
    resource: ArcSwap<Resource>,
    bounds: HistoryBounds,
    state: RwLock<State>,
    /// What subscribers have been told there is; what [`Pace`] puts off is not yet.
    newest: watch::Sender<Progress>,
    pace: Pace,
    pieces: Pieces,
    /// Events told to subscribers.
    told: AtomicU64,
}

/// Which state of a cache something was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheVersion(Progress);

/// What subscribers wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Revision of the newest event.
    pub(super) revision: Revision,
    /// Counts complete reloads: history before one is gone.
    pub(super) reloads: u64,
}

#[derive(Debug, Default)]
struct State {
    /// By key behind the storage's prefix: `NAMESPACE/NAME` or `NAME`.
    objects: BTreeMap<String, Arc<CachedObject>>,
    history: VecDeque<(Instant, Arc<CachedEvent>)>,
    history_bytes: usize,
    /// Of the objects.
    live_bytes: usize,
    /// Every event after this revision is in `history`.
    floor: Revision,
    /// When everything was listed last: what happened up to then is known already.
    loaded: Revision,
    progress: Progress,
}

impl State {
    /// Takes over all objects.
    fn hold(&mut self, objects: BTreeMap<String, Arc<CachedObject>>) {
        self.live_bytes = objects.values().map(|object| object.encoded.len()).sum();
        self.objects = objects;
    }
}

impl ResourceCache {
    pub(super) fn new(prefix: String, resource: Arc<Resource>, bounds: HistoryBounds) -> Self {
        let (newest, _) = watch::channel(Progress::default());
        Self {
            prefix,
            resource: ArcSwap::new(resource),
            bounds,
            state: RwLock::default(),
            newest,
            pace: Pace::default(),
            pieces: Pieces::default(),
            told: AtomicU64::new(0),
        }
    }

    /// The storage's key prefix.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// One object; `namespace` is "" for a cluster-scoped one.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<CachedObject>> {
        let state = self.state.read();
        if namespace.is_empty() {
            return state.objects.get(name).cloned();
        }
        state.objects.get(&format!("{namespace}/{name}")).cloned()
    }

    /// The objects of a namespace ("" for all) in key order, from behind `after` (a key behind the prefix) on.
    pub(crate) fn objects(&self, namespace: &str, after: Option<&str>) -> Vec<Arc<CachedObject>> {
        let state = self.state.read();
        let scope = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let start = match after {
            Some(after) if after >= scope.as_str() => Bound::Excluded(after.to_owned()),
            _ => Bound::Included(scope.clone()),
        };
        let from = state.objects.range((start, Bound::Unbounded));
        from.take_while(|(key, _)| key.starts_with(&scope)).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// One object as a page of its own.
    pub(crate) fn single(&self, namespace: &str, name: &str) -> CachedPage {
        let newest = self.state.read().progress.revision;
        let objects: Vec<_> = self.get(namespace, name).into_iter().collect();
        let shown = objects.iter().map(|object| object.encoded.revision()).max().unwrap_or_default();
        CachedPage { newest: newest.max(shown), objects, rest: 0 }
    }

    /// What a scope shows now. With a limit at most one object more than it, which says that there is a next page; the rest
    /// is only counted.
    pub(crate) fn page(&self, scope: &Scope<'_>) -> CachedPage {
        let state = self.state.read();
        let prefix = if scope.namespace.is_empty() { String::new() } else { format!("{}/", scope.namespace) };
        let from = format!("{prefix}{}", scope.start);
        let most = scope.limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
        let mut inside = state
            .objects
            .range::<str, _>((Bound::Included(from.as_str()), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&prefix));
        let mut objects = Vec::new();
        for (_, object) in inside.by_ref() {
            if scope.wanted.as_ref().is_none_or(|wanted| wanted(object)) {
                objects.push(Arc::clone(object));
                if objects.len() >= most {
                    break;
                }
            }
        }
        let rest = if scope.limit.is_some() && scope.wanted.is_none() { inside.count() } else { 0 };
        CachedPage { newest: state.progress.revision, objects, rest }
    }

    /// [`Self::objects`] with the revision of the newest event they show.
    pub(crate) fn snapshot(
        &self,
        namespace: &str,
        after: Option<&str>,
    ) -> (Revision, Vec<Arc<CachedObject>>) {
        // Taken before: what is shown is then at most newer, and the list says so by its newest object.
        let before = self.state.read().progress.revision;
        let objects = self.objects(namespace, after);
        let newest = objects.iter().map(|object| object.encoded.revision()).max().unwrap_or_default();
        (before.max(newest), objects)
    }

    /// Changes in plain JSON in one buffer, which a crowd shares.
    pub(super) fn piece(&self, deliveries: &[Delivery]) -> Bytes {
        if self.newest.receiver_count() < pieces::CROWD {
            return pieces::written(deliveries);
        }
        self.pieces.of(deliveries)
    }

    /// Counts events that a subscriber was told.
    pub(super) fn tell(&self, events: usize) {
        self.told.fetch_add(events as u64, Ordering::Relaxed);
    }

    /// How many events subscribers were told.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// The revision of the newest event.
    pub(crate) fn newest(&self) -> Revision {
        self.state.read().progress.revision
    }

    /// Differs after every change.
    pub(crate) fn version_now(&self) -> CacheVersion {
        CacheVersion(self.state.read().progress)
    }

    /// Every event after this revision is still known.
    pub(crate) fn floor(&self) -> Revision {
        self.state.read().floor
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// A stored version as an object: the cached one when it is the same version, which costs nothing.
    pub(crate) fn version(&self, kv: &KeyValue) -> Option<Arc<CachedObject>> {
        let key = std::str::from_utf8(&kv.key).ok()?.strip_prefix(&self.prefix)?;
        if let Some(current) = self.state.read().objects.get(key)
            && current.encoded.revision() == kv.mod_revision
        {
            return Some(Arc::clone(current));
        }
        CachedObject::of(&self.resource.load(), kv).map(Arc::new)
    }

    /// Watches from behind `revision`. A revision out of history answers `None`: list again (410).
    pub(crate) fn subscribe(self: &Arc<Self>, revision: Revision, filter: Filter) -> Option<Subscription> {
        let state = self.state.read();
        if revision < state.floor {
            return None;
        }
        Some(Subscription::new(
            Arc::clone(self),
            revision,
            state.progress.reloads,
            self.newest.subscribe(),
            filter,
        ))
    }

    /// Whether something happened behind `cursor`; `None` when that place in history is gone.
    pub(super) fn is_behind(&self, cursor: Revision, reloads: u64) -> Option<bool> {
        self.events_after(cursor, Revision(u64::MAX), reloads, 1).map(|events| !events.is_empty())
    }

    /// The events behind `cursor` up to a revision, about `limit` and about [`BATCH_BYTES`] (a revision is never split);
    /// `None` when some of them are gone.
    pub(super) fn events_after(
        &self,
        cursor: Revision,
        up_to: Revision,
        reloads: u64,
        limit: usize,
    ) -> Option<Vec<Arc<CachedEvent>>> {
        let state = self.state.read();
        if cursor < state.floor || reloads != state.progress.reloads {
            return None;
        }
        let from = state.history.partition_point(|(_, event)| event.revision <= cursor);
        let mut events: Vec<Arc<CachedEvent>> = Vec::new();
        let mut bytes = 0;
        for (_, event) in state.history.range(from..) {
            let whole = events.last().is_none_or(|last| last.revision != event.revision);
            let enough = events.len() >= limit || bytes >= BATCH_BYTES;
            if event.revision > up_to || (enough && whole) {
                break;
            }
            bytes += event.object.encoded.len();
            events.push(Arc::clone(event));
        }
        Some(events)
    }

    /// Takes over a whole listing; running watchers are ended, for what happened between is unknown.
    pub(super) fn replace(&self, revision: Revision, listed: Vec<(&str, &KeyValue)>) {
        let mut objects = BTreeMap::new();
        for (key, kv) in listed {
            match CachedObject::of(&self.resource.load(), kv) {
                Some(object) => drop(objects.insert(key.to_owned(), Arc::new(object))),
                None => self.report_damage(key),
            }
        }
        let mut state = self.state.write();
        state.hold(objects);
        state.history.clear();
        state.history_bytes = 0;
        state.floor = revision;
        state.loaded = revision;
        state.progress = Progress { revision, reloads: state.progress.reloads + 1 };
        drop(state);
        self.wake();
    }

    /// From now on objects are indexed as `resource` says.
    pub(super) fn set_resource(&self, resource: Arc<Resource>) {
        self.resource.store(resource);
    }

    /// Takes over the same objects in a new form: same revisions, nothing to tell, history stays.
    pub(super) fn refresh(&self, listed: Vec<(&str, &KeyValue)>) {
        let resource = self.resource.load();
        let read = |(key, kv): (&str, &KeyValue)| {
            let object = CachedObject::of(&resource, kv);
            object.map(|object| (key.to_owned(), Arc::new(object)))
        };
        let objects = listed.into_iter().filter_map(read).collect();
        self.state.write().hold(objects);
    }

    /// What [`CachedObject::of`] would read from `bytes`, from the tree that they were written from.
    pub(super) fn index(&self, bytes: &Bytes, value: &Value) -> Option<CachedObject> {
        CachedObject::of_tree(&self.resource.load(), bytes, value)
    }

    /// Takes in a new version; `own` is it when a writer of this process has left it.
    pub(super) fn put(&self, key: &str, kv: &KeyValue, own: Option<CachedObject>) {
        #[cfg(debug_assertions)]
        if let Some(own) = &own {
            let read = CachedObject::of(&self.resource.load(), kv);
            assert!(
                read.is_some_and(|read| read.shows_the_same(own)),
                "what was handed over for {key} is not what was stored"
            );
        }
        let Some(object) = own.or_else(|| CachedObject::of(&self.resource.load(), kv)) else {
            return self.report_damage(key);
        };
        let object = Arc::new(object);
        let mut state = self.state.write();
        if kv.mod_revision <= state.loaded {
            return;
        }
        let previous = state.objects.insert(key.to_owned(), Arc::clone(&object));
        let superseded = previous.as_ref().map_or(0, |previous| previous.encoded.len());
        state.live_bytes = (state.live_bytes + object.encoded.len()).saturating_sub(superseded);
        self.record(&mut state, CachedEvent::new(kv.mod_revision, object, previous, false));
    }

    pub(super) fn delete(&self, key: &str, revision: Revision) {
        let mut state = self.state.write();
        if revision <= state.loaded {
            return;
        }
        let Some(last) = state.objects.remove(key) else { return };
        state.live_bytes = state.live_bytes.saturating_sub(last.encoded.len());
        let gone = Arc::new(last.at(revision));
        self.record(&mut state, CachedEvent::new(revision, gone, Some(last), true));
    }

    /// Tells subscribers, many of them at their pace; called once per batch, so that they are not woken for half a revision.
    /// Must be called on a runtime.
    pub(super) fn publish(self: &Arc<Self>) {
        match self.pace.next(tokio::time::Instant::now(), self.newest.receiver_count()) {
            Wake::Now => self.wake(),
            Wake::Awaited => {}
            Wake::At(due) => {
                let own = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep_until(due).await;
                    own.pace.begin(tokio::time::Instant::now());
                    own.wake();
                });
            }
        }
    }

    fn wake(&self) {
        let progress = self.state.read().progress;
        self.newest.send_if_modified(|told| std::mem::replace(told, progress) != progress);
    }

    fn record(&self, state: &mut State, event: CachedEvent) {
        let now = Instant::now();
        state.progress.revision = event.revision;
        state.history_bytes += event.cost_bytes();
        state.history.push_back((now, Arc::new(event)));
        if let Some(index) = state.history.len().checked_sub(FRAMED_EVENTS + 1)
            && let Some((_, older)) = state.history.get(index)
        {
            older.forget_frames();
        }
        self.trim(state, now);
    }

    /// Lets go of history that is older than wanted, and of the room that it took: what happened in a burst would else be held
    /// until something happens again.
    pub(super) fn forget_old(&self) {
        let now = Instant::now();
        let is_old = |state: &State| {
            state.history.front().is_some_and(|(since, _)| now.duration_since(*since) > self.bounds.age)
        };
        if !is_old(&self.state.read()) {
            return;
        }
        let mut state = self.state.write();
        self.trim(&mut state, now);
        state.history.shrink_to_fit();
    }

    fn trim(&self, state: &mut State, now: Instant) {
        let allowed = history_allowance(self.bounds.bytes, state.live_bytes);
        while let Some((since, oldest)) = state.history.front() {
            let too_much = state.history.len() > self.bounds.events || state.history_bytes > allowed;
            let too_old = now.duration_since(*since) > self.bounds.age;
            // One revision may hold several events; the floor may only rise past a whole one, which `floor =
            // revision` states: events after it are all here.
            if !too_much && !too_old {
                break;
            }
            state.history_bytes = state.history_bytes.saturating_sub(oldest.cost_bytes());
            state.floor = oldest.revision;
            state.history.pop_front();
        }
    }

    fn report_damage(&self, key: &str) {
        tracing::error!(
            key = format!("{}{key}", self.prefix),
            "a stored object is no JSON object; it is not served"
        );
    }
}
