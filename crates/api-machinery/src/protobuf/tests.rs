use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

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
            Ok(mut got) => {
                // A fixture of a released schema may hold what the table's source no longer writes, and the reverse.
                assert_eq!(without_empties(&got), without_empties(&json), "{name}");
                got.take();
                compared += 1;
            }
            Err(ProtobufError::Unknown { .. }) => unknown.push(name),
            Err(error) => panic!("{name}: {error}"),
        }
    }
    println!("not known: {unknown:?}");
    assert!(compared > 50, "{compared}");
}

#[test]
fn a_review_as_kubectl_sends_it() {
    let mut spec = vec![0x0a, 0x0d];
    spec.extend([0x12, 0x03]);
    spec.extend(b"get");
    spec.extend([0x2a, 0x06]);
    spec.extend(b"leases"); // resource is field 5
    spec[1] = u8::try_from(spec.len() - 2).unwrap();
    let mut raw = vec![0x12, u8::try_from(spec.len()).unwrap()];
    raw.extend(&spec);
    let mut body = MAGIC.to_vec();
    let meta: Vec<u8> =
        [&[0x0a, 0x17][..], b"authorization.k8s.io/v1", &[0x12, 0x17], b"SelfSubjectAccessReview"].concat();
    body.extend([0x0a, u8::try_from(meta.len()).unwrap()]);
    body.extend(meta);
    body.extend([0x12, u8::try_from(raw.len()).unwrap()]);
    body.extend(raw);
    let object = decode(&body).unwrap();
    assert_eq!(object["spec"]["resourceAttributes"], json!({"verb": "get", "resource": "leases"}));
}

#[test]
fn rubbish_is_refused_and_never_panics() {
    assert_eq!(decode(b"{}"), Err(ProtobufError::Magic));
    for cut in 0..64_u8 {
        let body: Vec<u8> = MAGIC.iter().copied().chain((0..cut).map(|byte| byte.wrapping_mul(37))).collect();
        let _ = decode(&body);
    }
}
