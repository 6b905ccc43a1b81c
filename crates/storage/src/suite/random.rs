//! Random histories: whatever an engine is asked, it answers what the reference answers.

use std::fmt::Debug;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::reference::{self, Reference};
use super::{Fixture, delete, events_through};
use crate::contract::{
    Compare, CompareTarget, DeleteRequest, KeyRange, Operation, RangeRequest, Revision, Store, Transaction,
    WatchRequest, WatchStream,
};
use crate::error::StoreError;

/// Steps in the one long history that every run of the suite plays.
const STEPS: usize = 600;

#[derive(Clone, Debug)]
enum Step {
    Transact(Transaction),
    /// A read this many revisions ago.
    Read(RangeRequest, u64),
    /// A compaction to this many revisions ago.
    Compact(u64),
    /// A watch from this many revisions ago.
    Watch(KeyRange, u64),
    /// Reads out all watches.
    Drain,
    Reopen,
}

fn key() -> impl Strategy<Value = String> {
    "[a-c]{1,2}"
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        key().prop_map(KeyRange::single),
        "[a-c]{0,1}".prop_map(KeyRange::prefix),
        (key(), key()).prop_map(|(start, end)| KeyRange::between(start, end)),
    ]
}

fn range_request() -> impl Strategy<Value = RangeRequest> {
    (key_range(), prop::option::of(0usize..4), any::<bool>())
        .prop_map(|(range, limit, count_only)| RangeRequest { range, revision: None, limit, count_only })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => (key(), "[0-9]{0,3}").prop_map(|(key, value)| Operation::put(key, value)),
        1 => key_range().prop_map(|range| Operation::Delete(DeleteRequest { range })),
        1 => range_request().prop_map(Operation::Range),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0u64..4).prop_map(CompareTarget::Version),
        (0u64..40).prop_map(|revision| CompareTarget::ModRevision(Revision(revision))),
        (0u64..40).prop_map(|revision| CompareTarget::CreateRevision(Revision(revision))),
        "[0-9]{0,1}".prop_map(|value| CompareTarget::Value(value.into())),
    ];
    (key(), target).prop_map(|(key, target)| Compare { key: key.into(), target })
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let operations = || prop::collection::vec(operation(), 0..4);
    (prop::collection::vec(compare(), 0..2), operations(), operations())
        .prop_map(|(compare, success, failure)| Transaction { compare, success, failure })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => transaction().prop_map(Step::Transact),
        6 => (range_request(), 0u64..30).prop_map(|(request, ago)| Step::Read(request, ago)),
        1 => (0u64..60).prop_map(Step::Compact),
        2 => (key_range(), 0u64..30).prop_map(|(range, ago)| Step::Watch(range, ago)),
        2 => Just(Step::Drain),
        1 => Just(Step::Reopen),
    ]
}

struct Watched {
    stream: WatchStream,
    range: KeyRange,
    from: Revision,
}

struct Play {
    fixture: Fixture,
    reference: Reference,
    compacted: Revision,
    watches: Vec<Watched>,
}

/// One long random history, drawn anew on every run; the panic's message holds the step that went wrong.
pub async fn histories_agree_with_the_reference(f: Fixture) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let steps = prop::collection::vec(step(), STEPS).new_tree(&mut runner).expect("steps").current();
    let mut play =
        Play { fixture: f, reference: Reference::new(), compacted: Revision(0), watches: Vec::new() };
    for (number, step) in steps.into_iter().enumerate() {
        play.step(number, step).await;
    }
    play.drain().await;
    play.check_state().await;
}

fn same(number: usize, what: &dyn Debug, got: impl Debug, wanted: impl Debug) {
    assert_eq!(format!("{got:?}"), format!("{wanted:?}"), "step {number}: {what:?}");
}

impl Play {
    fn ago(&self, revisions: u64) -> Revision {
        Revision(self.reference.revision().0.saturating_sub(revisions).max(1))
    }

    async fn step(&mut self, number: usize, step: Step) {
        let described = step.clone();
        let store = &self.fixture.store;
        match step {
            Step::Transact(transaction) => match store.transact(transaction.clone()).await {
                Ok(done) => same(number, &described, done, self.reference.transact(&transaction)),
                // The same key twice: the reference has no opinion.
                Err(error) => {
                    assert!(matches!(error, StoreError::InvalidRequest(_)), "{error}: {described:?}")
                }
            },
            Step::Read(mut request, ago) => {
                let revision = self.ago(ago);
                request.revision = Some(revision);
                let read = store.range(request.clone()).await;
                if revision < self.compacted {
                    assert!(matches!(read, Err(StoreError::Compacted { .. })), "{read:?}");
                } else {
                    let newest = self.reference.revision();
                    let wanted = reference::range(self.reference.at(revision), &request, newest);
                    same(number, &described, read.expect("readable"), wanted);
                }
            }
            Step::Compact(ago) => {
                if self.fixture.clock.is_none() {
                    // An engine elsewhere may be told to forget what a watch that has just begun was about to read.
                    self.drain().await;
                }
                let store = &self.fixture.store;
                let revision = self.ago(ago);
                let done = store.compact(revision).await;
                assert_eq!(done.is_ok(), revision > self.compacted, "{done:?}");
                self.compacted = self.compacted.max(revision);
            }
            Step::Watch(range, ago) => self.watch(range, self.ago(ago)).await,
            Step::Drain => self.drain().await,
            Step::Reopen => self.reopen().await,
        }
    }

    async fn watch(&mut self, range: KeyRange, from: Revision) {
        let request = WatchRequest { range: range.clone(), start: Some(from), buffer: STEPS };
        match self.fixture.store.watch(request).await {
            Ok(stream) => self.watches.push(Watched { stream, range, from }),
            Err(error) => {
                assert!(from <= self.compacted && matches!(error, StoreError::Compacted { .. }), "{error}");
            }
        }
    }

    /// Every watch has delivered exactly its events, through one that tells it that there are no more.
    async fn drain(&mut self) {
        let end = Transaction { success: vec![Operation::put("end", "")], ..Transaction::default() };
        for mut watched in std::mem::take(&mut self.watches) {
            // A range that ends before it begins never sees anything: only its progress could be awaited.
            self.fixture.nudge();
            let newest = self.reference.revision();
            if watched.from > newest {
                continue;
            }
            let told = events_through(&mut watched.stream, newest).await;
            let mut wanted = self.reference.events(&watched.range, watched.from);
            // Whether the previous version has been compacted by then is the engine's to know.
            let mut told = told;
            told.iter_mut().chain(&mut wanted).for_each(|event| event.previous = None);
            assert_eq!(told, wanted, "a watch of {:?} from {}", watched.range, watched.from);
        }
        let done = self.fixture.store.transact(end.clone()).await.expect("put");
        same(0, &"end", done, self.reference.transact(&end));
        delete_end(&*self.fixture.store, &mut self.reference).await;
    }

    async fn reopen(&mut self) {
        if self.fixture.reopen.is_none() {
            return;
        }
        self.drain().await;
        let reopen = self.fixture.reopen.take().expect("just looked");
        let incarnation = self.fixture.store.incarnation();
        // The last handle must go before the store can be opened again.
        let placeholder: Arc<dyn Store> = Arc::new(crate::model::MemoryStore::default());
        drop(std::mem::replace(&mut self.fixture.store, placeholder));
        self.fixture.store = reopen();
        self.fixture.reopen = Some(reopen);
        assert_eq!(self.fixture.store.incarnation(), incarnation);
        self.check_state().await;
    }

    async fn check_state(&self) {
        let snapshot = self.fixture.store.snapshot().await.expect("snapshot");
        assert_eq!(snapshot.revision, self.reference.revision());
        let wanted: Vec<_> = self.reference.now().values().cloned().collect();
        assert_eq!(snapshot.kvs, wanted);
        let status = self.fixture.store.status().await.expect("status");
        assert_eq!(status.compacted, self.compacted);
    }
}

async fn delete_end(store: &dyn Store, reference: &mut Reference) {
    let end = Transaction { success: vec![Operation::delete("end")], ..Transaction::default() };
    reference.transact(&end);
    assert_eq!(delete(store, "end").await, reference.revision());
}
