//! Every object of the upstream API test data decodes, keeps all its fields and stays as it is under defaulting.

use api_machinery::schema::SchemaSet;
use api_machinery::{defaulting, json, strictness, validation};
use kube_objects::GroupVersion;
use serde_json::Value;

#[test]
fn no_field_is_lost() {
    let Some(directory) = fixtures::samples::find("kubernetes-1.36/api-testdata") else { return };
    let entries = std::fs::read_dir(directory).unwrap();
    let mut count = 0;
    for path in entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
    {
        let decoded = json::decode(&std::fs::read(&path).unwrap()).unwrap();
        assert!(decoded.duplicates.is_empty());
        let text = |key: &str| decoded.value[key].as_str().unwrap_or_default();
        // Not every file is an object.
        let Some(version) = GroupVersion::parse(text("apiVersion")) else { continue };
        let kind = version.kind(text("kind"));
        // Versions that no server offers by default any more have no published schema.
        let Some(schema) = SchemaSet::builtin().for_kind(&kind) else { continue };
        let mut pruned = decoded.value.clone();
        assert_eq!(strictness::prune(&mut pruned, &schema), Vec::<String>::new(), "{kind}");
        assert_eq!(validation::decode_error(&pruned, &schema, &kind), None, "{kind}");
        defaulting::apply_defaults(&mut pruned, &schema);
        assert_contains(&pruned, &decoded.value, &kind.to_string());
        count += 1;
    }
    assert!(count > 50, "{count}");
}

/// Whether everything of `part` that is not null stands in `whole`.
fn assert_contains(whole: &Value, part: &Value, place: &str) {
    match (whole, part) {
        (_, Value::Null) => {}
        (Value::Object(whole), Value::Object(part)) => {
            for (key, value) in part {
                assert_contains(whole.get(key).unwrap_or(&Value::Null), value, &format!("{place}.{key}"));
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            assert_eq!(whole.len(), part.len(), "{place}");
            whole.iter().zip(part).for_each(|(whole, part)| assert_contains(whole, part, place));
        }
        _ => assert_eq!(whole, part, "{place}"),
    }
}
