//! Field selectors: `metadata.name=a,spec.nodeName!=b`.

use std::fmt;
use std::str::FromStr;

use super::SelectorError;

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    /// `metadata.name`.
    pub field: String,
    /// The value, unescaped.
    pub value: String,
    /// Whether it has to be equal; otherwise it must differ.
    pub equal: bool,
}

/// Terms that all have to hold. The empty selector selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// In the order given.
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Whether everything is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether an object is selected; `value_of` gives a field's value, "" for a field that is absent.
    pub fn matches<'v>(&self, mut value_of: impl FnMut(&str) -> std::borrow::Cow<'v, str>) -> bool {
        self.terms.iter().all(|term| (value_of(&term.field) == term.value) == term.equal)
    }

    /// The value that a field has to have, when the selector says so: how a list by name is recognised.
    #[must_use]
    pub fn required_value(&self, field: &str) -> Option<&str> {
        let found = self.terms.iter().find(|term| term.equal && term.field == field);
        found.map(|term| term.value.as_str())
    }
}

impl FromStr for FieldSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let parts = split(text).into_iter().filter(|part| !part.is_empty());
        Ok(Self { terms: parts.map(term).collect::<Result<_, _>>()? })
    }
}

/// Splits at commas that no backslash protects.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        if letter == ',' && !escaped {
            parts.extend(text.get(start..at));
            start = at + 1;
        }
        escaped = letter == '\\' && !escaped;
    }
    parts.extend(text.get(start..));
    parts
}

fn term(part: &str) -> Result<FieldTerm, SelectorError> {
    let invalid = || SelectorError::new(format!("invalid selector: '{part}'; can't understand '{part}'"));
    let at = part.find(['=', '!']).ok_or_else(invalid)?;
    let (field, rest) = part.split_at(at);
    let (equal, value) = if let Some(value) = rest.strip_prefix("!=") {
        (false, value)
    } else if let Some(value) = rest.strip_prefix("==") {
        (true, value)
    } else if let Some(value) = rest.strip_prefix('=') {
        (true, value)
    } else {
        return Err(invalid());
    };
    Ok(FieldTerm { field: field.to_owned(), value: unescape(value)?, equal })
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let (mut out, mut letters) = (String::with_capacity(value.len()), value.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                Some(other) => {
                    return Err(SelectorError::new(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    )));
                }
                None => {
                    return Err(SelectorError::new("invalid field selector: trailing backslash".to_owned()));
                }
            },
            ',' | '=' => {
                return Err(SelectorError::new(format!(
                    "invalid field selector: unescaped character in value: {letter}"
                )));
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let operator = if term.equal { "=" } else { "!=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{}{operator}{value}", term.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_matched_and_written_back() {
        let text = r"metadata.name=a,spec.nodeName!=b\,c,status.phase=";
        let selector: FieldSelector = text.parse().unwrap();
        assert_eq!(selector.to_string(), text);
        assert_eq!(selector.required_value("metadata.name"), Some("a"));
        assert_eq!(selector.required_value("spec.nodeName"), None);
        assert!(selector.matches(|field| if field == "metadata.name" { "a".into() } else { "".into() }));
        assert!(!selector.matches(|_| "b,c".into()));
        assert!("".parse::<FieldSelector>().unwrap().is_everything());
        assert!("a".parse::<FieldSelector>().is_err());
        assert!("a=b=c".parse::<FieldSelector>().is_err());
        assert_eq!("a==b".parse::<FieldSelector>().unwrap().terms[0].value, "b");
    }
}
