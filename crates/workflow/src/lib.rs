//! The test-workflow language and its plan.
