//! Index functions that many caches use.

use kube::Resource;

/// The uids of an object's owners.
pub fn owner_uids<K: Resource>(object: &K) -> Vec<String> {
    object.meta().owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect()
}

/// The uid of the owner that controls the object.
pub fn controller_uid<K: Resource>(object: &K) -> Vec<String> {
    let mut owners = object.meta().owner_references.iter().flatten();
    owners.find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.clone()).into_iter().collect()
}

/// The value of one label.
pub fn label<K: Resource>(label: &'static str) -> impl Fn(&K) -> Vec<String> + Send + Sync + 'static {
    move |object| object.meta().labels.iter().flat_map(|labels| labels.get(label)).cloned().collect()
}
