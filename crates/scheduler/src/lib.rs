//! Assigns pods to nodes.
//!
//! [`decide`] is pure: given a pod and what the nodes hold it names a node or says why none will do. [`service`] keeps
//! that picture from watch caches, adds what it has just decided (before the server's watch shows it), binds through
//! `pods/binding`, and tells in events and conditions why a pod waits. Pods that fit nowhere wait for a change of nodes
//! or for a pod to go; nothing polls.
//!
//! A pod that fits nowhere may make less important ones go ([`preempt`]); the room it makes is held for it.
//!
//! Not done here: volumes, resource claims, extenders; preemption does not spare disruption budgets.

pub mod decide;
mod picture;
pub mod preempt;
mod quantity;
mod relations;
pub mod service;

pub use service::{Error, Handle, Options, Service};
