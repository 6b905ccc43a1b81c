//! Starts the caches and the controllers over them, and keeps them running.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use api_client::{ObjectCache, ObjectKey, dynamic::Discovery};
use foundation::clock::{SharedClock, SystemClock};
use k8s_openapi::api::{
    apps::v1::ReplicaSet,
    core::v1::{Pod, ReplicationController},
};
use kube::Client;
use parking_lot::Mutex;
use reconcile::{Driver, DriverOptions, Queue, Reconciler, StatusHandle, TaskStatus};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    cron_job, daemon_set, deployment, disruption, endpoints,
    error::Error,
    garbage::Collector,
    identity::{self, Identities},
    job, namespace, nodes,
    replica_set::{self, Replicas},
    resource_quota, service_accounts, stateful_set, storage_protection,
};

/// What the controllers need.
pub struct Options {
    /// Reaches the cluster to feed the caches: reads everything.
    pub client: Client,
    /// Who each controller writes as.
    pub identities: Identities,
    /// PEM of the certificates with which pods verify the API server; published in every namespace. Without it nothing
    /// is published.
    pub root_certificate: Option<String>,
    /// The cache that [`crate::pods::cache`] has started for several components; `None`: one of their own is started.
    pub pods: Option<ObjectCache<Pod>>,
    /// The time of day.
    pub clock: SharedClock,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

impl Options {
    /// With the machine's clock, no certificate to publish, and every controller acting through `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let identities = identity::shared(&client);
        Self { client, identities, root_certificate: None, pods: None, clock: SystemClock::shared() }
    }
}

type Statuses = Vec<(&'static str, StatusHandle<ObjectKey>)>;
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Reads what the controllers are doing. Clones read the same.
#[derive(Clone, Default)]
pub struct Handle {
    statuses: Arc<Mutex<Statuses>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.statuses()).finish()
    }
}

impl Handle {
    /// Each running controller's name and status.
    #[must_use]
    pub fn statuses(&self) -> Vec<(&'static str, TaskStatus)> {
        self.statuses.lock().iter().map(|(name, status)| (*name, status.get())).collect()
    }
}

/// All controllers.
#[derive(Debug)]
pub struct Service {
    options: Options,
    handle: Handle,
}

impl Service {
    /// Nothing happens until [`Service::run`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, handle: Handle::default() }
    }

    /// Reads the controllers' status; empty until they have started.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `shutdown`, then ends what is under way.
    ///
    /// # Errors
    /// None today: failed requests are retried for as long as it takes. A server that is away only makes it wait.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Options { client, identities, clock, pods, .. } = &self.options;
        let context = Context::start(client.clone(), Arc::clone(identities), clock.clone(), pods.clone());
        // A controller that acted on half a picture would create what it only hasn't seen yet.
        tokio::select! {
            () = context.has_synced() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        let mut tasks = JoinSet::new();
        for task in self.start(&context, &shutdown) {
            tasks.spawn(task);
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    fn start(&self, context: &Context, shutdown: &CancellationToken) -> Vec<Task> {
        let root_certificate = self.options.root_certificate.as_deref().map(Arc::from);
        let it = |name| context.of(name);
        let discovery = |context: &Context| Discovery::new(context.client.clone());
        let (quotas_of, namespaces_of) = (it("resourcequota-controller"), it("namespace-controller"));
        let budgets_of = it("disruption-controller");
        let quotas_discovery = discovery(&quotas_of);
        let (quotas, quotas_queue, gone) = resource_quota::start(&quotas_of, quotas_discovery);
        let collector = Collector::new(discovery(&it("generic-garbage-collector")), gone);
        let options = DriverOptions::new("garbage collector").concurrency(16);
        let collecting = Driver::new(Arc::new(collector.clone()), collector.queue(), options);
        let (nodes, nodes_queue) = nodes::queue(&it("node-controller"));
        let (claims, claims_queue) = storage_protection::claims(&it("pvc-protection-controller"));
        let (volumes, volumes_queue) = storage_protection::volumes(&it("pv-protection-controller"));
        vec![
            self.task("node", nodes, nodes_queue, shutdown),
            self.task("claim protection", claims, claims_queue, shutdown),
            self.task("volume protection", volumes, volumes_queue, shutdown),
            self.task("resourcequota", quotas, quotas_queue, shutdown),
            Box::pin(collecting.run(shutdown.clone())),
            Box::pin(collector.follow_kinds(shutdown.clone())),
            self.task(
                "daemonset",
                daemon_set::DaemonSets { context: it("daemon-set-controller") },
                daemon_set::queue(context),
                shutdown,
            ),
            self.task(
                "statefulset",
                stateful_set::StatefulSets { context: it("statefulset-controller") },
                stateful_set::queue(context),
                shutdown,
            ),
            self.task(
                "cronjob",
                cron_job::CronJobs { context: it("cronjob-controller") },
                cron_job::queue(context),
                shutdown,
            ),
            self.task("job", job::Jobs { context: it("job-controller") }, job::queue(context), shutdown),
            self.task(
                "namespace contents",
                service_accounts::NamespaceContents {
                    context: it("service-account-controller"),
                    publisher: it("root-ca-cert-publisher"),
                    root_certificate,
                },
                service_accounts::queue(context),
                shutdown,
            ),
            self.task(
                "namespace",
                namespace::Namespaces::new(&namespaces_of, discovery(&namespaces_of)),
                namespace::queue(context),
                shutdown,
            ),
            self.task(
                "replicaset",
                Replicas::<ReplicaSet>::new(it("replicaset-controller")),
                replica_set::queue::<ReplicaSet>(context),
                shutdown,
            ),
            self.task(
                "replicationcontroller",
                Replicas::<ReplicationController>::new(it("replication-controller")),
                replica_set::queue::<ReplicationController>(context),
                shutdown,
            ),
            self.task(
                "disruption",
                disruption::Budgets { discovery: discovery(&budgets_of), context: budgets_of },
                disruption::queue(context),
                shutdown,
            ),
            self.task(
                "deployment",
                deployment::Deployments { context: it("deployment-controller") },
                deployment::queue(context),
                shutdown,
            ),
            self.task(
                "endpointslice",
                endpoints::EndpointSlices {
                    context: it("endpointslice-controller"),
                    endpoints: it("endpoint-controller"),
                    mirroring: it("endpointslicemirroring-controller"),
                },
                endpoints::queue(context),
                shutdown,
            ),
        ]
    }

    fn task<R: Reconciler<Key = ObjectKey>>(
        &self,
        name: &'static str,
        reconciler: R,
        queue: Queue<ObjectKey>,
        shutdown: &CancellationToken,
    ) -> Task {
        let driver = Driver::new(Arc::new(reconciler), queue, DriverOptions::new(name).concurrency(8));
        self.handle.statuses.lock().push((name, driver.status()));
        Box::pin(driver.run(shutdown.clone()))
    }
}
