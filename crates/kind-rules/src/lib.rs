//! What Kubernetes demands of each built-in kind: defaults, validation, update rules, warnings and printer columns, as pure
//! functions over JSON.
//!
//! A crate of its own so that the rules cannot import effects, and so that an agent can check and compare manifests
//! offline by the very rules that the API server holds them to.
//!
//! * [`rules`]: [`rules::KindRules`], what a kind is described by; the modules per group hold one constant per kind.
//! * [`problems`], [`path`], [`names`], [`addresses`], [`json`], [`columns`]: what the rules are written with.
//! * [`meta`]: what every object's metadata has to satisfy.
//! * [`core`] and its like: a module per group, a file per kind.
//! * [`pod_spec`]: the pod spec, which pods and every workload's template share.
//!
//! It must never read a clock, a file or another object: what a rule has to know is an argument. Nothing here panics on
//! a wrong shape: rules may run before the schema has been checked. Field paths, reasons and messages are upstream's own
//! (`pkg/apis/*/validation`), because clients compare them.

pub mod addresses;
pub mod admissionregistration;
pub mod apiregistration;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod checks;
pub mod columns;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod go_structures;
pub mod json;
mod line_diff;
pub mod meta;
pub mod names;
pub mod net;
pub mod networking;
pub mod node;
pub mod path;
pub mod pod_spec;
pub mod policy;
pub mod problems;
pub mod quota;
pub mod rbac;
pub mod references;
pub mod resource;
pub mod resource_list;
pub mod reviews;
pub mod rules;
pub mod scheduling;
pub mod storage;
mod workload;

#[cfg(test)]
mod testing;
