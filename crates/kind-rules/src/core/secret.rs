//! `v1.Secret`. `stringData` is folded into `data` and never stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::config_map::{MAXIMUM_BYTES, decoded_bytes, immutable};
use crate::columns::{Column, age};
use crate::json::{child, default_text, entries, given, remove, set, text};
use crate::names::config_map_key;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;

/// What Kubernetes demands of secrets.
pub const RULES: KindRules = KindRules {
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
    prepare_update: |object, old| {
        // A secret whose type is left out keeps it.
        if text(object, "type").is_empty() {
            set(object, "type", text(old, "type"));
        }
    },
    validate: |problems, object| {
        let (mut size, data) = (0, Path::new("data"));
        for (key, value) in entries(object, "data") {
            problems.check(data.key(key), key, config_map_key);
            size += decoded_bytes(value);
        }
        if size > MAXIMUM_BYTES {
            problems.too_many_bytes(data, MAXIMUM_BYTES);
        }
        validate_type(problems, object);
    },
    validate_update: |problems, object, old| {
        problems.immutable("type", object.get("type"), old.get("type"));
        immutable(problems, object, old, &["data"]);
    },
    columns: || {
        vec![
            Column::object_name(),
            Column::described("Type", "Secret", "type"),
            Column::described("Data", "Secret", "data"),
            Column::age(),
        ]
    },
    cells: |object, now| {
        let count = entries(object, "data").count().to_string();
        vec![text(object, "type").into(), count.into(), age(object, now)]
    },
    selectable: &["type"],
    ..KindRules::NEW
};

/// What each well-known type has to hold.
fn validate_type(problems: &mut Problems, object: &Value) {
    let data = &object["data"];
    let at = Path::new("data");
    let mut need = |keys: &[&str]| {
        for key in keys {
            if given(data, key).is_none() {
                problems.required(at.key(key), "");
            }
        }
    };
    match text(object, "type") {
        "kubernetes.io/tls" => need(&["tls.crt", "tls.key"]),
        "kubernetes.io/ssh-auth" if text(data, "ssh-privatekey").is_empty() => {
            problems.required(at.key("ssh-privatekey"), "");
        }
        "kubernetes.io/dockercfg" => document(problems, &at.key(".dockercfg"), data.get(".dockercfg")),
        "kubernetes.io/dockerconfigjson" => {
            document(problems, &at.key(".dockerconfigjson"), data.get(".dockerconfigjson"));
        }
        "kubernetes.io/basic-auth"
            if given(data, "username").is_none() && given(data, "password").is_none() =>
        {
            need(&["username", "password"]);
        }
        "kubernetes.io/service-account-token" => {
            const NAME: &str = "kubernetes.io/service-account.name";
            if text(&object["metadata"]["annotations"], NAME).is_empty() {
                problems.required(Path::new("metadata.annotations").key(NAME), "");
            }
        }
        _ => {}
    }
}

/// A JSON object in base64; its contents are never repeated.
fn document(problems: &mut Problems, at: &Path<'_>, value: Option<&Value>) {
    let Some(text) = value.and_then(Value::as_str) else { return problems.required(at, "") };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let why = match serde_json::from_slice::<Value>(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(_) => "json: cannot unmarshal value into Go value of type map[string]interface {}",
        Err(_) if bytes.is_empty() => "unexpected end of JSON input",
        Err(_) => &unexpected(&bytes),
    };
    problems.invalid(at, "<secret contents redacted>", why);
}

/// Go's words for a text that begins like no JSON; of one that goes wrong later, less than Go says.
fn unexpected(bytes: &[u8]) -> String {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace()).copied().unwrap_or_default();
    if matches!(first, b'{' | b'[' | b'"' | b'-' | b't' | b'f' | b'n' | b'0'..=b'9') {
        return "invalid character in JSON input".to_owned();
    }
    let shown =
        if first.is_ascii_graphic() { char::from(first).to_string() } else { format!("\\x{first:02x}") };
    format!("invalid character '{shown}' looking for beginning of value")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn string_data_is_folded() {
        let mut secret = json!({"data": {"a": "b2xk", "b": "eA=="}, "stringData": {"a": "new"}});
        (RULES.defaults)(&mut secret);
        assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "bmV3", "b": "eA=="}}));
    }

    #[test]
    fn types_are_checked() {
        let fields = |object: Value| {
            let mut problems = Problems::default();
            (RULES.validate)(&mut problems, &object);
            problems.into_causes().into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}})), ["data[tls.key]"]);
        let docker = |text: &str| json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": STANDARD.encode(text)}});
        assert!(fields(docker("{}")).is_empty());
        assert_eq!(fields(docker("no")), ["data[.dockerconfigjson]"]);
    }
}
