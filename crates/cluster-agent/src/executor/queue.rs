//! Who waits for a place in this cluster, and who is next. Decisions alone: what is decided is written down and carried out
//! by [`super::dispatch`].
//!
//! A higher class goes before a lower one, an older execution before a newer one; one whose concurrency group has no place
//! lets others pass. What is only to be settled (cancelled, left out) has places of its own, so that it never waits for
//! tests to end. An entry is some 300 bytes: 20,000 of them, the most there are, take 6 MB. Nothing that is asked looks at all
//! of them: who waits for a group is known by group.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use fleet_objects::test_workflow::{ConcurrencyMode, TestPriority};
use workflow::plan::PlannedConcurrency;

/// Executions that may wait; further ones are not run, and say so.
pub(super) const MAX_WAITING: usize = 20_000;
/// Executions that are settled at once: each waits for the outbox alone.
const SETTLING: usize = 8;

/// One execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) uid: String,
    /// Rises from one execution to the next.
    pub(super) number: u64,
    pub(super) priority: TestPriority,
    pub(super) group: Option<PlannedConcurrency>,
}

/// What becomes of an execution that asks for a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// It waits; these are to be cancelled for it.
    Waits { cancel: Vec<String> },
    /// It is not run: reason and message.
    LeftOut { reason: &'static str, message: String },
}

/// Settled first, then by class, then by age.
type Place = (bool, Reverse<TestPriority>, u64);

#[derive(Debug)]
struct Taken {
    number: u64,
    group: Option<String>,
    /// It was cancelled: it holds its place, but nobody is cancelled for it.
    leaving: bool,
    settling: bool,
}

/// A concurrency group.
#[derive(Debug, Default)]
struct Group {
    /// Those that wait for it, by how many of the group may run beside each.
    waiting: BTreeMap<u32, BTreeSet<Place>>,
    /// Those that hold its places.
    taken: u32,
    /// Who of it is next, while there is a place.
    next: Option<Place>,
}

impl Group {
    fn first(&self) -> Option<Place> {
        let fitting = self.waiting.range(self.taken.saturating_add(1)..);
        fitting.filter_map(|(_, places)| places.first()).min().copied()
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    places: usize,
    waiting: BTreeMap<Place, Entry>,
    /// Those of `waiting` whose group has a place, of each group the next one; those without a group, all of them.
    ready: BTreeSet<Place>,
    groups: HashMap<String, Group>,
    by_uid: HashMap<String, Place>,
    taken: HashMap<String, Taken>,
}

impl Queue {
    /// `places`: executions that run at once.
    pub(super) fn new(places: usize) -> Self {
        let (waiting, ready, groups, by_uid, taken) = Default::default();
        Self { places: places.max(1), waiting, ready, groups, by_uid, taken }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn running(&self) -> usize {
        self.taken.values().filter(|own| !own.settling).count()
    }

    /// Whether it waits or runs.
    pub(super) fn knows(&self, uid: &str) -> bool {
        self.waits(uid) || self.taken.contains_key(uid)
    }

    pub(super) fn waits(&self, uid: &str) -> bool {
        self.by_uid.contains_key(uid)
    }

    /// A new execution asks for a place.
    pub(super) fn offer(&mut self, entry: Entry) -> Offer {
        if self.waiting.len() >= MAX_WAITING {
            let message = format!("{MAX_WAITING} executions wait for this cluster already");
            return Offer::LeftOut { reason: "QueueFull", message };
        }
        let mut cancel = Vec::new();
        if let Some(group) = entry.group.as_ref().filter(|group| group.mode != ConcurrencyMode::Queue) {
            let max = usize::try_from(group.max).unwrap_or(usize::MAX);
            let members = self.members(group, &entry.uid);
            if group.mode == ConcurrencyMode::CancelRunning {
                let excess = (members.len() + 1).saturating_sub(max);
                cancel = members.into_iter().take(excess).map(|(_, uid)| uid).collect();
            } else if members.len() >= max {
                let message =
                    format!("concurrency group {} is taken: {} of {max}", group.group, members.len());
                return Offer::LeftOut { reason: "GroupTaken", message };
            }
        }
        self.insert(entry, false);
        Offer::Waits { cancel }
    }

    /// After a restart: it waits, as it did before.
    pub(super) fn insert(&mut self, entry: Entry, settle: bool) {
        let place = (!settle, Reverse(entry.priority), entry.number);
        match entry.group.as_ref().filter(|_| !settle) {
            Some(group) => {
                let of_group = self.groups.entry(group.group.clone()).or_default();
                of_group.waiting.entry(group.max).or_default().insert(place);
            }
            None => {
                self.ready.insert(place);
            }
        }
        let group = entry.group.as_ref().map(|group| group.group.clone());
        self.by_uid.insert(entry.uid.clone(), place);
        self.waiting.insert(place, entry);
        self.look_at(group.as_deref());
    }

    /// Takes one out of those that wait.
    fn leave(&mut self, place: Place) -> Option<Entry> {
        let entry = self.waiting.remove(&place)?;
        self.by_uid.remove(&entry.uid);
        self.ready.remove(&place);
        if let Some(group) = &entry.group
            && let Some(of_group) = self.groups.get_mut(&group.group)
            && let Some(places) = of_group.waiting.get_mut(&group.max)
        {
            places.remove(&place);
            if places.is_empty() {
                of_group.waiting.remove(&group.max);
            }
        }
        self.look_at(entry.group.as_ref().map(|group| group.group.as_str()));
        Some(entry)
    }

    /// Sees anew who of a group is next.
    fn look_at(&mut self, group: Option<&str>) {
        let Some(name) = group else { return };
        let Some(group) = self.groups.get_mut(name) else { return };
        let next = group.first();
        if next != group.next {
            if let Some(before) = std::mem::replace(&mut group.next, next) {
                self.ready.remove(&before);
            }
            self.ready.extend(next);
        }
        if group.taken == 0 && group.waiting.is_empty() {
            self.groups.remove(name);
        }
    }

    /// After a restart: it had a place before, and has it still, however many there are.
    pub(super) fn resume(&mut self, entry: &Entry) {
        self.take(entry, false);
    }

    /// After a restart: what those who cancel others still have to cancel.
    pub(super) fn superseded(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        for entry in self.waiting.values() {
            let Some(group) = entry.group.as_ref() else { continue };
            if group.mode != ConcurrencyMode::CancelRunning {
                continue;
            }
            let older = self.members(group, &entry.uid);
            let older: Vec<_> = older.into_iter().filter(|(number, _)| *number < entry.number).collect();
            let excess = (older.len() + 1).saturating_sub(usize::try_from(group.max).unwrap_or(usize::MAX));
            out.extend(older.into_iter().take(excess).map(|(_, uid)| (uid, group.group.clone())));
        }
        out
    }

    /// It is to be ended: one that waits is settled soon, one that runs no longer counts as a member of its group.
    pub(super) fn settle(&mut self, uid: &str) {
        if let Some(own) = self.taken.get_mut(uid) {
            own.leaving = true;
        } else if let Some(place) = self.by_uid.get(uid).copied()
            && let Some(entry) = self.leave(place)
        {
            self.insert(entry, true);
        }
    }

    /// Takes the next one that has a place; call [`Queue::ended`] when it has ended.
    pub(super) fn next(&mut self) -> Option<String> {
        let settling = self.taken.values().filter(|own| own.settling).count();
        // What is only settled comes first and has places of its own.
        let settled = self.ready.first().copied().filter(|place| !place.0 && settling < SETTLING);
        let free = self.running() < self.places;
        let others = (true, Reverse(TestPriority::Urgent), 0)..;
        let place = settled.or_else(|| self.ready.range(others).next().copied().filter(|_| free))?;
        let entry = self.leave(place)?;
        self.take(&entry, !place.0);
        Some(entry.uid)
    }

    pub(super) fn ended(&mut self, uid: &str) {
        let Some(group) = self.taken.remove(uid).and_then(|own| own.group) else { return };
        if let Some(of_group) = self.groups.get_mut(&group) {
            of_group.taken = of_group.taken.saturating_sub(1);
        }
        self.look_at(Some(&group));
    }

    /// For what it waits, for people.
    pub(super) fn waits_for(&self, uid: &str) -> Option<String> {
        let entry = self.waiting.get(self.by_uid.get(uid)?)?;
        Some(match &entry.group {
            Some(group) if !self.group_has_place(entry) => {
                format!(
                    "waits for concurrency group {}: {} of it run",
                    group.group,
                    self.in_group(&group.group)
                )
            }
            _ => format!("waits for a place: {} of {} are taken", self.running(), self.places),
        })
    }

    fn take(&mut self, entry: &Entry, settling: bool) {
        let group = entry.group.as_ref().filter(|_| !settling).map(|group| group.group.clone());
        if let Some(group) = &group {
            self.groups.entry(group.clone()).or_default().taken += 1;
            self.look_at(Some(group));
        }
        let taken = Taken { number: entry.number, group, leaving: settling, settling };
        self.taken.insert(entry.uid.clone(), taken);
    }

    fn group_has_place(&self, entry: &Entry) -> bool {
        entry.group.as_ref().is_none_or(|group| self.in_group(&group.group) < group.max)
    }

    fn in_group(&self, group: &str) -> u32 {
        self.groups.get(group).map_or(0, |group| group.taken)
    }

    /// Who of a group runs or waits and is not about to leave, without `uid`, the oldest first.
    fn members(&self, group: &PlannedConcurrency, uid: &str) -> Vec<(u64, String)> {
        let waiting =
            self.groups.get(&group.group).into_iter().flat_map(|own| own.waiting.values().flatten());
        let waiting = waiting.filter_map(|place| Some((place.2, self.waiting.get(place)?.uid.clone())));
        let same = |own: &Taken| !own.leaving && own.group.as_ref() == Some(&group.group);
        let taken = self.taken.iter().filter(|(_, own)| same(own));
        let taken = taken.map(|(uid, own)| (own.number, uid.clone()));
        let mut members: Vec<_> = waiting.chain(taken).filter(|(_, own)| own != uid).collect();
        members.sort_unstable();
        members
    }
}

#[cfg(test)]
mod tests;
