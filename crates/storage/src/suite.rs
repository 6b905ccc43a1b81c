//! The one test suite that every engine runs (feature `suite`).
//!
//! An engine's test crate calls [`engine_suite!`](crate::engine_suite) with a function that makes a [`Fixture`]; every test of the suite becomes
//! one of its own. The tests panic where an engine breaks the contract. Watches are awaited, never slept for.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foundation::clock::ManualClock;

use crate::contract::{
    Event, KeyRange, KeyValue, Operation, PutRequest, RangeRequest, Revision, Snapshot, Store, Transaction,
    TransactionResponse, WatchBatch, WatchRequest, WatchStream,
};
use crate::error::StoreError;

pub mod histories;
pub mod leases;
pub mod random;
mod reference;
pub mod transactions;
pub mod watches;

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes a store of a snapshot.
pub type Restore = Box<dyn Fn(&Snapshot) -> Result<Arc<dyn Store>, StoreError> + Send + Sync>;
/// Closes the store (the last handle has been dropped) and opens it again.
pub type Reopen = Box<dyn Fn() -> Arc<dyn Store> + Send + Sync>;

/// What the contract leaves to an engine.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Ranges answer handles of values in memory, not copies.
    pub shares_values: bool,
    /// A restored key keeps its revisions and its version.
    pub keeps_versions: bool,
    /// Reopening a store starts its leases' time again.
    pub leases_restart: bool,
}

impl Default for Traits {
    /// An engine in this process.
    fn default() -> Self {
        Self { shares_values: true, keeps_versions: true, leases_restart: true }
    }
}

/// A fresh store and what a test needs beside it.
pub struct Fixture {
    /// The store, without automatic compaction.
    pub store: Arc<dyn Store>,
    /// The clock it was given; `None`: it goes by the time of day, and its tests wait.
    pub clock: Option<ManualClock>,
    /// What the engine does beyond the contract.
    pub traits: Traits,
    /// Makes another store of a snapshot.
    pub restore: Restore,
    /// For engines that last.
    pub reopen: Option<Reopen>,
    /// Whatever must live as long as the store, such as its directory.
    pub keep: Box<dyn Any + Send>,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("incarnation", &self.store.incarnation()).finish_non_exhaustive()
    }
}

impl Fixture {
    /// Lets time pass.
    pub(crate) async fn advance(&self, by: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(by),
            None => tokio::time::sleep(by).await,
        }
    }

    /// Lets an engine of this process tell idle watches how far it is; others do that by themselves.
    pub(crate) fn nudge(&self) {
        if let Some(clock) = &self.clock {
            clock.advance(Duration::from_secs(1));
        }
    }

    /// A lease that is waited for: short where time really passes.
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_secs(if self.clock.is_some() { 10 } else { 4 })
    }

    /// Less than what is left of a lease when it certainly has not ended: other machines' clocks are coarse.
    pub(crate) fn moment(&self) -> Duration {
        Duration::from_millis(if self.clock.is_some() { 1 } else { 900 })
    }
}

/// Runs the suite on the engine whose stores the given function makes.
#[macro_export]
macro_rules! engine_suite {
    ($fixture:expr) => {
        $crate::engine_suite!(@tests $fixture;
            transactions: a_new_store_is_empty_at_revision_one, compares_choose_the_branch,
                a_transaction_is_one_revision_and_sees_itself, nothing_changed_is_no_revision,
                wrong_requests_change_nothing, key_metadata_follows_the_life_of_a_key,
                concurrent_compare_and_set_admits_one;
            histories: ranges_are_bounded_counted_and_ordered, past_revisions_stay_readable,
                compaction_forgets_only_the_past, ten_thousand_keys_share_their_values,
                a_restored_snapshot_is_a_new_life, a_contradictory_snapshot_is_refused;
            watches: events_are_ordered_unique_and_reliable, a_revision_is_delivered_whole,
                a_watch_resumes_anywhere, a_watch_may_start_in_the_future, a_quiet_watch_is_told_the_progress,
                a_slow_watcher_is_ended_not_starved, a_watch_sees_only_its_range,
                a_compacted_start_is_refused, an_event_carries_the_previous_version, a_dropped_store_ends_its_watches;
            leases: keys_end_with_their_lease_in_one_revision, a_renewed_lease_lives_on,
                a_revoked_lease_takes_its_keys, a_key_put_again_leaves_its_lease, leases_have_bounds,
                leases_last;
            random: histories_agree_with_the_reference;
        );
    };
    (@tests $fixture:expr; $($module:ident: $($test:ident),+;)+) => {
        $(mod $module {
            #[allow(unused_imports, reason = "the fixture may be any expression")]
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::suite::$module::$test($fixture).await;
            })+
        })+
    };
}

pub(crate) async fn apply(store: &dyn Store, success: Vec<Operation>) -> TransactionResponse {
    store.transact(Transaction { success, ..Transaction::default() }).await.expect("a valid transaction")
}

pub(crate) async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    apply(store, vec![Operation::put(key.to_owned(), value.to_owned())]).await.revision
}

pub(crate) async fn delete(store: &dyn Store, key: &str) -> Revision {
    apply(store, vec![Operation::delete(key.to_owned())]).await.revision
}

pub(crate) fn put_leased(key: &str, lease: crate::contract::LeaseId) -> Operation {
    Operation::Put(PutRequest { key: Bytes::from(key.to_owned()), value: Bytes::new(), lease: Some(lease) })
}

pub(crate) async fn all(store: &dyn Store) -> Vec<KeyValue> {
    store.range(RangeRequest::all(KeyRange::prefix(""))).await.expect("range").kvs
}

pub(crate) async fn keys(store: &dyn Store) -> Vec<String> {
    all(store).await.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

pub(crate) async fn watch(store: &dyn Store, prefix: &str, start: Option<u64>) -> WatchStream {
    let range = KeyRange::prefix(prefix.to_owned());
    let request = WatchRequest { range, start: start.map(Revision), buffer: 1024 };
    store.watch(request).await.expect("watch")
}

pub(crate) async fn next(stream: &mut WatchStream) -> Result<WatchBatch, StoreError> {
    let batch = tokio::time::timeout(PATIENCE, stream.next()).await.expect("the watch answers in time");
    batch.expect("the watch goes on")
}

/// All events through `revision`; checks on the way that batches move forward and hold whole revisions.
pub(crate) async fn events_through(stream: &mut WatchStream, revision: Revision) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut told = Revision(0);
    while told < revision {
        let batch = next(stream).await.expect("a batch");
        assert!(batch.revision >= told, "batches go forward");
        for event in &batch.events {
            assert!(event.kv.mod_revision > told, "an event of {} after {told}", event.kv.mod_revision);
            assert!(event.kv.mod_revision <= batch.revision, "an event from after its batch");
            assert!(events.last().is_none_or(|last| last.kv.mod_revision <= event.kv.mod_revision));
            events.push(event.clone());
        }
        told = batch.revision;
    }
    events
}
