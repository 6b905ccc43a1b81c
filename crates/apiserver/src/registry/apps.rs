//! Kinds of the group `apps`.

pub(crate) mod workloads;
