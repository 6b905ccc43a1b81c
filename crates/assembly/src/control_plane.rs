//! What hub and cluster have in common: a store, an identity, and an API server over both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use access::certificates::ServerNames;
use access::{Authenticator, Authorizer, TokenIssuer};
use apiserver::registry::bootstrap::Facts;
use apiserver::{Catalogue, Connector, Extension, NodeConnection};
use controllers::credentials;
use controllers::identity::Identities;
use kube_objects::UserInfo;
use parking_lot::Mutex;
use storage::Store;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::AssemblyError;
use crate::identity::{GivenFiles, Identity, Signer};
use crate::reach::reached_at;
use crate::sealing;
use crate::state::{Engine, Opened, State, StoreOptions};

/// Who signs service-account tokens, as upstream clusters call themselves.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The group that RBAC does not restrict.
const ADMINISTRATORS: &str = "system:masters";

/// How a server treats requests; the default is upstream's.
#[derive(Clone, Debug, Default)]
pub struct Serving {
    /// What is recorded of requests, and where; `None`: nothing.
    pub audit: Option<apiserver::audit::Options>,
    /// How many requests run at once.
    pub limits: apiserver::Limits,
    /// Certificates, authorities and issuers from outside.
    pub files: GivenFiles,
}

/// What a control plane is made of.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) store: StoreOptions,
    pub(crate) bind: Option<SocketAddr>,
    pub(crate) names: ServerNames,
    pub(crate) catalogue: Catalogue,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) connectors: Vec<Connector>,
    pub(crate) write_rights: Option<Arc<dyn apiserver::WriteRights>>,
    pub(crate) object_rules: Option<Arc<dyn apiserver::ObjectRules>>,
    pub(crate) nodes: Option<Arc<dyn NodeConnection>>,
    pub(crate) service_cidr: Option<String>,
    pub(crate) serving: Serving,
    pub(crate) metrics: Vec<apiserver::metrics::Source>,
    /// Whether controllers and scheduler of a cluster run beside it.
    pub(crate) controllers: bool,
}

/// A running control plane and whatever else runs beside it.
pub(crate) struct ControlPlane {
    pub(crate) server: apiserver::Handle,
    pub(crate) store: Arc<dyn Store>,
    /// The same store, when it seals.
    pub(crate) sealed: Option<storage_sealed::SealedStore>,
    /// Counts up when it seals otherwise than before.
    pub(crate) resealed: watch::Receiver<u64>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) tasks: Tasks,
    /// Whether other servers may work on the same store.
    pub(crate) shared: bool,
    name: String,
    state: State,
}

impl ControlPlane {
    /// Opens the state and starts serving; [`Self::ready`] waits for the start-up objects.
    pub(crate) async fn start(plan: Plan) -> Result<Self, AssemblyError> {
        let Plan {
            name,
            state,
            store,
            bind,
            names,
            catalogue,
            mut extensions,
            connectors,
            write_rights,
            object_rules,
            nodes,
            service_cidr,
            serving,
            metrics,
            controllers,
        } = plan;
        let failed =
            |cause: crate::error::Cause| AssemblyError::new(format!("failed to start {name}"), cause);
        let shared = matches!(store.engine, Engine::Etcd(_));
        let resources: &[&str] = if catalogue.is_cluster() { &sealing::CLUSTER } else { &sealing::HUB };
        let Opened { store, witness, sealed } = state.open_store(&store, resources).await?;
        extensions.push(crate::backup::extension(Arc::clone(&store)));
        let identity = Arc::new(Identity::open(state.directory(), &name, names, &serving.files)?);
        let mut authenticator = Authenticator::new(true).with_client_roots(identity.client_roots.clone());
        if serving.files.authentication.is_some() {
            authenticator = authenticator.with_issuers(Arc::clone(&identity.issuers));
        }
        if let Some(anonymous) = identity.anonymous() {
            authenticator = authenticator.with_anonymous(anonymous.clone());
        }
        let audiences = vec![ISSUER.to_owned()];
        let facts = Facts {
            service_cidr,
            advertise_address: None,
            certificate_authority: identity.authority.now().bundle_pem().to_owned(),
            front_proxy_authority: String::new(),
            cluster: catalogue.is_cluster(),
        };
        let authorizer = Arc::new(Authorizer::new());
        let options = apiserver::Options {
            authenticator: Some(authenticator),
            authorizer: Some(Arc::clone(&authorizer)),
            token_issuer: Some(TokenIssuer::new(identity.token_keys.clone(), ISSUER, audiences)),
            tls: Some(identity.tls()?),
            bind,
            extensions,
            connectors,
            write_rights,
            object_rules,
            nodes,
            facts,
            front_proxy: Some(identity.front_proxy()),
            audit: serving.audit,
            limits: serving.limits,
            metrics,
            leads_alone: controllers && !shared,
            ..apiserver::Options::new(Arc::clone(&store), catalogue)
        };
        let service = apiserver::Service::new(options).await.map_err(|error| failed(error.into()))?;
        let server = service.handle();
        let mut tasks = Tasks::default();
        let stop = tasks.stop.clone();
        tasks.spawn("API server", async move { service.run(stop).await });
        let (fresh, stop) = (Arc::clone(&identity), tasks.stop.clone());
        let kubeconfig = state
            .directory()
            .zip(server.address())
            .map(|(directory, address)| (kubeconfig_path(directory), name.clone(), address));
        let own = kubeconfig.clone();
        tasks.spawn("certificate renewal", async move {
            fresh.keep_fresh(own, stop).await;
            Ok::<(), AssemblyError>(())
        });
        let (fresh, stop) = (Arc::clone(&identity), tasks.stop.clone());
        tasks.spawn("certificates from outside", async move {
            fresh.follow_files(kubeconfig, stop).await;
            Ok::<(), AssemblyError>(())
        });
        let stop = tasks.stop.clone();
        tasks.spawn("store", crate::witness::keep(Arc::clone(&store), witness, stop));
        let (told, resealed) = watch::channel(0);
        let sealed = sealed.map(|(sealed, path)| {
            let stop = tasks.stop.clone();
            tasks.spawn("sealing of older values", sealing::keep(sealed.clone(), path, told, stop));
            sealed
        });
        Ok(Self { server, store, sealed, resealed, identity, authorizer, tasks, shared, name, state })
    }

    /// Waits until the server answers everything, then leaves the administrator's kubeconfig in the state directory.
    pub(crate) async fn ready(&mut self) -> Result<(), AssemblyError> {
        if !self.server.ready().await {
            return Err(self.tasks.failure().await.unwrap_or_else(|| {
                AssemblyError::new(format!("failed to start {}", self.name), "it was stopped".into())
            }));
        }
        let Some(directory) = self.state.directory() else { return Ok(()) };
        let Some(address) = self.server.address().map(reached_at) else { return Ok(()) };
        let path = kubeconfig_path(directory);
        let (identity, name) = (Arc::clone(&self.identity), self.name.clone());
        let write = move || identity.write_kubeconfig(&path, &name, address);
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|panic| {
            Err(AssemblyError::new("failed to write the administrator's kubeconfig", panic.into()))
        })
    }

    /// Runs the controllers of certificates and bootstrap tokens.
    pub(crate) fn start_credentials(&mut self) {
        let signer = Arc::new(Signer(self.identity.authority.clone()));
        let service = credentials::Service::new(credentials::Options::new(self.controllers(), signer));
        let stop = self.tasks.stop.clone();
        self.tasks.spawn("controllers of credentials", async move { service.run(stop).await });
    }

    /// A client in process of a part of the control plane, with the rights of `user` and no others.
    pub(crate) fn client_of(&self, user: UserInfo) -> kube::Client {
        self.server.client(user)
    }

    /// Each controller as the service account of its name.
    pub(crate) fn controllers(&self) -> Identities {
        let server = self.server.clone();
        Arc::new(move |name| server.client(UserInfo::service_account("kube-system", name)))
    }

    /// A client in process that RBAC does not restrict: the administrator's, and the hub's own.
    pub(crate) fn client(&self, user: &str) -> kube::Client {
        self.server.client(UserInfo::new(user, &[ADMINISTRATORS]))
    }
}

/// Where a control plane leaves its administrator's kubeconfig.
#[must_use]
pub fn kubeconfig_path(directory: &Path) -> PathBuf {
    directory.join("admin.kubeconfig")
}

/// The parts of a program; when one fails all are stopped.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    pub(crate) stop: CancellationToken,
    running: JoinSet<Result<(), AssemblyError>>,
    /// Names of those that run.
    named: Arc<Mutex<Vec<String>>>,
}

/// How long parts may take to end after they were told to. What is left then is dropped: nothing that is acknowledged hangs on it.
const GRACE: Duration = Duration::from_secs(10);

impl Tasks {
    /// Runs a part beside the others.
    pub(crate) fn spawn<E: Into<crate::error::Cause> + 'static>(
        &mut self,
        name: &str,
        part: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (name, named) = (name.to_owned(), Arc::clone(&self.named));
        named.lock().push(name.clone());
        self.running.spawn(async move {
            let ended = part.await;
            named.lock().retain(|own| *own != name);
            ended.map_err(|error| AssemblyError::new(format!("the {name} failed"), error.into()))
        });
    }

    /// Waits for the first failure, or for the end of all.
    pub(crate) async fn failure(&mut self) -> Option<AssemblyError> {
        while let Some(ended) = self.running.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Some(error),
                Err(panic) => {
                    return Some(AssemblyError::new("a part of the program panicked", panic.into()));
                }
            }
        }
        None
    }

    /// Runs until `shutdown` or a failure, then ends every part.
    pub(crate) async fn finish(mut self, shutdown: CancellationToken) -> Result<(), AssemblyError> {
        let failure = tokio::select! {
            () = shutdown.cancelled() => None,
            failure = self.failure() => failure,
        };
        self.stop.cancel();
        let later = tokio::time::timeout(GRACE, self.failure()).await.unwrap_or_else(|_| {
            tracing::warn!(parts = ?self.named.lock(), "dropping what outlasts the shutdown grace");
            None
        });
        failure.or(later).map_or(Ok(()), Err)
    }
}
