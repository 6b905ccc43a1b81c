//! Keeps as many pods of a template as a ReplicaSet, or its ancestor the ReplicationController, asks for.

mod kinds;
mod plan;
mod reconciler;

pub(crate) use reconciler::{Replicas, queue};
