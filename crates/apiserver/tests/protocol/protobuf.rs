//! What typed clients write and read as protobuf.

use api_machinery::protobuf;
use bytes::{Buf, Bytes};
use http::{Method, Response, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::{MAPS, Subject, map};
use apiserver::Body;

const ACCEPT: (&str, &str) = ("accept", "application/vnd.kubernetes.protobuf,application/json");
const BODY: (&str, &str) = ("content-type", protobuf::MEDIA_TYPE);

async fn decoded(answer: Response<Body>) -> (u16, Value) {
    let code = answer.status().as_u16();
    assert_eq!(answer.headers()[header::CONTENT_TYPE], protobuf::MEDIA_TYPE);
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, protobuf::decode(&bytes).unwrap().value)
}

impl Subject {
    async fn protobuf(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let bytes = if body.is_null() { Vec::new() } else { protobuf::encode(body).unwrap() };
        decoded(self.send(method, path, &[ACCEPT, BODY], bytes).await).await
    }
}

#[tokio::test]
async fn bodies_are_read_and_answered() {
    let subject = Subject::start().await;
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
        "data": {"key": "value"}, "binaryData": {"raw": "AAEC"},
    });
    let (code, created) = subject.protobuf(Method::POST, MAPS, &map).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!((&created["data"], &created["binaryData"]), (&map["data"], &map["binaryData"]));
    let mut changed = created.clone();
    changed["data"]["key"] = json!("other");
    let one = format!("{MAPS}/a");
    let (code, updated) = subject.protobuf(Method::PUT, &one, &changed).await;
    assert_eq!((code, &updated["data"]["key"]), (200, &json!("other")), "{updated}");
    let wrong = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": "another"}});
    let (code, refused) = subject.protobuf(Method::DELETE, &one, &wrong).await;
    assert_eq!((code, &refused["reason"]), (409, &json!("Conflict")), "{refused}");
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview", "metadata": {}});
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let (code, answer) = subject.protobuf(Method::POST, path, &review).await;
    assert_eq!((code, &answer["status"]["userInfo"]["username"]), (201, &json!("tester")), "{answer}");
    let (code, refused) =
        decoded(subject.send(Method::POST, path, &[ACCEPT, BODY], &b"k8s\0\x0a\xff"[..]).await).await;
    assert_eq!(code, 400, "{refused}");
}

#[tokio::test]
async fn objects_and_lists_are_what_they_are_in_json() {
    let subject = Subject::start().await;
    for name in ["a", "b"] {
        subject.create(name).await;
    }
    for path in [format!("{MAPS}/a"), MAPS.to_owned(), "/api/v1/namespaces".to_owned()] {
        let (_, mut in_json) = subject.json(Method::GET, &path, &Value::Null).await;
        // A message in a list does not say its kind again.
        for item in in_json
            .get_mut("items")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            item.remove("apiVersion");
            item.remove("kind");
        }
        let (code, in_protobuf) = subject.protobuf(Method::GET, &path, &Value::Null).await;
        assert_eq!((code, &in_protobuf), (200, &in_json), "{path}");
    }
    let metadata =
        [("accept", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")];
    let (code, list) = decoded(subject.send(Method::GET, MAPS, &metadata, "").await).await;
    assert_eq!((code, &list["kind"]), (200, &json!("PartialObjectMetadataList")), "{list}");
    assert_eq!(list["items"][1]["metadata"]["name"], "b", "{list}");
    assert!(list["items"][1].get("data").is_none(), "{list}");
}

/// The next event of a stream: four bytes of length, then a `WatchEvent` whose object is a whole document.
fn next_event(buffer: &mut Bytes) -> Option<(String, Value)> {
    if buffer.len() < 4 {
        return None;
    }
    let length = (&buffer[..4]).get_u32() as usize;
    if buffer.len() < length + 4 {
        return None;
    }
    buffer.advance(4);
    let event = buffer.split_to(length);
    // Field 1 is the type, a text shorter than 128 bytes; field 2 holds the object.
    let kind_end = 2 + usize::from(event[1]);
    assert_eq!((event[0], event[kind_end]), (0x0a, 0x12));
    let magic = event.windows(4).position(|window| window == protobuf::MAGIC).unwrap();
    let object = protobuf::decode(&event[magic..]).unwrap().value;
    Some((String::from_utf8(event[2..kind_end].to_vec()).unwrap(), object))
}

#[tokio::test]
async fn watches_send_frames_with_their_length() {
    let subject = Subject::start().await;
    subject.create("a").await;
    let path = format!(
        "{MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let answer = subject.send(Method::GET, &path, &[ACCEPT], "").await;
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/vnd.kubernetes.protobuf;stream=watch");
    let mut events = Events { body: answer.into_body(), buffer: Bytes::new() };
    assert_eq!(events.next().await, ("ADDED".to_owned(), "a".to_owned()));
    let (kind, _) = events.next().await;
    assert_eq!(kind, "BOOKMARK");
    subject.create("b").await;
    let (code, _) = subject.json(Method::PUT, &format!("{MAPS}/b"), &map("b")).await;
    assert_eq!(code, 200);
    let mut changed = map("b");
    changed["data"]["key"] = json!("new");
    let (code, _) = subject.json(Method::PUT, &format!("{MAPS}/b"), &changed).await;
    assert_eq!(code, 200);
    assert_eq!(events.next().await, ("ADDED".to_owned(), "b".to_owned()));
    assert_eq!(events.next().await, ("MODIFIED".to_owned(), "b".to_owned()));
}

/// A stream of events by type and name.
struct Events {
    body: Body,
    buffer: Bytes,
}

impl Events {
    async fn next(&mut self) -> (String, String) {
        loop {
            if let Some((kind, object)) = next_event(&mut self.buffer) {
                if kind == "BOOKMARK" {
                    assert_eq!(object["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
                }
                return (kind, object["metadata"]["name"].as_str().unwrap_or_default().to_owned());
            }
            let frame = self.body.frame().await.unwrap().unwrap().into_data().unwrap();
            self.buffer = [std::mem::take(&mut self.buffer), frame].concat().into();
        }
    }
}

#[tokio::test]
async fn what_has_no_form_is_refused() {
    let subject = Subject::start().await;
    let table = [("accept", "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1")];
    assert_eq!(subject.send(Method::GET, MAPS, &table, "").await.status().as_u16(), 406);
    let yaml = [("accept", "application/yaml")];
    let stream = format!("{MAPS}?watch=1");
    assert_eq!(subject.send(Method::GET, &stream, &yaml, "").await.status().as_u16(), 406);
}
