//! Events about pods and their containers. Losing one is no failure: they are for people.

use api_client::events;
pub use api_client::events::Severity;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};

use crate::pod::facts::{self, Kind};

/// Takes events; cheap to clone. What it writes names the node it was made for.
#[derive(Clone)]
pub struct Recorder {
    events: events::Recorder,
}

impl Recorder {
    /// A recorder for one node. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(client: kube::Client, node: &str) -> Self {
        Self { events: events::Recorder::start_on(client, "kubelet", Some(node.to_owned())) }
    }

    /// Records an event about a pod, or about one of its containers.
    pub fn pod(
        &self,
        pod: &Pod,
        container: Option<&str>,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) {
        self.events.record_about(reference(pod, container), severity, reason, message);
    }
}

fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let list = match container.and_then(|name| facts::container(pod, name)) {
        Some((Kind::Init | Kind::Sidecar, _)) => "initContainers",
        Some((Kind::Ephemeral, _)) => "ephemeralContainers",
        _ => "containers",
    };
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path: container.map(|name| format!("spec.{list}{{{name}}}")),
    }
}
