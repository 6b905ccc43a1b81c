//! Assignments that the hub saw go, so that one that somebody deletes is issued anew. Only what went before these eyes counts: a
//! hub that came back from a backup, or was started since, cannot tell what was deleted from what it never knew.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_client::ObjectCache;
use fleet_objects::Assignment;
use kube::ResourceExt;
use parking_lot::Mutex;

/// Names remembered at once; of more, those that go later are forgotten, and a person adopts the hub's view there.
const MAX: usize = 16_384;

/// By partition and name, the generation that went. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Lost(Arc<Mutex<BTreeMap<String, BTreeMap<String, i64>>>>);

impl Lost {
    /// Remembers what goes from the cache, of this life of the hub's.
    pub(super) fn follow(&self, assignments: &ObjectCache<Assignment>, epoch: String) {
        let own = self.clone();
        assignments.on_change(move |change| match (change.old, change.new) {
            (_, Some(new)) => own.found(new),
            (Some(old), None) if old.spec.hub_epoch == epoch => own.went(old),
            _ => {}
        });
    }

    /// What went from a partition, by name.
    pub(super) fn of(&self, partition: &str) -> BTreeMap<String, i64> {
        self.0.lock().get(partition).cloned().unwrap_or_default()
    }

    fn went(&self, assignment: &Assignment) {
        let mut all = self.0.lock();
        if all.values().map(BTreeMap::len).sum::<usize>() >= MAX {
            return;
        }
        let partition = all.entry(assignment.namespace().unwrap_or_default()).or_default();
        partition.insert(assignment.name_any(), assignment.spec.generation);
    }

    fn found(&self, assignment: &Assignment) {
        let mut all = self.0.lock();
        let namespace = assignment.namespace().unwrap_or_default();
        let Some(partition) = all.get_mut(&namespace) else { return };
        partition.remove(&assignment.name_any());
        if partition.is_empty() {
            all.remove(&namespace);
        }
    }
}
