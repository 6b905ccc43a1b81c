//! The objects and their indexes, and the rule that the cache never goes back in time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ops::Bound,
    sync::Arc,
};

use super::{Cached, IndexFunction, ObjectKey};

pub(super) struct Store<K> {
    objects: BTreeMap<ObjectKey, Arc<K>>,
    indexes: Vec<Index<K>>,
    /// Objects put in by their writer that the watch has not yet shown. A relist that began before the write lacks
    /// them without their being gone.
    unconfirmed: HashMap<ObjectKey, String>,
    /// Uids of objects taken out by their deleter; late news of them are passed over until the watch shows the
    /// deletion. Bounded by deletions in flight.
    deleted: HashSet<String>,
    /// The newest version that the watch has shown: of an older one it has told everything.
    shown: u64,
}

struct Index<K> {
    name: &'static str,
    function: IndexFunction<K>,
    entries: HashMap<String, BTreeSet<ObjectKey>>,
}

impl<K: Cached> Store<K> {
    pub(super) fn new(indexes: Vec<(&'static str, IndexFunction<K>)>) -> Self {
        let indexes = indexes
            .into_iter()
            .map(|(name, function)| Index { name, function, entries: HashMap::new() })
            .collect();
        Self {
            objects: BTreeMap::new(),
            indexes,
            unconfirmed: HashMap::new(),
            deleted: HashSet::new(),
            shown: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.objects.get(key).cloned()
    }

    pub(super) fn list(&self) -> Vec<Arc<K>> {
        self.objects.values().cloned().collect()
    }

    pub(super) fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        let start = Bound::Included(ObjectKey::new(namespace, ""));
        self.objects
            .range((start, Bound::Unbounded))
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    pub(super) fn by_index(&self, index: &str, value: &str) -> Vec<Arc<K>> {
        let Some(index) = self.indexes.iter().find(|candidate| candidate.name == index) else {
            return Vec::new();
        };
        let keys = index.entries.get(value).into_iter().flatten();
        keys.filter_map(|key| self.objects.get(key)).cloned().collect()
    }

    /// Puts in an object. `None` when that changes nothing; else what stood there before.
    pub(super) fn apply(
        &mut self,
        key: &ObjectKey,
        object: Arc<K>,
        own_write: bool,
    ) -> Option<Option<Arc<K>>> {
        let uid = object.object_uid().unwrap_or_default().to_owned();
        if !uid.is_empty() && self.deleted.contains(&uid) {
            return None;
        }
        let version = version(&*object);
        if !own_write {
            self.shown = self.shown.max(version.unwrap_or_default());
            self.unconfirmed.remove(key);
        }
        let old = self.objects.get(key).cloned();
        // The answer to a write came after the watch had shown the written version, and its end: a pod whose deletion was
        // asked for is sometimes gone before the answer is read.
        if own_write && old.is_none() && version.is_some_and(|version| version <= self.shown) {
            return None;
        }
        if let Some(old) = &old
            && !is_newer(&*object, &**old)
        {
            return None;
        }
        if own_write {
            self.unconfirmed.insert(key.clone(), uid);
        }
        self.replace(key, old.as_deref(), Some(&object));
        self.objects.insert(key.clone(), object);
        Some(old)
    }

    /// Takes out `object`. `None` when another object bears its name or nothing is there; else what stood there.
    pub(super) fn remove(&mut self, key: &ObjectKey, object: &K, own_write: bool) -> Option<Arc<K>> {
        let uid = object.object_uid().unwrap_or_default().to_owned();
        if own_write {
            if !uid.is_empty() && self.objects.contains_key(key) {
                self.deleted.insert(uid.clone());
            }
        } else {
            self.shown = self.shown.max(version(object).unwrap_or_default());
            self.deleted.remove(&uid);
        }
        let present = self.objects.get(key)?;
        if present.object_uid().unwrap_or_default() != uid {
            return None;
        }
        self.take_out(key)
    }

    fn take_out(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let old = self.objects.remove(key)?;
        self.unconfirmed.remove(key);
        self.replace(key, Some(&*old), None);
        Some(old)
    }

    /// After a relist: the keys that are here but not in `listed`. Those their writer put in and the watch has not yet
    /// shown come second: whether they exist must be asked.
    pub(super) fn absent_from(&self, listed: &HashSet<ObjectKey>) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
        let absent = self.objects.keys().filter(|key| !listed.contains(*key)).cloned();
        absent.partition(|key| !self.unconfirmed.contains_key(key))
    }

    /// A relist shows no deleted object, so nothing late can come after it.
    pub(super) fn relisted(&mut self) {
        self.deleted.clear();
    }

    fn replace(&mut self, key: &ObjectKey, old: Option<&K>, new: Option<&Arc<K>>) {
        for index in &mut self.indexes {
            for value in old.map(|old| (index.function)(old)).unwrap_or_default() {
                if let Some(keys) = index.entries.get_mut(&value) {
                    keys.remove(key);
                    if keys.is_empty() {
                        index.entries.remove(&value);
                    }
                }
            }
            for value in new.map(|new| (index.function)(new)).unwrap_or_default() {
                index.entries.entry(value).or_default().insert(key.clone());
            }
        }
    }
}

/// Kubernetes promises since 1.35 that resource versions are decimal numbers and grow.
fn version<K: Cached>(object: &K) -> Option<u64> {
    object.object_version().and_then(|version| version.parse().ok())
}

/// Whether `object` is a later state than `known`. A version that isn't a number is taken for newer unless it is the same.
fn is_newer<K: Cached>(object: &K, known: &K) -> bool {
    match (version(object), version(known)) {
        (Some(new), Some(old)) => new > old,
        _ => {
            let (new, old) = (object.object_version(), known.object_version());
            new.is_none() || new != old
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;

    fn map(name: &str, uid: &str, version: &str, owner: &str) -> Arc<ConfigMap> {
        let mut map = ConfigMap::default();
        map.metadata.namespace = Some("ns".to_owned());
        map.metadata.name = Some(name.to_owned());
        map.metadata.uid = Some(uid.to_owned());
        map.metadata.resource_version = Some(version.to_owned());
        map.metadata.labels = Some([("owner".to_owned(), owner.to_owned())].into());
        Arc::new(map)
    }

    fn store() -> Store<ConfigMap> {
        let function: IndexFunction<ConfigMap> = Arc::new(super::super::label("owner"));
        Store::new(vec![("owner", function)])
    }

    fn names(objects: &[Arc<ConfigMap>]) -> Vec<&str> {
        objects.iter().filter_map(|object| object.metadata.name.as_deref()).collect()
    }

    #[test]
    fn indexes_follow_changes() {
        let mut store = store();
        let key = ObjectKey::new("ns", "a");
        assert!(store.apply(&key, map("a", "1", "5", "x"), false).is_some());
        assert_eq!(names(&store.by_index("owner", "x")), ["a"]);
        store.apply(&key, map("a", "1", "6", "y"), false);
        assert!(store.by_index("owner", "x").is_empty());
        assert_eq!(names(&store.by_index("owner", "y")), ["a"]);
        store.remove(&key, &map("a", "1", "7", "y"), false);
        assert!(store.by_index("owner", "y").is_empty() && store.len() == 0);
    }

    #[test]
    fn never_goes_back_in_time() {
        let mut store = store();
        let key = ObjectKey::new("ns", "a");
        store.apply(&key, map("a", "1", "10", "mine"), true);
        assert!(store.apply(&key, map("a", "1", "9", "late"), false).is_none());
        assert!(store.apply(&key, map("a", "1", "10", "same"), false).is_none());
        assert_eq!(names(&store.by_index("owner", "mine")), ["a"]);
    }

    #[test]
    fn late_news_of_an_object_its_deleter_took_out_are_passed_over() {
        let mut store = store();
        let key = ObjectKey::new("ns", "a");
        store.apply(&key, map("a", "1", "10", "x"), false);
        assert!(store.remove(&key, &map("a", "1", "10", "x"), true).is_some());
        assert!(store.apply(&key, map("a", "1", "11", "x"), false).is_none());
        assert!(store.remove(&key, &map("a", "1", "12", "x"), false).is_none());
        assert!(
            store.apply(&key, map("a", "2", "13", "x"), false).is_some(),
            "a new object of the same name"
        );
    }

    #[test]
    fn an_answer_read_after_the_watch_told_of_the_end_brings_nothing_back() {
        let mut store = store();
        let key = ObjectKey::new("ns", "a");
        store.apply(&key, map("a", "1", "10", "x"), false);
        store.remove(&key, &map("a", "1", "12", "x"), false);
        assert!(
            store.apply(&key, map("a", "1", "11", "x"), true).is_none(),
            "its deletion was asked for at 11"
        );
        assert!(store.apply(&key, map("a", "2", "13", "x"), true).is_some(), "made anew, and not shown yet");
    }

    #[test]
    fn a_deletion_of_a_former_object_leaves_its_successor() {
        let mut store = store();
        let key = ObjectKey::new("ns", "a");
        store.apply(&key, map("a", "2", "10", "x"), true);
        assert!(store.remove(&key, &map("a", "1", "9", "x"), false).is_none());
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn a_relist_doubts_what_the_watch_has_not_shown_yet() {
        let mut store = store();
        store.apply(&ObjectKey::new("ns", "a"), map("a", "1", "10", "x"), false);
        store.apply(&ObjectKey::new("ns", "b"), map("b", "2", "11", "x"), true);
        let (gone, doubtful) = store.absent_from(&HashSet::new());
        assert_eq!((gone, doubtful), (vec![ObjectKey::new("ns", "a")], vec![ObjectKey::new("ns", "b")]));
    }

    #[test]
    fn lists_one_namespace_only() {
        let mut store = store();
        for (namespace, name) in [("a", "z"), ("ns", "1"), ("ns", "2"), ("nsx", "3")] {
            store.apply(&ObjectKey::new(namespace, name), map(name, name, "1", "x"), false);
        }
        assert_eq!(names(&store.list_in("ns")), ["1", "2"]);
    }
}
