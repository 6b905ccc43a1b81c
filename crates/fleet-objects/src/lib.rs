//! The fleet's own API kinds.

pub mod test_record;
pub mod test_run;
pub mod test_workflow;
