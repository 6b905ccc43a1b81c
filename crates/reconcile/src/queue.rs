//! A work queue of distinct keys.
//!
//! Bounded by the number of distinct keys: a key that waits is not put in again, and a key being worked on is marked
//! and comes back once when the work ends. The keys are names of objects that a bounded cache holds, so dropping keys
//! for room is never needed (and would be wrong: a level-based reconciler must see the last change).

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    fmt,
    hash::Hash,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// What a queue's keys must be able to do.
pub trait Key: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static {}
impl<T: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static> Key for T {}

/// A queue. Clones are the same queue. One consumer ([`crate::Driver`]), any number of producers.
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    /// Wakes the one consumer; a permit is kept when it doesn't wait just then.
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Where each known key stands; a key that is nowhere has no entry.
    entries: HashMap<K, Entry>,
    /// Delayed keys by due time; the number finds the key and tells equal times apart.
    timers: BTreeSet<(Instant, u64)>,
    timer_keys: HashMap<u64, K>,
    next_timer: u64,
}

#[derive(Default)]
struct Entry {
    /// In `ready`.
    waiting: bool,
    /// Being worked on.
    in_flight: bool,
    /// Asked for again while being worked on.
    dirty: bool,
    timer: Option<(Instant, u64)>,
}

impl Entry {
    fn is_idle(&self) -> bool {
        !self.waiting && !self.in_flight && !self.dirty && self.timer.is_none()
    }
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K> fmt::Debug for Queue<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Queue")
            .field("ready", &state.ready.len())
            .field("known", &state.entries.len())
            .finish()
    }
}

impl<K: Key> Default for Queue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key> Queue<K> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    ready: VecDeque::new(),
                    entries: HashMap::new(),
                    timers: BTreeSet::new(),
                    timer_keys: HashMap::new(),
                    next_timer: 0,
                }),
                wake: Notify::new(),
            }),
        }
    }

    /// Asks for `key` to be reconciled as soon as possible. Cheap; never blocks on work.
    pub fn add(&self, key: K) {
        self.shared.state.lock().make_ready(key);
        self.shared.wake.notify_one();
    }

    /// Asks for `key` to be reconciled after `delay`, or earlier when something asks for it earlier; the earliest of
    /// several delays counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        // A sum beyond what an Instant holds means "never", and nothing is lost by leaving it out.
        let Some(due) = Instant::now().checked_add(delay) else { return };
        self.shared.state.lock().set_timer(key, due);
        self.shared.wake.notify_one();
    }

    /// Keys ready to be worked on now.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.shared.state.lock().ready.len()
    }

    /// Nothing waits, nothing is worked on, nothing is delayed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.state.lock().entries.is_empty()
    }

    /// Takes the next key and marks it as being worked on until [`Queue::finish`]. Waits for one. Safe to drop while
    /// it waits: no key is lost.
    pub(crate) async fn take(&self) -> K {
        loop {
            let next_due = {
                let mut state = self.shared.state.lock();
                state.fire_timers(Instant::now());
                if let Some(key) = state.pop() {
                    return key;
                }
                state.timers.first().map(|(due, _)| *due)
            };
            match next_due {
                None => self.shared.wake.notified().await,
                Some(due) => {
                    // Either wakes: a new key, or the earliest delayed one.
                    let _ = tokio::time::timeout_at(due, self.shared.wake.notified()).await;
                }
            }
        }
    }

    /// Ends the work on `key`; it becomes ready again when it was asked for meanwhile.
    pub(crate) fn finish(&self, key: &K) {
        let mut state = self.shared.state.lock();
        let Some(entry) = state.entries.get_mut(key) else { return };
        entry.in_flight = false;
        if std::mem::take(&mut entry.dirty) {
            state.make_ready(key.clone());
            drop(state);
            self.shared.wake.notify_one();
        } else if entry.is_idle() {
            state.entries.remove(key);
        }
    }
}

impl<K: Key> State<K> {
    fn make_ready(&mut self, key: K) {
        let entry = self.entries.entry(key.clone()).or_default();
        if let Some(timer) = entry.timer.take() {
            self.timers.remove(&timer);
            self.timer_keys.remove(&timer.1);
        }
        if entry.in_flight {
            entry.dirty = true;
        } else if !entry.waiting {
            entry.waiting = true;
            self.ready.push_back(key);
        }
    }

    fn set_timer(&mut self, key: K, due: Instant) {
        let entry = self.entries.entry(key.clone()).or_default();
        if entry.waiting || entry.dirty {
            return;
        }
        if let Some(timer) = entry.timer {
            if timer.0 <= due {
                return;
            }
            self.timers.remove(&timer);
            self.timer_keys.remove(&timer.1);
        }
        let number = self.next_timer;
        self.next_timer = self.next_timer.wrapping_add(1);
        entry.timer = Some((due, number));
        self.timers.insert((due, number));
        self.timer_keys.insert(number, key);
    }

    fn fire_timers(&mut self, now: Instant) {
        while let Some(&(due, number)) = self.timers.first() {
            if due > now {
                return;
            }
            self.timers.remove(&(due, number));
            let Some(key) = self.timer_keys.remove(&number) else { continue };
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.timer = None;
            }
            self.make_ready(key);
        }
    }

    fn pop(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        let entry = self.entries.entry(key.clone()).or_default();
        entry.waiting = false;
        entry.in_flight = true;
        Some(key)
    }
}
