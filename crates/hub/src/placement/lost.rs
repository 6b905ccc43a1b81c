//! Assignments that the hub saw go, so that one that somebody deletes is issued anew. Only what went before these eyes counts: a
//! hub that came back from a backup, or was started since, cannot tell what was deleted from what it never knew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use api_client::ObjectCache;
use parking_lot::Mutex;

use super::known::KnownAssignment;

/// Names remembered at once; of more, those that went first are forgotten, and a person adopts the hub's view there.
const MAX: usize = 16_384;

/// What went. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Lost(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// By partition and name, the generation that went.
    by_partition: BTreeMap<String, BTreeMap<String, i64>>,
    /// Partitions, names and generations in the order in which they went; some may be there again meanwhile, or have gone again.
    order: VecDeque<(String, String, i64)>,
}

impl Lost {
    /// Remembers what goes from the cache, of this life of the hub's.
    pub(super) fn follow(&self, assignments: &ObjectCache<KnownAssignment>, epoch: String) {
        let own = self.clone();
        assignments.on_change(move |change| match (change.old, change.new) {
            (_, Some(new)) => own.found(new),
            (Some(old), None) if old.spec.hub_epoch == epoch => own.went(old),
            _ => {}
        });
    }

    /// What went from a partition, by name.
    pub(super) fn of(&self, partition: &str) -> BTreeMap<String, i64> {
        self.0.lock().by_partition.get(partition).cloned().unwrap_or_default()
    }

    fn went(&self, assignment: &KnownAssignment) {
        // The hub takes away what has been carried out: of that the agent holds nothing.
        if !assignment.is_present() && assignment.is_pruned() {
            return;
        }
        let (namespace, name) = (assignment.namespace.clone(), assignment.name.clone());
        self.0.lock().add(namespace.into(), name.into(), assignment.spec.generation);
    }

    fn found(&self, assignment: &KnownAssignment) {
        self.0.lock().remove(&assignment.namespace, &assignment.name);
    }
}

impl Known {
    fn add(&mut self, namespace: String, name: String, generation: i64) {
        if self.order.len() >= MAX
            && let Some((namespace, name, generation)) = self.order.pop_front()
            && self.by_partition.get(&namespace).is_some_and(|all| all.get(&name) == Some(&generation))
        {
            self.remove(&namespace, &name);
        }
        self.order.push_back((namespace.clone(), name.clone(), generation));
        self.by_partition.entry(namespace).or_default().insert(name, generation);
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        let Some(partition) = self.by_partition.get_mut(namespace) else { return };
        partition.remove(name);
        if partition.is_empty() {
            self.by_partition.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assignment(name: &str, state: &str, pruned: &str) -> KnownAssignment {
        let assignment: fleet_objects::Assignment = serde_json::from_value(json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Assignment",
            "metadata": {"namespace": "cluster-dev", "name": name},
            "spec": {"profile": {"namespace": "default", "name": "app"}, "generation": 7, "hubEpoch": "e", "state": state},
            "status": {"observedGeneration": 7, "conditions": [
                {"type": "Pruned", "status": pruned, "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        }))
        .unwrap();
        assignment.into()
    }

    #[test]
    fn what_went_is_known_until_it_is_there_again_and_what_was_carried_out_is_not_missed() {
        let lost = Lost::default();
        lost.went(&assignment("a", "Present", "False"));
        lost.went(&assignment("b", "Tombstone", "False"));
        lost.went(&assignment("c", "Tombstone", "True"));
        assert_eq!(lost.of("cluster-dev"), [("a".to_owned(), 7), ("b".to_owned(), 7)].into());
        lost.found(&assignment("a", "Present", "False"));
        assert_eq!(lost.of("cluster-dev").into_keys().collect::<Vec<_>>(), ["b"]);
        assert!(lost.of("cluster-prod").is_empty());
    }

    #[test]
    fn what_went_twice_is_as_new_as_the_second_time() {
        let mut known = Known::default();
        known.add("p".to_owned(), "again".to_owned(), 1);
        known.remove("p", "again");
        for index in 0..MAX - 1 {
            known.add("p".to_owned(), index.to_string(), 1);
        }
        known.add("p".to_owned(), "again".to_owned(), 2);
        assert_eq!(known.by_partition["p"].get("again"), Some(&2));
    }

    #[test]
    fn of_more_than_are_remembered_the_first_are_forgotten() {
        let lost = Lost::default();
        for index in 0..MAX + 2 {
            lost.went(&assignment(&format!("{index:06}"), "Present", "False"));
        }
        let known = lost.of("cluster-dev");
        assert_eq!(known.len(), MAX);
        assert_eq!(known.keys().next().unwrap(), "000002");
    }
}
