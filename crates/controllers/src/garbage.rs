//! Deletes what its owners left behind.

mod plan;
mod reconciler;

pub(crate) use reconciler::Collector;
