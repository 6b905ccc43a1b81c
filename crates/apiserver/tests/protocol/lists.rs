//! Lists and watches by resourceVersion: pages of one revision, what is too old, what is too new.

use std::time::Duration;

use apiserver::{Catalogue, Options, Service};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use storage::{Revision, Store};

use super::*;

/// A server whose store the test can reach.
async fn with_store() -> (Subject, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    (over(store.clone()).await, store)
}

async fn over(store: Arc<MemoryStore>) -> Subject {
    let options = Options::new(store, Catalogue::cluster());
    let service = Service::new(options).await.unwrap();
    let handle = service.handle();
    let stop = CancellationToken::new();
    tokio::spawn(Box::pin(service.run(stop.clone())));
    assert!(handle.ready().await);
    Subject { handle, _stop: stop.drop_guard() }
}

impl Subject {
    async fn list(&self, query: &str) -> (u16, Value) {
        self.json(Method::GET, &format!("{MAPS}?{query}"), &Value::Null).await
    }

    /// Every page of a list, checked on the way; answers the names. `first` is said on the first page only, as clients do.
    async fn paged(&self, first: &str, query: &str) -> Vec<String> {
        let (mut all, mut next, mut revision) = (Vec::new(), first.to_owned(), None);
        loop {
            let (code, page) = self.list(&format!("{query}&{next}")).await;
            assert_eq!(code, 200, "{page}");
            let shown = page["metadata"]["resourceVersion"].clone();
            assert_eq!(*revision.get_or_insert(shown.clone()), shown, "pages are of one revision");
            all.extend(names(&page));
            let Some(token) = page["metadata"]["continue"].as_str() else { return all };
            next = format!("continue={token}");
        }
    }

    /// The events of a watch that ends by itself.
    async fn events(&self, query: &str) -> Vec<Value> {
        let path = format!("{MAPS}?watch=1&timeoutSeconds=1&{query}");
        let response = self.send(Method::GET, &path, &[], "").await;
        assert_eq!(response.status(), 200);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }
}

fn names(list: &Value) -> Vec<String> {
    let name = |item: &Value| item["metadata"]["name"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(name).collect()
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn delete(subject: &Subject, name: &str) {
    let (code, gone) = subject.json(Method::DELETE, &format!("{MAPS}/{name}"), &Value::Null).await;
    assert_eq!(code, 200, "{gone}");
}

#[tokio::test]
async fn pages_show_one_revision_whatever_happens_between_them() {
    let (subject, _store) = with_store().await;
    for n in 0..7 {
        subject.create(&format!("m{n}")).await;
    }
    let (_, first) = subject.list("limit=3").await;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["m0".into(), "m1".into(), "m2".into()], &json!(4))
    );
    let token = first["metadata"]["continue"].as_str().unwrap();
    let decoded: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap();
    assert_eq!(decoded, json!({"v": "meta.k8s.io/v1", "rv": revision(&first), "start": "m2\u{0}"}));
    // From memory while nothing has happened, from the store after.
    let (_, same) = subject.list(&format!("limit=3&continue={token}")).await;
    delete(&subject, "m4").await;
    subject.create("m35").await;
    let (_, past) = subject.list(&format!("limit=3&continue={token}")).await;
    assert_eq!(same, past);
    assert_eq!(names(&past), ["m3", "m4", "m5"]);
    let at = format!("resourceVersion={}", revision(&first));
    let exact = subject.paged(&format!("{at}&resourceVersionMatch=Exact"), "limit=2").await;
    assert_eq!(exact, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    assert_eq!(subject.paged("", "limit=2").await, ["m0", "m1", "m2", "m3", "m35", "m5", "m6"]);
    let some = "fieldSelector=metadata.name%21%3Dm1";
    let (_, selected) = subject.list(&format!("limit=2&{some}")).await;
    assert_eq!(selected["metadata"].get("remainingItemCount"), None, "it is not known");
    assert_eq!(subject.paged("", &format!("limit=2&{some}")).await, ["m0", "m2", "m3", "m35", "m5", "m6"]);
    assert_eq!(subject.paged(&at, &format!("limit=2&{some}")).await, ["m0", "m2", "m3", "m4", "m5", "m6"]);
    let all = "/api/v1/configmaps?limit=1&fieldSelector=metadata.namespace%3Ddefault";
    let (_, first) = subject.json(Method::GET, all, &Value::Null).await;
    let token = URL_SAFE_NO_PAD.decode(first["metadata"]["continue"].as_str().unwrap()).unwrap();
    assert!(String::from_utf8(token).unwrap().contains("\"start\":\"default/m0\\u0000\""));
}

#[tokio::test]
async fn what_is_too_old_is_gone_and_a_page_may_go_on_with_a_fresh_token() {
    let (subject, store) = with_store().await;
    for n in 0..5 {
        subject.create(&format!("m{n}")).await;
    }
    let (_, first) = subject.list("limit=2").await;
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    delete(&subject, "m3").await;
    // The server's memory, too, has left that revision behind.
    subject.list("limit=1").await;
    let newest = store.status().await.unwrap().revision;
    store.compact(newest).await.unwrap();
    let (code, gone) = subject.list(&format!("limit=2&continue={token}")).await;
    assert_eq!((code, &gone["reason"]), (410, &json!("Expired")));
    assert!(gone["message"].as_str().unwrap().contains("or use the continue token in this response"));
    let fresh = gone["metadata"]["continue"].as_str().unwrap();
    let (code, rest) = subject.list(&format!("limit=2&continue={fresh}")).await;
    assert_eq!((code, names(&rest)), (200, vec!["m2".to_owned(), "m4".to_owned()]));
    let (code, gone) =
        subject.list(&format!("resourceVersionMatch=Exact&resourceVersion={}", revision(&first))).await;
    assert_eq!(
        (code, &gone["message"]),
        (410, &json!("The resourceVersion for the provided list is too old."))
    );
    // A watch is told in its stream, by a server that was not there at the time.
    let later = over(store).await;
    let events = later.events("resourceVersion=1").await;
    assert_eq!(
        (&events[0]["type"], &events[0]["object"]["code"]),
        (&json!("ERROR"), &json!(410)),
        "{events:?}"
    );
    assert!(events[0]["object"]["message"].as_str().unwrap().starts_with("too old resource version: 1 ("));
}

#[tokio::test]
async fn what_has_not_happened_yet_is_waited_for_then_refused() {
    let (subject, store) = with_store().await;
    let next = store.status().await.unwrap().revision.next();
    let query = format!("resourceVersion={next}");
    let waiting = subject.list(&query);
    let creating = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        subject.create("a").await
    };
    let ((code, listed), _) = tokio::join!(waiting, creating);
    assert_eq!((code, names(&listed)), (200, vec!["a".to_owned()]));
    let far = Revision(1 << 40);
    let path = format!("{MAPS}?resourceVersion={far}");
    let response = subject.send(Method::GET, &path, &[], "").await;
    assert_eq!(response.headers().get("retry-after").unwrap(), "1");
    let (code, refused) = read(response).await;
    assert_eq!((code, &refused["reason"]), (504, &json!("Timeout")));
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .starts_with(&format!("Timeout: Too large resource version: {far}, current: "))
    );
    assert_eq!(refused["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(refused["details"]["retryAfterSeconds"], 1);
    let query = format!("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion={far}");
    let events = subject.events(&query).await;
    assert_eq!(
        (&events[0]["type"], &events[0]["object"]["code"]),
        (&json!("ERROR"), &json!(504)),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_large_initial_state_comes_whole_and_in_order_before_the_mark() {
    let (subject, _store) = with_store().await;
    let filler = "x".repeat(20_000);
    for n in 0..20 {
        let map = json!({"metadata": {"name": format!("m{n:02}")}, "data": {"filler": filler}});
        let (code, created) = subject.json(Method::POST, MAPS, &map).await;
        assert_eq!(code, 201, "{created}");
    }
    let events = subject
        .events("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true")
        .await;
    let shown: Vec<_> =
        events.iter().take(20).map(|event| event["object"]["metadata"]["name"].clone()).collect();
    assert_eq!(shown, (0..20).map(|n| json!(format!("m{n:02}"))).collect::<Vec<_>>());
    assert_eq!(events[20]["type"], "BOOKMARK");
    assert_eq!(events[20]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
}
