//! What all controllers share: a client, the watch caches, a clock, a recorder.

use std::sync::Arc;

use api_client::{
    CacheOptions, ObjectCache, ObjectKey,
    cache::{controller_uid, label},
    error::{is_already_exists, is_namespace_terminating},
    events::Recorder,
};
use foundation::clock::SharedClock;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::{CronJob, Job},
        coordination::v1::Lease,
        core::v1::{
            ConfigMap, Endpoints, Namespace, Node, Pod, ReplicationController, Service, ServiceAccount,
        },
        discovery::v1::EndpointSlice,
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource,
    api::{PostParams, PropagationPolicy},
};
use reconcile::Queue;

use crate::error::{Doing, Error, Gone};
use crate::identity::Identities;

/// Requests one reconciliation may have under way.
const PARALLEL_WRITES: usize = 32;

#[derive(Clone)]
pub(crate) struct Context {
    /// Reads for all: what caches are fed by.
    pub(crate) reader: Client,
    /// Writes as the controller that holds this context; the reader's until [`Self::of`].
    pub(crate) client: Client,
    identities: Identities,
    pub(crate) clock: SharedClock,
    pub(crate) recorder: Recorder,
    pub(crate) pods: ObjectCache<Pod>,
    pub(crate) nodes: ObjectCache<Node>,
    pub(crate) leases: ObjectCache<Lease>,
    pub(crate) namespaces: ObjectCache<Namespace>,
    pub(crate) service_accounts: ObjectCache<ServiceAccount>,
    pub(crate) root_certificates: ObjectCache<ConfigMap>,
    pub(crate) deployments: ObjectCache<Deployment>,
    pub(crate) replica_sets: ObjectCache<ReplicaSet>,
    pub(crate) replication_controllers: ObjectCache<ReplicationController>,
    pub(crate) stateful_sets: ObjectCache<StatefulSet>,
    pub(crate) daemon_sets: ObjectCache<DaemonSet>,
    pub(crate) jobs: ObjectCache<Job>,
    pub(crate) cron_jobs: ObjectCache<CronJob>,
    pub(crate) services: ObjectCache<Service>,
    pub(crate) slices: ObjectCache<EndpointSlice>,
    pub(crate) endpoints: ObjectCache<Endpoints>,
    pub(crate) budgets: ObjectCache<PodDisruptionBudget>,
    pub(crate) revisions: ObjectCache<ControllerRevision>,
}

/// Finds an owner's objects.
pub(crate) const BY_CONTROLLER: &str = "controller";
/// Finds a namespace's objects that nobody controls.
pub(crate) const ORPHANS: &str = "orphans";
/// Finds a node's pods.
pub(crate) const BY_NODE: &str = "node";
/// Finds a service's slices.
pub(crate) const BY_SERVICE: &str = "service";

pub(crate) fn orphan_namespace<K: Resource>(object: &K) -> Vec<String> {
    if controller_uid(object).is_empty() {
        object.meta().namespace.iter().cloned().collect()
    } else {
        Vec::new()
    }
}

impl Context {
    /// `pods`: one that others use too; it is a cache as [`crate::pods::cache`] makes it.
    pub(crate) fn start(
        client: Client,
        identities: Identities,
        clock: SharedClock,
        pods: Option<ObjectCache<Pod>>,
    ) -> Self {
        let replica_sets = CacheOptions::<ReplicaSet>::new("replicasets")
            .index(BY_CONTROLLER, controller_uid)
            .index(ORPHANS, orphan_namespace);
        let slices = CacheOptions::<EndpointSlice>::new("endpointslices")
            .index(BY_SERVICE, label("kubernetes.io/service-name"));
        let root_certificates =
            CacheOptions::<ConfigMap>::new("root certificates").fields("metadata.name=kube-root-ca.crt");
        Self {
            recorder: Recorder::start(client.clone(), "kube-controller-manager"),
            reader: client.clone(),
            identities,
            pods: pods.unwrap_or_else(|| crate::pods::cache(client.clone())),
            nodes: ObjectCache::start(Api::all(client.clone()), CacheOptions::new("nodes")),
            leases: ObjectCache::start(
                Api::namespaced(client.clone(), "kube-node-lease"),
                CacheOptions::new("node leases"),
            ),
            namespaces: ObjectCache::start(Api::all(client.clone()), CacheOptions::new("namespaces")),
            service_accounts: ObjectCache::start(
                Api::all(client.clone()),
                CacheOptions::new("serviceaccounts").fields("metadata.name=default"),
            ),
            root_certificates: ObjectCache::start(Api::all(client.clone()), root_certificates),
            deployments: ObjectCache::start(Api::all(client.clone()), CacheOptions::new("deployments")),
            replica_sets: ObjectCache::start(Api::all(client.clone()), replica_sets),
            replication_controllers: ObjectCache::start(
                Api::all(client.clone()),
                CacheOptions::new("replicationcontrollers"),
            ),
            endpoints: ObjectCache::start(Api::all(client.clone()), CacheOptions::new("endpoints")),
            revisions: ObjectCache::start(
                Api::all(client.clone()),
                CacheOptions::<ControllerRevision>::new("controllerrevisions")
                    .index(BY_CONTROLLER, controller_uid),
            ),
            budgets: ObjectCache::start(Api::all(client.clone()), CacheOptions::new("poddisruptionbudgets")),
            stateful_sets: ObjectCache::start(Api::all(client.clone()), CacheOptions::new("statefulsets")),
            daemon_sets: ObjectCache::start(Api::all(client.clone()), CacheOptions::new("daemonsets")),
            jobs: ObjectCache::start(
                Api::all(client.clone()),
                CacheOptions::<Job>::new("jobs").index(BY_CONTROLLER, controller_uid),
            ),
            cron_jobs: ObjectCache::start(Api::all(client.clone()), CacheOptions::new("cronjobs")),
            services: ObjectCache::start(Api::all(client.clone()), CacheOptions::new("services")),
            slices: ObjectCache::start(Api::all(client.clone()), slices),
            client,
            clock,
        }
    }

    /// The same caches for the controller `name`, which writes and records as itself.
    pub(crate) fn of(&self, name: &'static str) -> Self {
        let client = (self.identities)(name);
        Self { recorder: Recorder::start(client.clone(), name), client, ..self.clone() }
    }

    pub(crate) async fn has_synced(&self) {
        self.pods.has_synced().await;
        self.nodes.has_synced().await;
        self.leases.has_synced().await;
        self.namespaces.has_synced().await;
        self.service_accounts.has_synced().await;
        self.root_certificates.has_synced().await;
        self.deployments.has_synced().await;
        self.replica_sets.has_synced().await;
        self.replication_controllers.has_synced().await;
        self.endpoints.has_synced().await;
        self.budgets.has_synced().await;
        self.revisions.has_synced().await;
        self.stateful_sets.has_synced().await;
        self.daemon_sets.has_synced().await;
        self.jobs.has_synced().await;
        self.cron_jobs.has_synced().await;
        self.services.has_synced().await;
        self.slices.has_synced().await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates `count` pods, one first, then twice as many each time all went well: a template that the server refuses
    /// costs one request, not `count`. A namespace on its way out takes no new pods, which is no error.
    pub(crate) async fn create_pods(
        &self,
        namespace: &str,
        pods: Vec<Pod>,
        owner: &str,
    ) -> Result<(), Error> {
        let api: Api<Pod> = self.api(namespace);
        let mut rest = pods.as_slice();
        let mut batch = 1;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            let answers: Vec<_> = stream::iter(now.to_vec())
                .map(|pod| {
                    let api = api.clone();
                    async move { api.create(&PostParams::default(), &pod).await }
                })
                .buffer_unordered(PARALLEL_WRITES)
                .collect()
                .await;
            let mut failure = None;
            for answer in answers {
                match answer {
                    Ok(pod) => self.pods.observe(&pod),
                    Err(error) if is_namespace_terminating(&error) => return Ok(()),
                    // Pods with names of their own (indexed jobs) may be there already.
                    Err(error) if is_already_exists(&error) => {}
                    Err(error) => failure = Some(error),
                }
            }
            if let Some(error) = failure {
                return Err(error).doing("creating a pod of", owner);
            }
            rest = later;
            batch *= 2;
        }
        Ok(())
    }

    /// Deletes exactly these pods; those that are gone already don't matter.
    pub(crate) async fn delete_pods(&self, pods: &[Arc<Pod>]) -> Result<(), Error> {
        let answers: Vec<_> = stream::iter(pods.iter().cloned())
            .map(|pod| async move {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                let api: Api<Pod> = self.api(namespace);
                let answer =
                    api_client::apply::delete_exactly(&api, name, uid, PropagationPolicy::Background).await;
                match answer.unless_gone() {
                    Ok(Some(Some(left))) if left.metadata.deletion_timestamp.is_some() => {
                        self.pods.observe(&left);
                        Ok(())
                    }
                    Ok(_) => {
                        self.pods.observe_deleted(&pod);
                        Ok(())
                    }
                    Err(error) => Err(error).doing("deleting the pod", ObjectKey::of(&*pod)),
                }
            })
            .buffer_unordered(PARALLEL_WRITES)
            .collect()
            .await;
        answers.into_iter().collect()
    }
}

/// Puts the owner of a changed object into `queue`: the key in its namespace of its controller of that kind, as it was
/// and as it is.
pub(crate) fn enqueue_controller<K: Resource>(
    queue: &Queue<ObjectKey>,
    kind: &str,
    change: api_client::Change<'_, K>,
) {
    for object in [change.old, change.new].into_iter().flatten() {
        let meta = object.meta();
        let owners = meta.owner_references.iter().flatten();
        for owner in owners.filter(|owner| owner.controller == Some(true) && owner.kind == kind) {
            queue.add(ObjectKey::new(meta.namespace.clone().unwrap_or_default(), owner.name.clone()));
        }
    }
}
