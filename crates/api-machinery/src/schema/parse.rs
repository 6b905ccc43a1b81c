//! Reads OpenAPI v3 schemas: rows of the built-in tables, and what a CustomResourceDefinition carries.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_objects::GroupVersionKind;
use serde_json::{Map, Value};

use super::{
    Additional, Constraints, Dialect, ListType, PatchStrategy, Pattern, Schema, SchemaRef, ValueType, builtin,
};

/// A schema that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// Something has the wrong shape.
    #[error("{path}: {what}")]
    Malformed {
        /// Where: `.properties[spec].items`.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// A table's row is not JSON.
    #[error("type {name} is not JSON: {what}")]
    Row {
        /// The type.
        name: String,
        /// The parser's message.
        what: String,
    },
}

/// A custom schema deeper than this is refused: a walk over it recurses.
const MAX_DEPTH: usize = 64;

const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const REFERENCE: &str = "#/components/schemas/";
/// Native types that are arbitrary JSON objects. Other native objects without fields really are empty.
const ARBITRARY: [&str; 3] = [
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
];

/// Fields whose published default says nothing and which Go leaves out when they are empty.
const OMITTED: [(&str, &str); 10] = [
    ("ConfigMapEnvSource", "name"),
    ("ConfigMapKeySelector", "name"),
    ("ConfigMapProjection", "name"),
    ("ConfigMapVolumeSource", "name"),
    ("LocalObjectReference", "name"),
    ("NodeRuntimeHandler", "name"),
    ("ReplicationControllerSpec", "minReadySeconds"),
    ("SecretEnvSource", "name"),
    ("SecretKeySelector", "name"),
    ("SecretProjection", "name"),
];

pub(super) fn builtin_row(name: &str, row: &str) -> Result<Schema, SchemaError> {
    let mut json: Value = serde_json::from_str(row)
        .map_err(|error| SchemaError::Row { name: name.to_owned(), what: error.to_string() })?;
    for (_, field) in
        OMITTED.iter().filter(|(owner, _)| name.strip_prefix("io.k8s.api.core.v1.") == Some(owner))
    {
        if let Some(field) = json["properties"][*field].as_object_mut() {
            field.remove("default");
        }
    }
    let mut schema = Reader { dialect: Dialect::Native }.schema(&json, "", 0)?;
    if name == QUANTITY {
        schema.value_type = ValueType::Quantity;
    }
    if ARBITRARY.contains(&name) {
        schema.preserve_unknown_fields = true;
    }
    Ok(schema)
}

impl Schema {
    /// Reads a schema as custom resources carry it (`openAPIV3Schema` or a part of it).
    ///
    /// # Errors
    /// When something has the wrong shape, or the schema is nested more than 64 levels deep.
    pub fn from_openapi_v3(json: &Value) -> Result<Self, SchemaError> {
        Reader { dialect: Dialect::Custom }.schema(json, "", 0)
    }

    /// The schema of a whole custom resource: what [`Self::from_openapi_v3`] reads, with `apiVersion`, `kind` and
    /// `metadata` as every object has them. Without a schema (`None`) all fields are kept as they are.
    ///
    /// # Errors
    /// As [`Self::from_openapi_v3`].
    pub fn for_custom_resource(json: Option<&Value>, kind: GroupVersionKind) -> Result<Self, SchemaError> {
        let mut schema = match json {
            Some(json) => Self::from_openapi_v3(json)?,
            None => Self { preserve_unknown_fields: true, dialect: Dialect::Custom, ..Self::default() },
        };
        schema.value_type = ValueType::Object;
        add_object_fields(&mut schema);
        schema.kinds = vec![kind];
        Ok(schema)
    }
}

/// An object's own fields overrule what a custom schema says of them; upstream lets a schema restrict only
/// `metadata.name` and `metadata.generateName`, which is validated apart.
fn add_object_fields(schema: &mut Schema) {
    let string = || SchemaRef::inline(Schema { value_type: ValueType::String, ..Schema::default() });
    schema.properties.entry("apiVersion".into()).or_insert_with(string);
    schema.properties.entry("kind".into()).or_insert_with(string);
    if let Some(metadata) = SchemaRef::builtin(OBJECT_META) {
        let own = schema.properties.insert("metadata".into(), metadata);
        schema.object_metadata = own.filter(|own| !own.properties.is_empty());
    }
}

struct Reader {
    dialect: Dialect,
}

impl Reader {
    fn schema(&self, json: &Value, path: &str, depth: usize) -> Result<Schema, SchemaError> {
        let Some(map) = json.as_object() else {
            return Err(malformed(path, "must be an object"));
        };
        if depth > MAX_DEPTH {
            return Err(malformed(path, "is nested too deeply"));
        }
        let format = text(map, "format").map(Into::into);
        let mut schema = Schema {
            value_type: value_type(map, path)?,
            dialect: self.dialect,
            format,
            properties: self.properties(map, path, depth)?,
            additional: self.additional(map, path, depth)?,
            items: self.child(map, "items", path, depth)?,
            required: texts(map, "required"),
            nullable: flag(map, "nullable"),
            preserve_unknown_fields: flag(map, "x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag(map, "x-kubernetes-embedded-resource"),
            object_metadata: None,
            list_type: list_type(map),
            list_map_keys: texts(map, "x-kubernetes-list-map-keys"),
            atomic_map: text(map, "x-kubernetes-map-type") == Some("atomic"),
            patch_merge_key: text(map, "x-kubernetes-patch-merge-key").map(Into::into),
            unions: map.get("x-kubernetes-unions").cloned().map(Arc::new),
            kinds: kinds(map),
            constraints: None,
            default: map.get("default").cloned().map(Arc::new),
            patch_strategy: patch_strategy(map),
        };
        if self.dialect == Dialect::Custom {
            schema.constraints = self.constraints(map, path, depth)?.map(Box::new);
            if schema.embedded_resource {
                add_object_fields(&mut schema);
            }
        }
        Ok(schema)
    }

    fn reference(&self, json: &Value, path: &str, depth: usize) -> Result<SchemaRef, SchemaError> {
        let target = json.get("$ref").or_else(|| json.pointer("/allOf/0/$ref")).and_then(Value::as_str);
        let Some(target) = target.filter(|_| self.dialect == Dialect::Native) else {
            return Ok(SchemaRef::inline(self.schema(json, path, depth + 1)?));
        };
        let name = target.strip_prefix(REFERENCE).unwrap_or(target);
        let index = builtin::index_of(name)
            .ok_or_else(|| malformed(path, &format!("refers to the unknown type {name}")))?;
        let map = json.as_object();
        Ok(SchemaRef {
            target: super::Target::Builtin(index),
            default: json.get("default").cloned().map(Arc::new),
            patch_strategy: map.map(patch_strategy).unwrap_or_default(),
            atomic_map: map.and_then(|map| text(map, "x-kubernetes-map-type")) == Some("atomic"),
        })
    }

    fn properties(
        &self,
        map: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<BTreeMap<Box<str>, SchemaRef>, SchemaError> {
        let Some(properties) = map.get("properties") else { return Ok(BTreeMap::new()) };
        let properties = properties
            .as_object()
            .ok_or_else(|| malformed(&format!("{path}.properties"), "must be an object"))?;
        let read = |(name, json): (&String, &Value)| {
            let path = format!("{path}.properties[{name}]");
            Ok((name.as_str().into(), self.reference(json, &path, depth)?))
        };
        properties.iter().map(read).collect()
    }

    fn additional(
        &self,
        map: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<Additional, SchemaError> {
        match map.get("additionalProperties") {
            None | Some(Value::Null | Value::Bool(false)) => Ok(Additional::None),
            Some(Value::Bool(true)) => Ok(Additional::Any),
            Some(json) => {
                let values = self.reference(json, &format!("{path}.additionalProperties"), depth)?;
                Ok(Additional::Schema(values))
            }
        }
    }

    fn child(
        &self,
        map: &Map<String, Value>,
        key: &str,
        path: &str,
        depth: usize,
    ) -> Result<Option<SchemaRef>, SchemaError> {
        let read = |json| self.reference(json, &format!("{path}.{key}"), depth);
        map.get(key).filter(|json| !json.is_null()).map(read).transpose()
    }

    fn children(
        &self,
        map: &Map<String, Value>,
        key: &str,
        path: &str,
        depth: usize,
    ) -> Result<Vec<SchemaRef>, SchemaError> {
        let list = map.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let read = |(index, json)| self.reference(json, &format!("{path}.{key}[{index}]"), depth);
        list.iter().enumerate().map(read).collect()
    }

    fn constraints(
        &self,
        map: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Result<Option<Constraints>, SchemaError> {
        const KEYWORDS: [&str; 19] = [
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "pattern",
            "minItems",
            "maxItems",
            "uniqueItems",
            "minProperties",
            "maxProperties",
            "enum",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "x-kubernetes-validations",
        ];
        if !KEYWORDS.iter().any(|keyword| map.contains_key(*keyword)) {
            return Ok(None);
        }
        let number = |key: &str| map.get(key).and_then(Value::as_f64);
        let count = |key: &str| map.get(key).and_then(Value::as_u64);
        let list = |key: &str| map.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(Some(Constraints {
            minimum: number("minimum"),
            exclusive_minimum: flag(map, "exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: flag(map, "exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: text(map, "pattern").filter(|pattern| !pattern.is_empty()).map(Pattern::new),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            unique_items: flag(map, "uniqueItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            enumeration: list("enum"),
            all_of: self.children(map, "allOf", path, depth)?,
            any_of: self.children(map, "anyOf", path, depth)?,
            one_of: self.children(map, "oneOf", path, depth)?,
            not: self.child(map, "not", path, depth)?,
            rules: list("x-kubernetes-validations"),
        }))
    }
}

fn malformed(path: &str, what: &str) -> SchemaError {
    SchemaError::Malformed { path: path.to_owned(), what: what.to_owned() }
}

fn value_type(map: &Map<String, Value>, path: &str) -> Result<ValueType, SchemaError> {
    if flag(map, "x-kubernetes-int-or-string") || text(map, "format") == Some("int-or-string") {
        return Ok(ValueType::IntOrString);
    }
    match text(map, "type") {
        None | Some("") => Ok(ValueType::Any),
        Some("object") => Ok(ValueType::Object),
        Some("array") => Ok(ValueType::Array),
        Some("string") => Ok(ValueType::String),
        Some("integer") => Ok(ValueType::Integer),
        Some("number") => Ok(ValueType::Number),
        Some("boolean") => Ok(ValueType::Boolean),
        Some(other) => Err(malformed(path, &format!("has the unknown type {other:?}"))),
    }
}

fn list_type(map: &Map<String, Value>) -> ListType {
    match text(map, "x-kubernetes-list-type") {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map,
        _ => ListType::Atomic,
    }
}

fn patch_strategy(map: &Map<String, Value>) -> PatchStrategy {
    let all = text(map, "x-kubernetes-patch-strategy").unwrap_or_default();
    let has = |name: &str| all.split(',').any(|strategy| strategy == name);
    PatchStrategy { merge: has("merge"), retain_keys: has("retainKeys"), replace: has("replace") }
}

fn kinds(map: &Map<String, Value>) -> Vec<GroupVersionKind> {
    let list = map.get("x-kubernetes-group-version-kind").and_then(Value::as_array);
    let part = |kind: &Value, key: &str| kind.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let read =
        |kind: &Value| GroupVersionKind::new(part(kind, "group"), part(kind, "version"), part(kind, "kind"));
    list.into_iter().flatten().map(read).collect()
}

fn text<'m>(map: &'m Map<String, Value>, key: &str) -> Option<&'m str> {
    map.get(key).and_then(Value::as_str)
}

fn texts(map: &Map<String, Value>, key: &str) -> Vec<Box<str>> {
    let list = map.get(key).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or(false)
}
