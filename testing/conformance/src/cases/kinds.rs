//! Every built-in kind through every verb, in every form. See [`crate::operations`].

use serde_json::{Value, json};

use crate::case::Case;

mod apps;
mod cluster;
mod core;
mod machinery;
mod network;
mod storage;

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    [self::core::CASES, apps::CASES, network::CASES, storage::CASES, cluster::CASES, machinery::CASES]
        .concat()
}

/// A case that takes a kind through every verb: `kind!("topic/name", ["official title"], Kind)`.
macro_rules! kind {
    ($name:literal, [$($official:literal),* $(,)?], $kind:expr) => {
        $crate::case::Case {
            name: $name,
            official: &[$($official),*],
            needs: $crate::case::Needs::ApiServer,
            run: |subject| Box::pin(async move {
                let kind: $crate::operations::Kind = $kind;
                kind.holds(subject).await
            }),
        }
    };
}
use kind;

/// A pod's specification that no node can take.
pub(super) fn nowhere() -> Value {
    json!({
        "nodeSelector": {"example.com/nowhere": "x"},
        "containers": [{"name": "c", "image": "example.com/c:1"}],
    })
}

/// A template of such pods with labels `app=c`.
pub(super) fn template() -> Value {
    json!({"metadata": {"labels": {"app": "c"}}, "spec": nowhere()})
}

/// A condition that no controller knows.
pub(super) fn condition() -> Value {
    json!({
        "type": "StatusPatched", "status": "True", "reason": "Told", "message": "by a test",
        "lastTransitionTime": "2024-01-01T00:00:00Z",
    })
}
