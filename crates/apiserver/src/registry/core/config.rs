//! ConfigMaps and Secrets.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use kind_rules::columns::{Column, age};
use kind_rules::json::{child, default_text, entries, present, remove, set, text, truth};
use kind_rules::names;
use kind_rules::problems::Problems;
use kind_rules::rules::KindRules;

/// All values of an object together, in bytes (upstream's `MaxSecretSize`).
const MAXIMUM_BYTES: usize = 1024 * 1024;

fn immutable_contents(problems: &mut Problems, object: &Value, old: &Value, keys: &[&str]) {
    if !truth(old, "immutable") {
        return;
    }
    if !truth(object, "immutable") {
        problems.forbidden("immutable", "field is immutable when `immutable` is set");
    }
    for key in keys {
        let count = |object: &Value| entries(object, key).count();
        if object.get(key) != old.get(key) && (count(object) > 0 || count(old) > 0) {
            problems.forbidden(key, "field is immutable when `immutable` is set");
        }
    }
}

/// `v1.ConfigMap`.
pub(crate) const CONFIG_MAP: KindRules = KindRules {
    validate: |problems, object| {
        let mut size = 0;
        for key in ["data", "binaryData"] {
            for (name, value) in entries(object, key) {
                names::config_key(problems, &format!("{key}[{name}]"), name);
                if key == "binaryData" && present(&object["data"], name) {
                    let detail = "duplicate of key present in data";
                    problems.invalid(&format!("{key}[{name}]"), &Value::from(name.as_str()), detail);
                }
                size += value.as_str().map_or(0, str::len);
            }
        }
        if size > MAXIMUM_BYTES {
            problems.too_long("", &format!("must have at most {MAXIMUM_BYTES} bytes"));
        }
    },
    validate_update: |problems, object, old| {
        immutable_contents(problems, object, old, &["data", "binaryData"])
    },
    columns: || vec![Column::object_name(), Column::new("Data"), Column::age()],
    cells: |object, now| {
        let count = entries(object, "data").count() + entries(object, "binaryData").count();
        vec![count.into(), age(object, now)]
    },
    ..KindRules::NEW
};

/// `v1.Secret`. `stringData` is folded into `data` and never stored.
pub(crate) const SECRET: KindRules = KindRules {
    defaults: |object| {
        default_text(object, "type", "Opaque");
        let Some(Value::Object(plain)) = remove(object, "stringData") else { return };
        let folded: Map<String, Value> = plain
            .into_iter()
            .map(|(key, value)| (key, Value::from(STANDARD.encode(value.as_str().unwrap_or_default()))))
            .collect();
        if let Some(data) = child(object, "data") {
            for (key, value) in folded {
                set(data, &key, value);
            }
        }
    },
    validate: |problems, object| {
        let mut size = 0;
        for (name, value) in entries(object, "data") {
            names::config_key(problems, &format!("data[{name}]"), name);
            size += value.as_str().map_or(0, |text| text.len() / 4 * 3);
        }
        if size > MAXIMUM_BYTES {
            problems.too_long("data", &format!("must have at most {MAXIMUM_BYTES} bytes"));
        }
        validate_type(problems, object);
    },
    validate_update: |problems, object, old| {
        problems.immutable("type", object.get("type"), old.get("type"));
        immutable_contents(problems, object, old, &["data"]);
    },
    columns: || vec![Column::object_name(), Column::new("Type"), Column::new("Data"), Column::age()],
    cells: |object, now| {
        vec![object["type"].clone(), entries(object, "data").count().into(), age(object, now)]
    },
    selectable: &["type"],
    ..KindRules::NEW
};

/// What each well-known type has to hold.
fn validate_type(problems: &mut Problems, object: &Value) {
    let data = &object["data"];
    let mut need = |keys: &[&str]| {
        for key in keys {
            if !present(data, key) {
                problems.required(&format!("data[{key}]"), "");
            }
        }
    };
    match text(object, "type") {
        "kubernetes.io/tls" => need(&["tls.crt", "tls.key"]),
        "kubernetes.io/ssh-auth" => need(&["ssh-privatekey"]),
        "kubernetes.io/dockercfg" => need(&[".dockercfg"]),
        "kubernetes.io/dockerconfigjson" => need(&[".dockerconfigjson"]),
        "kubernetes.io/basic-auth" if !present(data, "username") && !present(data, "password") => {
            problems.required("data[username]", "");
            problems.required("data[password]", "");
        }
        "kubernetes.io/service-account-token" => {
            let annotations = &object["metadata"]["annotations"];
            if text(annotations, "kubernetes.io/service-account.name").is_empty() {
                problems.required("metadata.annotations[kubernetes.io/service-account.name]", "");
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(kind: &KindRules, object: &Value) -> Vec<String> {
        let mut problems = Problems::default();
        (kind.validate)(&mut problems, object);
        problems.into_causes().into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn string_data_is_folded() {
        let mut secret = json!({"data": {"a": "b2xk", "b": "eA=="}, "stringData": {"a": "new"}});
        (SECRET.defaults)(&mut secret);
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "bmV3", "b": "eA=="}}));
    }

    #[test]
    fn keys_and_types_are_checked() {
        assert_eq!(fields(&CONFIG_MAP, &json!({"data": {"a b": "x"}})), ["data[a b]"]);
        assert_eq!(fields(&CONFIG_MAP, &json!({"data": {"..x": "x"}})), ["data[..x]"]);
        let tls = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}});
        assert_eq!(fields(&SECRET, &tls), ["data[tls.key]"]);
    }

    #[test]
    fn immutable_means_immutable() {
        let old = json!({"immutable": true, "data": {"a": "x"}});
        let check = |object: Value| {
            let mut problems = Problems::default();
            (CONFIG_MAP.validate_update)(&mut problems, &object, &old);
            problems.into_causes().into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        assert_eq!(check(json!({"immutable": true, "data": {"a": "y"}})), ["data"]);
        assert_eq!(check(json!({"data": {"a": "x"}})), ["immutable"]);
        assert!(check(json!({"immutable": true, "data": {"a": "x"}, "metadata": {"labels": {}}})).is_empty());
    }
}
