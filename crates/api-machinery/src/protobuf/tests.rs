use proptest::prelude::*;
use serde_json::json;

use super::*;

fn sample() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "labels": {"b": "1", "a": "2"}, "creationTimestamp": "2024-02-03T04:05:06Z"},
        "spec": {
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}],
            "containers": [{
                "name": "c", "resources": {"limits": {"cpu": "100m"}},
                "livenessProbe": {"httpGet": {"path": "/", "port": "web"}, "periodSeconds": 3},
                "readinessProbe": {"tcpSocket": {"port": 80}},
            }],
            "terminationGracePeriodSeconds": 0,
        },
        "status": {},
    })
}

#[test]
fn an_object_survives_the_way_there_and_back() {
    let bytes = encode(&sample()).unwrap();
    let decoded = decode(&bytes).unwrap();
    assert_eq!(decoded.value, sample());
    assert_eq!((decoded.api_version.as_str(), decoded.kind.as_str()), ("v1", "Pod"));
}

#[test]
fn an_empty_text_behind_a_pointer_stays() {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "a"},
        "spec": {"storageClassName": "", "resources": {}}, "status": {},
    });
    assert_eq!(decode(&encode(&claim).unwrap()).unwrap().value, claim);
}

#[test]
fn kinds_without_a_form_are_refused() {
    let custom = json!({"apiVersion": "example.org/v1", "kind": "Thing"});
    assert!(matches!(encode(&custom), Err(ProtobufError::Kind { .. })));
    assert!(!has_form("example.org/v1", "Thing"));
    assert!(has_form("meta.k8s.io/v1", "DeleteOptions") && has_form("v1", "Status"));
    assert!(matches!(decode(b"{}"), Err(ProtobufError::Magic)));
}

#[test]
fn a_wrong_value_is_named() {
    let wrong = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": {}}});
    let error = encode(&wrong).unwrap_err().to_string();
    assert!(error.contains("containers"), "{error}");
}

#[test]
fn the_table_is_whole() {
    assert!(Table::builtin().len() > 700);
    // Every word of the table became a field.
    let words: usize = include_str!("../../tables/protobuf.txt")
        .lines()
        .map(|line| line.split(' ').skip(1).filter(|word| *word != "[]" && !word.contains(":-:")).count())
        .sum();
    let fields: usize = (0..Table::builtin().len()).map(|at| Table::builtin().message(at).fields.len()).sum();
    assert_eq!(words, fields);
}

/// A schema within a schema, `levels` deep, written by hand.
fn nested_schema(levels: usize) -> Vec<u8> {
    let mut schema = Vec::new();
    for _ in 0..levels {
        let mut outer = Vec::new();
        // `not`.
        wire::bytes(&mut outer, 28, &schema);
        schema = outer;
    }
    schema
}

#[test]
fn depth_is_bounded() {
    let definition = |schema: &[u8]| {
        let nest = |number, inner: &[u8]| {
            let mut out = Vec::new();
            wire::bytes(&mut out, number, inner);
            out
        };
        // spec.versions[0].schema.openAPIV3Schema
        let raw = nest(2, &nest(7, &nest(4, &nest(1, schema))));
        let mut kind = nest(1, b"apiextensions.k8s.io/v1");
        kind.extend(nest(2, b"CustomResourceDefinition"));
        let mut document = MAGIC.to_vec();
        document.extend(nest(1, &kind));
        document.extend(nest(2, &raw));
        document
    };
    let fine = decode(&definition(&nested_schema(50))).unwrap().value;
    assert!(fine.pointer("/spec/versions/0/schema/openAPIV3Schema/not/not/not").is_some(), "{fine}");
    assert!(matches!(decode(&definition(&nested_schema(5_000))), Err(ProtobufError::Depth)));
}

#[test]
fn many_empty_values_are_bounded() {
    let mut raw = Vec::new();
    for _ in 0..600_000 {
        wire::bytes(&mut raw, 2, b"");
    }
    let mut kind = Vec::new();
    wire::bytes(&mut kind, 1, b"v1");
    wire::bytes(&mut kind, 2, b"PodList");
    let mut document = MAGIC.to_vec();
    wire::bytes(&mut document, 1, &kind);
    wire::bytes(&mut document, 2, &raw);
    assert!(matches!(decode(&document), Err(ProtobufError::Values)));
}

#[test]
fn a_watch_event_is_framed() {
    let frame = encode_watch_event("ADDED", &sample()).unwrap();
    let (length, event) = frame.split_first_chunk::<4>().unwrap();
    assert_eq!(usize::try_from(u32::from_be_bytes(*length)).unwrap(), event.len());
    let mut reader = Reader::new(event);
    assert_eq!(reader.field().unwrap().unwrap().text("type").unwrap(), "ADDED");
    let raw = special::raw(reader.field().unwrap().unwrap().bytes().unwrap()).unwrap();
    assert_eq!(decode(raw).unwrap().value, sample());
}

proptest! {
    #[test]
    fn any_bytes_are_answered(kind in "Pod|Status|DeleteOptions|List", raw in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut name = Vec::new();
        wire::bytes(&mut name, 1, b"v1");
        wire::bytes(&mut name, 2, kind.as_bytes());
        let mut document = MAGIC.to_vec();
        wire::bytes(&mut document, 1, &name);
        wire::bytes(&mut document, 2, &raw);
        let _ = decode(&document);
        let _ = decode(&raw);
    }

    #[test]
    fn changed_bytes_are_answered(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8), cut in any::<usize>()) {
        let mut bytes = encode(&sample()).unwrap();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(cut % (bytes.len() + 1));
        if let Ok(decoded) = decode(&bytes) {
            let _ = encode(&decoded.value);
        }
    }

    #[test]
    fn numbers_survive(number in any::<i64>()) {
        let mut out = Vec::new();
        wire::signed(&mut out, 7, number);
        let field = Reader::new(&out).field().unwrap().unwrap();
        prop_assert_eq!(field.varint().unwrap().to_ne_bytes(), number.to_ne_bytes());
    }
}
