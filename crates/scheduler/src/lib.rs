//! Assigns pods to nodes.
//!
//! [`decide`] is pure: given a pod and what the nodes hold it names a node or says why none will do. [`service`] keeps
//! that picture from watch caches, adds what it has just decided (before the server's watch shows it), binds through
//! `pods/binding`, and tells in events and conditions why a pod waits. Pods that fit nowhere wait for a change of nodes
//! or for a pod to go; nothing polls.
//!
//! Not done here: preemption, volumes, topology spread, pod affinity, extenders.

pub mod decide;
mod quantity;
pub mod service;

pub use service::{Error, Handle, Options, Service};
