//! CustomResourceDefinitions and what they make of objects, as pure functions.
//!
//! * [`normal`]: a definition as Kubernetes keeps it: defaults filled in, what its types do not know dropped.
//! * [`status`]: which names are accepted, and the conditions that say so.
//! * [`validation`]: whether a definition can be served.
//! * [`objects`]: pruning and defaulting; [`values`], [`lists`], [`embedded`]: what is wrong with an object.
//!
//! Must never evaluate expressions (`x-kubernetes-validations`): that is an engine's task, outside.

pub mod conversion;
mod defaults;
pub mod embedded;
pub mod lists;
pub mod normal;
pub mod objects;
pub mod publish;
mod rules;
pub mod scale;
pub mod status;
mod structure;
pub mod validation;
pub mod values;

/// The kind's group.
pub const GROUP: &str = "apiextensions.k8s.io";
/// The kind's resource.
pub const RESOURCE: &str = "customresourcedefinitions";
/// Holds a definition until its last instance has gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// A schema nested deeper than this is refused: walks over it recurse.
pub const MAX_DEPTH: usize = 64;
