//! The agent's memory on disk: what it accepted from the hub, the content, and how far it is with carrying it out.
//!
//! Two writers, each with its own keys: the session writes what was accepted (with its content, in one transaction,
//! before anything is done about it), the enforcer writes progress. All values are sealed: they hold the Secrets of
//! profiles and the values of secret variables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use fleet_objects::{
    AssignmentSpec, AssignmentState, GenerationMark, HeldAssignment, ObjectReference, Refusal,
};
use fleet_planner::admission::Held;
use fleet_planner::ceiling::Spent;
use fleet_planner::variables::SecretReference;
use sealing::Key;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use storage::{KeyRange, KeyValue, Operation, RangeRequest, Store, Transaction};

use crate::error::Error;

const ACCEPTED: &str = "fairlead/agent/accepted/";
const PROGRESS: &str = "fairlead/agent/progress/";
const CONTENT: &str = "fairlead/agent/content/";
/// Values of secret variables that the hub keeps, by `NAMESPACE/NAME/KEY` there.
const VALUES: &str = "fairlead/agent/values/";
/// The version of the signed release that is held, by assignment. It stays when the assignment is gone.
const RELEASES: &str = "fairlead/agent/releases/";
const SPENT: &str = "fairlead/agent/deletions";

/// What was accepted of an assignment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Accepted {
    /// What it says.
    pub(crate) spec: AssignmentSpec,
    /// The generation whose held deletions a person confirmed.
    #[serde(default)]
    pub(crate) confirmed: Option<i64>,
    /// Why the hub's present view is not followed, if it is not.
    #[serde(default)]
    pub(crate) refusal: Option<Refusal>,
}

/// How far an assignment is carried out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    /// What is enforced: the newest that passed its checks, maybe older than what was accepted.
    #[serde(default)]
    pub(crate) enforced: Option<AssignmentSpec>,
    /// Everything that was or is about to be applied and is not known to be gone.
    #[serde(default)]
    pub(crate) inventory: Vec<InventoryItem>,
    /// The last layer of what is enforced that was begun. From then on it stays enforced, whatever becomes of those before.
    #[serde(default)]
    pub(crate) layers_begun: u16,
    /// The generation of the tombstone that was carried out.
    #[serde(default)]
    pub(crate) pruned: Option<i64>,
}

/// An object the agent applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InventoryItem {
    /// Which, with the namespace it really is in.
    #[serde(flatten)]
    pub(crate) object: ObjectReference,
    /// Whether an apply ever succeeded. Only then is it the agent's to delete.
    #[serde(default)]
    pub(crate) applied: bool,
    /// The digest of what was applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
}

/// Typed access to the store. Clones share it.
#[derive(Clone)]
pub(crate) struct Vault {
    store: Arc<dyn Store>,
    key: Arc<Key>,
}

/// Where the hub has the values of the secret variables that it keeps for an assignment.
pub(crate) fn hub_values(spec: &AssignmentSpec) -> impl Iterator<Item = String> + '_ {
    let namespace = &spec.profile.namespace;
    SecretReference::on_hub(&spec.variables)
        .map(move |SecretReference { name, key, .. }| format!("{namespace}/{name}/{key}"))
}

impl Accepted {
    /// As admission compares it.
    pub(crate) fn held(&self) -> Held {
        Held {
            mark: GenerationMark { hub_epoch: self.spec.hub_epoch.clone(), generation: self.spec.generation },
            state: self.spec.state,
            digest: self.spec.content.as_ref().map(|content| content.digest.clone()),
            variables: self.spec.variables.clone(),
        }
    }
}

impl Vault {
    pub(crate) fn new(store: Arc<dyn Store>, key: Arc<Key>) -> Self {
        Self { store, key }
    }

    fn put(&self, key: &str, value: &impl Serialize) -> Result<Operation, Error> {
        let text = serde_json::to_vec(value).map_err(|error| Error::Invalid(error.to_string()))?;
        self.put_bytes(key, &text)
    }

    fn put_bytes(&self, key: &str, text: &[u8]) -> Result<Operation, Error> {
        let sealed = self.key.seal(key.as_bytes(), text).map_err(Error::seal(key))?;
        Ok(Operation::put(key.to_owned(), sealed))
    }

    /// What a value says. Those of earlier releases were not sealed.
    fn open(&self, kv: &KeyValue) -> Result<Bytes, Error> {
        if !sealing::is_sealed(&kv.value) {
            return Ok(kv.value.clone());
        }
        let opened = self.key.unseal(&kv.key, &kv.value);
        opened.map(Bytes::from).map_err(Error::seal(&String::from_utf8_lossy(&kv.key)))
    }

    pub(crate) async fn accepted(&self) -> Result<BTreeMap<String, Accepted>, Error> {
        self.all(ACCEPTED).await
    }

    pub(crate) async fn progress(&self) -> Result<BTreeMap<String, Progress>, Error> {
        self.all(PROGRESS).await
    }

    /// Accepts: content first known, then named, in one transaction. `release`: the version it is signed as.
    pub(crate) async fn accept(
        &self,
        name: &str,
        accepted: &Accepted,
        content: Option<(&str, Vec<u8>)>,
        release: Option<u64>,
    ) -> Result<(), Error> {
        let mut success = vec![self.put(&format!("{ACCEPTED}{name}"), accepted)?];
        if let Some(version) = release {
            success.push(self.put(&format!("{RELEASES}{name}"), &version)?);
        }
        if let Some((digest, bytes)) = content {
            success.push(self.put_bytes(&format!("{CONTENT}{digest}"), &bytes)?);
        }
        self.write("accept an assignment", success).await
    }

    /// The version of the signed release that was accepted last.
    pub(crate) async fn release(&self, name: &str) -> Result<Option<u64>, Error> {
        self.note(&format!("{RELEASES}{name}")).await
    }

    /// Deletions of the last hour.
    pub(crate) async fn spent(&self) -> Result<Spent, Error> {
        Ok(self.note(SPENT).await?.unwrap_or_default())
    }

    pub(crate) async fn save_spent(&self, spent: &Spent) -> Result<(), Error> {
        self.write("book deletions", vec![self.put(SPENT, spent)?]).await
    }

    async fn note<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let request = RangeRequest::all(KeyRange::single(key.to_owned()));
        let found = self.store.range(request).await.map_err(Error::store("read a note"))?;
        let Some(kv) = found.kvs.into_iter().next() else { return Ok(None) };
        let read = serde_json::from_slice(&self.open(&kv)?);
        read.map(Some)
            .map_err(|error| Error::Invalid(format!("the agent's note {key} cannot be read: {error}")))
    }

    pub(crate) async fn save_progress(&self, name: &str, progress: &Progress) -> Result<(), Error> {
        self.write("save progress", vec![self.put(&format!("{PROGRESS}{name}"), progress)?]).await
    }

    pub(crate) async fn content(&self, digest: &str) -> Result<Option<Bytes>, Error> {
        let request = RangeRequest::all(KeyRange::single(format!("{CONTENT}{digest}")));
        let found = self.store.range(request).await.map_err(Error::store("read content"))?;
        let Some(kv) = found.kvs.into_iter().next() else { return Ok(None) };
        let bytes = self.open(&kv)?;
        if fleet_planner::digest(&bytes) != digest {
            return Err(Error::Invalid(format!("content {digest} is damaged in the agent's store")));
        }
        Ok(Some(bytes))
    }

    /// Keeps the value of a secret variable, before anything that refers to it is accepted.
    pub(crate) async fn put_value(&self, place: &str, value: &[u8]) -> Result<(), Error> {
        self.write("keep a value", vec![self.put_bytes(&format!("{VALUES}{place}"), value)?]).await
    }

    /// The value of a secret variable that the hub gave.
    pub(crate) async fn value(&self, place: &str) -> Result<Option<Bytes>, Error> {
        let request = RangeRequest::all(KeyRange::single(format!("{VALUES}{place}")));
        let found = self.store.range(request).await.map_err(Error::store("read a value"))?;
        found.kvs.first().map(|kv| self.open(kv)).transpose()
    }

    async fn forget_unused_values(&self) -> Result<(), Error> {
        let (accepted, progress) = (self.accepted().await?, self.progress().await?);
        let specs = accepted.values().map(|accepted| &accepted.spec);
        let specs = specs.chain(progress.values().filter_map(|progress| progress.enforced.as_ref()));
        let used: BTreeSet<String> = specs.flat_map(hub_values).collect();
        let request = RangeRequest::all(KeyRange::prefix(VALUES));
        let all = self.store.range(request).await.map_err(Error::store("list values"))?;
        for kv in all.kvs {
            if !used.contains(&*String::from_utf8_lossy(&kv.key[VALUES.len()..])) {
                self.write("forget a value", vec![Operation::delete(kv.key)]).await?;
            }
        }
        Ok(())
    }

    /// Forgets content, and values of secret variables, that neither `accepted` nor `progress` names any more.
    pub(crate) async fn forget_unused_content(&self) -> Result<(), Error> {
        self.forget_unused_values().await?;
        let digest = |spec: &AssignmentSpec| spec.content.as_ref().map(|content| content.digest.clone());
        let mut used: Vec<String> = Vec::new();
        used.extend(self.accepted().await?.values().filter_map(|accepted| digest(&accepted.spec)));
        used.extend(
            self.progress().await?.values().filter_map(|progress| digest(progress.enforced.as_ref()?)),
        );
        let request = RangeRequest::all(KeyRange::prefix(CONTENT));
        let all = self.store.range(request).await.map_err(Error::store("list content"))?;
        for kv in all.kvs {
            let name = String::from_utf8_lossy(&kv.key[CONTENT.len()..]).into_owned();
            if !used.contains(&name) {
                self.write("forget content", vec![Operation::delete(kv.key)]).await?;
            }
        }
        Ok(())
    }

    /// What the agent holds, as it tells the hub.
    pub(crate) async fn held(&self) -> Result<Vec<HeldAssignment>, Error> {
        let progress = self.progress().await?;
        let held = self.accepted().await?.into_iter().map(|(name, accepted)| {
            let pruned =
                progress.get(&name).and_then(|progress| progress.pruned) == Some(accepted.spec.generation);
            HeldAssignment {
                generation: accepted.spec.generation,
                hub_epoch: accepted.spec.hub_epoch,
                digest: accepted.spec.content.map(|content| content.digest),
                pruned: pruned && accepted.spec.state == AssignmentState::Tombstone,
                name,
            }
        });
        Ok(held.collect())
    }

    async fn all<T: DeserializeOwned>(&self, prefix: &'static str) -> Result<BTreeMap<String, T>, Error> {
        let found = self.store.range(RangeRequest::all(KeyRange::prefix(prefix))).await;
        let found = found.map_err(Error::store("read what the agent holds"))?;
        let mut all = BTreeMap::new();
        for kv in found.kvs {
            let name = String::from_utf8_lossy(&kv.key[prefix.len()..]).into_owned();
            let value = serde_json::from_slice(&self.open(&kv)?).map_err(|error| {
                Error::Invalid(format!("the agent's note {prefix}{name} cannot be read: {error}"))
            })?;
            all.insert(name, value);
        }
        Ok(all)
    }

    async fn write(&self, operation: &'static str, success: Vec<Operation>) -> Result<(), Error> {
        let transaction = Transaction { success, ..Transaction::default() };
        self.store.transact(transaction).await.map(drop).map_err(Error::store(operation))
    }
}

#[cfg(test)]
mod tests {
    use storage::model::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_is_held_is_unreadable_on_disk_and_under_another_key() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let vault = Vault::new(store.clone(), Arc::new(Key::new(&[1; 32])));
        let spec: AssignmentSpec = serde_json::from_value(serde_json::json!({
            "profile": {"namespace": "a", "name": "b"}, "generation": 1, "hubEpoch": "e", "state": "Present",
            "variables": {"password": "CANARY"},
        }))
        .unwrap();
        let content = b"apiVersion: v1 # CANARY".to_vec();
        let digest = fleet_planner::digest(&content);
        let accepted = Accepted { spec: spec.clone(), confirmed: None, refusal: None };
        vault.accept("a.b", &accepted, Some((&digest, content.clone())), Some(3)).await.unwrap();
        let progress = Progress { enforced: Some(spec), ..Progress::default() };
        vault.save_progress("a.b", &progress).await.unwrap();
        let all = store.range(RangeRequest::all(KeyRange::prefix("fairlead/agent/"))).await.unwrap();
        assert_eq!(all.kvs.len(), 4);
        for kv in &all.kvs {
            assert!(!kv.value.windows(6).any(|window| window == b"CANARY"), "{:?}", kv.key);
        }
        assert_eq!(vault.content(&digest).await.unwrap().unwrap(), content);
        assert_eq!(vault.accepted().await.unwrap()["a.b"], accepted);
        assert_eq!(vault.release("a.b").await.unwrap(), Some(3));
        let stranger = Vault::new(store.clone(), Arc::new(Key::new(&[2; 32])));
        assert!(stranger.accepted().await.is_err() && stranger.content(&digest).await.is_err());
        // What an earlier release wrote is still read.
        let plain = Operation::put(format!("{ACCEPTED}old"), serde_json::to_vec(&accepted).unwrap());
        vault.write("x", vec![plain]).await.unwrap();
        assert_eq!(vault.accepted().await.unwrap()["old"], accepted);
    }
}
