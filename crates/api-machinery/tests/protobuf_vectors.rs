//! Upstream's own objects in protobuf and in JSON say the same. Skipped where the data is not there.

use std::path::PathBuf;

use api_machinery::protobuf::{ProtobufError, decode};
use serde_json::Value;

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(true) => false,
    }
}

/// Drops what protobuf cannot tell from nothing.
fn without_empties(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().map(|(key, value)| (key.clone(), without_empties(value)));
            kept.filter(|(_, value)| !is_empty(value)).collect()
        }
        Value::Array(list) => list.iter().map(without_empties).collect(),
        other => other.clone(),
    }
}

/// Upstream's own vectors: the same object in JSON and in protobuf.
#[test]
fn upstreams_vectors_read_as_their_json() {
    let shared = std::env::var_os("FAIRLEAD_SHARED_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
        PathBuf::from,
    );
    let directory = shared.join("kubernetes-1.36/api-testdata");
    let Ok(entries) = std::fs::read_dir(&directory) else {
        println!("skipped: no test data in {}", directory.display());
        return;
    };
    let (mut compared, mut unknown) = (0, Vec::new());
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let served = [
            "core.v1.",
            "apps.v1.",
            "batch.v1.",
            "rbac.authorization.k8s.io.v1.",
            "authorization.k8s.io.v1.",
            "authentication.k8s.io.v1.",
            "coordination.k8s.io.v1.",
            "discovery.k8s.io.v1.",
            "certificates.k8s.io.v1.",
            "networking.k8s.io.v1.",
            "policy.v1.",
            "storage.k8s.io.v1.",
            "scheduling.k8s.io.v1.",
            "autoscaling.v",
            "events.k8s.io.v1.",
        ];
        if !name.ends_with(".pb") || !served.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let json: Value =
            serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap();
        match decode(&std::fs::read(&path).unwrap()) {
            Ok(got) => {
                assert_eq!(without_empties(&got), without_empties(&json), "{name}");
                compared += 1;
            }
            Err(ProtobufError::Unknown { .. }) => unknown.push(name),
            Err(error) => panic!("{name}: {error}"),
        }
    }
    println!("not known: {unknown:?}");
    assert!(compared > 50, "{compared}");
}
