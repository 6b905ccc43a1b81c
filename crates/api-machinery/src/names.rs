//! Names and labels: what they may look like, and upstream's words when they do not.
//!
//! Every check returns the messages of what is wrong; none means the name is fine.

/// Greatest length of a DNS label and of a label value.
pub const LABEL_MAX: usize = 63;
/// Greatest length of a DNS subdomain.
pub const SUBDOMAIN_MAX: usize = 253;

/// Words that CEL keeps for itself (its language definition, "Syntax"). The first four are part of its grammar; the
/// others are reserved for the languages it is embedded in.
pub const CEL_WORDS: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether it is one of [`CEL_WORDS`], which no variable can be called by.
#[must_use]
pub fn is_cel_word(name: &str) -> bool {
    CEL_WORDS.contains(&name)
}

/// Whether expressions can call something by this name: a letter or underscore, then letters, digits and underscores,
/// and none of [`CEL_WORDS`].
#[must_use]
pub fn is_cel_identifier(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(fits)
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && !is_cel_word(name)
}

/// A lower-case RFC 1123 label: most names in a cluster that become host names.
#[must_use]
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut errors = too_long(value, LABEL_MAX, CHARACTERS);
    if !is_label(value) {
        errors.push(if is_subdomain(value) {
            // A dot in a label is the usual slip, and has its own sentence.
            "must not contain dots".to_owned()
        } else {
            with_examples(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                &["my-name", "123-abc"],
                "[a-z0-9]([-a-z0-9]*[a-z0-9])?",
            )
        });
    }
    errors
}

/// A lower-case RFC 1123 subdomain: the names of most objects.
#[must_use]
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    subdomain(value, CHARACTERS)
}

fn subdomain(value: &str, unit: &str) -> Vec<String> {
    let mut errors = too_long(value, SUBDOMAIN_MAX, unit);
    if !is_subdomain(value) {
        errors.push(with_examples(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            &["example.com"],
            r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
        ));
    }
    errors
}

/// An RFC 1035 label: services before relaxed names.
#[must_use]
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut errors = too_long(value, LABEL_MAX, CHARACTERS);
    if !is_label(value) || !value.starts_with(|first: char| first.is_ascii_lowercase()) {
        errors.push(with_examples(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            &["my-name", "abc-123"],
            "[a-z]([-a-z0-9]*[a-z0-9])?",
        ));
    }
    errors
}

/// A name that is one segment of a path (RBAC roles may hold colons).
#[must_use]
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    let found = ["/", "%"].into_iter().filter(|forbidden| value.contains(forbidden));
    found.map(|forbidden| format!("may not contain '{forbidden}'")).collect()
}

/// A qualified name, the key of a label or annotation: `[subdomain/]name`.
#[must_use]
pub fn qualified_name(value: &str) -> Vec<String> {
    const WHAT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                        alphanumeric character";
    const PATTERN: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((prefix, name)) if !name.contains('/') => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                errors.extend(subdomain(prefix, BYTES).iter().map(|error| format!("prefix part {error}")));
            }
            name
        }
        Some(_) => {
            let sentence = with_examples(WHAT, &EXAMPLES, PATTERN);
            return vec![format!(
                "a valid label key {sentence} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else {
        errors.extend(too_long(name, LABEL_MAX, BYTES).iter().map(|error| format!("name part {error}")));
    }
    if !is_label_value(name) || name.is_empty() {
        errors.push(format!("name part {}", with_examples(WHAT, &EXAMPLES, PATTERN)));
    }
    errors
}

/// A label's value; may be empty.
#[must_use]
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = too_long(value, LABEL_MAX, BYTES);
    if !is_label_value(value) {
        errors.push(with_examples(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            &["MyValue", "my_value", "12345"],
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
        ));
    }
    errors
}

/// A key of a config map or secret.
#[must_use]
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut errors = too_long(value, SUBDOMAIN_MAX, CHARACTERS);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(fits) {
        errors.push(with_examples(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            &["key.name", "KEY_NAME", "key-name"],
            "[-._a-zA-Z0-9]+",
        ));
    }
    if value == "." || value == ".." {
        errors.push(format!("must not be '{value}'"));
    } else if value.starts_with("..") {
        errors.push("must not start with '..'".to_owned());
    }
    errors
}

/// Upstream has two packages of these checks, which count the same and call it differently.
const CHARACTERS: &str = "characters";
const BYTES: &str = "bytes";

fn too_long(value: &str, max: usize, unit: &str) -> Vec<String> {
    if value.len() > max { vec![format!("must be no more than {max} {unit}")] } else { Vec::new() }
}

/// Upstream's `RegexError`.
#[must_use]
pub fn with_examples(what: &str, examples: &[&str], pattern: &str) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}'")).collect();
    format!("{what} (e.g. {}, regex used for validation is '{pattern}')", examples.join(",  or "))
}

fn is_label(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !value.is_empty() && value.bytes().all(inner) && !value.starts_with('-') && !value.ends_with('-')
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

fn is_label_value(value: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    value.bytes().all(inner) && ends(bytes.first()) && ends(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert!(dns1123_label("a-1").is_empty());
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert!(dns1123_subdomain("a.b-c.d").is_empty());
        assert!(!dns1123_subdomain("a..b").is_empty());
        assert!(!dns1035_label("1a").is_empty());
        assert!(qualified_name("example.com/a_B").is_empty());
        assert_eq!(qualified_name("/a"), ["prefix part must be non-empty"]);
        assert!(qualified_name("a/b/c")[0].starts_with("a valid label key must consist"));
        assert!(label_value("").is_empty());
        assert!(!label_value("-a").is_empty());
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert_eq!(path_segment("a/b"), ["may not contain '/'"]);
        assert!(!config_map_key("a b").is_empty());
    }

    #[test]
    fn the_words_are_those_people_search_for() {
        assert_eq!(
            dns1123_subdomain("A").concat(),
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        );
    }
}
