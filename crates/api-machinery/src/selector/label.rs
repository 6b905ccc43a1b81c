//! Label selectors: the string form (`app in (a,b),!old,tier!=db`) and the object form
//! (`matchLabels`, `matchExpressions`).

use std::collections::BTreeSet;
use std::fmt;
use std::iter::Peekable;
use std::str::FromStr;
use std::vec::IntoIter;

use serde_json::Value;

use crate::names;

/// A selector that could not be read, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SelectorError {
    /// For a person.
    pub message: String,
}

impl SelectorError {
    pub(super) fn new(message: String) -> Self {
        Self { message }
    }

    fn unparsable(what: impl fmt::Display) -> Self {
        Self::new(format!("unable to parse requirement: {what}"))
    }
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of these (`=`, `==`, `in`).
    In,
    /// The label is absent or its value is none of these (`!=`, `notin`).
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The value is a greater whole number (`>`; string form only).
    GreaterThan,
    /// The value is a smaller whole number (`<`; string form only).
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// How it is compared.
    pub operator: Operator,
    /// With what, sorted.
    pub values: BTreeSet<String>,
}

impl Requirement {
    /// Checks key and values.
    ///
    /// # Errors
    /// When the key or a value is no label, or the operator takes another number of values.
    pub fn new(key: &str, operator: Operator, values: BTreeSet<String>) -> Result<Self, SelectorError> {
        let errors = names::qualified_name(key);
        if !errors.is_empty() {
            return Err(SelectorError::unparsable(format_args!(
                "key: Invalid value: {}: {}",
                crate::field_path::quote(key),
                errors.join("; ")
            )));
        }
        let complaint = match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                Some("for 'in', 'notin' operators, values set can't be empty")
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                Some("values set must be empty for exists and does not exist")
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
                Some("for 'Gt', 'Lt' operators, exactly one value is required")
            }
            Operator::GreaterThan | Operator::LessThan
                if values.iter().any(|v| v.parse::<i64>().is_err()) =>
            {
                Some("for 'Gt', 'Lt' operators, the value must be an integer")
            }
            _ => None,
        };
        if let Some(complaint) = complaint {
            let shown = Value::from_iter(values);
            return Err(SelectorError::unparsable(format_args!(
                "values: Invalid value: {shown}: {complaint}"
            )));
        }
        for value in &values {
            let errors = names::label_value(value);
            if !errors.is_empty() {
                return Err(SelectorError::unparsable(format_args!(
                    "values[0][{key}]: Invalid value: {}: {}",
                    crate::field_path::quote(value),
                    errors.join("; ")
                )));
            }
        }
        Ok(Self { key: key.to_owned(), operator, values })
    }

    /// Whether a label of this value (`None`: absent) meets the condition.
    #[must_use]
    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|text| number(text));
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => {
                value.and_then(number).zip(bound()).is_some_and(|(own, bound)| own > bound)
            }
            Operator::LessThan => value.and_then(number).zip(bound()).is_some_and(|(own, bound)| own < bound),
        }
    }
}

/// Requirements that all have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// Sorted by key.
    pub requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Selects everything.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Selects nothing: what an absent `LabelSelector` object means.
    #[must_use]
    pub fn nothing() -> Self {
        Self { requirements: Vec::new(), nothing: true }
    }

    /// Whether everything is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    /// Of checked requirements.
    #[must_use]
    pub fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// From `{"matchLabels": …, "matchExpressions": …}`. Null selects nothing, an empty object everything.
    ///
    /// # Errors
    /// When a key, value or operator is invalid or something has the wrong shape.
    pub fn from_object(selector: &Value) -> Result<Self, SelectorError> {
        if selector.is_null() {
            return Ok(Self::nothing());
        }
        let mut requirements = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            let value = value
                .as_str()
                .ok_or_else(|| SelectorError::new(format!("matchLabels[{key}] must be a string")))?;
            requirements.push(Requirement::new(key, Operator::In, [value.to_owned()].into())?);
        }
        for expression in selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
            requirements.push(expression_requirement(expression)?);
        }
        Ok(Self::of(requirements))
    }

    /// From a plain map of labels, such as a service's selector.
    ///
    /// # Errors
    /// As [`Requirement::new`].
    pub fn from_labels<'l>(
        labels: impl IntoIterator<Item = (&'l str, &'l str)>,
    ) -> Result<Self, SelectorError> {
        let requirements = labels
            .into_iter()
            .map(|(key, value)| Requirement::new(key, Operator::In, [value.to_owned()].into()));
        Ok(Self::of(requirements.collect::<Result<_, _>>()?))
    }

    /// Whether labels are selected; `value_of` gives a label's value.
    pub fn matches<'v>(&self, mut value_of: impl FnMut(&str) -> Option<&'v str>) -> bool {
        !self.nothing
            && self.requirements.iter().all(|requirement| requirement.matches(value_of(&requirement.key)))
    }

    /// Whether an object's `metadata.labels` are selected.
    #[must_use]
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.matches(|key| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str))
    }
}

fn expression_requirement(expression: &Value) -> Result<Requirement, SelectorError> {
    let text = |key: &str| expression.get(key).and_then(Value::as_str).unwrap_or_default();
    let operator = match text("operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => {
            return Err(SelectorError::new(format!(
                "{} is not a valid label selector operator",
                crate::field_path::quote(other)
            )));
        }
    };
    let values = expression.get("values").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Requirement::new(
        text("key"),
        operator,
        values.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    )
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let key = &requirement.key;
            let values: Vec<&str> = requirement.values.iter().map(String::as_str).collect();
            let joined = values.join(",");
            match requirement.operator {
                Operator::In if values.len() == 1 => write!(f, "{key}={joined}")?,
                Operator::NotIn if values.len() == 1 => write!(f, "{key}!={joined}")?,
                Operator::In => write!(f, "{key} in ({joined})")?,
                Operator::NotIn => write!(f, "{key} notin ({joined})")?,
                Operator::Exists => write!(f, "{key}")?,
                Operator::DoesNotExist => write!(f, "!{key}")?,
                Operator::GreaterThan => write!(f, "{key}>{joined}")?,
                Operator::LessThan => write!(f, "{key}<{joined}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for LabelSelector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { tokens: tokens(text).into_iter().peekable() };
        let mut requirements = Vec::new();
        if parser.tokens.peek().is_none() {
            return Ok(Self::everything());
        }
        loop {
            requirements.push(parser.requirement()?);
            match parser.tokens.next() {
                None => return Ok(Self::of(requirements)),
                Some(Token::Sign(",")) if parser.tokens.peek().is_some() => {}
                Some(Token::Sign(",")) => {
                    return Err(SelectorError::new("found '', expected: identifier after ','".to_owned()));
                }
                Some(other) => {
                    return Err(SelectorError::new(format!(
                        "found '{other}', expected: ',' or 'end of string'"
                    )));
                }
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Sign(&'static str),
    Word(String),
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sign(sign) => f.write_str(sign),
            Self::Word(word) => f.write_str(word),
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    const SIGNS: [&str; 9] = ["==", "!=", "=", "!", ",", "(", ")", ">", "<"];
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return found;
        }
        if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            found.push(Token::Sign(sign));
            rest = rest.get(sign.len()..).unwrap_or_default();
        } else {
            let ends = |letter: char| letter.is_whitespace() || "=!,()><".contains(letter);
            let (word, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
            found.push(Token::Word(word.to_owned()));
            rest = after;
        }
    }
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
}

impl Parser {
    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.take("!") {
            let key = self.word("identifier")?;
            return Requirement::new(&key, Operator::DoesNotExist, BTreeSet::new());
        }
        let key = self.word("!, identifier, or 'end of string'")?;
        let operator = match self.tokens.peek() {
            None | Some(Token::Sign(",")) => {
                return Requirement::new(&key, Operator::Exists, BTreeSet::new());
            }
            Some(Token::Sign("=" | "==")) => Operator::In,
            Some(Token::Sign("!=")) => Operator::NotIn,
            Some(Token::Sign(">")) => Operator::GreaterThan,
            Some(Token::Sign("<")) => Operator::LessThan,
            Some(Token::Word(word)) if word == "in" || word == "notin" => {
                let operator = if word == "in" { Operator::In } else { Operator::NotIn };
                self.tokens.next();
                let values = self.values()?;
                return Requirement::new(&key, operator, values);
            }
            Some(other) => {
                return Err(SelectorError::unparsable(format_args!(
                    "found '{other}', expected: in, notin, =, ==, !=, >, <"
                )));
            }
        };
        self.tokens.next();
        let value = match self.tokens.peek() {
            Some(Token::Word(_)) => self.word("identifier")?,
            _ => String::new(),
        };
        Requirement::new(&key, operator, [value].into())
    }

    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let mut values = BTreeSet::new();
        if !self.take("(") {
            return Err(SelectorError::unparsable(format_args!("found '{}' expected: '('", self.shown())));
        }
        loop {
            values.insert(match self.tokens.peek() {
                Some(Token::Word(_)) => self.word("identifier")?,
                _ => String::new(),
            });
            if self.take(")") {
                return Ok(values);
            }
            if !self.take(",") {
                return Err(SelectorError::unparsable(format_args!(
                    "found '{}', expected: ',' or ')'",
                    self.shown()
                )));
            }
        }
    }

    fn take(&mut self, sign: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Sign(own) if *own == sign)).is_some()
    }

    fn word(&mut self, expected: &str) -> Result<String, SelectorError> {
        match self.tokens.next() {
            Some(Token::Word(word)) => Ok(word),
            other => {
                let found = other.map(|token| token.to_string()).unwrap_or_default();
                Err(SelectorError::unparsable(format_args!("found '{found}', expected: {expected}")))
            }
        }
    }

    fn shown(&mut self) -> String {
        self.tokens.peek().map(ToString::to_string).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn select(selector: &str, labels: &Value) -> bool {
        let selector: LabelSelector = selector.parse().unwrap();
        selector.matches_object(&json!({"metadata": {"labels": labels}}))
    }

    #[test]
    fn all_operators_select() {
        let labels = json!({"app": "web", "tier": "front", "n": "5", "empty": ""});
        for yes in [
            "",
            "app=web",
            "app==web",
            "app!=db",
            "app",
            "!gone",
            "app in (web,db)",
            "app notin (db)",
            "gone notin (x)",
            "n>4",
            "n<6",
            "empty=",
            "app=web, tier in ( front )",
            "gone!=x",
            "empty in (,a)",
        ] {
            assert!(select(yes, &labels), "{yes}");
        }
        for no in ["app=db", "gone", "!app", "app in (db)", "app notin (web,db)", "n>5", "app>1", "app="] {
            assert!(!select(no, &labels), "{no}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["=a", "a in", "a in (", "a in (b", "a b", "a=b,", ",", "a=b c", "a/b/c=d", "n>x", "a=$"] {
            assert!(bad.parse::<LabelSelector>().is_err(), "{bad}");
        }
    }

    #[test]
    fn objects_select_like_strings() {
        let object = json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "NotIn", "values": ["d", "e"]}, {"key": "f", "operator": "Exists"}]});
        assert_eq!(LabelSelector::from_object(&object).unwrap().to_string(), "a=b,c notin (d,e),f");
        assert!(!LabelSelector::from_object(&Value::Null).unwrap().matches(|_| None));
        assert!(LabelSelector::from_object(&json!({})).unwrap().is_everything());
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "Like"}]});
        assert!(LabelSelector::from_object(&bad).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(keys in proptest::collection::btree_map("[a-z]{1,4}", proptest::collection::btree_set("[a-z0-9]{1,3}", 1..4), 0..4), not: bool) {
            let operator = if not { Operator::NotIn } else { Operator::In };
            let requirements = keys.into_iter().map(|(key, values)| Requirement::new(&key, operator, values).unwrap()).collect();
            let selector = LabelSelector::of(requirements);
            prop_assert_eq!(selector.to_string().parse::<LabelSelector>().unwrap(), selector);
        }

        #[test]
        fn no_text_panics(text in "[a-z!=,()<> /$]{0,20}") {
            let _ = text.parse::<LabelSelector>();
            let _ = text.parse::<super::super::FieldSelector>();
        }
    }
}
