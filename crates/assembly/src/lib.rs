//! Wires components into programs: an embedded cluster, a hub, an agent.
//!
//! * [`cluster`]: API server, controllers, scheduler and nodes in one process.
//! * [`containers`]: the private containerd behind real nodes.
//! * [`hub`]: an API server with the fleet's kinds, and the management plane behind it.
//! * [`control_plane`]: what both have in common; [`identity`] and [`state`] are its parts.
//! * [`error`]: why a program could not be put together or had to stop.
//!
//! It must never hold behaviour of its own: what is decided is decided in a component.

pub mod cluster;
pub mod containers;
pub mod control_plane;
pub mod error;
pub mod hub;
pub mod identity;
mod nodes;
pub mod state;

pub use error::AssemblyError;
