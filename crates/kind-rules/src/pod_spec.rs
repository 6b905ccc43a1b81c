//! The pod spec, which pods and every workload's template share: defaults and validation (upstream's
//! `pkg/apis/core/validation.ValidatePodSpec`).

mod affinity;
mod annotations;
mod containers;
mod defaults;
mod disabled;
mod dns;
mod network;
mod os;
mod resources;
mod security;
mod spread;
mod template;
mod tolerations;
mod validation;
pub mod volumes;
mod warnings;

pub use affinity::{has_bad_required_value, node_selector, node_selector_term};
pub use annotations::{validate as validate_annotations, validate_fields_match};
pub use containers::probes::port_or_name;
pub use containers::resize_policy;
pub(crate) use defaults::default_source;
pub use defaults::{default_pod, default_pod_spec, default_template};
pub use disabled::drop_disabled;
pub use resources::{
    amount, canonical, container_resource, is_extended, is_huge_page, is_integer, is_native,
    is_overcommit_allowed, is_quota_standard, is_standard, non_negative, qualified_resource, quantity_value,
    resource_list,
};
pub use template::{Template, validate_template};
pub use tolerations::{taint_effect, tolerations};
pub use validation::{Scope, validate, visit_containers};
pub(crate) use warnings::claim_spec as claim_warnings;
pub use warnings::warnings;

#[cfg(test)]
mod tests;
