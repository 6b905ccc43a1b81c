//! The structural schema: what an object of a kind may hold, for built-in kinds and custom resources alike.
//!
//! Built-in types are parsed one by one when first asked for, so loading costs nothing at start. Types may refer to
//! themselves (`JSONSchemaProps`), so a reference names its type and is resolved when it is followed.

mod builtin;
mod parse;
mod pattern;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use kube_objects::GroupVersionKind;
use serde_json::Value;

pub use builtin::{SchemaSet, builtin_type_json};
pub use parse::SchemaError;
pub use pattern::Pattern;

/// What JSON a node takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueType {
    /// Anything at all; nothing inside is known.
    #[default]
    Any,
    /// An object: fields, a map, or both.
    Object,
    /// A list.
    Array,
    /// A string.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A whole number or a string (a port, a percentage).
    IntOrString,
    /// A resource quantity: a string, or a number that stands for one.
    Quantity,
}

/// Who the schema comes from: the two kinds of server code behind them treat nulls and unknown fields differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// A type compiled into Kubernetes: null means absent, a wrong type is a decoding error (400).
    #[default]
    Native,
    /// A custom resource's schema: null has to be allowed, a wrong type is a validation error (422).
    Custom,
}

/// How a list is merged (`x-kubernetes-list-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// As one value.
    #[default]
    Atomic,
    /// By value; items are scalars.
    Set,
    /// By the items' keys.
    Map,
}

/// How strategic merge patches treat a field (`x-kubernetes-patch-strategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// A list is merged instead of replaced.
    pub merge: bool,
    /// Objects keep only the keys that `$retainKeys` names.
    pub retain_keys: bool,
    /// An object is replaced instead of merged.
    pub replace: bool,
}

/// What a map or an object with fields may hold beyond its fields.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Nothing: other keys are unknown fields.
    #[default]
    None,
    /// Anything.
    Any,
    /// Values of this schema.
    Schema(SchemaRef),
}

/// One node.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// What JSON it takes.
    pub value_type: ValueType,
    /// Whose rules hold.
    pub dialect: Dialect,
    /// `int32`, `int64`, `double`, `byte`, `date-time` …
    pub format: Option<Box<str>>,
    /// An object's known fields.
    pub properties: BTreeMap<Box<str>, SchemaRef>,
    /// What else the object may hold.
    pub additional: Additional,
    /// A list's items.
    pub items: Option<SchemaRef>,
    /// Fields that have to be there. Native types do not enforce this while decoding.
    pub required: Vec<Box<str>>,
    /// Null is a value (custom resources only).
    pub nullable: bool,
    /// Unknown fields are kept (`x-kubernetes-preserve-unknown-fields`, or a native type without any structure).
    pub preserve_unknown_fields: bool,
    /// A whole object with `apiVersion`, `kind` and `metadata`.
    pub embedded_resource: bool,
    /// What a custom schema says of an object's own metadata (name and generateName at most), beside the type itself.
    pub object_metadata: Option<SchemaRef>,
    /// How the list is merged.
    pub list_type: ListType,
    /// Which fields of an item are its key, when merged by key.
    pub list_map_keys: Vec<Box<str>>,
    /// The object is one value for server-side apply (`x-kubernetes-map-type: atomic`).
    pub atomic_map: bool,
    /// Which field identifies an item to a strategic merge patch.
    pub patch_merge_key: Option<Box<str>>,
    /// Unions of fields, as published.
    pub unions: Option<Arc<Value>>,
    /// Which kinds this type serves as.
    pub kinds: Vec<GroupVersionKind>,
    /// Value validation of a custom resource's schema.
    pub constraints: Option<Box<Constraints>>,
    pub(crate) default: Option<Arc<Value>>,
    pub(crate) patch_strategy: PatchStrategy,
}

/// Value validation of a node (custom resources; native kinds are validated by code).
#[derive(Clone, Debug, Default)]
pub struct Constraints {
    /// The least number.
    pub minimum: Option<f64>,
    /// The least number itself is excluded.
    pub exclusive_minimum: bool,
    /// The greatest number.
    pub maximum: Option<f64>,
    /// The greatest number itself is excluded.
    pub exclusive_maximum: bool,
    /// The number is a multiple of this.
    pub multiple_of: Option<f64>,
    /// Least length in characters.
    pub min_length: Option<u64>,
    /// Greatest length in characters.
    pub max_length: Option<u64>,
    /// What a string has to match.
    pub pattern: Option<Pattern>,
    /// Least count of items.
    pub min_items: Option<u64>,
    /// Greatest count of items.
    pub max_items: Option<u64>,
    /// No item twice.
    pub unique_items: bool,
    /// Least count of keys.
    pub min_properties: Option<u64>,
    /// Greatest count of keys.
    pub max_properties: Option<u64>,
    /// The permitted values.
    pub enumeration: Vec<Value>,
    /// All of these hold.
    pub all_of: Vec<SchemaRef>,
    /// At least one of these holds.
    pub any_of: Vec<SchemaRef>,
    /// Exactly one of these holds.
    pub one_of: Vec<SchemaRef>,
    /// This does not hold.
    pub not: Option<SchemaRef>,
    /// CEL rules (`x-kubernetes-validations`), as published; an expression engine runs them.
    pub rules: Vec<Value>,
}

/// A way to a node: the node itself or a built-in type's name, and what the referring place says of it.
#[derive(Clone, Debug)]
pub struct SchemaRef {
    target: Target,
    default: Option<Arc<Value>>,
    patch_strategy: PatchStrategy,
    atomic_map: bool,
}

#[derive(Clone, Debug)]
enum Target {
    Inline(Arc<Schema>),
    Builtin(usize),
    Lazy(Arc<Lazy>),
}

/// A schema made when it is first looked at.
struct Lazy {
    made: OnceLock<Schema>,
    make: Box<dyn Fn() -> Schema + Send + Sync>,
}

impl std::fmt::Debug for Lazy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lazy").field("made", &self.made.get().is_some()).finish_non_exhaustive()
    }
}

impl SchemaRef {
    /// To a node.
    #[must_use]
    pub fn inline(schema: Schema) -> Self {
        Self {
            default: schema.default.clone(),
            patch_strategy: schema.patch_strategy,
            atomic_map: schema.atomic_map,
            target: Target::Inline(Arc::new(schema)),
        }
    }

    /// To a built-in type by its name, `io.k8s.api.core.v1.Pod`.
    #[must_use]
    pub fn builtin(name: &str) -> Option<Self> {
        let index = builtin::index_of(name)?;
        Some(Self {
            target: Target::Builtin(index),
            default: None,
            patch_strategy: PatchStrategy::default(),
            atomic_map: false,
        })
    }

    /// To a node that is made when it is first looked at: a definition nobody uses costs no schema.
    #[must_use]
    pub fn lazy(make: impl Fn() -> Schema + Send + Sync + 'static) -> Self {
        Self {
            target: Target::Lazy(Arc::new(Lazy { made: OnceLock::new(), make: Box::new(make) })),
            default: None,
            patch_strategy: PatchStrategy::default(),
            atomic_map: false,
        }
    }

    /// The node.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        match &self.target {
            Target::Inline(schema) => schema,
            Target::Builtin(index) => builtin::type_at(*index),
            Target::Lazy(lazy) => lazy.made.get_or_init(|| (lazy.make)()),
        }
    }

    /// The built-in type's name, when it is one.
    #[must_use]
    pub fn type_name(&self) -> Option<&'static str> {
        match self.target {
            Target::Inline(_) | Target::Lazy(_) => None,
            Target::Builtin(index) => Some(builtin::name_at(index)),
        }
    }

    /// What stands here when nothing is given. Native types say `""`, `0` and `{}` for what Go always writes.
    #[must_use]
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_deref()
    }

    /// How a strategic merge patch treats this place.
    #[must_use]
    pub fn patch_strategy(&self) -> PatchStrategy {
        self.patch_strategy
    }

    /// Whether server-side apply treats the object at this place as one value.
    #[must_use]
    pub fn is_atomic_map(&self) -> bool {
        self.atomic_map || self.schema().atomic_map
    }
}

impl Deref for SchemaRef {
    type Target = Schema;

    fn deref(&self) -> &Schema {
        self.schema()
    }
}

impl Schema {
    /// What is known of `key` in an object of this type: a field, else the map's values.
    #[must_use]
    pub fn child(&self, key: &str) -> Option<&SchemaRef> {
        self.properties.get(key).or(match &self.additional {
            Additional::Schema(values) => Some(values),
            Additional::None | Additional::Any => None,
        })
    }

    /// Whether `key` may stand in an object of this type.
    #[must_use]
    pub fn allows(&self, key: &str) -> bool {
        self.preserve_unknown_fields
            || self.value_type == ValueType::Any
            || !matches!(self.additional, Additional::None)
            || self.properties.contains_key(key)
    }

    /// Whether nothing is known of the inside: keys come and go as they are.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        self.properties.is_empty()
            && !matches!(self.additional, Additional::Schema(_))
            && self.items.is_none()
    }
}
