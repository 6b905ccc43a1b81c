//! Limits of single values.

use serde_json::{Number, Value};

use super::Walk;
use crate::field_path::{FieldError, FieldErrorKind, quote};
use crate::schema::{Constraints, Schema, ValueType};

impl Walk<'_> {
    pub(super) fn enumeration(&mut self, value: &Value, allowed: &[Value], name: &str) {
        if allowed.iter().any(|each| same(each, value)) {
            self.matches += 1;
            return;
        }
        let shown = |value: &Value| quote(value.as_str().unwrap_or(&value.to_string()));
        let supported: Vec<String> = allowed.iter().map(shown).collect();
        let path = self.path(name);
        self.errors.push(FieldError {
            kind: FieldErrorKind::NotSupported,
            path,
            bad_value: Some(value.clone()),
            detail: format!("supported values: {}", supported.join(", ")),
        });
    }

    pub(super) fn limits(&mut self, value: &Value, limits: &Constraints, name: &str) {
        match value {
            Value::Number(number) => self.number(value, number, limits, name),
            Value::String(text) => self.text(text, limits, name),
            Value::Array(list) => {
                self.count(list.len(), limits.min_items, limits.max_items, "items", name);
                let twice =
                    |(index, item): (usize, &Value)| list.iter().take(index).any(|other| other == item);
                if limits.unique_items && list.iter().enumerate().any(twice) {
                    self.invalid(name, "", "shouldn't contain duplicates");
                }
            }
            Value::Object(map) => {
                self.count(map.len(), limits.min_properties, limits.max_properties, "properties", name);
            }
            _ => {}
        }
    }

    fn number(&mut self, value: &Value, number: &Number, limits: &Constraints, name: &str) {
        let Some(number) = number.as_f64() else { return };
        if let Some(least) = limits.minimum
            && (number < least || limits.exclusive_minimum && number == least)
        {
            let than = if limits.exclusive_minimum { "than" } else { "than or equal to" };
            self.invalid(name, value.clone(), &format!("should be greater {than} {least}"));
        }
        if let Some(most) = limits.maximum
            && (number > most || limits.exclusive_maximum && number == most)
        {
            let than = if limits.exclusive_maximum { "than" } else { "than or equal to" };
            self.invalid(name, value.clone(), &format!("should be less {than} {most}"));
        }
        if let Some(step) = limits.multiple_of
            && step != 0.0
            && (number / step).fract() != 0.0
        {
            self.invalid(name, value.clone(), &format!("should be a multiple of {step}"));
        }
    }

    fn text(&mut self, text: &str, limits: &Constraints, name: &str) {
        let length = text.chars().count() as u64;
        if let Some(most) = limits.max_length
            && length > most
        {
            let path = self.path(name);
            self.errors.push(FieldError::too_long(&path, usize::try_from(most).unwrap_or(usize::MAX)));
        }
        if let Some(least) = limits.min_length
            && length < least
        {
            self.invalid(name, text, &format!("should be at least {least} chars long"));
        }
        if let Some(pattern) = &limits.pattern
            && !pattern.is_match(text)
        {
            self.invalid(name, text, &format!("should match '{}'", pattern.as_str()));
        }
    }

    fn count(&mut self, count: usize, least: Option<u64>, most: Option<u64>, what: &str, name: &str) {
        if let Some(least) = least
            && (count as u64) < least
        {
            self.invalid(name, count, &format!("should have at least {least} {what}"));
        }
        if let Some(most) = most
            && count as u64 > most
        {
            let path = self.path(name);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            self.errors.push(FieldError::too_many(&path, count, most));
        }
    }

    /// `int32` and `float` bound what a number may be.
    pub(super) fn number_format(&mut self, number: &Number, schema: &Schema, name: &str) {
        let Some(format) = schema.format.as_deref() else { return };
        let fits = match (schema.value_type, format) {
            (ValueType::Integer, "int32") => number
                .as_f64()
                .is_none_or(|number| number >= f64::from(i32::MIN) && number <= f64::from(i32::MAX)),
            (ValueType::Integer, "int64") => number.as_i64().is_some() || number.is_f64(),
            (ValueType::Number, "float") => {
                number.as_f64().is_none_or(|number| number.abs() <= f64::from(f32::MAX))
            }
            _ => true,
        };
        if !fits {
            let kind = if schema.value_type == ValueType::Integer { "integer" } else { "number" };
            let why = format!("Checked value must be of type {kind} with format {format} in {name}");
            self.errors.push(FieldError::invalid(self.base, "", why));
        }
    }
}

/// Equal as JSON schema has it: 1 is 1.0.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => a == b,
    }
}
