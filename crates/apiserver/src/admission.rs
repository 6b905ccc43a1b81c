//! Built-in admission: what may be created where, and what is filled in for everyone.
//!
//! Runs between decoding and [`crate::Strategy`]; each plug-in is a file of its own.

use kube_objects::Status;
use serde_json::Value;

use crate::registry::strategy::RequestContext;

mod lifecycle;

/// A new object, before its strategy sees it. What is particular to pods (service account, tolerations, priority) is
/// in the pod's strategy, which runs right behind.
pub(crate) async fn create(cx: &RequestContext<'_>, _object: &mut Value) -> Result<(), Status> {
    lifecycle::check(cx).await
}
