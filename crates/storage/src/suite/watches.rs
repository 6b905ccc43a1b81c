//! etcd's six watch guarantees, and how watches end.

use super::{Fixture, apply, delete, events_through, next, put, watch};
use crate::contract::{EventKind, KeyRange, Operation, Revision, WatchRequest};
use crate::error::StoreError;

/// *Ordered*, *unique*, *reliable*: with concurrent writers each revision's event comes once, in order.
pub async fn events_are_ordered_unique_and_reliable(f: Fixture) {
    let mut stream = watch(&*f.store, "k/", None).await;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = f.store.clone();
            tokio::spawn(async move {
                for n in 0..25 {
                    put(&*store, &format!("k/{writer}"), &n.to_string()).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("join");
    }
    let events = events_through(&mut stream, Revision(201)).await;
    let revisions: Vec<u64> = events.iter().map(|event| event.kv.mod_revision.0).collect();
    assert_eq!(revisions, (2..=201).collect::<Vec<_>>());
}

/// *Atomic*: a transaction's events come in one batch, in the order of its operations.
pub async fn a_revision_is_delivered_whole(f: Fixture) {
    let mut stream = watch(&*f.store, "", None).await;
    put(&*f.store, "z", "0").await;
    events_through(&mut stream, Revision(2)).await;
    let puts = vec![Operation::put("c", "1"), Operation::put("a", "1"), Operation::delete("z")];
    apply(&*f.store, puts).await;
    let batch = loop {
        let batch = next(&mut stream).await.expect("batch");
        if !batch.events.is_empty() {
            break batch;
        }
    };
    let kinds: Vec<_> = batch.events.iter().map(|event| (event.kind, event.kv.key.as_ref())).collect();
    assert_eq!(kinds, [(EventKind::Put, &b"c"[..]), (EventKind::Put, b"a"), (EventKind::Delete, b"z")]);
    assert!(batch.events.iter().all(|event| event.kv.mod_revision == Revision(3)));
}

/// *Resumable*: from any revision not compacted, exactly the events from there on come, and live ones follow.
pub async fn a_watch_resumes_anywhere(f: Fixture) {
    for n in 2..12 {
        put(&*f.store, "k", &n.to_string()).await;
    }
    for start in 1..=12 {
        let mut stream = watch(&*f.store, "", Some(start)).await;
        let newest = put(&*f.store, "k", "live").await;
        let events = events_through(&mut stream, newest).await;
        let revisions: Vec<u64> = events.iter().map(|event| event.kv.mod_revision.0).collect();
        assert_eq!(revisions, (start.max(2)..=newest.0).collect::<Vec<_>>());
    }
}

/// A start in the future is waited for; what happens before it is not delivered.
pub async fn a_watch_may_start_in_the_future(f: Fixture) {
    let mut stream = watch(&*f.store, "", Some(4)).await;
    for n in 0..4 {
        put(&*f.store, "k", &n.to_string()).await;
    }
    let events = events_through(&mut stream, Revision(5)).await;
    assert_eq!(events.first().expect("one").kv.mod_revision, Revision(4));
    assert_eq!(events.len(), 2);
}

/// *Bookmarkable*: a watch without events of its own learns how far the store is.
pub async fn a_quiet_watch_is_told_the_progress(f: Fixture) {
    let mut stream = watch(&*f.store, "quiet/", None).await;
    let newest = put(&*f.store, "other", "1").await;
    f.nudge();
    let batch = next(&mut stream).await.expect("batch");
    assert_eq!((batch.revision, batch.events.len()), (newest, 0));
}

/// A reader that does not read gets what fits, then the error, then the end; never a gap.
pub async fn a_slow_watcher_is_ended_not_starved(f: Fixture) {
    let request = WatchRequest { range: KeyRange::prefix(""), start: None, buffer: 3 };
    let mut stream = f.store.watch(request).await.expect("watch");
    for n in 0..10 {
        put(&*f.store, "k", &n.to_string()).await;
    }
    // An engine elsewhere sends what this reader does not take: another reader's getting it all says that it has.
    let mut other = watch(&*f.store, "", Some(2)).await;
    events_through(&mut other, Revision(11)).await;
    f.advance(f.moment()).await;
    let mut expected = 2;
    let error = loop {
        match next(&mut stream).await {
            Ok(batch) => {
                for event in batch.events {
                    assert_eq!(event.kv.mod_revision.0, expected);
                    expected += 1;
                }
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::SlowWatcher { unread: 3 }), "{error}");
    assert!(stream.next().await.is_none());
}

/// Events of other keys are not delivered, live or from history.
pub async fn a_watch_sees_only_its_range(f: Fixture) {
    let store = &*f.store;
    let mut live = watch(store, "a/", None).await;
    for key in ["a/1", "a", "a0", "b/1", "a/2"] {
        put(store, key, "").await;
    }
    let mut replayed = watch(store, "a/", Some(1)).await;
    for stream in [&mut live, &mut replayed] {
        let events = events_through(stream, Revision(6)).await;
        let keys: Vec<_> = events.iter().map(|event| event.kv.key.as_ref()).collect();
        assert_eq!(keys, [b"a/1", b"a/2"]);
    }
}

/// A start at or below the compaction point is refused, the one after it is not; running watches do not care.
pub async fn a_compacted_start_is_refused(f: Fixture) {
    let store = &*f.store;
    let mut running = watch(store, "", None).await;
    for n in 0..5 {
        put(store, "k", &n.to_string()).await;
    }
    store.compact(Revision(4)).await.expect("compact");
    let request =
        |start| WatchRequest { range: KeyRange::prefix(""), start: Some(Revision(start)), buffer: 9 };
    for start in [1, 3, 4] {
        let refused = store.watch(request(start)).await;
        assert!(matches!(refused, Err(StoreError::Compacted { .. })), "{start}: {refused:?}");
    }
    let mut stream = store.watch(request(5)).await.expect("watch");
    assert_eq!(events_through(&mut stream, Revision(6)).await.len(), 2);
    assert_eq!(events_through(&mut running, Revision(6)).await.len(), 5);
}

/// `previous` is what the event replaced.
pub async fn an_event_carries_the_previous_version(f: Fixture) {
    let store = &*f.store;
    let mut stream = watch(store, "", None).await;
    put(store, "k", "1").await;
    put(store, "k", "2").await;
    delete(store, "k").await;
    let events = events_through(&mut stream, Revision(4)).await;
    assert_eq!(events[0].previous, None);
    assert_eq!(events[1].previous.as_ref(), Some(&events[0].kv));
    assert_eq!(events[2].previous.as_ref(), Some(&events[1].kv));
    assert!(events[2].kv.value.is_empty());
    let mut replayed = watch(store, "", Some(2)).await;
    assert_eq!(events_through(&mut replayed, Revision(4)).await, events);
}

/// When the store goes, its watches end.
pub async fn a_dropped_store_ends_its_watches(f: Fixture) {
    let mut stream = watch(&*f.store, "", None).await;
    let Fixture { store, restore, reopen, keep, .. } = f;
    drop((store, restore, reopen));
    let end = tokio::time::timeout(super::PATIENCE, stream.next()).await.expect("in time");
    assert!(end.is_none(), "{end:?}");
    drop(keep);
}
