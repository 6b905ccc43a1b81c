//! Kinds known only at run time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::{
    Api, Client,
    core::{DynamicObject, GroupVersionKind},
    discovery::{ApiCapabilities, ApiResource, Discovery as Discovered, Scope, verbs},
};
use parking_lot::RwLock;
use tokio::{sync::Mutex, time::Instant};

/// A kind the server serves.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its names.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: Vec<String>,
    /// Whether this is the version its group recommends.
    pub recommended: bool,
}

impl Kind {
    fn new(resource: ApiResource, capabilities: ApiCapabilities, recommended: bool) -> Self {
        let namespaced = capabilities.scope == Scope::Namespaced;
        Self { resource, namespaced, verbs: capabilities.operations, recommended }
    }

    /// Whether the server lists `verb` for it.
    #[must_use]
    pub fn supports(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    /// Its group, version and kind.
    #[must_use]
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::gvk(&self.resource.group, &self.resource.version, &self.resource.kind)
    }
}

/// Why a kind could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DynamicError {
    /// The server did not say what it serves.
    #[error("asking the server what it serves")]
    Discovery(#[source] Arc<kube::Error>),
    /// The server doesn't serve it, even after asking again.
    #[error("the server serves no {kind} in {api_version}")]
    UnknownKind {
        /// `apps/v1`.
        api_version: String,
        /// `Deployment`.
        kind: String,
    },
}

/// After asking the server in vain, unknown kinds stay unknown for this long: a client that asks for a kind that isn't
/// there must not become a load on the server.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);

/// What the server serves, remembered. Clones share what they know.
#[derive(Clone)]
pub struct Discovery {
    client: Client,
    known: Arc<RwLock<Arc<Known>>>,
    /// One refresh at a time; holds when the last one ended.
    refreshing: Arc<Mutex<Option<Instant>>>,
}

impl std::fmt::Debug for Discovery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Discovery").field("kinds", &self.known.read().kinds.len()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Known {
    kinds: Vec<Kind>,
    by_gvk: HashMap<GroupVersionKind, usize>,
}

impl Discovery {
    /// Knows nothing yet; asks when first needed.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, known: Arc::default(), refreshing: Arc::default() }
    }

    /// The client it asks with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Everything the server serves, as known; asks when nothing is known yet.
    ///
    /// # Errors
    /// When the server doesn't answer.
    pub async fn kinds(&self) -> Result<Vec<Kind>, DynamicError> {
        if self.known.read().kinds.is_empty() {
            self.refresh(Duration::ZERO).await?;
        }
        Ok(self.known.read().kinds.clone())
    }

    /// Asks the server anew, whatever is known.
    ///
    /// # Errors
    /// When the server doesn't answer; what was known stays.
    pub async fn refreshed_kinds(&self) -> Result<Vec<Kind>, DynamicError> {
        self.refresh(Duration::ZERO).await?;
        Ok(self.known.read().kinds.clone())
    }

    /// A kind by group, version and kind. Asks the server when it isn't known, at most once a second.
    ///
    /// # Errors
    /// When the server doesn't answer or serves no such kind.
    pub async fn resolve(&self, gvk: &GroupVersionKind) -> Result<Kind, DynamicError> {
        if let Some(kind) = self.lookup(gvk) {
            return Ok(kind);
        }
        self.refresh(UNKNOWN_FOR).await?;
        self.lookup(gvk).ok_or_else(|| DynamicError::UnknownKind {
            api_version: gvk.api_version(),
            kind: gvk.kind.clone(),
        })
    }

    /// An `Api` for objects of a kind in `namespace` (which kinds without namespaces ignore).
    ///
    /// # Errors
    /// As [`Discovery::resolve`].
    pub async fn api(
        &self,
        gvk: &GroupVersionKind,
        namespace: Option<&str>,
    ) -> Result<(Api<DynamicObject>, Kind), DynamicError> {
        let kind = self.resolve(gvk).await?;
        Ok((self.api_of(&kind, namespace), kind))
    }

    /// The same for a kind already resolved. Without a namespace the `Api` spans all of them.
    #[must_use]
    pub fn api_of(&self, kind: &Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace.filter(|namespace| kind.namespaced && !namespace.is_empty()) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind.resource),
            None => Api::all_with(self.client.clone(), &kind.resource),
        }
    }

    /// One version of each kind that can be listed, watched and deleted: what garbage collection and namespace
    /// deletion go through. Fresh from the server.
    ///
    /// # Errors
    /// When the server doesn't answer.
    pub async fn deletable(&self) -> Result<Vec<Kind>, DynamicError> {
        let mut kinds = self.refreshed_kinds().await?;
        kinds.retain(|kind| {
            kind.recommended
                && [verbs::LIST, verbs::WATCH, verbs::DELETE].iter().all(|verb| kind.supports(verb))
        });
        Ok(kinds)
    }

    fn lookup(&self, gvk: &GroupVersionKind) -> Option<Kind> {
        let known = self.known.read();
        known.by_gvk.get(gvk).and_then(|&place| known.kinds.get(place)).cloned()
    }

    /// Asks the server unless somebody did within `recent`.
    async fn refresh(&self, recent: Duration) -> Result<(), DynamicError> {
        let mut last = self.refreshing.lock().await;
        if last.is_some_and(|last| last.elapsed() < recent) {
            return Ok(());
        }
        let discovered = match Discovered::new(self.client.clone()).run_aggregated().await {
            Ok(discovered) => discovered,
            // Before 1.26, or an aggregated server that doesn't take part: ask group by group.
            Err(error) => {
                tracing::debug!(%error, "aggregated discovery failed; asking group by group");
                Discovered::new(self.client.clone())
                    .run()
                    .await
                    .map_err(|error| DynamicError::Discovery(Arc::new(error)))?
            }
        };
        let mut known = Known::default();
        for group in discovered.groups_alphabetical() {
            // Of a kind that several versions serve, the most stable one.
            let recommended: Vec<(String, String)> = group
                .resources_by_stability()
                .into_iter()
                .map(|(resource, _)| (resource.version, resource.plural))
                .collect();
            for version in group.versions() {
                for (resource, capabilities) in group.versioned_resources(version) {
                    let is_recommended = recommended
                        .iter()
                        .any(|(version, plural)| *version == resource.version && *plural == resource.plural);
                    let kind = Kind::new(resource, capabilities, is_recommended);
                    known.by_gvk.insert(kind.gvk(), known.kinds.len());
                    known.kinds.push(kind);
                }
            }
        }
        *self.known.write() = Arc::new(known);
        *last = Some(Instant::now());
        Ok(())
    }
}
