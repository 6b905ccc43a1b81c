use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};
use storage::{Operation, Transaction};

use super::encoded::EncodedObject;
use super::*;

async fn started(bounds: HistoryBounds) -> (Arc<dyn Store>, Arc<WatchCache>) {
    let store: Arc<dyn Store> =
        Arc::new(storage::model::MemoryStore::new(storage::model::Options::default()));
    let kinds = Arc::new(ServedKinds::new(crate::Catalogue::cluster()));
    let cache = WatchCache::start(Arc::clone(&store), kinds, bounds, CancellationToken::new()).await.unwrap();
    (store, cache)
}

fn config_map(name: &str, color: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": "default", "labels": { "color": color } } })
}

async fn write(store: &dyn Store, operations: Vec<Operation>) -> Revision {
    store.transact(Transaction { success: operations, ..Transaction::default() }).await.unwrap().revision
}

fn put(name: &str, color: &str) -> Operation {
    Operation::put(object_key("", "configmaps", "default", name), config_map(name, color).to_string())
}

fn everything() -> Filter {
    Arc::new(|_| true)
}

fn colored(color: &'static str) -> Filter {
    Arc::new(move |object| object.label("color") == Some(color))
}

fn told(deliveries: &[Delivery]) -> Vec<(Change, String, u64)> {
    let one =
        |each: &Delivery| (each.change, each.object.name().to_owned(), each.object.encoded.revision().0);
    deliveries.iter().map(one).collect()
}

#[tokio::test]
async fn a_write_is_readable_once_its_revision_was_waited_for() {
    let (store, cache) = started(HistoryBounds::default()).await;
    let revision = write(store.as_ref(), vec![put("a", "red")]).await;
    cache.wait_for(revision).await.unwrap();
    let object = cache.storage("", "configmaps").unwrap().get("default", "a").unwrap();
    assert_eq!(object.encoded.to_value()["metadata"]["resourceVersion"], revision.to_string());
    assert_eq!(object.field("metadata.namespace"), Some("default"));
}

#[tokio::test(start_paused = true)]
async fn a_future_revision_is_refused_as_too_large_after_three_seconds() {
    let (_store, cache) = started(HistoryBounds::default()).await;
    let refused = cache.wait_for(Revision(1_000)).await.unwrap_err();
    assert_eq!((refused.code, refused.details.unwrap().retry_after_seconds), (504, Some(1)));
}

#[tokio::test]
async fn a_selector_turns_modifications_into_arrivals_and_departures() {
    let (store, cache) = started(HistoryBounds::default()).await;
    let from = cache.revision();
    let mut watcher = cache.storage("", "configmaps").unwrap().subscribe(from, colored("red")).unwrap();
    let mut revisions = Vec::new();
    for color in ["blue", "red", "red", "blue"] {
        revisions.push(write(store.as_ref(), vec![put("a", color)]).await.0);
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(watcher.next().await.unwrap());
    }
    let name = || "a".to_owned();
    let expected = vec![
        (Change::Added, name(), revisions[1]),
        (Change::Modified, name(), revisions[2]),
        (Change::Deleted, name(), revisions[3]),
    ];
    assert_eq!(told(&seen), expected);
    // The departed object is shown as it last matched.
    assert_eq!(seen[2].object.label("color"), Some("red"));
}

#[tokio::test]
async fn a_deletion_carries_its_own_revision() {
    let (store, cache) = started(HistoryBounds::default()).await;
    let from = write(store.as_ref(), vec![put("a", "red")]).await;
    cache.wait_for(from).await.unwrap();
    let mut watcher = cache.storage("", "configmaps").unwrap().subscribe(from, everything()).unwrap();
    let key = object_key("", "configmaps", "default", "a");
    let gone = write(store.as_ref(), vec![Operation::delete(key)]).await;
    assert_eq!(told(&watcher.next().await.unwrap()), vec![(Change::Deleted, "a".to_owned(), gone.0)]);
}

#[tokio::test]
async fn a_revision_with_more_events_than_a_batch_is_delivered_whole() {
    let (store, cache) = started(HistoryBounds::default()).await;
    let mut watcher =
        cache.storage("", "configmaps").unwrap().subscribe(cache.revision(), everything()).unwrap();
    let many = 600;
    let puts = (0..many).map(|index| put(&format!("a{index:04}"), "red")).collect();
    let first = write(store.as_ref(), puts).await;
    let second = write(store.as_ref(), vec![put("z", "red")]).await;
    let mut seen = Vec::new();
    while seen.len() < many + 1 {
        seen.extend(watcher.next().await.unwrap());
    }
    assert!(seen[..many].iter().all(|each| each.event.revision == first));
    assert_eq!(seen[many].event.revision, second);
}

#[tokio::test]
async fn a_watcher_that_history_has_passed_is_told_and_not_fed_a_gap() {
    let bounds = HistoryBounds { events: 4, ..HistoryBounds::default() };
    let (store, cache) = started(bounds).await;
    let from = cache.revision();
    let maps = cache.storage("", "configmaps").unwrap();
    let mut slow = maps.subscribe(from, everything()).unwrap();
    let mut last = from;
    for index in 0..8 {
        last = write(store.as_ref(), vec![put(&format!("a{index}"), "red")]).await;
    }
    cache.wait_for(last).await.unwrap();
    assert_eq!(slow.next().await.unwrap_err(), crate::watch_cache::subscription::Expired);
    assert!(
        maps.subscribe(from, everything()).is_none(),
        "an old revision must be refused, not served with a gap"
    );
    assert!(maps.subscribe(last, everything()).is_some());
}

#[tokio::test]
async fn old_history_goes_where_nothing_happens_and_who_has_seen_all_of_it_watches_on() {
    // Long enough for a watcher to be told before, on a machine that has other things to do.
    let bounds = HistoryBounds { age: Duration::from_millis(500), ..HistoryBounds::default() };
    let (store, cache) = started(bounds).await;
    let maps = cache.storage("", "configmaps").unwrap();
    let from = cache.revision();
    let mut watcher = maps.subscribe(from, everything()).unwrap();
    let last = write(store.as_ref(), vec![put("a", "red")]).await;
    assert_eq!(told(&watcher.next().await.unwrap()).len(), 1);
    while maps.floor() < last {
        tokio::time::sleep(Duration::from_millis(10)).await;
        maps.forget_old();
    }
    assert_eq!(maps.floor(), last);
    assert!(maps.subscribe(from, everything()).is_none(), "what it has not seen is not there any more");
    assert!(maps.subscribe(last, everything()).is_some() && watcher.ready().unwrap().is_empty());
    let next = write(store.as_ref(), vec![put("b", "red")]).await;
    assert_eq!(told(&watcher.next().await.unwrap()), [(Change::Added, "b".to_owned(), next.0)]);
}

#[tokio::test]
async fn watchers_share_one_encoding() {
    let (store, cache) = started(HistoryBounds::default()).await;
    let maps = cache.storage("", "configmaps").unwrap();
    let (mut one, mut two) = (
        maps.subscribe(cache.revision(), everything()).unwrap(),
        maps.subscribe(cache.revision(), everything()).unwrap(),
    );
    write(store.as_ref(), vec![put("a", "red")]).await;
    let frame = |deliveries: Vec<Delivery>| {
        let first = &deliveries[0];
        first.event.json_frame(first.change, &first.object)
    };
    let (one, two) = (frame(one.next().await.unwrap()), frame(two.next().await.unwrap()));
    assert_eq!(one.as_ptr(), two.as_ptr());
    let line: Value = serde_json::from_slice(&one).unwrap();
    assert_eq!(
        (line["type"].as_str(), line["object"]["metadata"]["name"].as_str()),
        (Some("ADDED"), Some("a"))
    );
}

#[tokio::test]
async fn a_bookmark_moves_with_foreign_writes_but_never_past_an_event() {
    let (store, cache) = started(HistoryBounds::default()).await;
    let maps = cache.storage("", "configmaps").unwrap();
    let mut watcher = maps.subscribe(cache.revision(), everything()).unwrap();
    let foreign = object_key("", "secrets", "default", "s");
    let secret = json!({ "metadata": { "name": "s", "namespace": "default" } }).to_string();
    let quiet = write(store.as_ref(), vec![Operation::put(foreign, secret)]).await;
    cache.wait_for(quiet).await.unwrap();
    assert_eq!(watcher.bookmark(cache.revision()), quiet);
    let pending = write(store.as_ref(), vec![put("a", "red")]).await;
    cache.wait_for(pending).await.unwrap();
    assert_eq!(watcher.bookmark(cache.revision()), quiet, "an event is pending");
    watcher.next().await.unwrap();
    assert_eq!(watcher.bookmark(cache.revision()), pending);
}

#[tokio::test(start_paused = true)]
async fn idle_watchers_wait_without_being_woken() {
    let (_store, cache) = started(HistoryBounds::default()).await;
    let mut watcher =
        cache.storage("", "configmaps").unwrap().subscribe(cache.revision(), everything()).unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(60), watcher.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn many_watchers_are_told_of_a_storm_in_few_pieces_and_of_every_event() {
    let (store, cache) = started(HistoryBounds::default()).await;
    let (from, config_maps) = (cache.revision(), cache.storage("", "configmaps").unwrap());
    let mut watchers: Vec<_> = (0..400).map(|_| config_maps.subscribe(from, everything()).unwrap()).collect();
    let mut revisions = Vec::new();
    for _ in 0..40 {
        let written = write(store.as_ref(), vec![put("a", "red")]).await;
        // A write is readable at once, whatever its watchers are told.
        cache.wait_for(written).await.unwrap();
        revisions.push(written.0);
    }
    for watcher in &mut watchers {
        let (mut seen, mut pieces) = (Vec::new(), 0);
        while seen.len() < revisions.len() {
            let piece = watcher.next().await.unwrap();
            seen.extend(piece.iter().map(|each| each.object.encoded.revision().0));
            pieces += 1;
        }
        assert_eq!(seen, revisions);
        assert!(pieces <= 2, "{pieces} pieces");
    }
}

#[tokio::test]
async fn a_crowd_that_is_told_the_same_shares_one_buffer() {
    let (store, cache) = started(HistoryBounds::default()).await;
    let (from, config_maps) = (cache.revision(), cache.storage("", "configmaps").unwrap());
    let mut crowd: Vec<_> =
        (0..pieces::CROWD).map(|_| config_maps.subscribe(from, everything()).unwrap()).collect();
    let mut other = config_maps.subscribe(from, colored("red")).unwrap();
    let mut last = from;
    for color in ["red", "blue", "red", "blue"] {
        last = write(store.as_ref(), vec![put("a", color)]).await;
    }
    cache.wait_for(last).await.unwrap();
    let buffer = |watcher: &mut Subscription| {
        let told = watcher.ready().unwrap();
        (told.len(), watcher.piece(&told))
    };
    let (count, first) = buffer(&mut crowd[0]);
    assert_eq!(first.split(|byte| *byte == b'\n').count(), count + 1);
    for watcher in &mut crowd[1..] {
        assert_eq!(buffer(watcher).1.as_ptr(), first.as_ptr(), "a copy of its own");
    }
    // The same events, seen otherwise.
    let (_, theirs) = buffer(&mut other);
    let theirs = String::from_utf8(theirs.to_vec()).unwrap();
    let kinds: Vec<&str> = theirs.lines().map(|line| line.split('"').nth(3).unwrap()).collect();
    assert_eq!(kinds, ["ADDED", "DELETED", "ADDED", "DELETED"]);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a-z\"\\\\{}:metadata]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z\"]{1,4}|metadata", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Splicing the resourceVersion into bytes says the same as setting it in the tree, wherever else the word
    /// "metadata" occurs.
    #[test]
    fn splicing_equals_setting(
        before in any_json(),
        labels in prop::collection::btree_map("[a-z]{1,4}", "[a-z]{0,4}", 0..3),
        named in any::<bool>(),
        revision in 1_u64..u64::MAX,
    ) {
        let mut object = json!({ "aaa": before, "kind": "metadata", "metadata": {}, "spec": { "metadata": { "x": 1 } } });
        if named {
            object["metadata"] = json!({ "labels": labels, "name": "n" });
        }
        let stored = Bytes::from(object.to_string());
        let encoded = EncodedObject::new(stored, Revision(revision)).unwrap();
        let mut written = BytesMut::new();
        encoded.write_to(&mut written);
        prop_assert!(written.len() <= encoded.len());
        object["metadata"]["resourceVersion"] = json!(revision.to_string());
        prop_assert_eq!(&serde_json::from_slice::<Value>(&written).unwrap(), &object);
        prop_assert_eq!(encoded.to_value(), object);
    }

    /// Damaged bytes are refused, never a panic.
    #[test]
    fn any_bytes_are_an_object_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = EncodedObject::new(Bytes::from(bytes), Revision(1));
    }
}
