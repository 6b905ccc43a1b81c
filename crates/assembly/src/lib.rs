//! Wires components into programs: an embedded cluster, a hub, an agent, and all of them on one machine.
//!
//! * [`cluster`]: API server, controllers, scheduler and nodes in one process.
//! * [`containers`]: the private containerd behind real nodes.
//! * [`hub`]: an API server with the fleet's kinds, and the management plane behind it.
//! * [`agent`]: the cluster agent towards a hub.
//! * [`ephemeral`]: a cluster for one test run, with what carries the run out, in one process.
//! * [`test_bundle`]: signed files that carry test runs to clusters that never connect, and results back.
//! * [`test_clusters`]: clusters for test executions that ask for one of their own.
//! * [`up`]: a hub, clusters and agents as processes of one machine.
//! * [`expressions`]: CEL about clusters.
//! * [`policies`]: policies wired to manifests and to an agent's cluster.
//! * [`control_plane`]: what both have in common; [`identity`] and [`state`] are its parts.
//! * [`backup`]: snapshots of a store, taken, checked and restored.
//! * [`oidc`]: whose tokens people may show.
//! * [`followed`]: when to read files again that others write.
//! * [`sealing`]: what stores seal at rest, and sealing it anew.
//! * [`token_keys`]: rotating the keys of service-account tokens.
//! * [`error`]: why a program could not be put together or had to stop.
//!
//! It must never hold behaviour of its own: what is decided is decided in a component.

pub mod agent;
mod agent_lease;
pub mod authority;
pub mod backup;
pub mod cluster;
pub mod containers;
pub mod control_plane;
pub mod ephemeral;
pub mod error;
pub mod expressions;
mod followed;
pub mod hub;
pub mod hub_backup;
pub mod identity;
mod leader;
mod nodes;
pub mod oidc;
pub mod policies;
mod reach;
pub mod sealing;
pub mod state;
pub mod test_bundle;
pub mod test_clusters;
pub mod token_keys;
pub mod up;
mod witness;

pub use error::AssemblyError;
