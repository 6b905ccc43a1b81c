//! Admission: what may be done to which object, and what is filled in for everyone.
//!
//! * [`attributes`]: what plug-ins know of a request.
//! * [`chain`]: the plug-ins in Kubernetes' order, in two phases. The mutating phase runs behind decoding and
//!   defaulting, before the strategy prepares the object; the validating phase behind the strategy's validation, right
//!   before the write. DELETE and CONNECT go through both, without an object to change (CONNECT: with its options).
//! * [`request`]: where handlers call it.
//! * [`seen`]: the objects of a request in the version that a webhook or a policy wants.
//! * one file per plug-in.
//!
//! A plug-in never writes the object itself; it changes what it is given or refuses.

mod attributes;
mod certificates;
mod chain;
mod claim_resize;
pub(crate) mod compiled;
mod default_classes;
mod durations;
mod lifecycle;
mod limit_ranger;
mod node_restriction;
mod node_taints;
pub(crate) mod object_rules;
pub(crate) mod pod_security;
mod policy;
mod priority;
mod request;
mod resource_quota;
mod rights;
mod runtime_class;
mod seen;
mod service_account;
mod storage_protection;
mod tolerations;
mod topology_labels;
mod webhook;
pub(crate) mod write_rights;

pub(crate) use attributes::{Attributes, Operation, RequestOptions};
pub(crate) use chain::{Chain, Plugin};
pub(crate) use request::subresource_kind;

#[cfg(test)]
mod fixture;
