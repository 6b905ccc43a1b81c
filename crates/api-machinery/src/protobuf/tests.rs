use serde_json::json;

use super::*;

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

#[test]
fn another_groups_kind_of_the_same_name_is_not_known() {
    let meta: Vec<u8> = [&[0x0a, 0x13][..], b"apps.example.com/v1", &[0x12, 0x0a], b"Deployment"].concat();
    let mut body = MAGIC.to_vec();
    body.extend([0x0a, u8::try_from(meta.len()).unwrap()]);
    body.extend(meta);
    assert!(matches!(decode(&body), Err(ProtobufError::Unknown { .. })));
}
