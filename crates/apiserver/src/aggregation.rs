//! Aggregated API servers: an APIService sends a group version to another server (upstream kube-aggregator).
//!
//! * [`remote`]: one such server: where it is, whether it answers, what it serves.
//! * [`proxy`]: a request on its way there.
//! * [`availability`]: which of them answer; says so in their status.
//! * [`local`]: APIServices of what this server serves itself.
//! * [`merge`]: their part of discovery and OpenAPI.
//!
//! Whoever is behind an APIService learns who asks from headers, which it believes because this server shows the
//! front proxy's certificate. It must never be sent a client's own credentials or a client's own such headers.

mod availability;
mod local;
pub(crate) mod merge;
mod proxy;
mod remote;
pub(crate) mod swagger;

use std::sync::Arc;

use access::tls::ClientIdentity;
use arc_swap::ArcSwap;

use crate::registry::objects::ObjectAccess;
pub(crate) use availability::follow;
pub(crate) use proxy::{serve, without_remote_headers};
pub(crate) use remote::Remote;

/// The API group of APIServices.
const GROUP: &str = "apiregistration.k8s.io";
/// Their resource.
const RESOURCE: &str = "apiservices";

/// By what aggregated API servers know this one. The identity may be replaced at any time.
#[derive(Clone, Debug)]
pub struct FrontProxy {
    /// PEM of the authority that signed it: published for those servers to trust.
    pub authority_pem: String,
    /// What is shown to them.
    pub identity: Arc<ArcSwap<ClientIdentity>>,
}

/// The name on the front proxy's certificate; servers that trust its authority accept no other.
pub const FRONT_PROXY_NAME: &str = "front-proxy-client";

/// The aggregated API servers of a running server.
pub(crate) struct Aggregation {
    pub(crate) front_proxy: Option<FrontProxy>,
    remotes: ArcSwap<Vec<Arc<Remote>>>,
}

impl Aggregation {
    pub(crate) fn new(front_proxy: Option<FrontProxy>) -> Self {
        Self { front_proxy, remotes: ArcSwap::default() }
    }

    /// Who serves a group version instead of this server.
    pub(crate) fn find(&self, group: &str, version: &str) -> Option<Arc<Remote>> {
        let remotes = self.remotes.load();
        remotes.iter().find(|remote| remote.group == group && remote.version == version).cloned()
    }

    /// Who serves the paths below `/apis/GROUP/VERSION` or the same below `/openapi/v3`.
    pub(crate) fn find_path(&self, path: &str) -> Option<Arc<Remote>> {
        if self.remotes.load().is_empty() {
            return None;
        }
        let rest = path.strip_prefix("/openapi/v3").unwrap_or(path).strip_prefix("/apis/")?;
        let mut parts = rest.trim_end_matches('/').split('/');
        let (group, version) = (parts.next()?, parts.next()?);
        self.find(group, version)
    }

    /// All of them, the most important group first.
    pub(crate) fn all(&self) -> Arc<Vec<Arc<Remote>>> {
        self.remotes.load_full()
    }

    /// Takes over what the store holds now. What is known of servers that stay the same is kept.
    fn refresh(&self, objects: &ObjectAccess) {
        let Some(cache) = objects.cache.storage(GROUP, RESOURCE) else { return };
        let identity = self.front_proxy.as_ref().map(|proxy| proxy.identity.load_full());
        let before = self.remotes.load_full();
        let mut remotes: Vec<Arc<Remote>> = cache
            .objects("", None)
            .iter()
            .filter_map(|object| Remote::read(&object.encoded.to_value(), identity.as_deref()))
            .map(|remote| {
                if let Some(known) = before.iter().find(|known| known.name == remote.name) {
                    remote.keep(known);
                }
                Arc::new(remote)
            })
            .collect();
        remotes.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.name.cmp(&b.name)));
        self.remotes.store(Arc::new(remotes));
    }
}

#[cfg(test)]
mod tests;
