//! CustomResourceDefinitions and what they make of objects, as pure functions.
//!
//! * [`normal`]: a definition as Kubernetes keeps it: defaults filled in, what its types do not know dropped.
//! * [`status`]: which names are accepted, and the conditions that say so.
//!
//! Must never evaluate expressions (`x-kubernetes-validations`): that is an engine's task, outside.

pub mod normal;
pub mod status;
pub mod validation;

/// The kind's group.
pub const GROUP: &str = "apiextensions.k8s.io";
/// The kind's resource.
pub const RESOURCE: &str = "customresourcedefinitions";
/// Holds a definition until its last instance has gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// A schema nested deeper than this is refused: walks over it recurse.
pub const MAX_DEPTH: usize = 64;
