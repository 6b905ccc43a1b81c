//! Wires components into programs: an embedded cluster, a hub, an agent.
//!
//! * [`identity`]: certificate authority, keys and kubeconfig of a server.
//! * [`error`]: why a program could not be put together.
//!
//! It must never hold behaviour of its own: what is decided is decided in a component.

pub mod error;
pub mod identity;
