//! Types of expressions: how they are written, and which stands for which.

use std::fmt;
use std::sync::Arc;

use super::declared::Declared;

mod unify;

pub(crate) use unify::{Bindings, more_general};

/// The type of an expression.
#[derive(Clone, Debug)]
pub(crate) enum Type {
    /// Known only when it runs.
    Dyn,
    /// The same, by another name: what a token's claims hold (cel-go's `AnyType`). Macros do not take it as a range.
    Any,
    /// Of something wrong that was reported already.
    Error,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// The type of types; of which one, where that is known.
    Meta(Option<Arc<Type>>),
    /// A type of a library, by its name, with parameters: `optional_type(int)`, `net.IP`.
    Opaque(&'static str, Option<Arc<Type>>),
    /// An object of a library without visible fields: `kubernetes.Quantity`.
    Object(&'static str),
    /// An object whose fields are declared.
    Struct(Arc<Declared>),
    /// A type parameter of a declaration: `A`.
    Parameter(char),
    /// A type that is still to be found.
    Variable(u32),
}

/// The name of the type of optional values.
pub(crate) const OPTIONAL: &str = "optional_type";

impl Type {
    pub(crate) fn list(of: Self) -> Self {
        Self::List(Arc::new(of))
    }

    pub(crate) fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }

    pub(crate) fn optional(of: Self) -> Self {
        Self::Opaque(OPTIONAL, Some(Arc::new(of)))
    }

    /// What an optional holds; other types as they are, and whether it was an optional.
    pub(crate) fn unwrap_optional(&self) -> (Self, bool) {
        match self {
            Self::Opaque(OPTIONAL, Some(of)) => ((**of).clone(), true),
            other => (other.clone(), false),
        }
    }

    pub(crate) fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any)
    }

    pub(crate) fn is_dyn_or_error(&self) -> bool {
        matches!(self, Self::Dyn | Self::Any | Self::Error)
    }

    /// The same type, parameters and all.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) => a.is(b),
            (Self::Map(a), Self::Map(b)) => a.0.is(&b.0) && a.1.is(&b.1),
            (Self::Meta(a), Self::Meta(b)) => same(a.as_deref(), b.as_deref()),
            (Self::Opaque(a, p), Self::Opaque(b, q)) => a == b && same(p.as_deref(), q.as_deref()),
            (Self::Object(a), Self::Object(b)) => a == b,
            (Self::Struct(a), Self::Struct(b)) => a.name() == b.name(),
            (Self::Parameter(a), Self::Parameter(b)) => a == b,
            (Self::Variable(a), Self::Variable(b)) => a == b,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other) && !self.has_parameters(),
        }
    }

    fn has_parameters(&self) -> bool {
        !matches!(
            self,
            Self::Dyn
                | Self::Any
                | Self::Error
                | Self::Null
                | Self::Bool
                | Self::Int
                | Self::Uint
                | Self::Double
                | Self::String
                | Self::Bytes
                | Self::Timestamp
                | Self::Duration
        )
    }

    /// Whether values always have the same size (cost estimates).
    pub(crate) fn is_scalar(&self) -> bool {
        match self {
            Self::Bool | Self::Double | Self::Duration | Self::Int | Self::Timestamp | Self::Uint => true,
            Self::Opaque(OPTIONAL, Some(of)) => of.is_scalar(),
            _ => false,
        }
    }

    /// The name that `type(value)` gives.
    pub(crate) fn runtime_name(&self) -> Arc<str> {
        match self {
            Self::Dyn => "dyn".into(),
            Self::Any => "google.protobuf.Any".into(),
            Self::Error => "error".into(),
            Self::Null => "null_type".into(),
            Self::Timestamp => "google.protobuf.Timestamp".into(),
            Self::Duration => "google.protobuf.Duration".into(),
            Self::List(_) => "list".into(),
            Self::Map(_) => "map".into(),
            Self::Meta(_) => "type".into(),
            Self::Opaque(name, _) | Self::Object(name) => (*name).into(),
            Self::Struct(declared) => declared.name().into(),
            simple => simple.to_string().into(),
        }
    }
}

fn same(a: Option<&Type>, b: Option<&Type>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a.is(b),
        _ => false,
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Any => f.write_str("any"),
            Self::Error => f.write_str("!error!"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(of) => write!(f, "list({of})"),
            Self::Map(of) => write!(f, "map({}, {})", of.0, of.1),
            Self::Meta(None) => f.write_str("type"),
            Self::Meta(Some(of)) => write!(f, "type({of})"),
            Self::Opaque(name, None) | Self::Object(name) => f.write_str(name),
            Self::Opaque(name, Some(of)) => write!(f, "{name}({of})"),
            Self::Struct(declared) => f.write_str(declared.name()),
            Self::Parameter(name) => write!(f, "{name}"),
            Self::Variable(number) => write!(f, "_var{number}"),
        }
    }
}

/// A call's types as cel-go writes them: `(int, string)`, or `string.(int)` for a method.
pub(crate) fn signature(args: &[Type], is_method: bool) -> String {
    let written: Vec<String> = args.iter().map(ToString::to_string).collect();
    match written.split_first() {
        Some((target, rest)) if is_method => format!("{target}.({})", rest.join(", ")),
        _ => format!("({})", written.join(", ")),
    }
}
