//! Values of expressions. Data of requests is borrowed, never copied: a list or map is a view of the JSON it stands in,
//! together with what its schema says.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api_machinery::quantity::Quantity;
use api_machinery::schema::SchemaRef;
use serde_json::Value as Json;

use super::authorizer::AuthorizerValue;
use super::error::EvalError;
use super::time::Timestamp;
use super::types::Type;

mod equality;
mod json;
mod list;
mod map;

pub(crate) use equality::equal;
pub(crate) use json::{from_claims, from_json, texts, to_json};
pub(crate) use list::List;
pub(crate) use map::{Key, Map, shown};

/// What an evaluation step comes to.
pub(crate) type Result<'a> = std::result::Result<Value<'a>, EvalError>;

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    Timestamp(Timestamp),
    /// Nanoseconds.
    Duration(i64),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Type(Arc<str>),
    Library(Arc<Library>),
    /// A question of authorization, as far as it is put together.
    Authorizer(Arc<AuthorizerValue<'a>>),
    /// An object made of fields: `Object{}`, `JSONPatch{}`.
    Object(Arc<Object<'a>>),
    /// Preserved data that no schema describes.
    Opaque(&'a Json),
}

/// Text, borrowed where it stands in data.
#[derive(Clone, Debug)]
pub(crate) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

/// Values of Kubernetes' libraries.
#[derive(Clone, Debug)]
pub(crate) enum Library {
    Quantity(Quantity),
    Ip(IpAddr),
    /// An address and the length of its prefix.
    Cidr(IpAddr, u8),
    Url(super::library::Url),
    Semver(super::library::Semver),
    /// The name of a named format.
    Format(&'static super::library::Format),
}

/// An object made in an expression.
#[derive(Clone, Debug)]
pub(crate) struct Object<'a> {
    pub(crate) type_name: String,
    pub(crate) fields: BTreeMap<String, Value<'a>>,
}

/// Where data stands in a schema: `None` where nothing is known and JSON's own types hold.
pub(crate) type Typing<'a> = Option<&'a SchemaRef>;

impl Text<'_> {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl<'a> Value<'a> {
    /// Text that was made.
    pub(crate) fn text(text: impl Into<Arc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    /// A list that was made.
    pub(crate) fn list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::made(items))
    }

    pub(crate) fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Arc::new(value)))
    }

    pub(crate) fn library(value: Library) -> Self {
        Self::Library(Arc::new(value))
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The name that `type(value)` gives.
    pub(crate) fn type_name(&self) -> Arc<str> {
        match self {
            Self::Null => "null_type".into(),
            Self::Bool(_) => "bool".into(),
            Self::Int(_) => "int".into(),
            Self::Uint(_) => "uint".into(),
            Self::Double(_) => "double".into(),
            Self::String(_) => "string".into(),
            Self::Bytes(_) => "bytes".into(),
            Self::Timestamp(_) => Type::Timestamp.runtime_name(),
            Self::Duration(_) => Type::Duration.runtime_name(),
            Self::List(_) => "list".into(),
            Self::Map(_) => "map".into(),
            Self::Optional(_) => "optional_type".into(),
            Self::Type(_) => "type".into(),
            Self::Library(library) => library.type_name().into(),
            Self::Authorizer(value) => value.type_name().into(),
            Self::Object(object) => object.type_name.as_str().into(),
            Self::Opaque(_) => "unknown".into(),
        }
    }

    /// The size that costs are reckoned with: characters, bytes, items, keys; 1 for what has no size.
    pub(crate) fn cost_size(&self) -> u64 {
        let size = match self {
            Self::String(text) => text.as_str().chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Optional(Some(inner)) => return inner.cost_size(),
            Self::Library(library) => return library.cost_size(),
            _ => 1,
        };
        size as u64
    }

    /// Order, for values that have one. `None`: they cannot be compared.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(a.as_str().cmp(b.as_str())),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.at.cmp(&b.at)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            _ => equality::compare_numbers(self, other),
        }
    }
}

impl Library {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
        }
    }

    fn cost_size(&self) -> u64 {
        match self {
            Self::Ip(IpAddr::V4(_)) => 4,
            Self::Ip(IpAddr::V6(_)) => 16,
            Self::Cidr(_, bits) => u64::from(bits.div_ceil(8)),
            _ => 1,
        }
    }
}
