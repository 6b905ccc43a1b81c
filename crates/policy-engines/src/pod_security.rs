//! The Pod Security Standards: which pods are `baseline` and which `restricted`, in every version of the standards.
//!
//! * [`policy`]: levels, versions, and what a namespace's labels ask for.
//! * [`checks`]: the checks with their version history, and [`evaluate`], which runs those of a level and version.
//!
//! Pure: pods are read as JSON of any shape and never refused for their shape. Reasons and details are upstream's own
//! (`k8s.io/pod-security-admission`), because people and their tools read them.

mod checks;
mod policy;

pub use checks::{Violation, details, evaluate, reasons};
pub use policy::{LabelProblem, Level, LevelVersion, Policy, Version};

#[cfg(test)]
mod tests;
