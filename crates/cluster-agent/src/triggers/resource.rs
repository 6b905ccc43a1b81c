//! Watches objects of one kind for one trigger. What was before the watch began is where changes are counted from.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fleet_objects::test_trigger::{ObjectChange, ResourceTrigger};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{Scope, pinned_kind};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::warn;
use workflow::trigger::{self, Fields};

use super::Seen;
use super::decide::{Firing, change_key};

/// Objects of one trigger that are remembered: 50,000 with a short value each are some 20 MB. More are not judged.
const MAX_OBJECTS: usize = 50_000;
/// Between looks for a kind that the cluster does not serve.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

pub(super) struct Watch {
    pub(super) name: String,
    pub(super) trigger: ResourceTrigger,
    pub(super) cluster: Client,
    pub(super) seen: mpsc::Sender<Seen>,
}

/// What is remembered of an object.
struct Known {
    resource_version: String,
    fields: Fields,
}

/// Judges the events of one watch.
struct Judge {
    trigger: ResourceTrigger,
    known: HashMap<String, Known>,
    /// Seen since the present list began; `None` between lists.
    listed: Option<HashSet<String>>,
    /// The first list only says what is there.
    began: bool,
    full: bool,
}

impl Watch {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        let (resource, namespaced) = self.resource().await;
        let namespace = self.trigger.namespace.as_deref().filter(|_| namespaced);
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(self.cluster.clone(), namespace, &resource),
            None => Api::all_with(self.cluster.clone(), &resource),
        };
        let mut config = watcher::Config::default();
        if let Some(selector) = &self.trigger.selector {
            config = config.labels(&selector_text(selector));
        }
        if let Some(name) = &self.trigger.name {
            config = config.fields(&format!("metadata.name={name}"));
        }
        let delay = self.trigger.delay.as_deref().and_then(|delay| workflow::duration::parse(delay).ok());
        let mut judge = Judge {
            trigger: self.trigger.clone(),
            known: HashMap::new(),
            listed: None,
            began: false,
            full: false,
        };
        let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
        let mut waiting: Option<(Instant, Firing)> = None;
        loop {
            let wake = waiting.as_ref().map(|(at, _)| *at);
            let event = tokio::select! {
                event = events.next() => event,
                () = async { sleep_until(wake.unwrap_or_else(Instant::now)).await }, if wake.is_some() => {
                    if let Some((_, firing)) = waiting.take() && self.send(firing).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let fired = match event {
                Some(Ok(event)) => judge.event(event),
                Some(Err(error)) => {
                    warn!(trigger = %self.name, %error, "cannot watch for a test trigger; trying again");
                    continue;
                }
                None => return,
            };
            for firing in fired {
                match delay {
                    None => {
                        if self.send(firing).await.is_err() {
                            return;
                        }
                    }
                    // What comes while one waits is the same change to a person; the newest says what it was.
                    Some(delay) => {
                        let at = waiting.as_ref().map_or_else(|| Instant::now() + delay, |(at, _)| *at);
                        waiting = Some((at, firing));
                    }
                }
            }
        }
    }

    async fn send(&self, firing: Firing) -> Result<(), mpsc::error::SendError<Seen>> {
        self.seen.send((self.name.clone(), firing)).await
    }

    /// The resource of the kind, as soon as the cluster serves it, and whether it is in namespaces.
    async fn resource(&self) -> (ApiResource, bool) {
        let (group, version) = match self.trigger.api_version.split_once('/') {
            Some((group, version)) => (group, version),
            None => ("", self.trigger.api_version.as_str()),
        };
        let kind = GroupVersionKind::gvk(group, version, &self.trigger.kind);
        loop {
            match pinned_kind(&self.cluster, &kind).await {
                Ok((resource, capabilities)) => return (resource, capabilities.scope == Scope::Namespaced),
                Err(error) => {
                    warn!(trigger = %self.name, %error, "this cluster does not serve the kind of a test trigger yet")
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Judge {
    fn event(&mut self, event: Event<DynamicObject>) -> Vec<Firing> {
        match event {
            Event::Init => {
                self.listed = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let (Some(listed), Some(uid)) = (&mut self.listed, object.uid()) {
                    listed.insert(uid);
                }
                self.applied(&object).into_iter().collect()
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                let gone: Vec<String> =
                    self.known.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                self.began = true;
                gone.into_iter().filter_map(|uid| self.gone(&uid, "an object")).collect()
            }
            Event::Apply(object) => self.applied(&object).into_iter().collect(),
            Event::Delete(object) => {
                object.uid().and_then(|uid| self.gone(&uid, &object.name_any())).into_iter().collect()
            }
        }
    }

    fn applied(&mut self, object: &DynamicObject) -> Option<Firing> {
        let uid = object.uid()?;
        let resource_version = object.resource_version().unwrap_or_default();
        let before = self.known.get(&uid);
        if before.is_some_and(|before| before.resource_version == resource_version) {
            return None;
        }
        if before.is_none() && self.known.len() >= MAX_OBJECTS {
            if !std::mem::replace(&mut self.full, true) {
                warn!(kind = %self.trigger.kind, "a test trigger matches more than {MAX_OBJECTS} objects; the others are not judged");
            }
            return None;
        }
        let value = serde_json::to_value(object).ok()?;
        let fields = trigger::fields(&self.trigger, &value);
        let change = trigger::fires(&self.trigger, before.map(|before| &before.fields), Some(&fields));
        let new = Known { resource_version: resource_version.clone(), fields };
        self.known.insert(uid.clone(), new);
        let change = change.filter(|_| self.began)?;
        Some(self.firing(change, &uid, &resource_version, &object.name_any()))
    }

    fn gone(&mut self, uid: &str, name: &str) -> Option<Firing> {
        let before = self.known.remove(uid)?;
        let change = trigger::fires(&self.trigger, Some(&before.fields), None).filter(|_| self.began)?;
        Some(self.firing(change, uid, &before.resource_version, name))
    }

    fn firing(&self, change: ObjectChange, uid: &str, resource_version: &str, name: &str) -> Firing {
        let word = match change {
            ObjectChange::Created => "created",
            ObjectChange::Modified => "modified",
            ObjectChange::Deleted => "deleted",
        };
        Firing {
            key: change_key(uid, resource_version, word),
            time: Timestamp::now(),
            cause: format!("{} {name} was {word}", self.trigger.kind),
            clock: false,
        }
    }
}

/// A selector as a list request takes it.
fn selector_text(selector: &LabelSelector) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        parts.push(format!("{key}={value}"));
    }
    for requirement in selector.match_expressions.iter().flatten() {
        let values = requirement.values.iter().flatten().cloned().collect::<Vec<_>>().join(",");
        parts.push(match requirement.operator.as_str() {
            "In" => format!("{} in ({values})", requirement.key),
            "NotIn" => format!("{} notin ({values})", requirement.key),
            "DoesNotExist" => format!("!{}", requirement.key),
            _ => requirement.key.clone(),
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(uid: &str, version: &str, image: &str) -> DynamicObject {
        serde_json::from_value(json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "uid": uid, "resourceVersion": version}, "spec": {"image": image}}))
        .expect("an object")
    }

    #[test]
    fn a_list_tells_what_was_missed_and_the_first_one_nothing() {
        let trigger = serde_json::from_value(json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "fields": [{"path": "spec.image", "operator": "Changed"}]}))
        .expect("a trigger");
        let mut judge = Judge { trigger, known: HashMap::new(), listed: None, began: false, full: false };
        let mut events = |events: Vec<Event<DynamicObject>>| -> Vec<String> {
            let fired = events.into_iter().flat_map(|event| judge.event(event));
            fired.map(|firing| firing.cause).collect()
        };
        let first = vec![Event::Init, Event::InitApply(object("1", "1", "a")), Event::InitDone];
        assert!(events(first).is_empty(), "where it begins");
        assert!(events(vec![Event::Apply(object("1", "2", "a"))]).is_empty(), "another field");
        assert_eq!(events(vec![Event::Apply(object("1", "3", "b"))]), ["Deployment web was modified"]);
        let again = vec![
            Event::Init,
            Event::InitApply(object("1", "3", "b")),
            Event::InitApply(object("2", "4", "c")),
            Event::InitDone,
        ];
        assert_eq!(events(again), ["Deployment web was created"]);
        let gone = vec![Event::Init, Event::InitApply(object("2", "4", "c")), Event::InitDone];
        assert_eq!(events(gone), ["Deployment an object was deleted"]);
        assert_eq!(events(vec![Event::Delete(object("2", "4", "c"))]), ["Deployment web was deleted"]);
    }

    #[test]
    fn selectors_are_written_as_requests_take_them() {
        let selector = serde_json::from_value(json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "c", "operator": "In", "values": ["d", "e"]}, {"key": "f", "operator": "DoesNotExist"}]}))
        .expect("a selector");
        assert_eq!(selector_text(&selector), "a=b,c in (d,e),!f");
    }
}
