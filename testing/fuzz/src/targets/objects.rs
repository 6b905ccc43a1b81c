//! Bodies of objects.

use std::sync::OnceLock;

use api_machinery::apply::field_set::FieldSet;
use api_machinery::apply::managers::Managed;
use api_machinery::apply::{Manager, apply, track_update};
use api_machinery::defaulting::apply_defaults;
use api_machinery::schema::{SchemaRef, SchemaSet};
use api_machinery::validation::decode_error;
use api_machinery::{json, protobuf, strictness};
use kube_objects::GroupVersionKind;
use serde_json::{Value, json};

/// The kinds whose schemas documents are held to.
const KINDS: [(&str, &str); 4] = [("", "Pod"), ("apps", "Deployment"), ("", "Service"), ("batch", "CronJob")];

fn schemas() -> &'static [(GroupVersionKind, SchemaRef)] {
    static SCHEMAS: OnceLock<Vec<(GroupVersionKind, SchemaRef)>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let kinds = KINDS.map(|(group, kind)| GroupVersionKind::new(group, "v1", kind));
        kinds
            .into_iter()
            .filter_map(|kind| Some((kind.clone(), SchemaSet::builtin().for_kind(&kind)?)))
            .collect()
    })
}

/// A deployment's schema.
pub(super) fn deployment() -> &'static SchemaRef {
    &schemas()[1].1
}

/// Decoded, pruned, judged and completed under several schemas; what is completed stays as it is, and pods hold the
/// rules of pods without a panic.
pub(super) fn json(input: &[u8]) {
    let Ok(decoded) = json::decode(input) else { return };
    for (kind, schema) in schemas() {
        let mut object = decoded.value.clone();
        let _ = decode_error(&object, schema, kind);
        let unknown = strictness::prune(&mut object, schema);
        let _ = strictness::check(strictness::FieldValidation::Warn, &unknown, &decoded.duplicates, kind);
        let mut again = object.clone();
        assert!(strictness::prune(&mut again, schema).is_empty(), "pruning leaves something to prune");
        apply_defaults(&mut object, schema);
        let once = object.clone();
        apply_defaults(&mut object, schema);
        assert_eq!(once, object, "defaults are not settled after one pass");
    }
    rules(decoded.value);
}

/// The rules of kinds bear any shape.
fn rules(object: Value) {
    let all = [
        kind_rules::core::pod::RULES,
        kind_rules::apps::deployment::RULES,
        kind_rules::batch::cron_job::RULES,
        kind_rules::core::service::RULES,
    ];
    for rules in all {
        let mut object = object.clone();
        let old = object.clone();
        (rules.defaults)(&mut object);
        (rules.prepare_create)(&mut object);
        let mut problems = kind_rules::problems::Problems::default();
        (rules.validate)(&mut problems, &object);
        (rules.prepare_update)(&mut object, &old);
        (rules.validate_update)(&mut problems, &object, &old);
        let _ = (rules.warnings)(&object, Some(&old));
        let _ = (rules.cells)(&object, jiff::Timestamp::UNIX_EPOCH);
    }
}

/// What decodes encodes, and decodes to the same again.
pub(super) fn protobuf(input: &[u8]) {
    let Ok(decoded) = protobuf::decode(input) else { return };
    let Ok(encoded) = protobuf::encode(&decoded.value) else { return };
    let again =
        protobuf::decode(&encoded).unwrap_or_else(|error| panic!("what was encoded is refused: {error}"));
    // An object without fields is written with its empty structures, as Go does: it is compared as written.
    let second =
        protobuf::encode(&again.value).unwrap_or_else(|error| panic!("what was decoded is refused: {error}"));
    assert_eq!(second, encoded, "encoding changed the object");
}

/// `metadata.managedFields` as clients send it, then an update and an apply over it.
pub(super) fn managed_fields(input: &[u8]) {
    let Ok(sent) = serde_json::from_slice::<Value>(input) else { return };
    if let Some(managed) = Managed::decode(&sent) {
        let encoded = managed.encode(Value::Null);
        for written in [encoded.clone(), managed.encode(sent.clone())] {
            let again = Managed::decode(&written).unwrap_or_else(|| panic!("{written} does not read back"));
            assert_eq!(again.encode(Value::Null), encoded, "encoding is not stable");
        }
    }
    let manager =
        Manager { name: "m", subresource: "", api_version: "apps/v1", time: "2026-01-01T00:00:00Z" };
    let object = |fields: &Value, replicas: u32| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "managedFields": fields},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}})
    };
    let (live, mut new) = (object(&sent, 1), object(&sent, 2));
    track_update(deployment(), Some(&live), &mut new, &manager, &FieldSet::default(), &[]);
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {"replicas": 3}});
    if let Ok(applied) = apply(deployment(), Some(&live), &config, &manager, true, &FieldSet::default(), &[])
    {
        assert_eq!(applied["spec"]["replicas"], 3, "a forced apply did not hold");
    }
}
