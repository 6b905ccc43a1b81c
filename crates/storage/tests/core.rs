//! The shared state machine, where the suite cannot see it: what compaction leaves, and loading what a crash left.

use std::time::Duration;

use bytes::Bytes;
use storage::mvcc::{Core, Loader, Stored, StoredVersion};
use storage::{Incarnation, KeyRange, Operation, RangeRequest, Revision, Transaction};
use uuid::Uuid;

const NOW: Duration = Duration::ZERO;

fn apply(core: &mut Core, operation: Operation) {
    let transaction = Transaction { success: vec![operation], ..Transaction::default() };
    core.transact(transaction, NOW).expect("valid");
    core.publish(NOW);
}

fn stored(revision: u64, key: &str, version: Option<u64>) -> Stored {
    let put = version.map(|version| StoredVersion {
        value: Bytes::from(revision.to_string()),
        create_revision: Revision(revision + 1 - version),
        version,
        lease: None,
    });
    Stored { id: (Revision(revision), 0), key: Bytes::from(key.to_owned()), put }
}

fn loader(revision: u64, compacted: u64) -> Loader {
    Loader::new(Incarnation(Uuid::nil()), Revision(revision), Revision(compacted), [], NOW)
}

fn read(core: &Core) -> Vec<(Bytes, Bytes)> {
    let all = core.range(&RangeRequest::all(KeyRange::prefix(""))).expect("readable");
    all.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect()
}

#[test]
fn compaction_leaves_nothing_of_a_deleted_key() {
    let mut core = Core::new(Incarnation(Uuid::nil()));
    apply(&mut core, Operation::put("a", "1"));
    apply(&mut core, Operation::put("a", "2"));
    apply(&mut core, Operation::delete("a"));
    apply(&mut core, Operation::put("b", "1"));
    assert_eq!(core.indexed_keys(), 2);
    let mut garbage = core.compact(Revision(5)).expect("compact");
    garbage.sort_unstable();
    assert_eq!(garbage, [(Revision(2), 0), (Revision(3), 0), (Revision(4), 0)]);
    assert_eq!(core.indexed_keys(), 1);
}

#[test]
fn records_that_an_interrupted_compaction_left_are_garbage_and_not_data() {
    let mut loader = loader(5, 4);
    let records = [
        stored(2, "gone", Some(1)),
        stored(3, "kept", Some(1)),
        stored(4, "gone", None),
        stored(5, "kept", Some(2)),
    ];
    for record in records {
        loader.push(record).expect("fits");
    }
    let (core, mut garbage) = loader.finish();
    garbage.sort_unstable();
    assert_eq!(garbage, [(Revision(2), 0), (Revision(4), 0)]);
    assert_eq!(read(&core), [(Bytes::from("kept"), Bytes::from("5"))]);
    assert_eq!(core.indexed_keys(), 1);
}

#[test]
fn records_that_no_store_wrote_are_refused() {
    let wrong = [
        ("a version is missing", vec![stored(2, "a", Some(1)), stored(3, "a", Some(3))]),
        ("the first version is missing", vec![stored(2, "a", Some(2))]),
        ("nothing to delete", vec![stored(2, "a", None)]),
        ("out of order", vec![stored(3, "a", Some(1)), stored(2, "b", Some(1))]),
        ("from the future", vec![stored(9, "a", Some(1))]),
        ("an event is missing", vec![Stored { id: (Revision(2), 1), ..stored(2, "a", Some(1)) }]),
    ];
    for (what, records) in wrong {
        let mut loader = loader(5, 0);
        assert!(records.into_iter().any(|record| loader.push(record).is_err()), "{what}");
    }
}

#[test]
fn what_is_rolled_back_never_happened() {
    let mut core = Core::new(Incarnation(Uuid::nil()));
    apply(&mut core, Operation::put("a", "1"));
    apply(&mut core, Operation::put("b", "1"));
    let before = core.snapshot();
    let doomed = vec![Operation::put("a", "2"), Operation::delete("b"), Operation::put("c", "1")];
    core.transact(Transaction { success: doomed, ..Transaction::default() }, NOW).expect("valid");
    assert_eq!((core.head(), core.snapshot().kvs), (Revision(4), before.kvs.clone()), "not visible");
    core.rollback(NOW);
    assert!(core.unpublished().is_empty());
    assert_eq!((core.head(), core.indexed_keys()), (Revision(3), 2));
    apply(&mut core, Operation::put("a", "3"));
    let kv = &core.snapshot().kvs[0];
    assert_eq!((kv.mod_revision, kv.version), (Revision(4), 2));
}
