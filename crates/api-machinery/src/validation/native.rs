//! Decoding errors as Go's JSON decoder words them.

use base64::Engine as _;
use kube_objects::{GroupVersionKind, Status};
use serde_json::Value;

use crate::field_path::quote;
use crate::schema::{Additional, SchemaRef, ValueType};
use crate::strictness::undecodable;

/// The first place where a value has another type than its schema says; `None` when it decodes. Nulls decode
/// everywhere. The 400 is what upstream answers.
#[must_use]
pub fn decode_error(value: &Value, schema: &SchemaRef, kind: &GroupVersionKind) -> Option<Status> {
    let place = Place { holder: &kind.kind, name: "", above: None };
    check(value, schema, &place).err().map(|why| undecodable(kind, &why))
}

/// Where Go says it is: the innermost struct's name and the path of fields, without indices. Nothing is put together
/// before something is wrong there.
struct Place<'a> {
    holder: &'a str,
    /// "" for the object itself.
    name: &'a str,
    above: Option<&'a Place<'a>>,
}

impl<'a> Place<'a> {
    fn field(&'a self, holder: &'a str, name: &'a str) -> Self {
        Self { holder, name, above: Some(self) }
    }

    fn path(&self) -> String {
        match self.above.map(Place::path) {
            None => String::new(),
            Some(above) if above.is_empty() => self.name.to_owned(),
            Some(above) => format!("{above}.{}", self.name),
        }
    }

    fn mismatch(&self, found: &str, wanted: &str) -> String {
        let path = self.path();
        if path.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {wanted}");
        }
        format!("json: cannot unmarshal {found} into Go struct field {}.{path} of type {wanted}", self.holder)
    }
}

fn check(value: &Value, schema: &SchemaRef, place: &Place<'_>) -> Result<(), String> {
    // Any JSON is one; whether it makes sense is for the kind to say.
    if schema.type_name().is_some_and(|name| name.ends_with(".runtime.RawExtension")) {
        return Ok(());
    }
    let wrong = || Err(place.mismatch(&found(value), &go_type(schema)));
    match (schema.value_type, value) {
        (_, Value::Null) | (ValueType::Any, _) | (ValueType::Boolean, Value::Bool(_)) => Ok(()),
        (ValueType::Object, Value::Object(_)) => check_object(value, schema, place),
        (ValueType::Array, Value::Array(list)) => {
            let Some(items) = &schema.items else { return Ok(()) };
            list.iter().try_for_each(|item| check(item, items, place))
        }
        (ValueType::String, Value::String(text)) => check_format(text, schema.format.as_deref()),
        (ValueType::Integer, Value::Number(number)) => {
            let fits = match schema.format.as_deref() {
                Some("int32") => number.as_i64().is_some_and(|whole| i32::try_from(whole).is_ok()),
                _ => number.as_i64().is_some(),
            };
            if fits { Ok(()) } else { Err(place.mismatch(&format!("number {number}"), &go_type(schema))) }
        }
        (ValueType::Number, Value::Number(_)) | (ValueType::IntOrString, Value::String(_)) => Ok(()),
        (ValueType::IntOrString, Value::Number(number)) => {
            let fits = number.as_i64().is_some_and(|whole| i32::try_from(whole).is_ok());
            if fits { Ok(()) } else { Err(place.mismatch(&format!("number {number}"), "int32")) }
        }
        (ValueType::Quantity, Value::Number(_)) => Ok(()),
        (ValueType::Quantity, Value::String(text)) => check_quantity(text),
        _ => wrong(),
    }
}

fn check_object(value: &Value, schema: &SchemaRef, place: &Place<'_>) -> Result<(), String> {
    let holder = schema.type_name().map_or(place.holder, short);
    for (key, value) in value.as_object().into_iter().flatten() {
        if let Some(field) = schema.properties.get(key.as_str()) {
            check(value, field, &place.field(holder, key))?;
        } else if let Additional::Schema(values) = &schema.additional {
            check(value, values, place)?;
        }
    }
    Ok(())
}

fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn go_type(schema: &SchemaRef) -> String {
    if let Some(name) = schema.type_name() {
        let mut parts = name.rsplit('.');
        let kind = parts.next().unwrap_or_default();
        let package = parts.next().unwrap_or_default();
        return format!("{package}.{kind}");
    }
    match schema.value_type {
        ValueType::Array => format!("[]{}", schema.items.as_ref().map_or("interface {}".to_owned(), go_type)),
        ValueType::Object => match &schema.additional {
            Additional::Schema(values) => format!("map[string]{}", go_type(values)),
            _ => "map[string]interface {}".to_owned(),
        },
        ValueType::String if schema.format.as_deref() == Some("byte") => "[]uint8".to_owned(),
        ValueType::String => "string".to_owned(),
        ValueType::Integer => schema.format.as_deref().unwrap_or("int64").to_owned(),
        ValueType::Number => "float64".to_owned(),
        ValueType::Boolean => "bool".to_owned(),
        ValueType::IntOrString => "intstr.IntOrString".to_owned(),
        ValueType::Quantity => "resource.Quantity".to_owned(),
        ValueType::Any => "interface {}".to_owned(),
    }
}

fn check_format(text: &str, format: Option<&str>) -> Result<(), String> {
    match format {
        Some("byte") => match base64::engine::general_purpose::STANDARD.decode(text) {
            Ok(_) => Ok(()),
            // Go's decoder skips line breaks.
            Err(_) if text.contains(['\n', '\r']) => check_format(&text.replace(['\n', '\r'], ""), format),
            Err(error) => Err(format!("illegal base64 data at input byte {}", offset(&error, text))),
        },
        Some("date-time") if !text.is_empty() && !is_time(text) => {
            let shown = quote(text);
            Err(format!(
                "parsing time {shown} as \"2006-01-02T15:04:05Z07:00\": cannot parse {shown} as \"2006\""
            ))
        }
        _ => Ok(()),
    }
}

/// RFC 3339; jiff alone would also take other ISO 8601 forms.
pub(super) fn is_time(text: &str) -> bool {
    text.as_bytes().get(10) == Some(&b'T') && text.parse::<jiff::Timestamp>().is_ok()
}

fn offset(error: &base64::DecodeError, text: &str) -> usize {
    match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        _ => text.len(),
    }
}

fn check_quantity(text: &str) -> Result<(), String> {
    const PATTERN: &str =
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    const SUFFIXES: [&str; 16] =
        ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end =
        unsigned.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let digits = number.bytes().any(|byte| byte.is_ascii_digit());
    if !digits || number.matches('.').count() > 1 {
        return Err(PATTERN.to_owned());
    }
    let exponent = |rest: &str| rest.parse::<i32>().is_ok();
    if SUFFIXES.contains(&suffix) || suffix.strip_prefix(['e', 'E']).is_some_and(exponent) {
        return Ok(());
    }
    Err(if suffix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'+') {
        "unable to parse quantity's suffix".to_owned()
    } else {
        PATTERN.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::SchemaSet;

    fn error(kind: GroupVersionKind, value: Value) -> Option<String> {
        let schema = SchemaSet::builtin().for_kind(&kind).unwrap();
        decode_error(&value, &schema, &kind).map(|status| {
            assert_eq!(status.code, 400);
            status.message.split_once(": ").map(|(_, why)| why.to_owned()).unwrap()
        })
    }

    #[test]
    fn errors_read_as_gos_decoder_writes_them() {
        let deployment = || GroupVersionKind::new("apps", "v1", "Deployment");
        for (value, wanted) in [
            (
                json!({"spec": {"replicas": "3"}}),
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"spec": {"replicas": 1.5}}),
                "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": [{"env": [{"value": 1}]}]}}}}),
                "json: cannot unmarshal number into Go struct field EnvVar.spec.template.spec.containers.env.value of type string",
            ),
            (
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                json!({"spec": []}),
                "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
            ),
            (
                json!({"spec": {"template": {"spec": {"containers": {}}}}}),
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
        ] {
            assert_eq!(error(deployment(), value).as_deref(), Some(wanted));
        }
        let limits = |cpu: Value| json!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": cpu}}}]}}}});
        for fine in [json!("100m"), json!(1), json!("1.5Gi"), json!("1e3"), Value::Null] {
            assert_eq!(error(deployment(), limits(fine)), None);
        }
        assert_eq!(
            error(deployment(), limits(json!("1x"))).as_deref(),
            Some("unable to parse quantity's suffix")
        );
        let secret = GroupVersionKind::new("", "v1", "Secret");
        assert_eq!(error(secret.clone(), json!({"data": {"a": "YQ=="}})), None);
        assert_eq!(
            error(secret, json!({"data": {"a": "Y!=="}})).as_deref(),
            Some("illegal base64 data at input byte 1")
        );
    }
}
