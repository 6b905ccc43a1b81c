//! Notices nodes that have gone silent, keeps their taints, evicts what doesn't tolerate them, and clears away pods of
//! nodes that are gone.

mod plan;
mod reconciler;

pub(crate) use reconciler::queue;
