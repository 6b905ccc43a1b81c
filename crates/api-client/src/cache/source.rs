//! Where a cache's objects come from.

use std::future::Future;

use futures::{Stream, StreamExt, stream::BoxStream};
use kube::{
    Api,
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

pub(super) struct FullSource<K> {
    api: Api<K>,
}

impl<K> FullSource<K> {
    pub(super) fn new(api: Api<K>) -> Self {
        Self { api }
    }
}

impl<K: Cached + DeserializeOwned> Source<K> for FullSource<K> {
    fn watch(&self, config: Config) -> BoxStream<'static, watcher::Result<Event<K>>> {
        boxed(watcher::watcher(self.api.clone(), config))
    }

    async fn read(&self, key: &ObjectKey) -> kube::Result<Option<K>> {
        Ok(self.api.list(&only(key)).await?.items.into_iter().next())
    }
}

fn boxed<T>(stream: impl Stream<Item = T> + Send + 'static) -> BoxStream<'static, T> {
    stream.boxed()
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
