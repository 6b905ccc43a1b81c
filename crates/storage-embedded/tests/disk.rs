//! What the engine does with files: restarts, damage, full disks, snapshots.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use storage::mvcc::{RESTORE_BUMP, RestoreOptions, Retention};
use storage::{
    KeyRange, Operation, PutRequest, RangeRequest, Revision, Store, StoreError, Transaction, WatchRequest,
};
use storage_embedded::{EmbeddedStore, Options, snapshot_file, verify};

fn options() -> Options {
    Options { retention: None, ..Options::default() }
}

fn open(path: &Path) -> EmbeddedStore {
    EmbeddedStore::open(path, options()).expect("open")
}

async fn put(store: &EmbeddedStore, key: &str, value: &str) -> Revision {
    try_put(store, key, value.as_bytes().to_vec()).await.expect("put")
}

async fn try_put(store: &EmbeddedStore, key: &str, value: Vec<u8>) -> Result<Revision, StoreError> {
    let success = vec![Operation::put(key.to_owned(), value)];
    store.transact(Transaction { success, ..Transaction::default() }).await.map(|done| done.revision)
}

async fn delete(store: &EmbeddedStore, key: &str) {
    let success = vec![Operation::delete(key.to_owned())];
    store.transact(Transaction { success, ..Transaction::default() }).await.expect("delete");
}

async fn keys(store: &EmbeddedStore) -> Vec<String> {
    let read = store.range(RangeRequest::all(KeyRange::prefix(""))).await.expect("range");
    read.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let path = entry.expect("entry").path();
        fs::copy(&path, to.join(path.file_name().expect("named"))).expect("copy");
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening_and_watches_resume() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let incarnation = store.incarnation();
    for n in 0..50 {
        put(&store, &format!("k/{n:02}"), "v").await;
    }
    delete(&store, "k/07").await;
    store.compact(Revision(20)).await.expect("compact");
    let before = store.snapshot().await.expect("snapshot");
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.incarnation(), incarnation);
    let after = store.snapshot().await.expect("snapshot");
    assert_eq!((after.revision, &after.kvs), (before.revision, &before.kvs));
    let from =
        |revision| WatchRequest { range: KeyRange::prefix("k/"), start: Some(Revision(revision)), buffer: 4 };
    assert!(matches!(store.watch(from(20)).await, Err(StoreError::Compacted { .. })));
    let mut watch = store.watch(from(21)).await.expect("watch");
    let batch = watch.next().await.expect("open").expect("batch");
    assert_eq!(batch.events.len(), 32, "revisions 21 to 52");
    assert!(batch.events.last().expect("one").previous.is_some());
}

#[tokio::test]
async fn a_compacted_key_that_was_deleted_leaves_nothing_on_disk() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    for round in 0..20 {
        put(&store, "a", &format!("{round}")).await;
    }
    delete(&store, "a").await;
    put(&store, "b", "stays").await;
    let now = store.status().await.expect("status").revision;
    store.compact(now).await.expect("compact");
    drop(store);
    let store = open(dir.path());
    assert_eq!(keys(&store).await, ["b"]);
    assert_eq!(store.status().await.expect("status").compacted, now);
}

#[tokio::test]
async fn a_fresh_store_opens_fast_and_only_once() {
    let dir = tempfile::tempdir().expect("dir");
    let started = Instant::now();
    let store = open(dir.path());
    println!("a fresh store opened in {:?}", started.elapsed());
    assert_eq!(store.status().await.expect("status").revision, Revision(1));
    let again = EmbeddedStore::open(dir.path(), options());
    assert!(matches!(&again, Err(StoreError::Unavailable(reason)) if reason.contains("in use")), "{again:?}");
}

#[tokio::test]
async fn missing_empty_and_foreign_data_are_errors_that_name_the_file() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    put(&store, "a", "1").await;
    drop(store);
    let data = dir.path().join("store.redb");
    let intact = fs::read(&data).expect("read");
    let contents: [(&str, Option<&[u8]>); 4] = [
        ("missing", None),
        ("empty", Some(b"")),
        ("foreign", Some(&[7; 5000])),
        ("short", Some(&intact[..100])),
    ];
    for (name, content) in contents {
        match content {
            Some(bytes) => fs::write(&data, bytes).expect("write"),
            None => fs::remove_file(&data).expect("remove"),
        }
        for result in [EmbeddedStore::open(dir.path(), options()).map(drop), verify(dir.path()).map(drop)] {
            match result {
                Err(StoreError::Corrupt { path, reason }) => {
                    assert_eq!(path, data, "{name}");
                    assert!(reason.contains("fairlead store restore"), "{name}: {reason}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
    fs::write(&data, intact).expect("write");
    assert_eq!(keys(&open(dir.path())).await, ["a"]);
}

/// Wherever the file is cut or a bit flips: either it does not matter, and everything is there, or the error names the
/// file. Never a panic, never anything missing.
#[tokio::test]
async fn damage_anywhere_is_noticed_or_harmless() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    for n in 0..40 {
        put(&store, &format!("key/{n}"), &"x".repeat(300)).await;
    }
    let whole = store.snapshot().await.expect("snapshot");
    drop(store);
    let intact = fs::read(dir.path().join("store.redb")).expect("read");
    let used: Vec<usize> = (0..intact.len()).filter(|at| intact[*at] != 0).collect();
    let flips = used.iter().copied().step_by(used.len() / 150 + 1).chain(0..64);
    let cuts = (0..intact.len()).step_by(intact.len() / 40 + 1);
    let mut noticed = 0;
    let mut check = async |what: String, bytes: &[u8]| {
        let bad = tempfile::tempdir().expect("dir");
        copy(dir.path(), bad.path());
        fs::write(bad.path().join("store.redb"), bytes).expect("write");
        match EmbeddedStore::open(bad.path(), options()) {
            Ok(store) => {
                let read = store.snapshot().await.expect("snapshot");
                assert_eq!((read.revision, &read.kvs), (whole.revision, &whole.kvs), "{what}");
            }
            Err(StoreError::Corrupt { path, .. }) => {
                noticed += 1;
                assert!(path.ends_with("store.redb"), "{what}: {path:?}");
            }
            Err(other) => panic!("{what}: {other:?}"),
        }
    };
    for at in flips {
        let mut bytes = intact.clone();
        bytes[at] ^= 1 << (at % 8);
        check(format!("bit flipped in byte {at}"), &bytes).await;
    }
    for length in cuts {
        check(format!("cut at {length}"), &intact[..length]).await;
    }
    assert!(noticed > 20, "only {noticed} were noticed: is anything checked?");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reads_and_recovers() {
    let dir = tempfile::tempdir().expect("dir");
    let small = Options { max_bytes: Some(3 << 20), ..options() };
    let store = EmbeddedStore::open(dir.path(), small.clone()).expect("open");
    let lease = store.lease_grant(Duration::from_secs(600)).await.expect("grant");
    let leased = |key: &str, size| {
        let put = PutRequest { key: key.to_owned().into(), value: vec![1; size].into(), lease: Some(lease) };
        Transaction { success: vec![Operation::Put(put)], ..Transaction::default() }
    };
    store.transact(leased("first", 1)).await.expect("put");
    let mut written = 0;
    let error = loop {
        match try_put(&store, &format!("big/{written}"), vec![7; 100_000]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the limit does not hold");
    };
    assert!(matches!(&error, StoreError::NoSpace { path } if path.ends_with("store.redb")), "{error:?}");
    let revision = store.status().await.expect("status").revision;
    assert_eq!(keys(&store).await.len(), written + 1);
    assert_eq!(put(&store, "small", "fits").await, Revision(revision.0 + 1));
    // What was taken back is not tied to the lease either.
    let too_large = store.transact(leased("second", 1 << 20)).await;
    assert!(matches!(too_large, Err(StoreError::NoSpace { .. })), "{too_large:?}");
    drop(store);
    let store = EmbeddedStore::open(dir.path(), small).expect("open again");
    assert_eq!(keys(&store).await.len(), written + 2);
    store.lease_revoke(lease).await.expect("revoke");
    assert_eq!(keys(&store).await.len(), written + 1);
}

#[tokio::test]
async fn a_snapshot_file_restores_to_a_new_life() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(&dir.path().join("one"));
    let lease = store.lease_grant(Duration::from_secs(60)).await.expect("grant");
    let leased = Operation::Put(PutRequest { key: "leased".into(), value: "v".into(), lease: Some(lease) });
    store.transact(Transaction { success: vec![leased], ..Transaction::default() }).await.expect("put");
    put(&store, "plain", "v").await;
    let file = dir.path().join("copy.snapshot");
    let taken = store.snapshot_to_file(&file).await.expect("snapshot");
    let two = dir.path().join("two");
    let restored =
        EmbeddedStore::restore_from_file(&file, &two, RestoreOptions::default(), options()).expect("restore");
    assert_ne!(restored.incarnation(), store.incarnation());
    let status = restored.status().await.expect("status");
    assert_eq!(status.revision, Revision(taken.revision.0 + RESTORE_BUMP));
    assert_eq!(status.compacted, status.revision);
    assert_eq!(restored.snapshot().await.expect("snapshot").kvs, taken.kvs);
    let watch = WatchRequest { range: KeyRange::prefix(""), start: Some(taken.revision), buffer: 1 };
    assert!(matches!(restored.watch(watch).await, Err(StoreError::Compacted { .. })));
    restored.lease_revoke(lease).await.expect("the lease came along");
    assert_eq!(keys(&restored).await, ["plain"]);
    let over = EmbeddedStore::restore_from_file(&file, &two, RestoreOptions::default(), options());
    assert!(matches!(over, Err(StoreError::Unavailable(_))), "it is open: {over:?}");
    drop(restored);
    let over = EmbeddedStore::restore_from_file(&file, &two, RestoreOptions::default(), options());
    assert!(matches!(over, Err(StoreError::InvalidRequest(_))), "{over:?}");
}

#[tokio::test]
async fn a_snapshot_file_damaged_anywhere_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(&dir.path().join("store"));
    store.lease_grant(Duration::from_secs(60)).await.expect("grant");
    for n in 0..5 {
        put(&store, &format!("k{n}"), "value").await;
    }
    let file = dir.path().join("snapshot");
    store.snapshot_to_file(&file).await.expect("snapshot");
    let intact = fs::read(&file).expect("read");
    assert_eq!(snapshot_file::read(&file).expect("intact").kvs.len(), 5);
    let refused = |what: String, bytes: &[u8]| {
        fs::write(&file, bytes).expect("write");
        let read = snapshot_file::read(&file);
        assert!(matches!(&read, Err(StoreError::Corrupt { path, .. }) if path == &file), "{what}: {read:?}");
    };
    for length in 0..intact.len() {
        refused(format!("cut at {length}"), &intact[..length]);
    }
    for bit in 0..intact.len() * 8 {
        let mut bytes = intact.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        refused(format!("bit {bit} flipped"), &bytes);
    }
    refused("longer".to_owned(), &[&intact[..], b"\0"].concat());
}

#[tokio::test]
async fn retention_bounds_the_history_on_disk() {
    let dir = tempfile::tempdir().expect("dir");
    let retention = Some(Retention { events: 100, ..Retention::default() });
    let store = EmbeddedStore::open(dir.path(), Options { retention, ..options() }).expect("open");
    for n in 0..500 {
        put(&store, "one", &n.to_string()).await;
    }
    let compacted = store.status().await.expect("status").compacted;
    assert!(compacted > Revision(350), "{compacted}");
    drop(store);
    let store = open(dir.path());
    assert!(store.status().await.expect("status").compacted >= Revision(350));
    assert_eq!(keys(&store).await, ["one"]);
}

#[tokio::test]
async fn a_directory_put_back_from_a_copy_begins_a_new_life() {
    let (dir, backup) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (path, backup) = (dir.path().join("store"), backup.path().join("store"));
    let store = open(&path);
    put(&store, "kept", "1").await;
    drop(store);
    copy(&path, &backup);
    let store = open(&path);
    for n in 0..5 {
        put(&store, "lost", &n.to_string()).await;
    }
    let witness = store.served();
    drop(store);
    fs::remove_dir_all(&path).expect("remove");
    copy(&backup, &path);

    let guarded = Options { witness: Some(witness), ..options() };
    let store = EmbeddedStore::open(&path, guarded.clone()).expect("open");
    assert_ne!(store.incarnation(), witness.incarnation);
    let status = store.status().await.expect("status");
    assert_eq!(status.revision, Revision(witness.revision.0 + RESTORE_BUMP));
    assert_eq!(keys(&store).await, ["kept"]);
    let old = WatchRequest { range: KeyRange::prefix(""), start: Some(witness.revision.next()), buffer: 1 };
    assert!(matches!(store.watch(old).await, Err(StoreError::Compacted { .. })));
    put(&store, "new", "1").await;
    let served = store.served();
    drop(store);
    // With what it has served since, it is opened as it is.
    let again = EmbeddedStore::open(&path, Options { witness: Some(served), ..guarded }).expect("open again");
    assert_eq!(again.served(), served);
}
