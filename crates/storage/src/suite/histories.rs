//! Ranges, the past, compaction, snapshots.

use super::{Fixture, all, apply, delete, keys, put};
use crate::contract::{KeyRange, KeyValue, Operation, RangeRequest, Revision, WatchRequest};
use crate::error::StoreError;
use crate::mvcc::RESTORE_BUMP;

/// Limits, counts, order, and bounds, also odd ones.
pub async fn ranges_are_bounded_counted_and_ordered(f: Fixture) {
    let store = &*f.store;
    for key in ["b", "a/2", "a/1", "a/3", "a", "\u{0}"] {
        put(store, key, key).await;
    }
    let read = async |range, limit, count_only| {
        let request = RangeRequest { range, revision: None, limit, count_only };
        let answer = store.range(request).await.expect("range");
        let keys: Vec<String> =
            answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
        (keys.join(" "), answer.count)
    };
    assert_eq!(read(KeyRange::prefix("a/"), None, false).await, ("a/1 a/2 a/3".to_owned(), 3));
    assert_eq!(read(KeyRange::prefix("a/"), Some(2), false).await, ("a/1 a/2".to_owned(), 3));
    assert_eq!(read(KeyRange::prefix("a/"), None, true).await, (String::new(), 3));
    assert_eq!(read(KeyRange::single("a"), None, false).await, ("a".to_owned(), 1));
    assert_eq!(read(KeyRange::between("a/2", "b"), None, false).await, ("a/2 a/3".to_owned(), 2));
    assert_eq!(read(KeyRange::between("b", "a"), None, false).await, (String::new(), 0));
    assert_eq!(read(KeyRange::between("b", "b"), None, false).await, (String::new(), 0));
    assert_eq!(read(KeyRange::prefix(""), None, true).await, (String::new(), 6));
}

/// Every revision reads as it was; the future does not read at all.
pub async fn past_revisions_stay_readable(f: Fixture) {
    let store = &*f.store;
    put(store, "a", "1").await;
    put(store, "b", "1").await;
    put(store, "a", "2").await;
    delete(store, "a").await;
    let at = async |revision| {
        let request =
            RangeRequest { revision: Some(Revision(revision)), ..RangeRequest::all(KeyRange::prefix("")) };
        store.range(request).await.map(|read| {
            let text: Vec<String> = read
                .kvs
                .iter()
                .map(|kv| format!("{}={}", kv.key.escape_ascii(), kv.value.escape_ascii()))
                .collect();
            text.join(" ")
        })
    };
    let wanted = ["", "a=1", "a=1 b=1", "a=2 b=1", "b=1"];
    for (revision, wanted) in (1..).zip(wanted) {
        assert_eq!(at(revision).await.expect("readable"), wanted, "revision {revision}");
    }
    assert!(matches!(
        at(6).await,
        Err(StoreError::FutureRevision { requested: Revision(6), newest: Revision(5) })
    ));
}

/// After compaction the point itself reads, what was before does not, and nothing live is lost.
pub async fn compaction_forgets_only_the_past(f: Fixture) {
    let store = &*f.store;
    for value in ["1", "2", "3"] {
        put(store, "a", value).await;
    }
    put(store, "gone", "x").await;
    delete(store, "gone").await;
    put(store, "b", "1").await;
    store.compact(Revision(6)).await.expect("compact");
    let at = async |revision| {
        let request =
            RangeRequest { revision: Some(Revision(revision)), ..RangeRequest::all(KeyRange::prefix("")) };
        store.range(request).await.map(|read| read.count)
    };
    assert!(matches!(
        at(5).await,
        Err(StoreError::Compacted { requested: Revision(5), oldest: Revision(6) })
    ));
    assert_eq!((at(6).await.expect("kept"), at(7).await.expect("kept")), (1, 2));
    assert!(matches!(store.compact(Revision(6)).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(store.compact(Revision(8)).await, Err(StoreError::FutureRevision { .. })));
    store.compact(Revision(7)).await.expect("the newest revision can be compacted");
    assert_eq!(keys(store).await, ["a", "b"]);
    let kv = all(store).await.remove(0);
    assert_eq!((kv.version, kv.create_revision), (3, Revision(2)));
    assert_eq!(put(store, "a", "4").await, Revision(8));
}

/// A large range answers handles of the stored values, not copies.
pub async fn ten_thousand_keys_share_their_values(f: Fixture) {
    let store = &*f.store;
    for chunk in 0..10 {
        let puts = (0..1000).map(|n| Operation::put(format!("k/{:05}", chunk * 1000 + n), vec![7; 2048]));
        apply(store, puts.collect()).await;
    }
    let (one, two) = (all(store).await, all(store).await);
    assert_eq!(one.len(), 10_000);
    let shared = one.iter().zip(&two).all(|(one, two)| one.value.as_ptr() == two.value.as_ptr());
    assert!(shared || !f.traits.shares_values);
    assert!(one.iter().zip(0..).all(|(kv, n)| kv.key == format!("k/{n:05}") && kv.value.len() == 2048));
}

/// A restore is another life: new incarnation, later revision, old watchers must list again.
pub async fn a_restored_snapshot_is_a_new_life(f: Fixture) {
    let store = &*f.store;
    put(store, "a", "1").await;
    put(store, "b", "1").await;
    let snapshot = store.snapshot().await.expect("snapshot");
    put(store, "c", "lost").await;
    let restored = (f.restore)(&snapshot).expect("restore");
    assert_ne!(restored.incarnation(), store.incarnation());
    let status = restored.status().await.expect("status");
    assert_eq!((status.revision, status.compacted), (Revision(3 + RESTORE_BUMP), Revision(3 + RESTORE_BUMP)));
    let kept = all(&*restored).await;
    if f.traits.keeps_versions {
        assert_eq!(kept, snapshot.kvs);
    }
    let content =
        |kvs: &[KeyValue]| -> Vec<_> { kvs.iter().map(|kv| (kv.key.clone(), kv.value.clone())).collect() };
    assert_eq!(content(&kept), content(&snapshot.kvs));
    let old = WatchRequest { range: KeyRange::prefix(""), start: Some(Revision(4)), buffer: 1 };
    assert!(matches!(restored.watch(old).await, Err(StoreError::Compacted { .. })));
    assert_eq!(put(&*restored, "a", "2").await, Revision(4 + RESTORE_BUMP));
    assert_eq!(all(&*restored).await[0].version, 2);
}

/// A snapshot whose keys are out of order, or from its future, is not believed.
pub async fn a_contradictory_snapshot_is_refused(f: Fixture) {
    put(&*f.store, "a", "1").await;
    put(&*f.store, "b", "1").await;
    let good = f.store.snapshot().await.expect("snapshot");
    let mut swapped = good.clone();
    swapped.kvs.swap(0, 1);
    let mut early = good;
    early.revision = Revision(2);
    for wrong in [swapped, early] {
        assert!((f.restore)(&wrong).is_err());
    }
}
