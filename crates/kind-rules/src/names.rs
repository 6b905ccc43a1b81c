//! What names, labels, ports and paths may look like, with upstream's explanations (apimachinery
//! `pkg/util/validation`).
//!
//! A [`Rule`] answers what is wrong with a text; [`Problems::check`] turns that into findings.

use std::fmt::Display;

use api_machinery::names::{SUBDOMAIN_MAX, with_examples};
pub use api_machinery::names::{
    config_map_key, dns1035_label, dns1123_label, dns1123_subdomain, label_value, path_segment,
    qualified_name,
};
use serde_json::Value;

use crate::json::{entries, list, text};
use crate::problems::Problems;

/// What is wrong with a text, in upstream's words; nothing when it is fine.
pub type Rule = fn(&str) -> Vec<String>;

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
    /// The canonical form of an IP address.
    IpAddress,
    /// Anything at all (signing requests).
    Any,
    /// As a subdomain, but short enough that the names of what a controller makes of it fit (cron jobs: 52 characters).
    DnsSubdomainUpTo(usize),
}

impl NameRule {
    /// What is wrong with a name; with `prefix` it is a `generateName`, to which letters will be added.
    #[must_use]
    pub fn check(self, name: &str, prefix: bool) -> Vec<String> {
        let masked;
        // Upstream's `maskTrailingDash`.
        let name = if prefix && name.len() > 1 && name.ends_with('-') && self != Self::PathSegment {
            masked = format!("{}a", name.get(..name.len() - 2).unwrap_or_default());
            &masked
        } else {
            name
        };
        match self {
            Self::DnsSubdomain => dns1123_subdomain(name),
            Self::DnsLabel => dns1123_label(name),
            Self::Dns1035Label => dns1035_label(name),
            Self::PathSegment => path_segment_name(name, prefix),
            Self::IpAddress => ip_address(name),
            Self::Any => Vec::new(),
            Self::DnsSubdomainUpTo(most) => {
                let mut found = dns1123_subdomain(name);
                if name.len() > most {
                    found.push(format!("must be no more than {most} characters"));
                }
                found
            }
        }
    }
}

fn ip_address(name: &str) -> Vec<String> {
    let mut problems = Problems::default();
    crate::addresses::ip(&mut problems, "", name);
    let head = format!("Invalid value: {}: ", crate::problems::quoted(name));
    problems
        .into_causes()
        .into_iter()
        .map(|cause| cause.message.strip_prefix(&head).unwrap_or(&cause.message).to_owned())
        .collect()
}

/// Upstream's `IsValidPathSegmentName`; as a prefix of one, `.` and `..` are fine.
fn path_segment_name(name: &str, prefix: bool) -> Vec<String> {
    if prefix && matches!(name, "." | "..") { Vec::new() } else { path_segment(name) }
}

impl Problems {
    /// One `Invalid value` per thing a rule says of a text.
    pub fn check(&mut self, field: impl Display, text: &str, rule: Rule) {
        for why in rule(text) {
            self.invalid(&field, text, &why);
        }
    }

    /// The same; an empty text is `Required value`.
    pub fn check_required(&mut self, field: impl Display, text: &str, rule: Rule) {
        if text.is_empty() {
            self.required(field, "");
        } else {
            self.check(field, text, rule);
        }
    }

    /// The same; an empty text is fine.
    pub fn check_optional(&mut self, field: impl Display, text: &str, rule: Rule) {
        if !text.is_empty() {
            self.check(field, text, rule);
        }
    }

    /// A number within bounds, both inclusive.
    pub fn in_range(&mut self, field: impl Display, number: i64, least: i64, most: i64) {
        if !(least..=most).contains(&number) {
            self.invalid(field, number, &format!("must be between {least} and {most}, inclusive"));
        }
    }
}

fn none_or(fine: bool, why: impl FnOnce() -> String) -> Vec<String> {
    if fine { Vec::new() } else { vec![why()] }
}

/// The name of a port: an IANA service name.
#[must_use]
pub fn port_name(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut say = |holds: bool, why: &str| {
        if holds {
            found.push(why.to_owned());
        }
    };
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    say(name.len() > 15, "must be no more than 15 characters");
    say(
        name.is_empty() || !name.bytes().all(fits),
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    );
    say(!name.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)");
    say(name.contains("--"), "must not contain consecutive hyphens");
    say(name.starts_with('-') || name.ends_with('-'), "must not begin or end with a hyphen");
    found
}

/// The name of an environment variable (relaxed: GA since 1.34).
#[must_use]
pub fn environment_name(name: &str) -> Vec<String> {
    let mut found = Vec::new();
    if name.is_empty() {
        found.push("environment variable name must be non-empty".to_owned());
    }
    if !name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        found.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    found
}

/// The name of an HTTP header.
#[must_use]
pub fn http_header_name(name: &str) -> Vec<String> {
    none_or(!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), || {
        with_examples(
            "a valid HTTP header must consist of alphanumeric characters or '-'",
            &["X-Header-Name"],
            "[-A-Za-z0-9]+",
        )
    })
}

/// `25%`.
#[must_use]
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    none_or(!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()), || {
        with_examples(
            "a valid percent string must be a numeric string followed by an ending '%'",
            &["1%", "93%"],
            "[0-9]+%",
        )
    })
}

/// An identifier of C.
#[must_use]
pub fn c_identifier(text: &str) -> Vec<String> {
    let first = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let fine = text.bytes().next().is_some_and(first) && text.bytes().all(|b| first(b) || b.is_ascii_digit());
    none_or(fine, || {
        with_examples(
            "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
             characters or '_'",
            &["my_name", "MY_NAME", "MyName"],
            "[A-Za-z_][A-Za-z0-9_]*",
        )
    })
}

const LABEL_PATTERN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

/// `*.example.com`.
#[must_use]
pub fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut found =
        none_or(text.len() <= SUBDOMAIN_MAX, || format!("must be no more than {SUBDOMAIN_MAX} characters"));
    if text.strip_prefix("*.").is_none_or(|rest| !is_subdomain_of_any_length(rest)) {
        found.push(with_examples(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of \
             lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &["*.example.com"],
            &format!("\\*\\.{LABEL_PATTERN}(\\.{LABEL_PATTERN})*"),
        ));
    }
    found
}

/// A subdomain whose labels may have underscores, as DNS searches and external names of some networks do.
#[must_use]
pub fn subdomain_with_underscore(text: &str) -> Vec<String> {
    let mut found =
        none_or(text.len() <= SUBDOMAIN_MAX, || format!("must be no more than {SUBDOMAIN_MAX} characters"));
    let label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label);
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let bytes = label.as_bytes();
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        edge(bytes.first()) && edge(bytes.last()) && label.bytes().all(inner)
    };
    if !text.split('.').all(label) {
        const PATTERN: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        found.push(with_examples(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must \
             start and end with an alphanumeric character",
            &["example.com"],
            &format!("{PATTERN}(\\.{PATTERN})*"),
        ));
    }
    found
}

fn is_subdomain_of_any_length(text: &str) -> bool {
    text.split('.').all(|part| is_label(part.get(..part.len().min(63)).unwrap_or_default()) && is_ended(part))
}

fn is_ended(part: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    part.bytes().all(fits) && !part.ends_with('-')
}

/// A domain of at least three labels (upstream's `IsFullyQualifiedName`).
pub fn fully_qualified_name(problems: &mut Problems, field: impl Display, name: &str) {
    if name.is_empty() {
        return problems.required(field, "");
    }
    let wrong = dns1123_subdomain(name);
    if !wrong.is_empty() {
        problems.invalid(field, name, &wrong.join(","));
    } else if name.split('.').count() < 3 {
        problems.invalid(field, name, "should be a domain with at least three segments separated by dots");
    }
}

/// `acme.io/foo` (upstream's `IsDomainPrefixedPath`).
pub fn domain_prefixed_path(problems: &mut Problems, field: impl Display, path: &str) {
    if path.is_empty() {
        return problems.required(field, "");
    }
    let Some((host, rest)) = path.split_once('/').filter(|(host, rest)| !host.is_empty() && !rest.is_empty())
    else {
        return problems.invalid(field, path, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    problems.check(&field, host, dns1123_subdomain);
    const PATTERN: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !rest.bytes().all(fits) {
        problems.invalid(&field, rest, &format!("Invalid path (regex used for validation is '{PATTERN}')"));
    }
}

/// `acme.io/foo`, a label key with a prefix (upstream's `IsDomainPrefixedKey`).
pub fn domain_prefixed_key(problems: &mut Problems, field: impl Display, key: &str) {
    if key.is_empty() {
        return problems.required(field, "");
    }
    let before = problems.len();
    problems.check(&field, key, qualified_name);
    if problems.len() == before && !key.contains('/') {
        problems.invalid(field, key, "must be a domain-prefixed key (such as \"acme.io/foo\")");
    }
}

/// Whether it is an RFC 1123 label.
#[must_use]
pub fn is_label(name: &str) -> bool {
    dns1123_label(name).is_empty()
}

/// Whether it is an RFC 1123 subdomain.
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    dns1123_subdomain(name).is_empty()
}

/// Whether it is a label key: a name, optionally after a DNS prefix and a slash.
#[must_use]
pub fn is_qualified(name: &str) -> bool {
    qualified_name(name).is_empty()
}

/// Whether it names a port.
#[must_use]
pub fn is_port_name(name: &str) -> bool {
    port_name(name).is_empty()
}

/// A DNS label in a field; required.
pub fn label(problems: &mut Problems, field: impl Display, value: &Value) {
    problems.check_required(field, value.as_str().unwrap_or_default(), dns1123_label);
}

/// A DNS subdomain in a field; required.
pub fn subdomain(problems: &mut Problems, field: impl Display, value: &Value) {
    problems.check_required(field, value.as_str().unwrap_or_default(), dns1123_subdomain);
}

/// A port number.
pub fn port(problems: &mut Problems, field: impl Display, value: &Value) {
    problems.in_range(field, value.as_i64().unwrap_or_default(), 1, 65_535);
}

/// A port number or name, as probes and services refer to it (upstream's `ValidatePortNumOrName`).
pub fn port_reference(problems: &mut Problems, field: impl Display, value: &Value) {
    match value {
        Value::String(name) => problems.check(field, name, port_name),
        number => port(problems, field, number),
    }
}

/// A key of a ConfigMap or Secret.
pub fn config_key(problems: &mut Problems, field: impl Display, key: &str) {
    problems.check(field, key, config_map_key);
}

/// Labels in a map field: keys qualified, values short (upstream's `ValidateLabels`).
pub fn labels(problems: &mut Problems, field: &(impl Display + ?Sized), object: &Value, key: &str) {
    for (name, value) in entries(object, key) {
        problems.check(field, name, qualified_name);
        problems.check(field, value.as_str().unwrap_or_default(), label_value);
    }
}

/// A label selector (upstream's `ValidateLabelSelector`).
pub fn selector(problems: &mut Problems, field: &(impl Display + ?Sized), selector: &Value) {
    selector_with(problems, field, selector, false);
}

/// The same where, with `any_value`, the values of expressions are not looked at (`AllowInvalidLabelValueInSelector`).
pub fn selector_with(
    problems: &mut Problems,
    field: &(impl Display + ?Sized),
    selector: &Value,
    any_value: bool,
) {
    if entries(selector, "matchLabels").next().is_some() {
        labels(problems, &format_args!("{field}.matchLabels"), selector, "matchLabels");
    }
    for (index, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let at = format_args!("{field}.matchExpressions[{index}]");
        let operator = text(expression, "operator");
        let values = list(expression, "values");
        match operator {
            "In" | "NotIn" if values.is_empty() => problems.required(
                format_args!("{at}.values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            ),
            "Exists" | "DoesNotExist" if !values.is_empty() => problems.forbidden(
                format_args!("{at}.values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            ),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => problems.invalid(format_args!("{at}.operator"), operator, "not a valid selector operator"),
        }
        problems.check(format_args!("{at}.key"), text(expression, "key"), qualified_name);
        if !any_value {
            for (number, value) in values.iter().enumerate() {
                let at = format_args!("{at}.values[{number}]");
                problems.check(at, value.as_str().unwrap_or_default(), label_value);
            }
        }
    }
}

/// Whether a selector has a label value that could be no label's: tolerated on updates of objects that had one before
/// such values were refused.
#[must_use]
pub fn has_bad_selector_value(selector: &Value) -> bool {
    list(selector, "matchExpressions").iter().any(|expression| {
        list(expression, "values")
            .iter()
            .any(|value| value.as_str().is_none_or(|value| !label_value(value).is_empty()))
    })
}

/// Whether a label selector says nothing: it would match everything.
#[must_use]
pub fn is_empty_selector(selector: &Value) -> bool {
    entries(selector, "matchLabels").next().is_none() && list(selector, "matchExpressions").is_empty()
}

/// Whether a label selector matches an object's labels.
#[must_use]
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

/// A label selector as kubectl prints it: `<none>` for none or an empty one.
#[must_use]
pub fn shown_selector(selector: &Value) -> String {
    match selector_text(selector) {
        text if text.is_empty() => "<none>".to_owned(),
        text => text,
    }
}

/// A label selector in the language of the query parameter, keys sorted; "" for an empty one.
#[must_use]
pub fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<(&str, String)> = entries(selector, "matchLabels")
        .map(|(key, value)| (key.as_str(), format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    for expression in list(selector, "matchExpressions") {
        let key = text(expression, "key");
        let mut values: Vec<&str> = list(expression, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let shown = match text(expression, "operator") {
            "In" => format!("{key} in ({})", values.join(",")),
            "NotIn" => format!("{key} notin ({})", values.join(",")),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        };
        parts.push((key, shown));
    }
    parts.sort_by(|one, other| one.0.cmp(other.0));
    parts.into_iter().map(|(_, part)| part).collect::<Vec<_>>().join(",")
}

/// A map of labels as kubectl prints it.
#[must_use]
pub fn shown_labels(object: &Value, key: &str) -> String {
    let parts: Vec<String> = entries(object, key)
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") }
}

#[cfg(test)]
mod tests;
