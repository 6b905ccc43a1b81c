//! Types declared from schemas, with what bounds their size: the counterpart of upstream's `DeclType`.
//!
//! A custom resource's types are made at once, because the cost of its rules is reckoned from their bounds. A built-in
//! type's fields are made when they are first asked for: such types are many, and may contain themselves.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use api_machinery::schema::{Additional, Dialect, Schema, SchemaRef, ValueType};

use super::names;
use super::types::Type;

/// The largest request that is served (upstream `MaxRequestSizeBytes`); nothing in an object is larger.
const MAX_REQUEST_BYTES: i64 = 3 * 1024 * 1024;
/// Limits of sizes in JSON (upstream `pkg/cel/limits.go`).
const DURATION_MAX: i64 = 32;
const DURATION_MIN: i64 = 3;
const DATE_TIME_MAX: i64 = 32;
const DATE_TIME_MIN: i64 = 21;
const DATE: i64 = 12;

/// A type and what bounds the size of its values.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) ty: Type,
    /// At most so many characters, bytes, items or keys; 0 where that says nothing.
    pub(crate) max_elements: i64,
    /// At least so many bytes of JSON.
    pub(crate) min_serialized: i64,
    pub(crate) key: Option<Arc<Shape>>,
    pub(crate) elem: Option<Arc<Shape>>,
}

/// The fields of an object type, by their names in expressions.
#[derive(Debug)]
pub(crate) struct Declared {
    name: String,
    fields: Fields,
}

#[derive(Debug)]
enum Fields {
    Known(BTreeMap<String, Arc<Shape>>),
    /// Of a built-in type: made when asked for.
    Later(SchemaRef, OnceLock<BTreeMap<String, Arc<Shape>>>),
    /// `Object` of mutating policies: takes any field; objects within are `Object.field`.
    Open,
}

/// What is known of a field.
pub(crate) enum FieldType {
    Is(Type),
    Unknown,
}

impl Declared {
    pub(crate) fn new(name: &str, fields: BTreeMap<String, Arc<Shape>>) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), fields: Fields::Known(fields) })
    }

    /// A type that takes any field.
    pub(crate) fn open(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), fields: Fields::Open })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn known(&self) -> Option<&BTreeMap<String, Arc<Shape>>> {
        match &self.fields {
            Fields::Known(fields) => Some(fields),
            Fields::Later(schema, made) => {
                Some(made.get_or_init(|| fields_of(schema, &self.name, schema.kinds.len() == 1, true)))
            }
            Fields::Open => None,
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Arc<Shape>> {
        self.known()?.get(name)
    }

    pub(crate) fn field_type(&self, name: &str) -> FieldType {
        let reserved =
            || api_machinery::names::is_cel_word(name).then(|| self.field(&format!("__{name}__"))).flatten();
        match (&self.fields, self.field(name).or_else(reserved)) {
            (_, Some(shape)) => FieldType::Is(shape.ty.clone()),
            (Fields::Open, None) => FieldType::Is(Type::Dyn),
            _ => FieldType::Unknown,
        }
    }
}

impl Shape {
    /// A type whose values are not bounded by a declaration.
    pub(crate) fn of(ty: Type) -> Self {
        Self { ty, max_elements: 0, min_serialized: 0, key: None, elem: None }
    }

    fn sized(ty: Type, max_elements: i64, min_serialized: i64) -> Self {
        Self { ty, max_elements, min_serialized, key: None, elem: None }
    }

    /// How often data of this type fits into one request (upstream `maxCardinality`).
    pub(crate) fn max_cardinality(&self) -> u64 {
        u64::try_from(MAX_REQUEST_BYTES / (self.min_serialized + 1)).unwrap_or(0)
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Arc<Self>> {
        match &self.ty {
            Type::Struct(declared) => declared.field(name),
            _ => None,
        }
    }
}

/// The shape of what `self` is in rules at this schema, or `None` where rules see nothing. `root`: of a whole resource.
pub(crate) fn self_shape(schema: &SchemaRef, root: bool) -> Option<Shape> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    shape(schema, &format!("selfType{number}"), root, false)
}

/// The type of a built-in or custom kind's objects, for type checks of policies.
pub(crate) fn object_type(schema: &SchemaRef, name: &str) -> Option<Type> {
    let lazy = schema.dialect == Dialect::Native;
    Some(shape(schema, name, true, lazy)?.ty)
}

fn shape(schema: &SchemaRef, name: &str, root: bool, lazy: bool) -> Option<Shape> {
    match schema.value_type {
        ValueType::IntOrString => {
            let max = max_length(schema).map_or(MAX_REQUEST_BYTES - 2, |max| max.saturating_mul(4));
            Some(Shape::sized(Type::Dyn, max, 1))
        }
        ValueType::Array => list_shape(schema, name, lazy),
        ValueType::Object => object_shape(schema, name, root, lazy),
        ValueType::String | ValueType::Quantity => Some(string_shape(schema)),
        ValueType::Boolean => Some(Shape::sized(Type::Bool, 0, 4)),
        ValueType::Number => Some(Shape::sized(Type::Double, 0, 1)),
        ValueType::Integer => Some(Shape::sized(Type::Int, 0, 1)),
        ValueType::Any => None,
    }
}

fn count(limit: Option<u64>) -> Option<i64> {
    limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX))
}

fn max_length(schema: &Schema) -> Option<i64> {
    count(schema.constraints.as_ref()?.max_length)
}

fn string_shape(schema: &Schema) -> Shape {
    match schema.format.as_deref() {
        Some("byte") => Shape::sized(Type::Bytes, max_length(schema).unwrap_or(MAX_REQUEST_BYTES - 2), 2),
        Some("duration") => Shape::sized(Type::Duration, DURATION_MAX, DURATION_MIN),
        Some("date") => Shape::sized(Type::Timestamp, DATE, DATE),
        Some("date-time") => Shape::sized(Type::Timestamp, DATE_TIME_MAX, DATE_TIME_MIN),
        _ => Shape::sized(Type::String, max_characters(schema), 2),
    }
}

fn max_characters(schema: &Schema) -> i64 {
    if let Some(max) = max_length(schema) {
        return max.saturating_mul(4);
    }
    let values = schema.constraints.as_ref().map_or(&[][..], |constraints| &constraints.enumeration);
    if values.is_empty() {
        return MAX_REQUEST_BYTES - 2;
    }
    let longest = values.iter().filter_map(|value| value.as_str()).map(str::len).max().unwrap_or(0);
    i64::try_from(longest).unwrap_or(i64::MAX)
}

fn list_shape(schema: &Schema, name: &str, lazy: bool) -> Option<Shape> {
    let items = schema.items.as_ref()?;
    let elem = shape(items, &format!("{name}.@idx"), items.embedded_resource, lazy)?;
    let limit = schema.constraints.as_ref().and_then(|constraints| count(constraints.max_items));
    let max = limit.unwrap_or((MAX_REQUEST_BYTES - 2) / (elem.min_serialized + 1));
    let ty = Type::list(elem.ty.clone());
    Some(Shape { elem: Some(Arc::new(elem)), ..Shape::sized(ty, max, 2) })
}

fn object_shape(schema: &SchemaRef, name: &str, root: bool, lazy: bool) -> Option<Shape> {
    if let Additional::Schema(values) = &schema.additional {
        let elem = shape(values, &format!("{name}.@elem"), values.embedded_resource, lazy)?;
        let limit = schema.constraints.as_ref().and_then(|constraints| count(constraints.max_properties));
        let max = limit.unwrap_or((MAX_REQUEST_BYTES - 2) / (elem.min_serialized + 6));
        let ty = Type::map(Type::String, elem.ty.clone());
        let key = Shape::sized(Type::String, 0, 2);
        return Some(Shape {
            key: Some(Arc::new(key)),
            elem: Some(Arc::new(elem)),
            ..Shape::sized(ty, max, 2)
        });
    }
    if lazy {
        let fields = Fields::Later(schema.clone(), OnceLock::new());
        let declared = Arc::new(Declared { name: name.to_owned(), fields });
        return Some(Shape::sized(Type::Struct(declared), 0, 2));
    }
    let fields = fields_of(schema, name, root, false);
    let min = min_serialized(schema, &fields);
    Some(Shape::sized(Type::Struct(Declared::new(name, fields)), 0, min))
}

fn fields_of(schema: &SchemaRef, name: &str, root: bool, lazy: bool) -> BTreeMap<String, Arc<Shape>> {
    let mut fields = BTreeMap::new();
    for (property, child) in &schema.properties {
        let Some(escaped) = names::escape(property) else { continue };
        if let Some(shape) = shape(child, &format!("{name}.{escaped}"), child.embedded_resource, lazy) {
            fields.insert(escaped, Arc::new(shape));
        }
    }
    if root && !lazy {
        add_object_fields(&mut fields, name);
    }
    fields
}

/// What rules see of every object: its kind and its name.
fn add_object_fields(fields: &mut BTreeMap<String, Arc<Shape>>, name: &str) {
    let string = || Arc::new(Shape::sized(Type::String, MAX_REQUEST_BYTES - 2, 2));
    fields.insert("apiVersion".to_owned(), string());
    fields.insert("kind".to_owned(), string());
    let names = ["name", "generateName"].map(|field| (field.to_owned(), string()));
    let metadata = Declared::new(&format!("{name}.metadata"), names.into_iter().collect());
    fields.insert("metadata".to_owned(), Arc::new(Shape::sized(Type::Struct(metadata), 0, 2)));
}

/// `{}` and all required fields that are not filled in by defaults.
fn min_serialized(schema: &SchemaRef, fields: &BTreeMap<String, Arc<Shape>>) -> i64 {
    let mut size = 2_i64;
    for name in &schema.required {
        let Some(child) = schema.properties.get(name) else { continue };
        if child.default_value().is_some() {
            continue;
        }
        let known =
            names::escape(name).and_then(|escaped| fields.get(&escaped).map(|shape| shape.min_serialized));
        let least = known
            .or_else(|| shape(child, "", child.embedded_resource, false).map(|shape| shape.min_serialized));
        if let Some(least) = least {
            size += i64::try_from(name.len()).unwrap_or(0) + least + 4;
        }
    }
    size
}
