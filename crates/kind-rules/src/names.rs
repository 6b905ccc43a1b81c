//! What names, labels, ports and paths may look like, with upstream's explanations (apimachinery
//! `pkg/util/validation`).

use std::fmt::Display;

use serde_json::Value;

use crate::json::{entries, list, text};
use crate::problems::Problems;

/// What names of a kind look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, up to 253 characters.
    #[default]
    DnsSubdomain,
    /// RFC 1123 label, up to 63 characters.
    DnsLabel,
    /// RFC 1035 label: begins with a letter (services before 1.36).
    Dns1035Label,
    /// Anything that can stand in a path (RBAC).
    PathSegment,
}

/// Why a label is none.
pub const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
/// Why a subdomain is none.
pub const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_RULE: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const CONFIG_KEY_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_RULE: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// Whether it is an RFC 1123 label.
#[must_use]
pub fn is_label(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(inner)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

/// Whether it is an RFC 1123 subdomain.
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|part| {
            let bytes = part.as_bytes();
            !bytes.is_empty()
                && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
                && bytes.first() != Some(&b'-')
                && bytes.last() != Some(&b'-')
        })
}

fn is_name_part(text: &str, limit: usize) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    bytes.len() <= limit
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Whether it is a label key: a name, optionally after a DNS prefix and a slash.
#[must_use]
pub fn is_qualified(name: &str) -> bool {
    match name.split_once('/') {
        Some((prefix, rest)) => is_subdomain(prefix) && is_name_part(rest, 63),
        None => is_name_part(name, 63),
    }
}

/// A DNS label in a field; required.
pub fn label(problems: &mut Problems, field: &(impl Display + ?Sized), value: &Value) {
    match value.as_str() {
        None | Some("") => problems.required(field, ""),
        Some(name) if !is_label(name) => problems.invalid(field, value, LABEL_RULE),
        Some(_) => {}
    }
}

/// A DNS subdomain in a field; required.
pub fn subdomain(problems: &mut Problems, field: &(impl Display + ?Sized), value: &Value) {
    match value.as_str() {
        None | Some("") => problems.required(field, ""),
        Some(name) if !is_subdomain(name) => problems.invalid(field, value, SUBDOMAIN_RULE),
        Some(_) => {}
    }
}

/// A port number.
pub fn port(problems: &mut Problems, field: &(impl Display + ?Sized), value: &Value) {
    if !value.as_i64().is_some_and(|port| (1..=65_535).contains(&port)) {
        problems.invalid(field, value, "must be between 1 and 65535, inclusive");
    }
}

/// The name of a port: an IANA service name.
pub fn is_port_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=15).contains(&bytes.len())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
        && bytes.iter().any(u8::is_ascii_lowercase)
        && !name.contains("--")
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// A port number or name, as probes and services refer to it.
pub fn port_reference(problems: &mut Problems, field: &(impl Display + ?Sized), value: &Value) {
    match value {
        Value::Number(_) => port(problems, field, value),
        Value::String(name) if is_port_name(name) => {}
        Value::String(_) => problems.invalid(
            field,
            value,
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
        ),
        _ => problems.required(field, ""),
    }
}

/// A key of a ConfigMap or Secret.
pub fn config_key(problems: &mut Problems, field: &(impl Display + ?Sized), key: &str) {
    let shown = Value::from(key);
    if key.len() > 253 {
        problems.invalid(field, &shown, "must be no more than 253 characters");
    } else if key.is_empty()
        || !key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    {
        problems.invalid(field, &shown, CONFIG_KEY_RULE);
    } else if key == "." || key == ".." {
        problems.invalid(field, &shown, &format!("must not be '{key}'"));
    } else if key.starts_with("..") {
        problems.invalid(field, &shown, "must not start with '..'");
    }
}

/// The name of an environment variable.
pub fn environment(problems: &mut Problems, field: &(impl Display + ?Sized), value: &Value) {
    match value.as_str() {
        None | Some("") => problems.required(field, ""),
        Some(name) if !name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') => {
            problems.invalid(field, value, ENV_RULE);
        }
        Some(_) => {}
    }
}

/// Labels: keys qualified, values short.
pub fn labels(problems: &mut Problems, field: &(impl Display + ?Sized), object: &Value, key: &str) {
    for (name, value) in entries(object, key) {
        if !is_qualified(name) {
            problems.invalid(field, &Value::from(name.as_str()), QUALIFIED_RULE);
        }
        let fine = value.as_str().is_some_and(|value| value.is_empty() || is_name_part(value, 63));
        if !fine {
            problems.invalid(field, value, LABEL_VALUE_RULE);
        }
    }
}

/// A label selector.
pub fn selector(problems: &mut Problems, field: &(impl Display + ?Sized), selector: &Value) {
    labels(problems, &format!("{field}.matchLabels"), selector, "matchLabels");
    for (index, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let at = format!("{field}.matchExpressions[{index}]");
        let operator = expression.get("operator").unwrap_or(&Value::Null);
        let values = list(expression, "values");
        match operator.as_str() {
            Some("In" | "NotIn") if values.is_empty() => problems
                .required(&format!("{at}.values"), "must be specified when `operator` is 'In' or 'NotIn'"),
            Some("Exists" | "DoesNotExist") if !values.is_empty() => problems.forbidden(
                &format!("{at}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            Some("In" | "NotIn" | "Exists" | "DoesNotExist") => {}
            _ => problems.invalid(&format!("{at}.operator"), operator, "not a valid selector operator"),
        }
        if !is_qualified(text(expression, "key")) {
            problems.invalid(&format!("{at}.key"), &expression["key"], QUALIFIED_RULE);
        }
    }
}

/// Whether a label selector says nothing: it would match everything.
pub fn is_empty_selector(selector: &Value) -> bool {
    entries(selector, "matchLabels").next().is_none() && list(selector, "matchExpressions").is_empty()
}

/// Whether a label selector matches an object's labels.
pub fn matches(selector: &Value, labels: &Value) -> bool {
    entries(selector, "matchLabels").all(|(key, value)| labels.get(key) == Some(value))
        && list(selector, "matchExpressions").iter().all(|expression| {
            let value = labels.get(text(expression, "key"));
            let listed = value.is_some_and(|value| list(expression, "values").contains(value));
            match text(expression, "operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// A label selector as kubectl prints it.
pub fn shown_selector(selector: &Value) -> String {
    if selector.is_null() {
        return "<none>".to_owned();
    }
    let mut parts: Vec<String> = entries(selector, "matchLabels")
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in list(selector, "matchExpressions") {
        let key = text(expression, "key");
        let values: Vec<&str> = list(expression, "values").iter().filter_map(Value::as_str).collect();
        parts.push(match text(expression, "operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") }
}

/// A map of labels as kubectl prints it.
pub fn shown_labels(object: &Value, key: &str) -> String {
    let parts: Vec<String> = entries(object, key)
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_judged_as_upstream_judges_them() {
        assert!(is_label("a-1") && !is_label("-a") && !is_label("A") && !is_label("a.b") && !is_label(""));
        assert!(is_subdomain("a.b-c") && !is_subdomain("a..b") && !is_subdomain(".a"));
        assert!(is_qualified("example.com/My_name") && !is_qualified("/a") && !is_qualified("a/b/c"));
        assert!(
            is_port_name("http-1") && !is_port_name("1") && !is_port_name("a--b") && !is_port_name("http_1")
        );
    }

    #[test]
    fn selectors_match() {
        let selector = json!({"matchLabels": {"a": "1"},
            "matchExpressions": [{"key": "b", "operator": "In", "values": ["x"]}, {"key": "c", "operator": "DoesNotExist"}]});
        assert!(matches(&selector, &json!({"a": "1", "b": "x"})));
        assert!(!matches(&selector, &json!({"a": "1", "b": "y"})));
        assert!(!matches(&selector, &json!({"a": "1", "b": "x", "c": ""})));
        assert_eq!(shown_selector(&selector), "a=1,b in (x),!c");
    }
}
