//! A disk that fails under the store.

use std::sync::atomic::Ordering;

use storage::{KeyRange, Operation};

use super::*;

async fn put(store: &EmbeddedStore, key: &str) -> Result<Revision, StoreError> {
    let success = vec![Operation::put(key.to_owned(), "v")];
    store.transact(Transaction { success, ..Transaction::default() }).await.map(|done| done.revision)
}

#[tokio::test]
async fn after_a_failed_sync_the_store_refuses_everything_until_it_is_opened_again() {
    let dir = tempfile::tempdir().expect("dir");
    drop(EmbeddedStore::open(dir.path(), Options::default()).expect("create"));
    let directory = Directory::open(dir.path()).expect("directory");
    let data = Data::open(&directory.data(), None, false).expect("data");
    let broken = data.faults.break_sync.clone();
    let store = EmbeddedStore::start(dir.path(), directory, data, Options::default()).expect("start");

    let acknowledged = put(&store, "acknowledged").await.expect("put");
    let request = WatchRequest { range: KeyRange::prefix("lost"), start: None, buffer: 4 };
    let mut watch = store.watch(request).await.expect("watch");
    broken.store(true, Ordering::Release);
    let results = futures_join(&store).await;
    assert!(results.iter().all(|result| matches!(result, Err(StoreError::Unavailable(_)))), "{results:?}");
    broken.store(false, Ordering::Release);
    assert!(matches!(put(&store, "later").await, Err(StoreError::Unavailable(_))), "it is never tried again");
    assert!(matches!(store.status().await, Err(StoreError::Unavailable(_))));
    let told = watch.next().await;
    assert!(
        matches!(told, Some(Err(StoreError::Unavailable(_)))),
        "nobody saw what is not durable: {told:?}"
    );
    drop(store);

    let store = EmbeddedStore::open(dir.path(), Options::default()).expect("open again");
    assert!(store.status().await.expect("status").revision >= acknowledged);
    let read = store.range(RangeRequest::all(KeyRange::single("acknowledged"))).await.expect("range");
    assert_eq!(read.count, 1);
}

async fn futures_join(store: &EmbeddedStore) -> Vec<Result<Revision, StoreError>> {
    let puts: Vec<_> = (0..5)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { put(&store, &format!("lost/{n}")).await })
        })
        .collect();
    let mut results = Vec::new();
    for put in puts {
        results.push(put.await.expect("join"));
    }
    results
}
