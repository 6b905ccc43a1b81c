//! Whether an object has the types and meets the limits of its schema, in the words of kube-openapi's validator; what an
//! update left as it was is not held against it (KEP-4008).

mod formats;
mod limits;
#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::field_path::{FieldError, FieldPath, quote};
use crate::schema::{Additional, Constraints, Dialect, ListType, Schema, ValueType};

pub use formats::is_known as is_known_format;

/// More findings than this are not listed.
const MAX_FINDINGS: usize = 100;

/// What is wrong with a new value. `base` goes before every field's path, not into messages. Expressions are not
/// evaluated here.
#[must_use]
pub fn validate(value: &Value, schema: &Schema, base: &FieldPath) -> Vec<FieldError> {
    run(value, None, schema, base)
}

/// What is wrong with a value that was `old` before: what is wrong with a part that has not changed and can be found
/// again in the old value counts as accepted.
#[must_use]
pub fn validate_update(
    value: &Value,
    old: Option<&Value>,
    schema: &Schema,
    base: &FieldPath,
) -> Vec<FieldError> {
    run(value, old, schema, base)
}

fn run(value: &Value, old: Option<&Value>, schema: &Schema, base: &FieldPath) -> Vec<FieldError> {
    let mut walk = Walk { base, errors: Vec::new(), matches: 0 };
    walk.node(value, old, schema, "");
    walk.errors.truncate(MAX_FINDINGS);
    walk.errors
}

/// Whether findings keep expressions from being evaluated: the object is not even of its type.
#[must_use]
pub fn blocks_rules(errors: &[FieldError]) -> bool {
    use crate::field_path::FieldErrorKind as Kind;
    let blocks = |error: &FieldError| {
        matches!(
            error.kind,
            Kind::NotSupported | Kind::Required | Kind::TooLong | Kind::TooMany | Kind::TypeInvalid
        )
    };
    errors.iter().any(blocks)
}

struct Walk<'b> {
    base: &'b FieldPath,
    errors: Vec<FieldError>,
    /// How many checks held: upstream tells of the alternative (`anyOf`, `oneOf`) that fitted best.
    matches: usize,
}

impl Walk<'_> {
    /// A field's path: `name` is the dotted way from the validated value, "" for itself.
    fn path(&self, name: &str) -> FieldPath {
        let name = name.strip_prefix('.').unwrap_or(name);
        if name.is_empty() { self.base.clone() } else { self.base.child(name) }
    }

    fn invalid(&mut self, name: &str, value: impl Into<Value>, sentence: &str) {
        let path = self.path(name);
        self.errors.push(FieldError::invalid(&path, value, format!("{name} in body {sentence}")));
    }

    /// Findings about alternatives stand at the whole value.
    fn composite(&mut self, name: &str, why: &str) {
        self.errors.push(FieldError::invalid(self.base, "", format!("{} {why}", quote(name))));
    }

    fn node(&mut self, value: &Value, old: Option<&Value>, schema: &Schema, name: &str) {
        if schema.dialect == Dialect::Native || self.errors.len() >= MAX_FINDINGS {
            return;
        }
        let before = self.errors.len();
        self.checks(value, old, schema, name);
        if self.errors.len() > before && old == Some(value) {
            self.errors.truncate(before);
        }
    }

    fn checks(&mut self, value: &Value, old: Option<&Value>, schema: &Schema, name: &str) {
        self.value_type(value, schema, name);
        if let Some(limits) = &schema.constraints
            && !limits.enumeration.is_empty()
        {
            self.enumeration(value, &limits.enumeration, name);
        }
        if value.is_null() {
            return;
        }
        if let Some(constraints) = &schema.constraints {
            self.alternatives(value, old, constraints, name);
            self.limits(value, constraints, name);
        }
        match value {
            Value::Object(_) => self.object(value, old, schema, name),
            Value::Array(list) => self.list(list, old, schema, name),
            Value::String(text) => {
                if let Some(format) = schema.format.as_deref()
                    && !formats::holds(format, schema.value_type, text)
                {
                    let why = format!("{name} in body must be of type {format}: {}", quote(text));
                    let path = self.path(name);
                    self.errors.push(FieldError::type_invalid(&path, text.as_str(), why));
                }
            }
            Value::Number(number) => self.number_format(number, schema, name),
            _ => {}
        }
    }

    fn value_type(&mut self, value: &Value, schema: &Schema, name: &str) {
        if value.is_null() && schema.nullable || has_type(value, schema) {
            self.matches += 1;
            return;
        }
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let wanted = match schema.value_type {
            ValueType::Object => "object",
            ValueType::Array => "array",
            ValueType::String => "string",
            ValueType::Integer => "integer",
            ValueType::Number => "number",
            ValueType::Boolean => "boolean",
            ValueType::IntOrString => "integer,string",
            ValueType::Quantity | ValueType::Any => "number,string",
        };
        let why = format!("{name} in body must be of type {wanted}: {}", quote(found));
        let path = self.path(name);
        self.errors.push(FieldError::type_invalid(&path, found, why));
    }

    fn object(&mut self, value: &Value, old: Option<&Value>, schema: &Schema, name: &str) {
        let Some(map) = value.as_object() else { return };
        for (key, value) in map {
            let own = old.and_then(|old| old.get(key));
            if let Some(field) = schema.properties.get(key.as_str()) {
                // What names the type is not compared: both sides were brought to one version.
                let own = own.filter(|_| !(name.is_empty() && matches!(key.as_str(), "kind" | "apiVersion")));
                let child = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                self.node(value, own, field, &child);
            } else if let Additional::Schema(values) = &schema.additional {
                self.node(value, own, values, &format!("{name}.{key}"));
            }
        }
        if let (Some(metadata), Some(rules)) = (map.get("metadata"), &schema.object_metadata) {
            let child = if name.is_empty() { "metadata".to_owned() } else { format!("{name}.metadata") };
            self.node(metadata, old.and_then(|old| old.get("metadata")), rules, &child);
        }
        for required in &schema.required {
            if map.contains_key(&**required) {
                self.matches += 1;
            } else {
                let path = self.path(&format!("{name}.{required}"));
                self.errors.push(FieldError::required(&path, ""));
            }
        }
    }

    fn list(&mut self, list: &[Value], old: Option<&Value>, schema: &Schema, name: &str) {
        let Some(items) = &schema.items else { return };
        for (index, item) in list.iter().enumerate() {
            // Only items with keys can be found again.
            let own = match schema.list_type {
                ListType::Map => old.and_then(Value::as_array).and_then(|old| same_key(old, item, schema)),
                _ => None,
            };
            self.node(item, own, items, &format!("{name}[{index}]"));
        }
    }

    fn alternatives(&mut self, value: &Value, old: Option<&Value>, of: &Constraints, name: &str) {
        let attempt = |this: &Self, schema: &Schema| {
            let mut walk = Walk { base: this.base, errors: Vec::new(), matches: 0 };
            walk.node(value, old, schema, name);
            (walk.errors, walk.matches)
        };
        if !of.any_of.is_empty() {
            let tried: Vec<_> = of.any_of.iter().map(|schema| attempt(self, schema)).collect();
            if tried.iter().any(|(errors, _)| errors.is_empty()) {
                self.matches += 1;
            } else {
                self.composite(name, "must validate at least one schema (anyOf)");
                self.errors.extend(best(tried));
            }
        }
        if !of.one_of.is_empty() {
            let tried: Vec<_> = of.one_of.iter().map(|schema| attempt(self, schema)).collect();
            match tried.iter().filter(|(errors, _)| errors.is_empty()).count() {
                1 => self.matches += 1,
                0 => {
                    self.composite(name, "must validate one and only one schema (oneOf). Found none valid");
                    self.errors.extend(best(tried));
                }
                count => {
                    let why = format!(
                        "must validate one and only one schema (oneOf). Found {count} valid alternatives"
                    );
                    self.composite(name, &why);
                }
            }
        }
        if !of.all_of.is_empty() {
            let tried: Vec<_> = of.all_of.iter().map(|schema| attempt(self, schema)).collect();
            let held = tried.iter().filter(|(errors, _)| errors.is_empty()).count();
            self.errors.extend(tried.into_iter().flat_map(|(errors, _)| errors));
            if held != of.all_of.len() {
                let none = if held == 0 { ". None validated" } else { "" };
                self.composite(name, &format!("must validate all the schemas (allOf){none}"));
            }
        }
        if let Some(not) = &of.not
            && attempt(self, not).0.is_empty()
        {
            self.composite(name, "must not validate the schema (not)");
        }
    }
}

/// The findings of the alternative that fitted best; the first of equals.
fn best(tried: Vec<(Vec<FieldError>, usize)>) -> Vec<FieldError> {
    let most = tried.iter().map(|(_, matches)| *matches).max();
    tried
        .into_iter()
        .find(|(_, matches)| Some(*matches) == most)
        .map(|(errors, _)| errors)
        .unwrap_or_default()
}

fn same_key<'o>(old: &'o [Value], item: &Value, schema: &Schema) -> Option<&'o Value> {
    let key = |item: &Value| {
        let part = |name: &str| {
            let default = || schema.items.as_ref()?.properties.get(name)?.default_value();
            item.get(name).or_else(default).cloned()
        };
        schema.list_map_keys.iter().map(|name| part(name)).collect::<Option<Vec<_>>>()
    };
    let wanted = key(item)?;
    old.iter().find(|other| key(other).as_ref() == Some(&wanted))
}

fn has_type(value: &Value, schema: &Schema) -> bool {
    let whole =
        || value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0);
    match schema.value_type {
        ValueType::Any => true,
        ValueType::Object => value.is_object(),
        ValueType::Array => value.is_array(),
        ValueType::String => value.is_string(),
        ValueType::Integer => value.is_number() && whole(),
        ValueType::Number => value.is_number(),
        ValueType::Boolean => value.is_boolean(),
        ValueType::IntOrString => value.is_string() || value.is_number() && whole(),
        ValueType::Quantity => value.is_number() || value.is_string(),
    }
}
