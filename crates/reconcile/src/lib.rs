//! Queue, driver, backoff and per-task status of level-based reconcilers.
//!
//! A reconciler gets a key, looks at the world and brings the key's object nearer to what it should be. Whatever saw a
//! change puts keys into the [`Queue`]; the [`Driver`] takes them out, runs at most one reconciliation per key at a
//! time, and brings failed keys back later. What happened in between is never replayed: only the present counts.
//!
//! This crate knows no Kubernetes and does no I/O of its own.

pub mod driver;
pub mod queue;
pub mod status;

pub use driver::{Action, Driver, DriverOptions, Reconciler};
pub use queue::Queue;
pub use status::{StatusHandle, TaskStatus};
