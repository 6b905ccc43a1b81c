//! The management plane: registration, placement, inbox, test runs.

pub mod test_runs;
