//! The agent: one per cluster, in any Kubernetes. It keeps desired state on its own disk, applies it, repairs drift the
//! moment it is seen, runs tests, and tells the hub what happened when there is a hub to tell.
//!
//! Never: deletes because something is absent (only a tombstone or a newer generation of the same profile removes), goes
//! back to an older generation, needs the hub in order to enforce, or assumes anything of the cluster's API server that
//! Kubernetes does not promise.

pub mod access;
pub mod audit;
mod ceiling;
mod connector;
mod credentials;
mod enforcer;
mod error;
pub mod executor;
mod facts;
mod fingerprint;
mod flap;
mod health;
mod hold;
mod hub_client;
mod link;
mod notes;
mod outbox;
mod rebind;
mod service;
mod session;
mod triggers;
mod upload;
mod vault;

pub use ceiling::PodStandards;
pub use connector::{HubConnector, TlsConnector, Trust};
pub use credentials::{Credentials, Identity};
pub use error::Error;
pub use notes::Notes;
pub use outbox::{Outbox, is_full};
pub use rebind::rebind;
pub use service::{AgentStatus, Handle, Join, Options, Service};
