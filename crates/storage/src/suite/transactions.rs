//! Transactions: conditions, atomicity, metadata.

use super::{Fixture, all, apply, delete, keys, put};
use crate::contract::{
    Compare, CompareTarget, DeleteRequest, KeyRange, LeaseId, Operation, OperationResponse, RangeRequest,
    Revision, Transaction,
};
use crate::error::StoreError;

/// A store that was never written.
pub async fn a_new_store_is_empty_at_revision_one(f: Fixture) {
    let status = f.store.status().await.expect("status");
    assert_eq!((status.revision, status.compacted), (Revision(1), Revision(0)));
    assert!(all(&*f.store).await.is_empty());
}

/// Every kind of compare, on a key that exists and one that does not.
pub async fn compares_choose_the_branch(f: Fixture) {
    let store = &*f.store;
    let made = put(store, "a", "1").await;
    let changed = put(store, "a", "2").await;
    let cases = [
        ("a", CompareTarget::ModRevision(changed), true),
        ("a", CompareTarget::ModRevision(made), false),
        ("a", CompareTarget::CreateRevision(made), true),
        ("a", CompareTarget::Version(2), true),
        ("a", CompareTarget::Version(1), false),
        ("a", CompareTarget::Value("2".into()), true),
        ("a", CompareTarget::Value("1".into()), false),
        ("none", CompareTarget::Version(0), true),
        ("none", CompareTarget::ModRevision(Revision(0)), true),
        ("none", CompareTarget::CreateRevision(Revision(0)), true),
        ("none", CompareTarget::Value("".into()), false),
        ("none", CompareTarget::Version(1), false),
    ];
    for (key, target, holds) in cases {
        let compare = vec![Compare { key: key.into(), target }];
        let described = format!("{compare:?}");
        let done = store
            .transact(Transaction {
                compare,
                success: vec![Operation::get("a")],
                failure: vec![Operation::get("a"), Operation::get("a")],
            })
            .await
            .expect("valid");
        assert_eq!((done.succeeded, done.responses.len()), (holds, if holds { 1 } else { 2 }), "{described}");
    }
}

/// Several operations: one revision, and reads see the writes before them.
pub async fn a_transaction_is_one_revision_and_sees_itself(f: Fixture) {
    let store = &*f.store;
    put(store, "old", "x").await;
    let done = apply(
        store,
        vec![
            Operation::put("new", "y"),
            Operation::get("new"),
            Operation::delete("old"),
            Operation::Range(RangeRequest::all(KeyRange::prefix(""))),
        ],
    )
    .await;
    assert_eq!(done.revision, Revision(3));
    let [OperationResponse::Put { previous: None }, OperationResponse::Range(own), delete, all] =
        &done.responses[..]
    else {
        panic!("{:?}", done.responses)
    };
    assert_eq!((own.count, own.kvs[0].mod_revision, own.revision), (1, Revision(3), Revision(3)));
    assert!(matches!(delete, OperationResponse::Delete { previous } if previous[0].value == "x"));
    assert!(matches!(all, OperationResponse::Range(all) if all.count == 1));
}

/// Reads, and deletions of nothing, do not move the revision.
pub async fn nothing_changed_is_no_revision(f: Fixture) {
    let store = &*f.store;
    put(store, "a", "1").await;
    assert_eq!(delete(store, "none").await, Revision(2));
    assert_eq!(apply(store, vec![Operation::get("a")]).await.revision, Revision(2));
    assert_eq!(put(store, "a", "1").await, Revision(3), "the same value again is a change");
}

/// What is invalid is refused as a whole, also when only the branch not taken is.
pub async fn wrong_requests_change_nothing(f: Fixture) {
    let store = &*f.store;
    put(store, "a", "1").await;
    let past = RangeRequest { revision: Some(Revision(99)), ..RangeRequest::all(KeyRange::single("a")) };
    let twice = vec![Operation::put("b", "1"), Operation::put("b", "2")];
    let both =
        vec![Operation::put("b", "1"), Operation::Delete(DeleteRequest { range: KeyRange::prefix("b") })];
    let wrong = [
        Transaction { success: twice.clone(), ..Transaction::default() },
        Transaction { success: both, ..Transaction::default() },
        Transaction { success: vec![Operation::put("", "1")], ..Transaction::default() },
        Transaction { success: vec![Operation::put("b", "1")], failure: twice, ..Transaction::default() },
        Transaction { success: vec![Operation::put(vec![b'k'; 5000], "1")], ..Transaction::default() },
        Transaction { success: vec![Operation::get("a"); 5000], ..Transaction::default() },
    ];
    for transaction in wrong {
        let result = store.transact(transaction).await;
        assert!(matches!(result, Err(StoreError::InvalidRequest(_))), "{result:?}");
    }
    let future = vec![Operation::put("b", "1"), Operation::Range(past)];
    let result = store.transact(Transaction { success: future, ..Transaction::default() }).await;
    assert!(matches!(result, Err(StoreError::FutureRevision { .. })), "{result:?}");
    let unleased = vec![Operation::put("b", "1"), super::put_leased("c", LeaseId(5))];
    let result = store.transact(Transaction { success: unleased, ..Transaction::default() }).await;
    assert!(matches!(result, Err(StoreError::LeaseNotFound(LeaseId(5)))), "{result:?}");
    assert_eq!(keys(store).await, ["a"]);
    assert_eq!(store.status().await.expect("status").revision, Revision(2));
}

/// Create revision and version begin anew when a key is made again.
pub async fn key_metadata_follows_the_life_of_a_key(f: Fixture) {
    let store = &*f.store;
    put(store, "a", "1").await;
    put(store, "a", "2").await;
    let kv = all(store).await.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (Revision(2), Revision(3), 2));
    delete(store, "a").await;
    put(store, "a", "3").await;
    let kv = all(store).await.remove(0);
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (Revision(5), Revision(5), 1));
}

/// Of many that create the same key if it is absent, one succeeds; revisions are handed out once.
pub async fn concurrent_compare_and_set_admits_one(f: Fixture) {
    let tasks: Vec<_> = (0..32)
        .map(|n: u32| {
            let store = f.store.clone();
            tokio::spawn(async move {
                let transaction = Transaction {
                    compare: vec![Compare::absent("lock")],
                    success: vec![Operation::put("lock", n.to_string())],
                    failure: vec![Operation::put(format!("lost/{n}"), "")],
                };
                store.transact(transaction).await.expect("valid")
            })
        })
        .collect();
    let (mut won, mut revisions) = (0, Vec::new());
    for task in tasks {
        let done = task.await.expect("join");
        won += usize::from(done.succeeded);
        revisions.push(done.revision.0);
    }
    revisions.sort_unstable();
    assert_eq!(won, 1);
    assert_eq!(revisions, (2..34).collect::<Vec<_>>());
}
