//! Named formats: `format.dns1123Label().validate(name)`.

use base64::Engine as _;

use super::{Implementation, Url, no_overload};
use crate::cel::time;
use crate::cel::value::{Library, Result, Value, texts};

/// A named format.
#[derive(Debug)]
pub(crate) struct Format {
    /// As expressions call it.
    pub(crate) name: &'static str,
    /// The pattern's size that costs are reckoned with (upstream `MaxRegexSize`).
    pub(crate) pattern_size: u64,
    check: fn(&str) -> Vec<String>,
}

/// All formats of upstream's `ConstantFormats`.
static FORMATS: [Format; 13] = [
    Format { name: "dns1123Label", pattern_size: 30, check: |text| label(text, false) },
    Format { name: "dns1123Subdomain", pattern_size: 60, check: |text| subdomain(text, false) },
    Format { name: "dns1035Label", pattern_size: 30, check: |text| label_1035(text, false) },
    Format { name: "qualifiedName", pattern_size: 60, check: qualified_name },
    Format { name: "dns1123LabelPrefix", pattern_size: 30, check: |text| label(text, true) },
    Format { name: "dns1123SubdomainPrefix", pattern_size: 60, check: |text| subdomain(text, true) },
    Format { name: "dns1035LabelPrefix", pattern_size: 30, check: |text| label_1035(text, true) },
    Format { name: "labelValue", pattern_size: 40, check: label_value },
    Format { name: "uri", pattern_size: 1_103, check: |text| Url::parse(text).err().into_iter().collect() },
    Format {
        name: "uuid",
        pattern_size: 72,
        check: |text| say(is_uuid(text), "does not match the UUID format"),
    },
    Format { name: "byte", pattern_size: 84, check: |text| say(is_base64(text), "invalid base64") },
    Format {
        name: "date",
        pattern_size: 69,
        check: |text| say(time::parse_date(text).is_ok(), "invalid date"),
    },
    Format {
        name: "datetime",
        pattern_size: 69,
        check: |text| say(time::parse_date_time_format(text).is_ok(), "invalid datetime"),
    },
];

pub(super) fn find(function: &str) -> Option<Implementation> {
    Some(match function {
        "validate" => validate,
        "format.named" => |args| match args {
            [Value::String(name)] => Ok(named(name.as_str()).map_or(Value::Optional(None), Value::some)),
            _ => no_overload(),
        },
        "format.dns1123Label" => |_| constant("dns1123Label"),
        "format.dns1123Subdomain" => |_| constant("dns1123Subdomain"),
        "format.dns1035Label" => |_| constant("dns1035Label"),
        "format.qualifiedName" => |_| constant("qualifiedName"),
        "format.dns1123LabelPrefix" => |_| constant("dns1123LabelPrefix"),
        "format.dns1123SubdomainPrefix" => |_| constant("dns1123SubdomainPrefix"),
        "format.dns1035LabelPrefix" => |_| constant("dns1035LabelPrefix"),
        "format.labelValue" => |_| constant("labelValue"),
        "format.uri" => |_| constant("uri"),
        "format.uuid" => |_| constant("uuid"),
        "format.byte" => |_| constant("byte"),
        "format.date" => |_| constant("date"),
        "format.datetime" => |_| constant("datetime"),
        _ => return None,
    })
}

fn named<'a>(name: &str) -> Option<Value<'a>> {
    FORMATS.iter().find(|format| format.name == name).map(|format| Value::library(Library::Format(format)))
}

fn constant<'a>(name: &str) -> Result<'a> {
    named(name).map_or_else(no_overload, Ok)
}

fn validate<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::Library(library), Value::String(text)] = args else { return no_overload() };
    let Library::Format(format) = &**library else { return no_overload() };
    let problems = (format.check)(text.as_str());
    Ok(if problems.is_empty() { Value::Optional(None) } else { Value::some(texts(problems)) })
}

fn say(valid: bool, problem: &str) -> Vec<String> {
    if valid { Vec::new() } else { vec![problem.to_owned()] }
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Letters and digits with dashes between them.
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    is_alphanumeric(*first)
        && is_alphanumeric(*last)
        && bytes.iter().all(|byte| is_alphanumeric(*byte) || *byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// A prefix may end in a dash: something follows it.
fn masked(text: &str, prefix: bool) -> String {
    match text.strip_suffix('-') {
        Some(rest) if prefix && text.len() > 1 => format!("{rest}a"),
        _ => text.to_owned(),
    }
}

fn too_long(text: &str, most: usize) -> Option<String> {
    (text.len() > most).then(|| format!("must be no more than {most} bytes"))
}

fn label(text: &str, prefix: bool) -> Vec<String> {
    const WRONG: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let text = masked(text, prefix);
    let wrong = (!is_label(&text)).then(|| WRONG.to_owned());
    too_long(&text, 63).into_iter().chain(wrong).collect()
}

fn label_1035(text: &str, prefix: bool) -> Vec<String> {
    const WRONG: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    let text = masked(text, prefix);
    let valid = is_label(&text) && text.starts_with(|first: char| first.is_ascii_lowercase());
    let wrong = (!valid).then(|| WRONG.to_owned());
    too_long(&text, 63).into_iter().chain(wrong).collect()
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn subdomain(text: &str, prefix: bool) -> Vec<String> {
    let text = masked(text, prefix);
    let wrong = (!is_subdomain(&text)).then(|| SUBDOMAIN.to_owned());
    too_long(&text, 253).into_iter().chain(wrong).collect()
}

/// Letters, digits, and `-`, `_`, `.` between them.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn qualified_name(text: &str) -> Vec<String> {
    const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    const WHOLE: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
    let mut problems = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(
                    subdomain(prefix, false).into_iter().map(|problem| format!("prefix part {problem}")),
                );
            }
            name
        }
        _ => return vec![WHOLE.to_owned()],
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if let Some(problem) = too_long(name, 63) {
        problems.push(format!("name part {problem}"));
    }
    if !is_name(name) {
        problems.push(format!("name part {NAME}"));
    }
    problems
}

fn label_value(text: &str) -> Vec<String> {
    const WRONG: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    let wrong = (!text.is_empty() && !is_name(text)).then(|| WRONG.to_owned());
    too_long(text, 63).into_iter().chain(wrong).collect()
}

/// Eight, four, four, four and twelve hexadecimal digits; dashes may be left out.
fn is_uuid(text: &str) -> bool {
    let mut rest = text.as_bytes();
    for (index, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if index > 0 {
            rest = rest.strip_prefix(b"-").unwrap_or(rest);
        }
        let Some((digits, after)) = rest.split_at_checked(length) else { return false };
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

fn is_base64(text: &str) -> bool {
    !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}
