//! Bootstrap tokens: those that may, sign the ConfigMap `cluster-info`, so that who joins with a token knows that the
//! authority in it is the right one; those that have expired are removed (upstream `pkg/controller/bootstrap`).

mod plan;

use std::time::Duration;

use api_client::{CacheOptions, ObjectCache, ObjectKey, error::is_conflict};
use foundation::clock::SharedClock;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use reconcile::{Action, Queue, Reconciler};

use crate::error::{Doing, Error, Gone};

/// Signs and removes.
pub(super) struct Tokens {
    signer: Client,
    cleaner: Client,
    clock: SharedClock,
    secrets: ObjectCache<Secret>,
    documents: ObjectCache<ConfigMap>,
}

const DOCUMENT: &str = "cluster-info";
const PUBLIC: &str = "kube-public";
const SYSTEM: &str = "kube-system";

impl Tokens {
    pub(super) fn start(signer: Client, cleaner: Client, clock: SharedClock) -> Self {
        let tokens = CacheOptions::new("bootstrap tokens").fields("type=bootstrap.kubernetes.io/token");
        let secrets = ObjectCache::start(Api::namespaced(signer.clone(), SYSTEM), tokens);
        let named = CacheOptions::new("cluster-info").fields("metadata.name=cluster-info");
        let documents = ObjectCache::start(Api::namespaced(signer.clone(), PUBLIC), named);
        Self { signer, cleaner, clock, secrets, documents }
    }

    pub(super) async fn has_synced(&self) {
        self.secrets.has_synced().await;
        self.documents.has_synced().await;
    }

    /// One key for everything: signatures of all tokens stand in one object.
    pub(super) fn queue(&self) -> Queue<ObjectKey> {
        let queue = Queue::new();
        let key = || ObjectKey::new(PUBLIC, DOCUMENT);
        let fed = queue.clone();
        self.secrets.on_change(move |_| fed.add(key()));
        let fed = queue.clone();
        self.documents.on_change(move |_| fed.add(key()));
        queue
    }

    async fn remove_expired(&self) -> Result<Option<Duration>, Error> {
        let now = self.clock.now();
        let api: Api<Secret> = Api::namespaced(self.cleaner.clone(), SYSTEM);
        let mut next: Option<Duration> = None;
        for secret in self.secrets.list() {
            let Some(end) = plan::expiration(&secret) else { continue };
            if now < end {
                let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
                next = Some(next.map_or(left, |next| next.min(left)));
                continue;
            }
            let name = secret.metadata.name.as_deref().unwrap_or_default();
            let this = Preconditions { uid: secret.metadata.uid.clone(), resource_version: None };
            let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
            let gone = api.delete(name, &params).await.unless_gone();
            gone.doing("removing the expired bootstrap token", name)?;
            self.secrets.observe_deleted(&secret);
        }
        Ok(next)
    }

    async fn sign(&self) -> Result<(), Error> {
        let Some(document) = self.documents.find(PUBLIC, DOCUMENT) else { return Ok(()) };
        let now = self.clock.now();
        let secrets = self.secrets.list();
        let tokens = secrets.iter().filter_map(|secret| plan::signing_token(secret, now));
        let Some(changes) = plan::changes(&document, tokens) else { return Ok(()) };
        let api: Api<ConfigMap> = Api::namespaced(self.signer.clone(), PUBLIC);
        let mut signed = (*document).clone();
        let data = signed.data.get_or_insert_default();
        for (key, signature) in changes {
            match signature {
                Some(signature) => data.insert(key, signature),
                None => data.remove(&key),
            };
        }
        // Over the version that was read, or not at all: the cache brings the next one.
        let written = api.replace(DOCUMENT, &PostParams::default(), &signed).await;
        match written.unless_gone() {
            // Somebody changed it meanwhile: the change brings it back.
            Err(error) if is_conflict(&error) => Ok(()),
            written => {
                if let Some(written) = written.doing("signing", DOCUMENT)? {
                    self.documents.observe(&written);
                }
                Ok(())
            }
        }
    }
}

impl Reconciler for Tokens {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, _: ObjectKey) -> Result<Action, Error> {
        let next = self.remove_expired().await?;
        self.sign().await?;
        Ok(next.map_or(Action::Done, |left| Action::RequeueAfter(left + Duration::from_secs(1))))
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}
