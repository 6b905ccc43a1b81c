//! What the nodes hold, decided pods included. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use api_client::ObjectKey;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::{
    decide::{Demand, NodeState, Surroundings, Unfit, decide},
    preempt::{Victims, may_preempt, preempt, priority},
    relations::Namespaces,
};

/// What is to be done for a pod.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It goes there, and counts there from now on.
    Bind(String),
    /// It fits nowhere; some may have to go for it.
    Wait(Unfit, Option<Victims>),
}

/// Room held for a pod until those that must go for it have gone.
#[derive(Debug)]
struct Nomination {
    node: String,
    demand: Demand,
    priority: i32,
}

#[derive(Debug)]
struct Placed {
    node: String,
    demand: Demand,
    pod: Arc<Pod>,
}

/// The scheduler's knowledge.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    nodes: BTreeMap<String, NodeState>,
    /// Where each pod counts, by uid; also pods on nodes that aren't known (yet).
    placed: HashMap<String, Placed>,
    /// Pods that fit nowhere, with their priorities.
    waiting: HashMap<ObjectKey, i32>,
    /// By uid.
    nominated: HashMap<String, Nomination>,
    namespaces: Arc<Namespaces>,
}

impl Picture {
    /// Decides for a pod that has no node yet.
    pub(crate) fn decide(&mut self, key: &ObjectKey, uid: &str, pod: &Arc<Pod>) -> Verdict {
        let demand = Demand::of(pod);
        let around = Surroundings {
            reserved: self.reserved(uid, priority(pod)),
            namespaces: Arc::clone(&self.namespaces),
        };
        let nodes: Vec<&NodeState> = self.nodes.values().collect();
        match decide(pod, &demand, &nodes, &around).map(str::to_owned) {
            Ok(node) => {
                // Counted at once: the next decision must see it, long before the watch shows the binding.
                self.place(uid, &node, pod);
                Verdict::Bind(node)
            }
            Err(unfit) => {
                let nominated = self.nominated.get(uid).and_then(|own| self.nodes.get(&own.node));
                let victims =
                    if may_preempt(pod, nominated) { preempt(pod, &demand, &nodes, &around) } else { None };
                if let Some(victims) = &victims {
                    let own = Nomination { node: victims.node.clone(), demand, priority: priority(pod) };
                    self.nominated.insert(uid.to_owned(), own);
                }
                self.waiting.insert(key.clone(), priority(pod));
                Verdict::Wait(unfit, victims)
            }
        }
    }

    /// What pods at least as important as `priority` have been promised, but for the pod `uid` itself.
    fn reserved(&self, uid: &str, priority: i32) -> BTreeMap<String, Demand> {
        let mut reserved: BTreeMap<String, Demand> = BTreeMap::new();
        let others =
            self.nominated.iter().filter(|(own, nomination)| *own != uid && nomination.priority >= priority);
        for (_, nomination) in others {
            reserved.entry(nomination.node.clone()).or_default().join(&nomination.demand);
        }
        reserved
    }

    pub(crate) fn place(&mut self, uid: &str, node: &str, pod: &Arc<Pod>) {
        self.nominated.remove(uid);
        let demand = Demand::of(pod);
        if self.placed.get(uid).is_some_and(|present| present.node != node) {
            self.take_off(uid);
        }
        if let Some(state) = self.nodes.get_mut(node) {
            match self.placed.get(uid) {
                Some(present) => {
                    state.leave(uid, &present.demand);
                    state.settle(uid, pod, &demand);
                }
                None => state.settle(uid, pod, &demand),
            }
        }
        let placed = Placed { node: node.to_owned(), demand, pod: Arc::clone(pod) };
        self.placed.insert(uid.to_owned(), placed);
    }

    /// Whether it had counted anywhere.
    pub(crate) fn take_off(&mut self, uid: &str) -> bool {
        let held = self.nominated.remove(uid).is_some();
        let Some(placed) = self.placed.remove(uid) else { return held };
        if let Some(state) = self.nodes.get_mut(&placed.node) {
            state.leave(uid, &placed.demand);
        }
        true
    }

    pub(crate) fn set_node(&mut self, node: &Node) {
        let mut state = NodeState::new(node);
        let name = state.name.clone();
        for (uid, placed) in self.placed.iter().filter(|(_, placed)| placed.node == name) {
            state.settle(uid, &placed.pod, &placed.demand);
        }
        self.nodes.insert(name, state);
    }

    pub(crate) fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    pub(crate) fn set_namespaces(&mut self, namespaces: Namespaces) {
        self.namespaces = Arc::new(namespaces);
    }

    pub(crate) fn forget_waiting(&mut self, key: &ObjectKey) {
        self.waiting.remove(key);
    }

    /// The pods that waited, to be tried again: the most important first.
    pub(crate) fn wake(&mut self) -> Vec<ObjectKey> {
        let mut keys: Vec<(ObjectKey, i32)> = self.waiting.drain().collect();
        keys.sort_by(|one, other| {
            other.1.cmp(&one.1).then_with(|| one.0.to_string().cmp(&other.0.to_string()))
        });
        keys.into_iter().map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, priority: i32, cpu: &str) -> (ObjectKey, Arc<Pod>) {
        let pod = serde_json::from_value(
            json!({"metadata": {"name": name, "uid": name}, "spec": {"priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}}),
        )
        .expect("a pod");
        (ObjectKey::new("", name), Arc::new(pod))
    }

    fn picture() -> Picture {
        let mut picture = Picture::default();
        let node = json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "4", "pods": "9"}}});
        picture.set_node(&serde_json::from_value(node).expect("a node"));
        picture
    }

    #[test]
    fn room_made_for_a_pod_is_held_for_it() {
        let mut picture = picture();
        let (low_key, low) = pod("low", 1, "4");
        assert!(matches!(picture.decide(&low_key, "low", &low), Verdict::Bind(node) if node == "n"));
        let (key, high) = pod("high", 9, "3");
        let Verdict::Wait(_, Some(victims)) = picture.decide(&key, "high", &high) else {
            panic!("it must make room")
        };
        assert_eq!(victims.pods.len(), 1);
        assert!(picture.take_off("low"));
        let (later_key, later) = pod("later", 1, "2");
        assert!(matches!(picture.decide(&later_key, "later", &later), Verdict::Wait(_, None)), "not for it");
        assert_eq!(picture.wake(), [key.clone(), later_key], "the important one first");
        assert!(matches!(picture.decide(&key, "high", &high), Verdict::Bind(_)));
        let (small_key, small) = pod("small", 1, "1");
        assert!(
            matches!(picture.decide(&small_key, "small", &small), Verdict::Bind(_)),
            "what is left is free"
        );
    }
}
