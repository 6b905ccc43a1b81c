//! Runs the pods that are bound to one node.
//!
//! [`Service`] registers its `Node`, renews the node's lease, watches the pods bound to it and gives each pod a worker.
//! A worker asks [`runtime::PodRuntime`] what there is, lets [`pod::plan`] decide, carries the decision out and tells
//! the API what changed. Two runtimes stand behind the trait: containers over CRI and a simulation.
//!
//! Tasks: one for the node object and lease, one for the pod watch, one per pod, one that posts events, one per probed
//! container. State lives in the runtime and in the API; a restarted agent finds its containers again by their labels.
//!
//! It never kills containers because it is stopped itself, never acts on a pod of another node, and reaches objects
//! through a `kube::Client` alone.

pub mod error;
pub mod events;
pub mod handle;
pub mod inputs;
pub mod node_object;
pub mod options;
pub mod pod;
pub mod runtime;
pub mod service;

pub use error::Error;
pub use handle::{Handle, LogOptions};
pub use options::Options;
pub use service::Service;
