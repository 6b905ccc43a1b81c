//! Where a cache's objects come from.

use std::{fmt, future::Future};

use futures::{StreamExt, stream::BoxStream};
use kube::{
    Api, Resource,
    api::ListParams,
    runtime::watcher::{self, Config, Event},
};
use serde::de::DeserializeOwned;

use super::{Cached, ObjectKey};

/// A watch of objects.
pub(super) trait Source<K>: Send + Sync + 'static {
    /// Everything that is there, then every change.
    fn watch(&self, config: Config) -> BoxStream<'static, watcher::Result<Event<K>>>;

    /// One object, read from the server; `None` when it isn't there.
    fn read(&self, key: &ObjectKey) -> impl Future<Output = kube::Result<Option<K>>> + Send;
}

/// Objects of the server's, and what is kept of each.
pub(super) struct FullSource<R, K> {
    api: Api<R>,
    keep: fn(R) -> K,
}

impl<R, K> FullSource<R, K> {
    pub(super) fn new(api: Api<R>, keep: fn(R) -> K) -> Self {
        Self { api, keep }
    }
}

impl<R, K: Cached> Source<K> for FullSource<R, K>
where
    R: Resource + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static,
{
    fn watch(&self, config: Config) -> BoxStream<'static, watcher::Result<Event<K>>> {
        let keep = self.keep;
        let kept = move |event| match event {
            Event::Apply(object) => Event::Apply(keep(object)),
            Event::Delete(object) => Event::Delete(keep(object)),
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(keep(object)),
            Event::InitDone => Event::InitDone,
        };
        watcher::watcher(self.api.clone(), config).map(move |event| event.map(kept)).boxed()
    }

    async fn read(&self, key: &ObjectKey) -> kube::Result<Option<K>> {
        Ok(self.api.list(&only(key)).await?.items.into_iter().next().map(self.keep))
    }
}

/// Finds one object by its name. A list, because the cache's `Api` may span all namespaces, where `get` has no path;
/// every kind can be selected by these two fields.
fn only(key: &ObjectKey) -> ListParams {
    let mut fields = format!("metadata.name={}", key.name);
    if !key.namespace.is_empty() {
        fields.push_str(",metadata.namespace=");
        fields.push_str(&key.namespace);
    }
    ListParams::default().fields(&fields)
}
