//! One round: everything that policies are about is listed, judged and then followed, until what is judged by changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api_client::dynamic::Kind;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::decide::{Key, MAX_INVENTORY, Results, Source, kinds};
use super::known::{Known, MAX_PARAMS};
use super::watch::{Event, follow};
use super::{Audit, GATHER, PATIENCE, Policies, ServedKind, TELL_EVERY};

/// Events that may wait to be judged; watches wait beyond that. Each is one object, some 10 kB.
const QUEUE: usize = 128;
/// Between the begins of two rounds: a cluster in turmoil is not listed again and again.
const MIN_ROUND: Duration = Duration::from_secs(10);
/// The same where other objects changed that policies look at: those may be many, and change often.
const MIN_INVENTORY_ROUND: Duration = Duration::from_secs(30);
/// A round is not longer than this: what no watch told is seen by then.
const MAX_ROUND: Duration = Duration::from_secs(30 * 60);
/// How often it is asked which kinds the cluster serves.
const DISCOVER: Duration = Duration::from_secs(120);

/// Whose event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Object(usize),
    Param(usize),
    Inventory(usize),
}

/// Where a round stands.
struct Standing {
    policies: std::sync::Arc<dyn Policies>,
    kinds: Vec<ServedKind>,
    beyond: usize,
    params: Vec<ServedKind>,
    /// Kinds whose objects policies look at besides the one that is judged, and these.
    inventory: Vec<ServedKind>,
    others: BTreeMap<(usize, Key), Value>,
    known: Known,
    results: Results,
    listing: BTreeMap<usize, BTreeSet<Key>>,
    /// Not listed yet in this round.
    pending: BTreeSet<Tag>,
    failed: BTreeMap<Tag, String>,
    /// When the next round is due, once something asked for it.
    due: Option<Instant>,
    began: Instant,
}

impl Standing {
    /// Something of what is judged by is different.
    fn outdated(&mut self) {
        self.outdated_after(MIN_ROUND);
    }

    fn outdated_after(&mut self, least: Duration) {
        let soonest = (Instant::now() + GATHER).max(self.began + least);
        self.due = Some(self.due.map_or(soonest, |due| due.min(soonest)));
    }

    fn take(&mut self, tag: Tag, event: Event) {
        match tag {
            Tag::Object(kind) => self.take_object(kind, event),
            Tag::Param(kind) => self.take_param(kind, event),
            Tag::Inventory(kind) => self.take_other(kind, event),
        }
    }

    /// An object that policies look at. What they are shown stays for the round.
    fn take_other(&mut self, kind: usize, event: Event) {
        let tag = Tag::Inventory(kind);
        let listed = !self.pending.contains(&tag);
        let changed = match event {
            Event::Began => false,
            Event::Seen(key, object) => {
                let place = (kind, key);
                if self.others.len() >= MAX_INVENTORY && !self.others.contains_key(&place) {
                    let why =
                        format!("policies look at more than {MAX_INVENTORY} objects; they are shown no more");
                    self.failed.insert(tag, why);
                    return;
                }
                let object = essential(*object);
                let same = self.others.get(&place).is_some_and(|known| is_like(known, &object));
                self.others.insert(place, object);
                !same
            }
            Event::Gone(key) => self.others.remove(&(kind, key)).is_some(),
            Event::Listed => {
                self.pending.remove(&tag);
                false
            }
            Event::Failed(why) => {
                self.fail(tag, why);
                false
            }
        };
        if changed && listed {
            self.outdated_after(MIN_INVENTORY_ROUND);
        }
    }

    /// Shows policies the other objects, as they are now.
    fn show_inventory(&mut self) {
        let objects: Vec<&Value> = self.others.values().collect();
        if let Err(why) = self.policies.set_inventory(&objects) {
            self.failed.insert(Tag::Inventory(usize::MAX), format!("what policies look at: {why}"));
        }
    }

    fn take_object(&mut self, kind: usize, event: Event) {
        let Some(served) = self.kinds.get(kind) else { return };
        match event {
            Event::Began => drop(self.listing.insert(kind, BTreeSet::new())),
            Event::Seen(key, object) => {
                let judged = self.policies.judge(served, &object, &self.known);
                if let Some(listing) = self.listing.get_mut(&kind) {
                    listing.insert(key.clone());
                }
                self.results.put(kind, key, judged);
            }
            Event::Gone(key) => self.results.gone(kind, key),
            Event::Listed => {
                if let Some(listed) = self.listing.remove(&kind) {
                    self.results.keep(kind, &listed);
                }
                self.failed.remove(&Tag::Object(kind));
                self.pending.remove(&Tag::Object(kind));
            }
            Event::Failed(why) => self.fail(Tag::Object(kind), why),
        }
    }

    fn take_param(&mut self, kind: usize, event: Event) {
        let Some(served) = self.params.get(kind) else { return };
        let listed = !self.pending.contains(&Tag::Param(kind));
        let params = self.known.params.entry(served.clone()).or_default();
        match event {
            Event::Began => {}
            Event::Seen(key, object) => {
                if params.len() >= MAX_PARAMS && !params.contains_key(&key) {
                    let why = format!("more than {MAX_PARAMS} parameters of kind {}", served.kind);
                    self.failed.insert(Tag::Param(kind), why);
                } else {
                    let object = essential(*object);
                    let before = params.insert(key, object.clone());
                    if listed && before != Some(object) {
                        self.outdated();
                    }
                }
            }
            Event::Gone(key) => {
                if params.remove(&key).is_some() && listed {
                    self.outdated();
                }
            }
            Event::Listed => drop(self.pending.remove(&Tag::Param(kind))),
            Event::Failed(why) => self.fail(Tag::Param(kind), why),
        }
    }

    fn fail(&mut self, tag: Tag, why: String) {
        let kind = match tag {
            Tag::Object(kind) => self.kinds.get(kind),
            Tag::Param(kind) => self.params.get(kind),
            Tag::Inventory(kind) => self.inventory.get(kind),
        };
        let named = kind.map(|kind| kind.plural.as_str()).unwrap_or_default();
        tracing::debug!(kind = named, %why, "a kind cannot be followed for policies");
        self.failed.insert(tag, format!("cannot follow {named}: {why}"));
        // The others are told of without it.
        self.pending.remove(&tag);
    }

    /// Whether all that is looked at besides the objects is there.
    fn surroundings_listed(&self) -> bool {
        self.pending.iter().all(|tag| matches!(tag, Tag::Object(_)))
    }

    fn problem(&self) -> Option<String> {
        let mut all: Vec<String> = self.failed.values().cloned().collect();
        if self.beyond > 0 {
            all.push(format!("{} kinds are beyond the bound and not judged", self.beyond));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }
}

/// A parameter without what a write alone changes.
fn essential(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    object
}

/// Whether two versions of an object differ in their status alone, which changes all the time.
fn is_like(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    let without =
        |object: &serde_json::Map<String, Value>| object.keys().filter(|key| *key != "status").count();
    without(one) == without(other)
        && one.iter().filter(|(key, _)| *key != "status").all(|(key, value)| other.get(key) == Some(value))
}

impl Audit {
    /// Judges by `source` until it is outdated.
    pub(super) async fn round(&mut self, source: &Source) {
        let served = match self.discovery.refreshed_kinds().await {
            Ok(all) => self.take_kinds(&all),
            Err(error) => {
                tracing::debug!(%error, "the cluster does not say what it serves; trying again");
                return tokio::time::sleep(GATHER).await;
            }
        };
        let mut standing = self.standing(source, served);
        let (events, mut received) = mpsc::channel(QUEUE);
        // The watches end with the round.
        let mut tasks = JoinSet::new();
        for (index, kind) in standing.params.iter().enumerate() {
            tasks.spawn(follow(self.cluster.clone(), kind.clone(), Tag::Param(index), events.clone()));
        }
        for (index, kind) in standing.inventory.iter().enumerate() {
            tasks.spawn(follow(self.cluster.clone(), kind.clone(), Tag::Inventory(index), events.clone()));
        }
        let ends = Instant::now() + PATIENCE;
        while !standing.surroundings_listed() {
            match tokio::time::timeout_at(ends, received.recv()).await {
                Ok(Some((tag, event))) => standing.take(tag, event),
                Ok(None) | Err(_) => break,
            }
        }
        standing.show_inventory();
        for (index, kind) in standing.kinds.iter().enumerate() {
            tasks.spawn(follow(self.cluster.clone(), kind.clone(), Tag::Object(index), events.clone()));
        }
        self.follow(source, &mut standing, &mut received).await;
    }

    fn standing(&self, source: &Source, served: Vec<ServedKind>) -> Standing {
        let policies = self.engine.compile(&source.documents);
        let (kinds, beyond) = kinds(&served, &*policies);
        let wanted = policies.param_kinds();
        let is_param = |kind: &&ServedKind| {
            wanted.iter().any(|(version, name)| *name == kind.kind && *version == kind.api_version())
        };
        let params: Vec<ServedKind> = served.iter().filter(is_param).cloned().collect();
        let looked_at = policies.inventory_kinds();
        let is_looked_at = |kind: &&ServedKind| {
            looked_at.iter().any(|(version, name)| *name == kind.kind && *version == kind.api_version())
        };
        let inventory: Vec<ServedKind> = served.iter().filter(is_looked_at).cloned().collect();
        let pending = (0..kinds.len())
            .map(Tag::Object)
            .chain((0..params.len()).map(Tag::Param))
            .chain((0..inventory.len()).map(Tag::Inventory))
            .collect();
        let known = Known {
            namespaces: source.namespaces.clone(),
            live: self.namespaces.clone(),
            served,
            params: std::collections::HashMap::new(),
        };
        Standing {
            policies,
            kinds,
            beyond,
            params,
            inventory,
            others: BTreeMap::new(),
            known,
            results: Results::default(),
            listing: BTreeMap::new(),
            pending,
            failed: BTreeMap::new(),
            due: None,
            began: Instant::now(),
        }
    }

    /// What the cluster serves, and as what reports are kept there.
    fn take_kinds(&mut self, all: &[Kind]) -> Vec<ServedKind> {
        let mut readable: Vec<&Kind> =
            all.iter().filter(|kind| kind.supports("list") && kind.supports("watch")).collect();
        // The recommended version of a kind is the one that is watched.
        readable.sort_by_key(|kind| !kind.recommended);
        let kind = |kind: &&Kind| ServedKind {
            group: kind.resource.group.clone(),
            version: kind.resource.version.clone(),
            plural: kind.resource.plural.clone(),
            kind: kind.resource.kind.clone(),
            namespaced: kind.namespaced,
        };
        let served: Vec<ServedKind> = readable.iter().map(kind).collect();
        self.reports.choose(&served);
        served
    }

    async fn follow(
        &mut self,
        source: &Source,
        standing: &mut Standing,
        received: &mut mpsc::Receiver<(Tag, Event)>,
    ) {
        let ends = standing.began + MAX_ROUND;
        let mut discover = tokio::time::interval_at(Instant::now() + DISCOVER, DISCOVER);
        // A policy may be for kinds that are not there.
        let mut tell = standing.pending.is_empty().then(Instant::now);
        let mut told_at = standing.began.checked_sub(TELL_EVERY).unwrap_or(standing.began);
        loop {
            let soon = standing.due.unwrap_or(ends).min(ends);
            tokio::select! {
                event = received.recv() => {
                    let Some((tag, event)) = event else { return };
                    standing.take(tag, event);
                    if standing.pending.is_empty() && tell.is_none() {
                        tell = Some((Instant::now() + GATHER).max(told_at + TELL_EVERY));
                    }
                }
                () = self.changed.notified() => {
                    let newer = self.source();
                    if source.is_outdated_by(&newer, standing.results.waits()) {
                        standing.outdated();
                    }
                }
                _ = discover.tick() => {
                    if let Ok(all) = self.discovery.refreshed_kinds().await
                        && self.take_kinds(&all) != standing.known.served
                    {
                        standing.outdated();
                    }
                }
                () = tokio::time::sleep_until(tell.unwrap_or(ends)), if tell.is_some() => {
                    let state = standing.results.state(source, &standing.kinds, standing.problem());
                    let reports = standing.results.by_namespace(source, &standing.kinds);
                    let told = self.tell(state).await;
                    let written = self.reports.write(&reports).await;
                    told_at = Instant::now();
                    tell = (!told || !written).then(|| told_at + TELL_EVERY);
                }
                () = tokio::time::sleep_until(soon) => return,
            }
        }
    }
}
