//! What is served now: a [`Catalogue`] with its discovery and OpenAPI documents, replaced as a whole when a stored
//! CustomResourceDefinition comes, changes or goes.
//!
//! The watch cache calls [`ServedKinds::apply`] while it takes in a change of a definition, before it tells anybody of
//! that change: whoever has seen a definition established finds its resource served.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use api_machinery::custom_resource::status::NamesInUse;
use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::catalogue::{Catalogue, Definition, Resource};
use crate::discovery::Discovery;
use crate::openapi::OpenApi;

/// One state of what is served. Its documents are made when they are first asked for.
pub(crate) struct Served {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
}

impl Served {
    fn new(catalogue: Catalogue) -> Self {
        let catalogue = Arc::new(catalogue);
        Self {
            discovery: Discovery::new(Arc::clone(&catalogue)),
            openapi: OpenApi::new(Arc::clone(&catalogue), crate::server::paths::VERSION),
            catalogue,
        }
    }
}

/// What became of a definition in the store.
#[derive(Clone, Debug)]
pub(crate) enum DefinitionChange {
    /// It is there, with these bytes.
    Put(String, Bytes),
    /// It has gone.
    Gone(String),
}

/// What a change of definitions means for a storage.
#[derive(Clone, Debug)]
pub(crate) enum StorageChange {
    /// New, or its objects have another form: they have to be read from the store again.
    Load(Arc<Resource>),
    /// The same objects, another resource (columns, names).
    Replace(Arc<Resource>),
    /// Gone: group and resource.
    Drop(String, String),
}

/// The served kinds of a running server.
pub(crate) struct ServedKinds {
    now: ArcSwap<Served>,
    definitions: Mutex<BTreeMap<String, Arc<Definition>>>,
}

impl fmt::Debug for ServedKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedKinds")
            .field("definitions", &self.definitions.lock().len())
            .finish_non_exhaustive()
    }
}

impl ServedKinds {
    /// With what is compiled in.
    pub(crate) fn new(catalogue: Catalogue) -> Self {
        Self { now: ArcSwap::from_pointee(Served::new(catalogue)), definitions: Mutex::default() }
    }

    /// The present state.
    pub(crate) fn now(&self) -> Arc<Served> {
        self.now.load_full()
    }

    /// The kinds of the present state.
    pub(crate) fn catalogue(&self) -> Arc<Catalogue> {
        Arc::clone(&self.now.load().catalogue)
    }

    /// A stored definition by name.
    pub(crate) fn definition(&self, name: &str) -> Option<Arc<Definition>> {
        self.definitions.lock().get(name).cloned()
    }

    /// The stored definitions of a group.
    pub(crate) fn definitions_of(&self, group: &str) -> Vec<Arc<Definition>> {
        self.definitions.lock().values().filter(|each| each.group == group).cloned().collect()
    }

    /// What other definitions of a group than `except` are called.
    pub(crate) fn names_in_use(&self, group: &str, except: &str) -> NamesInUse {
        let mut in_use = NamesInUse::default();
        let catalogue = self.catalogue();
        let stored = self.definitions_of(group);
        let all = catalogue.fixed_definitions().filter(|each| each.group == group).chain(&stored);
        all.filter(|each| each.name != except).for_each(|each| in_use.add(&each.accepted_names));
        in_use
    }

    /// Takes over what the store holds, in place of everything before.
    pub(crate) fn replace_all(&self, stored: Vec<(String, Bytes)>) -> Vec<StorageChange> {
        let known: Vec<String> = self.definitions.lock().keys().cloned().collect();
        let gone = known.into_iter().filter(|name| stored.iter().all(|(other, _)| other != name));
        let changes = gone.map(DefinitionChange::Gone).collect::<Vec<_>>().into_iter();
        let puts = stored.into_iter().map(|(name, bytes)| DefinitionChange::Put(name, bytes));
        self.apply(changes.chain(puts).collect())
    }

    /// Takes changes in, in order. What it answers has to be done before anybody hears of the changes.
    pub(crate) fn apply(&self, changes: Vec<DefinitionChange>) -> Vec<StorageChange> {
        if changes.is_empty() {
            return Vec::new();
        }
        let mut definitions = self.definitions.lock();
        let mut affected: HashMap<String, Option<Arc<Definition>>> = HashMap::new();
        for change in changes {
            let (name, new) = match change {
                DefinitionChange::Gone(name) => (name, None),
                DefinitionChange::Put(name, bytes) => {
                    match Definition::read(&bytes, definitions.get(&name)) {
                        Ok(definition) => (name, Some(Arc::new(definition))),
                        Err(error) => {
                            tracing::error!(%error, "a stored definition is damaged; its kind is not served");
                            (name, None)
                        }
                    }
                }
            };
            let old = match &new {
                Some(new) => definitions.insert(name.clone(), Arc::clone(new)),
                None => definitions.remove(&name),
            };
            affected.entry(name).or_insert(old);
        }
        let catalogue = self.catalogue().with_definitions(definitions.values());
        let storages = affected
            .into_iter()
            .filter_map(|(name, old)| storage_change(&catalogue, old, definitions.get(&name)))
            .collect();
        self.now.store(Arc::new(Served::new(catalogue)));
        storages
    }
}

fn storage_change(
    catalogue: &Catalogue,
    old: Option<Arc<Definition>>,
    new: Option<&Arc<Definition>>,
) -> Option<StorageChange> {
    let same = old.as_ref().zip(new).is_some_and(|(old, new)| old.shape == new.shape);
    if let Some(old) = old.as_ref().filter(|_| !same) {
        old.retired.cancel();
    }
    match (old, new) {
        (None, None) => None,
        (Some(old), None) => Some(StorageChange::Drop(old.group.clone(), old.plural.clone())),
        (_, Some(new)) => {
            let stored = catalogue.stored(&new.group, &new.plural)?;
            // A built-in kind of the same place goes first and keeps its objects.
            stored.definition.as_ref()?;
            let stored = Arc::clone(stored);
            Some(if same { StorageChange::Replace(stored) } else { StorageChange::Load(stored) })
        }
    }
}

#[cfg(test)]
mod tests {
    use api_machinery::custom_resource::status::accept;
    use serde_json::{Value, json};

    use super::*;

    fn definition(short: &str, size: &str) -> (String, Bytes) {
        let mut value = json!({
            "metadata": { "name": "widgets.example.com" },
            "spec": { "group": "example.com", "scope": "Namespaced",
                "names": { "kind": "Widget", "plural": "widgets", "shortNames": [short] },
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                    "type": "object", "properties": { "size": { "type": size } } } } }] },
        });
        accept(&mut value, &NamesInUse::default(), "");
        ("widgets.example.com".to_owned(), Bytes::from(value.to_string()))
    }

    fn put(kinds: &ServedKinds, (name, bytes): (String, Bytes)) -> Vec<StorageChange> {
        kinds.apply(vec![DefinitionChange::Put(name, bytes)])
    }

    #[test]
    fn a_definition_is_served_as_long_as_it_is_stored() {
        let kinds = ServedKinds::new(Catalogue::control_plane());
        let before = kinds.catalogue().resources().len();
        assert!(matches!(put(&kinds, definition("wd", "string"))[..], [StorageChange::Load(_)]));
        let catalogue = kinds.catalogue();
        let served = catalogue.find("example.com", "v1", "widgets").unwrap();
        let retired = served.definition.as_ref().unwrap().retired.clone();
        assert!(matches!(put(&kinds, definition("w", "string"))[..], [StorageChange::Replace(_)]));
        assert!(!retired.is_cancelled(), "another short name changes no object");
        assert!(matches!(put(&kinds, definition("w", "integer"))[..], [StorageChange::Load(_)]));
        assert!(retired.is_cancelled());
        assert!(kinds.names_in_use("example.com", "x.example.com").resources.contains("w"));
        let gone = kinds.apply(vec![DefinitionChange::Gone("widgets.example.com".to_owned())]);
        assert!(matches!(gone[..], [StorageChange::Drop(..)]));
        assert_eq!(kinds.catalogue().resources().len(), before);
    }

    #[test]
    fn what_is_no_definition_is_not_served() {
        let kinds = ServedKinds::new(Catalogue::control_plane());
        let name = "x.example.com".to_owned();
        assert!(put(&kinds, (name, Bytes::from(Value::Null.to_string()))).is_empty());
    }
}
