//! Keeps as many pods of a template as a ReplicaSet asks for.

mod plan;
mod reconciler;

pub(crate) use reconciler::{ReplicaSets, queue};
