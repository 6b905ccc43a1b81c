//! Events about pods, posted by one task. Losing one is no failure: they are for people.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that wait to be posted; about 500 bytes each, so 2 MB at most. Further ones are dropped.
const QUEUE: usize = 4096;
/// Series remembered for counting; then all are forgotten, and counting begins anew.
const SERIES: usize = 2048;

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It is.
    Normal,
    /// It is not.
    Warning,
}

struct Item {
    about: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
}

/// Takes events; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Item>,
}

impl Recorder {
    /// A recorder and the task that posts for it; the task ends on `stop`.
    #[must_use]
    pub fn new(client: kube::Client, node: &str, stop: CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        tokio::spawn(post(client, node.to_owned(), receiver, stop));
        Self { sender }
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
        let init = container.is_some_and(|name| {
            let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
            init.into_iter().any(|container| container.name == name)
        });
        let list = if init { "initContainers" } else { "containers" };
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path: container.map(|name| format!("spec.{list}{{{name}}}")),
        };
        if self.sender.try_send(Item { about, severity, reason, message }).is_err() {
            tracing::debug!(reason, "an event was dropped: too many wait");
        }
    }
}

type Key = (Option<String>, Option<String>, &'static str, String);

async fn post(client: kube::Client, node: String, mut items: mpsc::Receiver<Item>, stop: CancellationToken) {
    let mut series: HashMap<Key, (String, i32)> = HashMap::new();
    let mut number = 0u64;
    loop {
        let item = tokio::select! {
            () = stop.cancelled() => return,
            item = items.recv() => match item { Some(item) => item, None => return },
        };
        let namespace = item.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let key = (item.about.uid.clone(), item.about.field_path.clone(), item.reason, item.message.clone());
        if series.len() >= SERIES {
            series.clear();
        }
        if let Some((name, count)) = series.get_mut(&key) {
            *count = count.saturating_add(1);
            let patch = serde_json::json!({ "count": *count, "lastTimestamp": Time(Timestamp::now()) });
            if api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.is_ok() {
                continue;
            }
            series.remove(&key);
        }
        number += 1;
        let event = document(item, &node, number);
        let name = event.metadata.name.clone().unwrap_or_default();
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {
                series.insert(key, (name, 1));
            }
            Err(error) => tracing::debug!(%error, "an event could not be posted"),
        }
    }
}

fn document(item: Item, node: &str, number: u64) -> Event {
    let now = Timestamp::now();
    let pod = item.about.name.clone().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            // The name a server makes room for: 63 characters of pod name are the most there are, then time and number.
            name: Some(format!("{pod}.{:x}{number:x}", now.as_nanosecond())),
            namespace: item.about.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: item.about,
        reason: Some(item.reason.to_owned()),
        message: Some(item.message.chars().take(1024).collect()),
        type_: Some(if item.severity == Severity::Normal { "Normal" } else { "Warning" }.to_owned()),
        source: Some(EventSource { component: Some("kubelet".to_owned()), host: Some(node.to_owned()) }),
        reporting_component: Some("kubelet".to_owned()),
        reporting_instance: Some(node.to_owned()),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        count: Some(1),
        ..Event::default()
    }
}
