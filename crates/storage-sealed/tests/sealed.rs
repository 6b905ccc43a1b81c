//! The suite on a sealed store, and what is particular to it.

use std::sync::Arc;

use foundation::clock::ManualClock;
use storage::model::{MemoryStore, Options};
use storage::mvcc::RestoreOptions;
use storage::suite::{Fixture, Traits};
use storage::{
    Compare, CompareTarget, KeyRange, Operation, OperationResponse, RangeRequest, Store, StoreError,
    Transaction, WatchRequest,
};
use storage_sealed::{Configuration, Rewritten, SealedStore};

const SECRET: &str = "/registry/core/secrets/default/db";
const OTHER: &str = "/registry/core/configmaps/default/db";
const PLAIN: &[u8] = b"{\"data\":\"a value nobody else reads\"}";

/// base64 of 32 times this byte, which must be a letter of base64's alphabet four times over.
fn configuration(keys: &[(&str, char)], identity_first: bool) -> Configuration {
    let keys: Vec<String> = keys
        .iter()
        .map(|(name, letter)| format!("{{name: {name}, secret: '{}='}}", letter.to_string().repeat(42) + "A"))
        .collect();
    let aesgcm = format!("{{aesgcm: {{keys: [{}]}}}}", keys.join(", "));
    let providers = if identity_first {
        format!("[{{identity: {{}}}}, {aesgcm}]")
    } else {
        format!("[{aesgcm}, {{identity: {{}}}}]")
    };
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources: [{{resources: [secrets], providers: {providers}}}]"
    );
    Configuration::parse(&text).expect("valid")
}

async fn sealed(inner: &Arc<dyn Store>, keys: &[(&str, char)]) -> SealedStore {
    SealedStore::open(Arc::clone(inner), configuration(keys, false)).await.expect("opened")
}

async fn put(store: &dyn Store, key: &'static str, value: &'static [u8]) {
    let success = vec![Operation::put(key, value)];
    store.transact(Transaction { success, ..Transaction::default() }).await.expect("put");
}

async fn get(store: &dyn Store, key: &'static str) -> Vec<u8> {
    let read = store.range(RangeRequest::all(KeyRange::single(key))).await.expect("read");
    read.kvs.into_iter().next().expect("it is there").value.to_vec()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[tokio::test]
async fn values_are_sealed_for_the_engine_and_plain_for_everybody_who_asks_the_store() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let store = sealed(&inner, &[("one", 'Q')]).await;
    let request = WatchRequest { range: KeyRange::prefix(""), start: None, buffer: 16 };
    let mut watch = store.watch(request).await.expect("watch");
    put(&store, SECRET, PLAIN).await;
    put(&store, OTHER, PLAIN).await;
    for key in [SECRET, OTHER] {
        assert_eq!(get(&store, key).await, PLAIN);
        let event = loop {
            let batch = watch.next().await.expect("open").expect("batch");
            if let Some(event) = batch.events.into_iter().next() {
                break event;
            }
        };
        assert_eq!((event.kv.key.as_ref(), event.kv.value.as_ref()), (key.as_bytes(), PLAIN));
    }
    assert!(!contains(&get(inner.as_ref(), SECRET).await, b"nobody else"), "the engine has it sealed");
    assert_eq!(get(inner.as_ref(), OTHER).await, PLAIN, "what nobody wants sealed is not");
    let snapshot = store.snapshot().await.expect("snapshot");
    let kept = snapshot.kvs.iter().find(|kv| kv.key == SECRET).expect("in it");
    assert!(!contains(&kept.value, b"nobody else"), "a snapshot has it sealed");
    // The same value twice is not the same ciphertext.
    let first = get(inner.as_ref(), SECRET).await;
    put(&store, SECRET, PLAIN).await;
    assert_ne!(get(inner.as_ref(), SECRET).await, first);
    // What a write answers of the version before is plain, too.
    let success = vec![Operation::delete(SECRET)];
    let done = store.transact(Transaction { success, ..Transaction::default() }).await.expect("deleted");
    let Some(OperationResponse::Delete { previous }) = done.responses.into_iter().next() else {
        panic!("a delete")
    };
    assert_eq!(previous[0].value, PLAIN);
    let compare = vec![Compare { key: SECRET.into(), target: CompareTarget::Value(PLAIN.into()) }];
    let refused = store.transact(Transaction { compare, ..Transaction::default() }).await;
    assert!(matches!(refused, Err(StoreError::InvalidRequest(_))), "{refused:?}");
}

#[tokio::test]
async fn keys_are_rotated_by_listing_both_rewriting_and_dropping_the_old_one() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    put(inner.as_ref(), SECRET, PLAIN).await;
    // Plain before; read as it is, and sealed by a rewrite.
    let one = sealed(&inner, &[("one", 'Q')]).await;
    assert_eq!(get(&one, SECRET).await, PLAIN);
    let done = one.rewrite().await.expect("rewritten");
    assert_eq!(done, Rewritten { seen: 1, rewritten: 1, unreadable: 0 });
    assert_eq!(one.rewrite().await.expect("nothing to do").rewritten, 0);
    assert!(!contains(&get(inner.as_ref(), SECRET).await, b"nobody else"));

    let both = sealed(&inner, &[("two", 'g'), ("one", 'Q')]).await;
    assert_eq!(get(&both, SECRET).await, PLAIN, "an older key still reads");
    let lost = SealedStore::open(Arc::clone(&inner), configuration(&[("two", 'g')], false)).await;
    let lost = lost.expect_err("the key that is needed is not there").to_string();
    assert!(lost.contains("sealed with the key \"one\"") && lost.contains(SECRET), "{lost}");
    assert_eq!(both.rewrite().await.expect("rewritten").rewritten, 1);
    let two = sealed(&inner, &[("two", 'g')]).await;
    assert_eq!(get(&two, SECRET).await, PLAIN);
    let other = SealedStore::open(Arc::clone(&inner), configuration(&[("two", 'w')], false)).await;
    assert!(other.expect_err("another key of that name").to_string().contains("another key of this name"));

    let back =
        SealedStore::open(Arc::clone(&inner), configuration(&[("two", 'g')], true)).await.expect("opened");
    assert_eq!(back.rewrite().await.expect("decrypted").rewritten, 1);
    assert_eq!(get(inner.as_ref(), SECRET).await, PLAIN, "identity first takes encryption back");
}

#[tokio::test]
async fn a_sealed_value_opens_at_its_own_key_alone() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let store = sealed(&inner, &[("one", 'Q')]).await;
    put(&store, SECRET, PLAIN).await;
    let moved = get(inner.as_ref(), SECRET).await;
    let elsewhere = "/registry/core/secrets/attacker/db";
    let success = vec![Operation::put(elsewhere, moved.clone())];
    inner.transact(Transaction { success, ..Transaction::default() }).await.expect("put");
    assert_eq!(get(&store, elsewhere).await, moved, "what does not open is no object, and stays what it is");
    assert_eq!(get(&store, SECRET).await, PLAIN, "others are not harmed");
}

fn fixture() -> Fixture {
    let clock = ManualClock::default();
    let options = Options { clock: Arc::new(clock.clone()), retention: None };
    let around = |inner: MemoryStore| -> Arc<dyn Store> {
        let opening = SealedStore::open(Arc::new(inner), configuration(&[("one", 'Q')], false));
        // The engine in memory never waits.
        let opened = std::pin::pin!(opening);
        match opened.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(Ok(store)) => Arc::new(store),
            other => panic!("not opened: {}", if other.is_ready() { "refused" } else { "it waits" }),
        }
    };
    Fixture {
        store: around(MemoryStore::new(options.clone())),
        clock: Some(clock),
        traits: Traits::default(),
        restore: Box::new(move |snapshot| {
            MemoryStore::restore(snapshot, RestoreOptions::default(), options.clone()).map(around)
        }),
        reopen: None,
        keep: Box::new(()),
    }
}

storage::engine_suite!(super::fixture());

#[tokio::test]
async fn another_configuration_is_taken_while_it_runs_and_no_key_is_lost_on_the_way() {
    let inner: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let store = sealed(&inner, &[("one", 'Q')]).await;
    let (clone, sealer) = (store.clone(), store.sealer());
    put(&store, SECRET, PLAIN).await;
    let elsewhere = sealer.seal(SECRET.as_bytes(), PLAIN).expect("sealed");
    // The key that writes is not let go of before the next one writes, nor while something is sealed with it.
    for keys in [vec![("two", 'A')], vec![("one", 'A')]] {
        let refused = store.replace(configuration(&keys, false)).await;
        assert!(matches!(refused, Err(StoreError::InvalidRequest(_))), "{refused:?}");
    }
    store.replace(configuration(&[("two", 'A'), ("one", 'Q')], false)).await.expect("the next one first");
    let refused = store.replace(configuration(&[("two", 'A')], false)).await;
    assert!(matches!(refused, Err(StoreError::InvalidRequest(_))), "{refused:?}");
    assert_eq!(get(&clone, SECRET).await, PLAIN);
    assert!(!sealer.is_current(SECRET.as_bytes(), &elsewhere));
    assert_eq!(sealer.open(SECRET.as_bytes(), elsewhere.to_vec()).expect("the old one reads"), PLAIN);
    let done = store.rewrite().await.expect("rewritten");
    assert_eq!(done, Rewritten { seen: 1, rewritten: 1, unreadable: 0 });
    store.replace(configuration(&[("two", 'A')], false)).await.expect("the old one is let go of");
    assert_eq!(get(&clone, SECRET).await, PLAIN);
    assert!(sealer.open(SECRET.as_bytes(), elsewhere.to_vec()).is_err());
}
