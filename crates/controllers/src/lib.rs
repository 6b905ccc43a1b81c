//! The controllers of the embedded cluster.
//!
//! Each controller is a reconciler in a module of its own: `plan.rs` decides from plain data what to do (pure, tested
//! without a server), `reconciler.rs` reads the caches, asks the plan and carries it out. All share one set of watch
//! caches and put what they write into them at once, so they need no bookkeeping of expected events. They react to
//! changes; nothing polls, and a cluster at rest costs no requests.
//!
//! They reach objects through a `kube::Client` alone and must not assume what server is behind it. Caches are fed through
//! one client for all; each controller writes through one of its own ([`identity`]).

mod claims;
mod context;
pub mod credentials;
mod cron_job;
mod daemon_set;
mod deployment;
mod disruption;
mod endpoints;
mod error;
mod garbage;
mod history;
pub mod identity;
mod job;
mod nodes;
mod objects;
mod replica_set;
mod resource_quota;
mod service_accounts;
mod stateful_set;
mod storage_protection;

pub mod namespace;
pub mod pods;
pub mod service;

pub use error::Error;
pub use service::{Handle, Options, Service};
