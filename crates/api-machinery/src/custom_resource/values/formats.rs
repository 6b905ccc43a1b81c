//! Formats of strings that Kubernetes knows (kube-openapi `strfmt`); others say nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use base64::Engine as _;
use regex::Regex;

use crate::names;
use crate::schema::ValueType;

/// A string format: its name without dashes, and whether a text has it.
type Format = (&'static str, fn(&str) -> bool);

const FORMATS: &[Format] = &[
    ("bsonobjectid", |text| text.len() == 24 && text.chars().all(|c| c.is_ascii_hexdigit())),
    ("uri", is_uri),
    ("email", is_email),
    ("hostname", is_hostname),
    ("ipv4", |text| text.parse::<Ipv4Addr>().is_ok()),
    ("ipv6", |text| text.parse::<Ipv6Addr>().is_ok()),
    ("cidr", is_cidr),
    ("mac", is_mac),
    ("uuid", |text| matches(0, text)),
    ("uuid3", |text| matches(1, text)),
    ("uuid4", |text| matches(2, text)),
    ("uuid5", |text| matches(3, text)),
    ("isbn", |text| is_isbn10(text) || is_isbn13(text)),
    ("isbn10", is_isbn10),
    ("isbn13", is_isbn13),
    ("creditcard", is_credit_card),
    ("ssn", |text| matches(4, text)),
    ("hexcolor", |text| matches(5, text)),
    ("rgbcolor", |text| matches(6, text)),
    ("byte", |text| base64::engine::general_purpose::STANDARD.decode(text).is_ok()),
    ("password", |_| true),
    ("date", |text| text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()),
    ("duration", is_duration),
    ("datetime", is_time),
    ("k8sshortname", |text| names::dns1123_label(text).is_empty()),
    ("k8slongname", |text| names::dns1123_subdomain(text).is_empty()),
];

const PATTERNS: [&str; 8] = [
    r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$",
    r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$",
    r"^rgb\(\s*([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\s*,\s*([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\s*,\s*([0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5])\s*\)$",
    r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$",
];

fn matches(index: usize, text: &str) -> bool {
    static COMPILED: [OnceLock<Option<Regex>>; 8] = [const { OnceLock::new() }; 8];
    let compiled = COMPILED[index].get_or_init(|| Regex::new(PATTERNS[index]).ok());
    compiled.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

fn find(format: &str) -> Option<&'static Format> {
    let normal = format.replace('-', "");
    FORMATS.iter().find(|(name, _)| *name == normal)
}

/// Whether a format means something for a type; others are told to who defines the schema and then ignored.
#[must_use]
pub fn is_known(format: &str, kind: &str) -> bool {
    match kind {
        "" | "string" => find(format).is_some(),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether a text has a format; formats that are not known hold for everything.
pub(super) fn holds(format: &str, kind: ValueType, text: &str) -> bool {
    let applies = matches!(kind, ValueType::String | ValueType::Any);
    !applies || find(format).is_none_or(|(_, holds)| holds(text))
}

fn is_time(text: &str) -> bool {
    let upper = text.to_ascii_uppercase();
    upper.contains('T') && upper.parse::<jiff::Timestamp>().is_ok()
}

/// Go's `url.ParseRequestURI`: an absolute URL or a path.
fn is_uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_ascii_control() || c == ' ') {
        return false;
    }
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    let absolute = scheme.is_some_and(|scheme| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    absolute || text.starts_with('/')
}

fn is_email(text: &str) -> bool {
    let address = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(open), Some(inner)) => &inner[open + 1..],
        _ => text.trim(),
    };
    address.rsplit_once('@').is_some_and(|(local, domain)| {
        let plain =
            |c: char| !c.is_whitespace() && !matches!(c, '<' | '>' | '(' | ')' | ',' | ';' | ':' | '@');
        let dots = |text: &str| text.split('.').all(|part| !part.is_empty());
        !local.is_empty()
            && !domain.is_empty()
            && dots(local)
            && dots(domain)
            && local.chars().all(plain)
            && domain.chars().all(plain)
    })
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |c: char| c.is_alphanumeric() || c == '-';
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 255 && !text.is_empty() && text.split('.').all(label)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.len() <= 3
        && bits.chars().all(|c| c.is_ascii_digit())
        && bits.parse::<u32>().is_ok_and(|bits| bits <= most)
}

fn is_mac(text: &str) -> bool {
    let octets = |separator: char, digits: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        let whole =
            parts.iter().all(|part| part.len() == digits && part.chars().all(|c| c.is_ascii_hexdigit()));
        whole.then_some(parts.len() * digits / 2)
    };
    let bytes = octets(':', 2).or_else(|| octets('-', 2)).or_else(|| octets('.', 4));
    matches!(bytes, Some(6 | 8 | 20))
}

fn digits(text: &str) -> Vec<char> {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let digits = digits(text);
    if digits.len() != 10 {
        return false;
    }
    let mut sum = 0;
    for (index, digit) in (0_u32..).zip(&digits) {
        let value = match digit {
            'X' if index == 9 => 10,
            digit => match digit.to_digit(10) {
                Some(value) => value,
                None => return false,
            },
        };
        sum += (index + 1) * value;
    }
    sum % 11 == 0
}

fn is_isbn13(text: &str) -> bool {
    let digits: Option<Vec<u32>> = digits(text).into_iter().map(|c| c.to_digit(10)).collect();
    let Some(digits) = digits.filter(|digits| digits.len() == 13) else { return false };
    let sum: u32 =
        digits.iter().enumerate().map(|(index, digit)| if index % 2 == 0 { *digit } else { digit * 3 }).sum();
    sum.is_multiple_of(10)
}

fn is_credit_card(text: &str) -> bool {
    let plain: String = text.chars().filter(char::is_ascii_digit).collect();
    let luhn: u32 = plain
        .chars()
        .rev()
        .enumerate()
        .filter_map(|(index, c)| Some((index, c.to_digit(10)?)))
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => digit,
            (_, doubled) if doubled > 9 => doubled - 9,
            (_, doubled) => doubled,
        })
        .sum();
    matches(7, &plain) && luhn.is_multiple_of(10)
}

/// Go's `time.ParseDuration`, or a number and a unit in words.
fn is_duration(text: &str) -> bool {
    let text = text.trim();
    let go = text.strip_prefix(['-', '+']).unwrap_or(text);
    if go == "0" {
        return true;
    }
    static GO: OnceLock<Option<Regex>> = OnceLock::new();
    static WORDS: OnceLock<Option<Regex>> = OnceLock::new();
    let go_pattern =
        GO.get_or_init(|| Regex::new(r"^(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$").ok());
    let words_pattern = WORDS.get_or_init(|| {
        let units = "ns|nanos?|nanoseconds?|us|µs|micros?|microseconds?|ms|millis?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|wks?|weeks?";
        Regex::new(&format!(r"(?i)^[0-9]+\s*({units})$")).ok()
    });
    let holds =
        |pattern: &Option<Regex>, text: &str| pattern.as_ref().is_some_and(|pattern| pattern.is_match(text));
    holds(go_pattern, go) || holds(words_pattern, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_hold_for_what_they_name() {
        for (format, good, bad) in [
            ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
            ("date", "2026-01-02", "2026-13-02"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:11:22:33:44:55", "00:11:22:33:44"),
            ("uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "x"),
            ("hostname", "a.example.com", "-a"),
            ("email", "a@b.c", "a b@c"),
            ("uri", "https://example.com/x", "example.com"),
            ("byte", "aGk=", "%"),
            ("duration", "1h30m", "1 fortnight"),
            ("hexcolor", "#ffF", "#ff"),
            ("isbn10", "0321751043", "0321751044"),
            ("isbn13", "978-0321751041", "978-0321751042"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("k8s-short-name", "a-b", "A"),
        ] {
            assert!(holds(format, ValueType::String, good), "{format} {good}");
            assert!(!holds(format, ValueType::String, bad), "{format} {bad}");
            assert!(is_known(format, "string"));
        }
        assert!(holds("whatever", ValueType::String, "x") && !is_known("whatever", "string"));
        assert!(is_known("int32", "integer") && !is_known("int32", "string"));
    }
}
