//! The agent: keeps desired state, enforces, repairs, reports.

pub mod executor;
