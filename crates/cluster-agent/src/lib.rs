//! The agent: keeps desired state, enforces, repairs, reports.
