//! What stands around the objects of a round.

use std::collections::{BTreeMap, HashMap};

use api_client::ObjectCache;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

use super::decide::Key;
use super::{ServedKind, Surroundings};

/// Parameters kept of one kind; they are small and few.
pub(super) const MAX_PARAMS: usize = 1000;

/// Namespaces, parameters and kinds, as far as they are known.
pub(super) struct Known {
    pub(super) namespaces: BTreeMap<String, Value>,
    /// What came after the round began.
    pub(super) live: ObjectCache<Namespace>,
    pub(super) served: Vec<ServedKind>,
    pub(super) params: HashMap<ServedKind, BTreeMap<Key, Value>>,
}

impl Surroundings for Known {
    fn namespace(&self, name: &str) -> Option<Value> {
        let live = || self.live.find("", name).and_then(|found| serde_json::to_value(&*found).ok());
        self.namespaces.get(name).cloned().or_else(live)
    }

    fn served(&self) -> &[ServedKind] {
        &self.served
    }

    fn params(&self, api_version: &str, plural: &str, namespace: &str) -> Vec<Value> {
        let of_kind = self
            .params
            .iter()
            .find(|(kind, _)| kind.plural == plural && kind.api_version() == api_version)
            .map(|(_, params)| params);
        let in_namespace = |key: &Key| key.0 == namespace;
        of_kind
            .into_iter()
            .flatten()
            .filter(|(key, _)| in_namespace(key))
            .map(|(_, value)| value.clone())
            .collect()
    }
}
