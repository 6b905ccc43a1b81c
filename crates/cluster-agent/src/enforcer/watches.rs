//! One watch per kind that anything applied is of, over all namespaces, narrowed by the agent's label.

use std::collections::{HashMap, HashSet};

use fleet_objects::{LABEL_ASSIGNMENT, ObjectReference};
use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Input;

/// Kinds watched at most; a profile of more kinds is refused by its size long before.
const MAX_KINDS: usize = 500;
/// Objects of one page of a list: what is read of them is there as whole trees until the last of the page was looked at.
const PAGE: u32 = 100;

/// The watches of an enforcer; dropping them ends them.
pub(super) struct Watches {
    client: Client,
    inputs: mpsc::Sender<Input>,
    running: HashMap<(String, String), JoinHandle<()>>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
    }
}

impl Watches {
    pub(super) fn new(client: Client, inputs: mpsc::Sender<Input>) -> Self {
        Self { client, inputs, running: HashMap::new() }
    }

    /// Sees to it that a kind is watched.
    pub(super) fn ensure(&mut self, resource: &ApiResource) {
        let key = (resource.api_version.clone(), resource.kind.clone());
        if self.running.len() >= MAX_KINDS || self.running.contains_key(&key) {
            return;
        }
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
        let task = tokio::spawn(follow(api, key.clone(), self.inputs.clone()));
        self.running.insert(key, task);
    }

    /// Ends watches of kinds that nothing is of any more.
    pub(super) fn retain(&mut self, needed: &HashSet<(String, String)>) {
        self.running.retain(|key, task| {
            let keep = needed.contains(key);
            if !keep {
                task.abort();
            }
            keep
        });
    }
}

async fn follow(api: Api<DynamicObject>, kind: (String, String), inputs: mpsc::Sender<Input>) {
    let config = watcher::Config::default().labels(LABEL_ASSIGNMENT).page_size(PAGE);
    let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        let input = match event {
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed.insert(reference(&object, &kind));
                seen(object, &kind)
            }
            Ok(Event::InitDone) => {
                Some(Input::Listed { kind: kind.clone(), objects: std::mem::take(&mut listed) })
            }
            Ok(Event::Apply(object)) => seen(object, &kind),
            Ok(Event::Delete(object)) => Some(Input::Gone(reference(&object, &kind))),
            Err(error) => {
                tracing::debug!(kind = %kind.1, %error, "a watch broke; it is started anew");
                continue;
            }
        };
        let Some(input) = input else { continue };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

fn reference(object: &DynamicObject, kind: &(String, String)) -> ObjectReference {
    ObjectReference {
        api_version: kind.0.clone(),
        kind: kind.1.clone(),
        namespace: object.metadata.namespace.clone(),
        name: object.metadata.name.clone().unwrap_or_default(),
    }
}

fn seen(object: DynamicObject, kind: &(String, String)) -> Option<Input> {
    let mut value = serde_json::to_value(&object).ok()?;
    // Items of a list come without their kind.
    value["apiVersion"] = kind.0.clone().into();
    value["kind"] = kind.1.clone().into();
    Some(Input::Seen(Box::new(value)))
}
