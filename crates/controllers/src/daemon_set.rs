//! Runs one pod of a template on every node that it fits.
//!
//! Template changes are told by a hash on the pods; there are no ControllerRevision objects, so `kubectl rollout undo`
//! does not work on DaemonSets yet.

mod plan;
mod reconciler;

pub(crate) use reconciler::{DaemonSets, queue};
