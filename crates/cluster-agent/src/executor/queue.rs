//! Who waits for a place in this cluster, and who is next. Decisions alone: what is decided is written down and carried out
//! by [`super::dispatch`].
//!
//! A higher class goes before a lower one, an older execution before a newer one; one whose concurrency group has no place
//! lets others pass. What is only to be settled (cancelled, left out) has places of its own, so that it never waits for
//! tests to end. An entry is some 200 bytes: 20,000 of them, the most there are, take 4 MB.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

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

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    places: usize,
    waiting: BTreeMap<Place, Entry>,
    by_uid: HashMap<String, Place>,
    taken: HashMap<String, Taken>,
}

impl Queue {
    /// `places`: executions that run at once.
    pub(super) fn new(places: usize) -> Self {
        let (waiting, by_uid, taken) = Default::default();
        Self { places: places.max(1), waiting, by_uid, taken }
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
        let members = self.members(entry.group.as_ref(), &entry.uid);
        let mut cancel = Vec::new();
        if let Some(group) = &entry.group {
            let max = usize::try_from(group.max).unwrap_or(usize::MAX);
            match group.mode {
                ConcurrencyMode::Skip if members.len() >= max => {
                    let message =
                        format!("concurrency group {} is taken: {} of {max}", group.group, members.len());
                    return Offer::LeftOut { reason: "GroupTaken", message };
                }
                ConcurrencyMode::CancelRunning => {
                    let excess = (members.len() + 1).saturating_sub(max);
                    cancel = members.into_iter().take(excess).map(|(_, uid)| uid).collect();
                }
                ConcurrencyMode::Queue | ConcurrencyMode::Skip => {}
            }
        }
        self.insert(entry, false);
        Offer::Waits { cancel }
    }

    /// After a restart: it waits, as it did before.
    pub(super) fn insert(&mut self, entry: Entry, settle: bool) {
        let place = (!settle, Reverse(entry.priority), entry.number);
        self.by_uid.insert(entry.uid.clone(), place);
        self.waiting.insert(place, entry);
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
            let older = self.members(Some(group), &entry.uid);
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
        } else if let Some(place) = self.by_uid.remove(uid)
            && let Some(entry) = self.waiting.remove(&place)
        {
            self.insert(entry, true);
        }
    }

    /// Takes the next one that has a place; call [`Queue::ended`] when it has ended.
    pub(super) fn next(&mut self) -> Option<String> {
        let settling = self.taken.values().filter(|own| own.settling).count();
        let free = self.running() < self.places;
        // Those that are only settled come first: without a place for others the rest is not looked at.
        let mut looked_at = self.waiting.iter().take_while(|(place, _)| free || !place.0);
        let place = looked_at.find_map(|(place, entry)| {
            let settle = !place.0;
            let fits = if settle { settling < SETTLING } else { free && self.group_has_place(entry) };
            fits.then_some(*place)
        })?;
        let entry = self.waiting.remove(&place)?;
        self.by_uid.remove(&entry.uid);
        self.take(&entry, !place.0);
        Some(entry.uid)
    }

    pub(super) fn ended(&mut self, uid: &str) {
        self.taken.remove(uid);
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
        let taken = Taken { number: entry.number, group, leaving: settling, settling };
        self.taken.insert(entry.uid.clone(), taken);
    }

    fn group_has_place(&self, entry: &Entry) -> bool {
        let group = entry.group.as_ref();
        group.is_none_or(|group| {
            self.in_group(&group.group) < usize::try_from(group.max).unwrap_or(usize::MAX)
        })
    }

    fn in_group(&self, group: &str) -> usize {
        self.taken.values().filter(|own| own.group.as_deref() == Some(group)).count()
    }

    /// Who of a group runs or waits and is not about to leave, without `uid`, the oldest first.
    fn members(&self, group: Option<&PlannedConcurrency>, uid: &str) -> Vec<(u64, String)> {
        let Some(group) = group else { return Vec::new() };
        let same = |own: Option<&str>| own == Some(group.group.as_str());
        let waiting = self.waiting.iter().filter(|(place, _)| place.0).map(|(_, entry)| entry);
        let waiting = waiting.filter(|entry| same(entry.group.as_ref().map(|own| own.group.as_str())));
        let waiting = waiting.map(|entry| (entry.number, entry.uid.clone()));
        let taken = self.taken.iter().filter(|(_, own)| !own.leaving && same(own.group.as_deref()));
        let taken = taken.map(|(uid, own)| (own.number, uid.clone()));
        let mut members: Vec<_> = waiting.chain(taken).filter(|(_, own)| own != uid).collect();
        members.sort_unstable();
        members
    }
}

#[cfg(test)]
mod tests;
