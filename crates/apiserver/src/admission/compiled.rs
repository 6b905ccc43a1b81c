//! Configuration kept as objects, compiled once per change instead of once per request.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde_json::Value;

use crate::registry::objects::ObjectAccess;
use crate::watch_cache::CacheVersion;

/// All objects of one resource as a `T`. Rebuilt by the first request after a change; reads in between cost a comparison.
pub(crate) struct Compiled<T> {
    objects: Arc<ObjectAccess>,
    group: &'static str,
    resource: &'static str,
    build: fn(&[Value]) -> T,
    current: ArcSwapOption<(CacheVersion, Arc<T>)>,
}

impl<T> Compiled<T> {
    /// Of a resource; `build` gets its objects in the order of their names.
    pub(crate) fn new(
        objects: &Arc<ObjectAccess>,
        group: &'static str,
        resource: &'static str,
        build: fn(&[Value]) -> T,
    ) -> Self {
        Self { objects: Arc::clone(objects), group, resource, build, current: ArcSwapOption::empty() }
    }

    /// What the cache holds now.
    pub(crate) fn get(&self) -> Arc<T> {
        let cache = self.objects.cache.storage(self.group, self.resource);
        // Taken before the objects: what is built may be newer, and is then built again.
        let version = cache.as_ref().map(|cache| cache.version_now()).unwrap_or_default();
        if let Some(current) = self.current.load().as_ref()
            && current.0 == version
        {
            return Arc::clone(&current.1);
        }
        let objects = cache.map(|cache| cache.objects("", None)).unwrap_or_default();
        let values: Vec<Value> = objects.iter().map(|object| object.encoded.to_value()).collect();
        let built = Arc::new((self.build)(&values));
        self.current.store(Some(Arc::new((version, Arc::clone(&built)))));
        built
    }
}
