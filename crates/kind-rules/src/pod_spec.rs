//! The pod spec, which pods and every workload's template share: defaults and validation.

mod containers;
mod defaults;
mod probes;
mod validation;
mod volumes;

pub use defaults::{default_pod_spec, default_template};
pub use validation::{validate, validate_template};

#[cfg(test)]
mod tests;
