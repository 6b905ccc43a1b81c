//! Keeps pods with names and volumes of their own, in order.
//!
//! Template changes are told by a hash on the pods; there are no ControllerRevision objects. So a pod below the
//! partition that must be made anew gets the new template, and `kubectl rollout undo` does not work on StatefulSets yet.

mod plan;
mod reconciler;

pub(crate) use reconciler::{StatefulSets, queue};
