//! Several servers on one etcd, an etcd that goes back in time, members that are away.

use std::path::Path;
use std::time::Duration;

use storage::mvcc::RESTORE_BUMP;
use storage::{
    Compare, KeyRange, Operation, RangeRequest, Revision, Store, StoreError, Transaction, WatchRequest,
    WatchStream, Witness,
};
use storage_etcd::{EtcdStore, Options, Tls};

use super::{Server, etcd};

const PATIENCE: Duration = Duration::from_secs(20);

async fn put(store: &EtcdStore, key: &str) -> Result<Revision, StoreError> {
    let success = vec![Operation::put(key.to_owned(), "v")];
    store.transact(Transaction { success, ..Transaction::default() }).await.map(|done| done.revision)
}

async fn watch(store: &EtcdStore, start: Option<Revision>) -> WatchStream {
    let request = WatchRequest { range: KeyRange::prefix(""), start, buffer: 1024 };
    store.watch(request).await.expect("watch")
}

/// Reads a watch up to a revision; answers the keys.
async fn through(stream: &mut WatchStream, revision: Revision) -> Vec<String> {
    let mut keys = Vec::new();
    let reading = async {
        loop {
            let batch = stream.next().await.expect("goes on").expect("batch");
            keys.extend(batch.events.iter().map(|event| String::from_utf8_lossy(&event.kv.key).into_owned()));
            if batch.revision >= revision {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("in time");
    keys
}

async fn ended(stream: &mut WatchStream) -> Option<StoreError> {
    let reading = async {
        loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(error),
                None => return None,
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("in time")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("directory");
    for entry in std::fs::read_dir(from).expect("read") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copy");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_see_each_others_writes_in_one_order() {
    let Some(server) = Server::start() else { return };
    let one = EtcdStore::open(server.options()).await.expect("open");
    let two = EtcdStore::open(server.options()).await.expect("open");
    assert_eq!(one.incarnation(), two.incarnation());
    let mut watches = [watch(&one, None).await, watch(&two, None).await];
    let mut newest = Revision(0);
    for n in 0..10 {
        let writer = if n % 2 == 0 { &one } else { &two };
        newest = put(writer, &format!("k/{n}")).await.expect("put");
        for reader in [&one, &two] {
            assert_eq!(reader.revision().await.expect("revision"), newest, "reads are linearizable");
        }
    }
    let told = [through(&mut watches[0], newest).await, through(&mut watches[1], newest).await];
    assert_eq!(told[0].len(), 10);
    assert_eq!(told[0], told[1]);
    let lock = |owner: &str| Transaction {
        compare: vec![Compare::absent("lock")],
        success: vec![Operation::put("lock", owner.to_owned())],
        ..Transaction::default()
    };
    assert!(one.transact(lock("one")).await.expect("lock").succeeded);
    assert!(!two.transact(lock("two")).await.expect("lock").succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_that_another_program_moved_is_reached() {
    let Some(server) = Server::start() else { return };
    let store = EtcdStore::open(server.options()).await.expect("open");
    let other =
        EtcdStore::open(Options { prefix: "/other".to_owned(), ..server.options() }).await.expect("open");
    let mut stream = watch(&store, None).await;
    for n in 0..3 {
        put(&other, &n.to_string()).await.expect("put");
    }
    // What a consistent read does: ask for the newest revision, wait for the watch to get there.
    let newest = store.revision().await.expect("revision");
    assert!(through(&mut stream, newest).await.is_empty());
    assert_eq!(store.range(RangeRequest::all(KeyRange::prefix(""))).await.expect("range").count, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_went_back_begins_a_new_life() {
    let Some(mut server) = Server::start() else { return };
    let program = etcd::program().expect("started before");
    let store = EtcdStore::open(server.options()).await.expect("open");
    put(&store, "kept").await.expect("put");
    server.etcd.stop();
    let backup = server.directory.path().join("backup");
    copy(&server.etcd.data(), &backup);
    server.etcd.resume(&program).expect("resume");
    let mut newest = Revision(0);
    for n in 0..5 {
        newest = put(&store, &format!("lost/{n}")).await.expect("put");
    }
    let mut stream = watch(&store, None).await;
    let witness = Witness { incarnation: store.incarnation(), revision: newest };

    server.etcd.stop();
    std::fs::remove_dir_all(server.etcd.data()).expect("remove");
    copy(&backup, &server.etcd.data());
    server.etcd.resume(&program).expect("resume");

    let refused = put(&store, "wrong").await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    assert!(matches!(store.revision().await, Err(StoreError::Unavailable(_))), "nothing is served any more");
    assert!(matches!(ended(&mut stream).await, Some(StoreError::Unavailable(_))));
    drop(store);

    let options = Options { witness: Some(witness), ..server.options() };
    let store = EtcdStore::open(options.clone()).await.expect("open");
    assert_ne!(store.incarnation(), witness.incarnation);
    let status = store.status().await.expect("status");
    assert!(status.revision.0 >= newest.0 + RESTORE_BUMP, "{status:?}");
    for old in [Revision(2), newest.next(), Revision(newest.0 + 100)] {
        let request = WatchRequest { range: KeyRange::prefix(""), start: Some(old), buffer: 9 };
        let watched = store.watch(request).await;
        assert!(matches!(watched, Err(StoreError::Compacted { .. })), "{old}: {watched:?}");
        let read = RangeRequest { revision: Some(old), ..RangeRequest::all(KeyRange::prefix("")) };
        assert!(matches!(store.range(read).await, Err(StoreError::Compacted { .. })));
    }
    let kept = store.range(RangeRequest::all(KeyRange::single("kept"))).await.expect("range");
    assert_eq!(kept.count, 1);
    let unchanged = Transaction {
        compare: vec![Compare::unchanged_since("kept", kept.kvs[0].mod_revision)],
        success: vec![Operation::put("kept", "again")],
        ..Transaction::default()
    };
    assert!(store.transact(unchanged).await.expect("put").succeeded, "revisions read can be compared");
    // Opened again with what it has served since, it is the same life.
    let served =
        Witness { incarnation: store.incarnation(), revision: store.revision().await.expect("revision") };
    let again = EtcdStore::open(Options { witness: Some(served), ..options }).await.expect("open");
    assert_eq!(again.incarnation(), store.incarnation());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_missed_a_new_life_is_fenced() {
    let Some(server) = Server::start() else { return };
    let old = EtcdStore::open(server.options()).await.expect("open");
    let newest = put(&old, "a").await.expect("put");
    let mut stream = watch(&old, None).await;
    let witness = Witness { incarnation: old.incarnation(), revision: Revision(newest.0 + 50) };
    let new = EtcdStore::open(Options { witness: Some(witness), ..server.options() }).await.expect("open");
    assert_ne!(new.incarnation(), old.incarnation());
    assert!(matches!(ended(&mut stream).await, Some(StoreError::Unavailable(_))));
    assert!(matches!(put(&old, "b").await, Err(StoreError::Unavailable(_))));
    assert!(matches!(
        old.range(RangeRequest::all(KeyRange::prefix(""))).await,
        Err(StoreError::Unavailable(_))
    ));
    put(&new, "c").await.expect("the new one goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_outlives_its_etcd() {
    let Some(mut server) = Server::start() else { return };
    let program = etcd::program().expect("started before");
    let mut options = server.options();
    // The first endpoint never answers.
    options.endpoints.insert(0, "http://127.0.0.1:1".to_owned());
    let store = EtcdStore::open(options).await.expect("the second endpoint answers");
    let mut stream = watch(&store, None).await;
    let before = put(&store, "before").await.expect("put");
    assert_eq!(through(&mut stream, before).await, ["before"]);
    server.etcd.stop();
    let refused = store.range(RangeRequest::all(KeyRange::single("before"))).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    server.etcd.resume(&program).expect("resume");
    let after = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(revision) = put(&store, "after").await {
                return revision;
            }
        }
    });
    let after = after.await.expect("in time");
    let told = through(&mut stream, after).await;
    assert!(!told.is_empty() && told.iter().all(|key| key == "after"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_take_turns_at_compaction() {
    let Some(server) = Server::start() else { return };
    let options = Options { history: Some(Duration::from_secs(1)), ..server.options() };
    let one = EtcdStore::open(options.clone()).await.expect("open");
    let two = EtcdStore::open(options).await.expect("open");
    for n in 0..5 {
        put(&one, &n.to_string()).await.expect("put");
    }
    let compacted = tokio::time::timeout(PATIENCE, async {
        loop {
            let status = two.status().await.expect("status");
            if status.compacted > Revision(1) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let status = compacted.await.expect("compacted in time");
    assert!(status.compacted < status.revision, "the newest period is kept: {status:?}");
    assert_eq!(one.range(RangeRequest::all(KeyRange::prefix(""))).await.expect("range").count, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_ranges_come_in_pages_of_one_revision() {
    let Some(server) = Server::start() else { return };
    let store = EtcdStore::open(server.options()).await.expect("open");
    // Over the size of a page, and over its first number of keys.
    let value = vec![b'x'; 40 << 10];
    for chunk in 0..6 {
        let success =
            (0..100).map(|n| Operation::put(format!("k/{:04}", chunk * 100 + n), value.clone())).collect();
        store.transact(Transaction { success, ..Transaction::default() }).await.expect("put");
    }
    let all = store.range(RangeRequest::all(KeyRange::prefix("k/"))).await.expect("range");
    assert_eq!((all.count, all.kvs.len()), (600, 600));
    assert!(all.kvs.iter().zip(0..).all(|(kv, n)| kv.key == format!("k/{n:04}")));
    let part = RangeRequest { limit: Some(550), ..RangeRequest::all(KeyRange::prefix("k/")) };
    let part = store.range(part).await.expect("range");
    assert_eq!((part.count, part.kvs.len()), (600, 550));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_store_is_not_opened() {
    let Some(server) = Server::start() else { return };
    let store = EtcdStore::open(server.options()).await.expect("open");
    put(&store, "a").await.expect("put");
    let inside = Options { prefix: "/fairlead/d".to_owned(), ..server.options() };
    put(&store, "/b").await.expect("put");
    let opened = EtcdStore::open(inside).await;
    assert!(matches!(opened, Err(StoreError::Corrupt { .. })), "{opened:?}");
    let none = EtcdStore::open(Options { endpoints: Vec::new(), ..server.options() }).await;
    assert!(matches!(none, Err(StoreError::InvalidRequest(_))));
    let snapshot = store.snapshot().await.expect("snapshot");
    let onto =
        EtcdStore::restore(&snapshot, storage::mvcc::RestoreOptions::default(), server.options()).await;
    assert!(matches!(onto, Err(StoreError::InvalidRequest(_))), "{onto:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_certificates_open_an_etcd_that_asks_for_them() {
    let Some(program) = etcd::program() else { return };
    let directory = tempfile::tempdir().expect("dir");
    let pki = pki(directory.path());
    let path = |name: &str| directory.path().join(name).into_os_string();
    let arguments = vec![
        "--cert-file".into(),
        path("server.crt"),
        "--key-file".into(),
        path("server.key"),
        "--trusted-ca-file".into(),
        path("ca.crt"),
        "--client-cert-auth".into(),
    ];
    let options = etcd::Options { arguments, tls: true };
    let etcd = etcd::Etcd::start(&program, directory.path(), options).expect("etcd");
    let options = Options { tls: pki, history: None, ..Options::new(vec![etcd.endpoint()]) };
    let store = EtcdStore::open(options.clone()).await.expect("open");
    let mut stream = watch(&store, None).await;
    let newest = put(&store, "a").await.expect("put");
    assert_eq!(through(&mut stream, newest).await, ["a"]);
    let anonymous = Tls { certificate: None, key: None, ..options.tls.clone() };
    let refused = EtcdStore::open(Options { tls: anonymous, ..options }).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

/// A CA, a server certificate in files, a client certificate in memory.
fn pki(directory: &Path) -> Tls {
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    let ca_key = KeyPair::generate().expect("key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("certificate");
    let issuer = Issuer::new(ca, ca_key);
    let issue = |usage: &[ExtendedKeyUsagePurpose]| {
        let key = KeyPair::generate().expect("key");
        let mut leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        leaf.extended_key_usages = usage.to_vec();
        (leaf.signed_by(&key, &issuer).expect("certificate").pem(), key.serialize_pem())
    };
    // etcd's gateway speaks to its own listener with the server's certificate.
    let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let (server, server_key) = issue(&both);
    let (client, client_key) = issue(&[ExtendedKeyUsagePurpose::ClientAuth]);
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("write");
    write("ca.crt", &ca_certificate.pem());
    write("server.crt", &server);
    write("server.key", &server_key);
    Tls {
        certificate_authority: Some(ca_certificate.pem().into_bytes()),
        certificate: Some(client.into_bytes()),
        key: Some(client_key.into_bytes()),
        server_name: None,
    }
}
