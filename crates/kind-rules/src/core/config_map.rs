//! `v1.ConfigMap`.

use serde_json::Value;

use crate::columns::{Column, age};
use crate::json::{entries, same_field, truth};
use crate::names::config_map_key;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;

/// All values of an object together, in bytes (upstream's `MaxSecretSize`).
pub(crate) const MAXIMUM_BYTES: usize = 1024 * 1024;

/// What Kubernetes demands of config maps.
pub const RULES: KindRules = KindRules {
    validate: |problems, object| {
        let mut size = 0;
        let data = Path::new("data");
        for (key, value) in entries(object, "data") {
            problems.check(data.key(key), key, config_map_key);
            if object["binaryData"].get(key).is_some() {
                problems.invalid(data.key(key), key, "duplicate of key present in binaryData");
            }
            size += value.as_str().map_or(0, str::len);
        }
        let binary = Path::new("binaryData");
        for (key, value) in entries(object, "binaryData") {
            problems.check(binary.key(key), key, config_map_key);
            size += decoded_bytes(value);
        }
        if size > MAXIMUM_BYTES {
            // Upstream names a field without a name, which Go's paths show like this.
            problems.too_many_bytes("[]", MAXIMUM_BYTES);
        }
    },
    validate_update: |problems, object, old| immutable(problems, object, old, &["data", "binaryData"]),
    columns: || vec![Column::object_name(), Column::described("Data", "ConfigMap", "data"), Column::age()],
    cells: |object, now| {
        let count = entries(object, "data").count() + entries(object, "binaryData").count();
        vec![count.into(), age(object, now)]
    },
    ..KindRules::NEW
};

/// How many bytes a base64 text stands for.
pub(crate) fn decoded_bytes(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

/// Once `immutable` is set, it and the contents stay.
pub(crate) fn immutable(problems: &mut Problems, object: &Value, old: &Value, keys: &[&str]) {
    const WHY: &str = "field is immutable when `immutable` is set";
    if !truth(old, "immutable") {
        return;
    }
    if !truth(object, "immutable") {
        problems.forbidden("immutable", WHY);
    }
    for key in keys {
        if !same_field(object, old, key) {
            problems.forbidden(key, WHY);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(check: impl Fn(&mut Problems)) -> Vec<String> {
        let mut problems = Problems::default();
        check(&mut problems);
        problems.into_causes().into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn keys_and_sizes_are_checked() {
        let check = |object: Value| fields(|problems| (RULES.validate)(problems, &object));
        assert_eq!(check(json!({"data": {"a b": "x"}})), ["data[a b]"]);
        assert_eq!(check(json!({"data": {"..x": "x"}})), ["data[..x]"]);
        assert_eq!(check(json!({"data": {"x": ""}, "binaryData": {"x": ""}})), ["data[x]"]);
        assert_eq!(check(json!({"data": {"x": "a".repeat(MAXIMUM_BYTES + 1)}})), ["[]"]);
    }

    #[test]
    fn immutable_means_immutable() {
        let old = json!({"immutable": true, "data": {"a": "x"}});
        let check = |object: Value| fields(|problems| (RULES.validate_update)(problems, &object, &old));
        assert_eq!(check(json!({"immutable": true, "data": {"a": "y"}})), ["data"]);
        assert_eq!(check(json!({"data": {"a": "x"}})), ["immutable"]);
        assert!(check(json!({"immutable": true, "data": {"a": "x"}, "metadata": {"labels": {}}})).is_empty());
    }
}
