//! Leases, on a clock that the test moves.

use std::time::Duration;

use super::{Fixture, apply, events_through, keys, put, put_leased, watch};
use crate::contract::{EventKind, LeaseId, Operation, Revision, Store, Transaction};
use crate::error::StoreError;

/// The end of a lease deletes all its keys, at one revision, not before its time.
pub async fn keys_end_with_their_lease_in_one_revision(f: Fixture) {
    let store = &*f.store;
    let lease = store.lease_grant(f.ttl()).await.expect("grant");
    apply(store, vec![put_leased("a", lease), put_leased("b", lease), Operation::put("c", "")]).await;
    let mut stream = watch(store, "", None).await;
    f.advance(f.ttl() - f.moment()).await;
    put(store, "tick", "").await;
    assert_eq!(keys(store).await, ["a", "b", "c", "tick"]);
    f.advance(f.moment()).await;
    let events = events_through(&mut stream, Revision(4)).await;
    let deleted: Vec<_> = events.iter().filter(|event| event.kind == EventKind::Delete).collect();
    assert_eq!(deleted.len(), 2);
    assert!(deleted.iter().all(|event| event.kv.mod_revision == Revision(4)));
    assert_eq!(keys(store).await, ["c", "tick"]);
    assert!(matches!(store.lease_renew(lease).await, Err(StoreError::LeaseNotFound(_))));
}

/// Renewing starts the time again.
pub async fn a_renewed_lease_lives_on(f: Fixture) {
    let store = &*f.store;
    let kept = store.lease_grant(f.ttl()).await.expect("grant");
    let left = store.lease_grant(f.ttl()).await.expect("grant");
    apply(store, vec![put_leased("kept", kept), put_leased("left", left)]).await;
    let mut stream = watch(store, "", None).await;
    f.advance(f.ttl() / 2).await;
    store.lease_renew(kept).await.expect("renew");
    f.advance(f.ttl() / 2).await;
    events_through(&mut stream, Revision(3)).await;
    assert_eq!(keys(store).await, ["kept"]);
}

/// Revoking ends a lease now.
pub async fn a_revoked_lease_takes_its_keys(f: Fixture) {
    let store = &*f.store;
    let lease = store.lease_grant(f.ttl()).await.expect("grant");
    apply(store, vec![put_leased("a", lease), Operation::put("b", "")]).await;
    store.lease_revoke(lease).await.expect("revoke");
    assert_eq!(keys(store).await, ["b"]);
    assert!(matches!(store.lease_revoke(lease).await, Err(StoreError::LeaseNotFound(_))));
    let late =
        store.transact(Transaction { success: vec![put_leased("c", lease)], ..Transaction::default() }).await;
    assert!(matches!(late, Err(StoreError::LeaseNotFound(_))));
}

/// A key put without its lease, or with another one, does not end with the first.
pub async fn a_key_put_again_leaves_its_lease(f: Fixture) {
    let store = &*f.store;
    let one = store.lease_grant(f.ttl()).await.expect("grant");
    let two = store.lease_grant(f.ttl()).await.expect("grant");
    apply(store, vec![put_leased("a", one), put_leased("b", one), put_leased("c", one)]).await;
    apply(store, vec![Operation::put("a", ""), put_leased("b", two)]).await;
    store.lease_revoke(one).await.expect("revoke");
    assert_eq!(keys(store).await, ["a", "b"]);
    store.lease_revoke(two).await.expect("revoke");
    assert_eq!(keys(store).await, ["a"]);
}

/// Too short and too long are refused; ids are never zero.
pub async fn leases_have_bounds(f: Fixture) {
    for ttl in [Duration::ZERO, Duration::from_millis(999), Duration::from_secs(366 * 24 * 3600)] {
        let refused = f.store.lease_grant(ttl).await;
        assert!(matches!(refused, Err(StoreError::InvalidRequest(_))), "{ttl:?}: {refused:?}");
    }
    assert_ne!(f.store.lease_grant(f.ttl()).await.expect("grant"), LeaseId(0));
}

/// A lease and its keys are in a snapshot and, where the engine lasts, there after reopening, with their full time.
pub async fn leases_last(f: Fixture) {
    let lease = f.store.lease_grant(f.ttl()).await.expect("grant");
    apply(&*f.store, vec![put_leased("a", lease)]).await;
    if let Some(clock) = &f.clock {
        clock.advance(f.ttl() / 2);
    }
    let snapshot = f.store.snapshot().await.expect("snapshot");
    check_lease(&*(f.restore)(&snapshot).expect("restore"), lease).await;
    if let Some(reopen) = &f.reopen {
        let half = f.ttl() / 2;
        drop(f.store);
        let store = reopen();
        if let (Some(clock), true) = (&f.clock, f.traits.leases_restart) {
            clock.advance(half);
            assert_eq!(keys(&*store).await, ["a"], "the time starts again when a store is opened");
        }
        check_lease(&*store, lease).await;
    }
}

async fn check_lease(store: &dyn Store, lease: LeaseId) {
    assert_eq!(keys(store).await, ["a"]);
    store.lease_revoke(lease).await.expect("the lease is known");
    assert!(keys(store).await.is_empty(), "the key is tied to it");
}
