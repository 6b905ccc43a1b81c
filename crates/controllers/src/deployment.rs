//! Rolls a Deployment's template out over ReplicaSets.

mod condition;
mod plan;
mod reconciler;
mod rollout;

pub(crate) use reconciler::{Deployments, queue};
