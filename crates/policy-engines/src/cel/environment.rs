//! What an expression may refer to: variables, types and functions.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::declared::{Declared, Shape};
use super::functions::{self, Library, Overload, named_type};
use super::types::Type;

/// The Kubernetes minor version whose server this is.
pub(crate) const VERSION: u32 = 36;
/// New expressions may use what the version before has too, so that a roll-back keeps working (upstream
/// `DefaultCompatibilityVersion`).
const COMPATIBLE: u32 = VERSION - 1;

/// The names of library types without fields.
const OBJECT_TYPES: [&str; 9] = [
    "kubernetes.Quantity",
    "kubernetes.URL",
    "kubernetes.Semver",
    "kubernetes.NamedFormat",
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
];

/// What an expression may refer to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<String, Type>,
    /// Whether patches are written here: `Object{}`, `JSONPatch{}`, `jsonpatch.escapeKey`.
    patches: bool,
}

impl Environment {
    /// With a variable.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, t: Type) -> Self {
        self.variables.insert(name.to_owned(), t);
        self
    }

    /// With the types and functions for patches.
    #[must_use]
    pub(crate) fn with_patches(mut self) -> Self {
        self.patches = true;
        self
    }

    pub(crate) fn variable(&self, name: &str) -> Option<Type> {
        self.variables.get(name).cloned()
    }

    /// The overloads of a function; `None` when there is no such function here.
    pub(crate) fn function(&self, name: &str) -> Option<(&'static str, Vec<&'static Overload>)> {
        let (name, overloads) = functions::all().get_key_value(name)?;
        let here: Vec<_> = overloads.iter().filter(|overload| self.has(overload.library)).collect();
        (!here.is_empty()).then_some((*name, here))
    }

    fn has(&self, library: Library) -> bool {
        match library {
            Library::Since(version) => version <= COMPATIBLE,
            Library::Patches => self.patches,
        }
    }

    /// The type that goes by a name in expressions.
    pub(crate) fn type_named(&self, name: &str) -> Option<Type> {
        if let Some(t) = named_type(name) {
            return Some(t);
        }
        if let Some(name) = OBJECT_TYPES.iter().find(|known| **known == name) {
            return Some(Type::Object(name));
        }
        match name {
            "list" => return Some(Type::list(Type::Dyn)),
            "map" => return Some(Type::map(Type::Dyn, Type::Dyn)),
            "type" => return Some(Type::Meta(None)),
            "optional_type" => return Some(Type::optional(Type::Dyn)),
            _ => {}
        }
        if self.patches {
            if name == "JSONPatch" {
                return Some(Type::Struct(json_patch()));
            }
            if name == "Object" || name.starts_with("Object.") {
                return Some(Type::Struct(Declared::open(name)));
            }
        }
        self.declared(name).map(Type::Struct)
    }

    /// An object type that some variable is made of.
    fn declared(&self, name: &str) -> Option<Arc<Declared>> {
        self.variables.values().find_map(|t| match t {
            Type::Struct(declared) if declared.name() == name => Some(Arc::clone(declared)),
            _ => None,
        })
    }
}

/// One operation of a JSON patch, as policies write it.
fn json_patch() -> Arc<Declared> {
    let string = |name: &str| (name.to_owned(), Arc::new(Shape::of(Type::String)));
    let value = ("value".to_owned(), Arc::new(Shape::of(Type::Dyn)));
    Declared::new("JSONPatch", [string("op"), string("path"), string("from"), value].into())
}
