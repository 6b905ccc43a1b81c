//! Telling the API about a pod: its status when it changed, and its end.

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

/// Writes one pod's status.
pub struct Reporter {
    client: kube::Client,
}

/// Why the API was not told.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It no longer has this pod; another of the same name may be there.
    #[error("the pod is gone")]
    Gone,
    /// It did not answer as hoped.
    #[error("the API refused")]
    Api(#[from] kube::Error),
}

impl Reporter {
    /// Over this client.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self { client }
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default())
    }

    /// Patches what differs; the pod as written, or `None` when nothing does.
    ///
    /// # Errors
    /// [`ReportError::Gone`] when this very pod isn't there; else what the API said.
    pub async fn push(&self, pod: &Pod, status: &PodStatus) -> Result<Option<Pod>, ReportError> {
        let old = json!(pod.status.clone().unwrap_or_default());
        let Some(changes) = difference(&old, &json!(status)) else { return Ok(None) };
        // The uid makes the write fail when the name meanwhile belongs to another pod.
        let patch = json!({ "metadata": { "uid": pod.metadata.uid }, "status": changes });
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        match self.api(pod).patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(pod) => Ok(Some(pod)),
            Err(error) if means_gone(&error) => Err(ReportError::Gone),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the pod without grace, if it is still this one.
    ///
    /// # Errors
    /// What the API said; a pod that is gone is no error.
    pub async fn delete(&self, pod: &Pod) -> Result<(), ReportError> {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), ..Preconditions::default() }),
            ..DeleteParams::default()
        };
        match self.api(pod).delete(pod.metadata.name.as_deref().unwrap_or_default(), &params).await {
            Ok(_) => Ok(()),
            Err(error) if means_gone(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A missing pod, or one whose uid is another's.
fn means_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404
        || (status.code == 409 && status.message.to_lowercase().contains("uid")))
}

/// The fields of a status that differ, as a strategic merge patch; `None` when none does. Lists that are merged by key
/// and have lost a member are replaced whole.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (old, new) = (old.as_object()?, new.as_object()?);
    let mut changes = serde_json::Map::new();
    for (field, value) in new {
        if old.get(field) == Some(value) {
            continue;
        }
        let mut value = value.clone();
        if matches!(field.as_str(), "podIPs" | "hostIPs")
            && old.contains_key(field)
            && let Some(list) = value.as_array_mut()
        {
            list.push(json!({ "$patch": "replace" }));
        }
        changes.insert(field.clone(), value);
    }
    for field in old.keys().filter(|field| !new.contains_key(*field)) {
        changes.insert(field.clone(), Value::Null);
    }
    (!changes.is_empty()).then_some(Value::Object(changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let old = json!({"phase": "Pending", "podIPs": [{"ip": "1"}], "reason": "x", "hostIP": "h"});
        let new = json!({"phase": "Running", "podIPs": [{"ip": "2"}], "hostIP": "h"});
        let expected = json!({
            "phase": "Running", "podIPs": [{"ip": "2"}, {"$patch": "replace"}], "reason": null
        });
        assert_eq!(difference(&old, &new), Some(expected));
        assert_eq!(difference(&old, &old), None);
    }
}
