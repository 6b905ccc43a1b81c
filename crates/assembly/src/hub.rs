//! A hub: an API server with the fleet's kinds, and the management plane behind it.

mod replica;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use access::authorization::{Attributes, Belongings, Guard, Scopes};
use access::certificates::{ClientSubject, ServerNames, requested_pin};
use apiserver::{
    Body, Catalogue, Connected, Connector, Extension, Keeper, Kept, NeededRight, ObjectRules, Ownership,
    WriteRights,
};
use fleet_objects::{SYSTEM_NAMESPACE, partition_cluster, project};
use http_body_util::BodyExt as _;
use hub::{CertificateIssuer, CertificateSubject, IssueError, IssuedCertificate};
use kube_objects::{StatusCause, UserInfo, Write};
use tokio_util::sync::CancellationToken;

use crate::control_plane::{ControlPlane, Plan, Serving};
use crate::error::AssemblyError;
use crate::expressions::Cel;
use crate::identity::Authority;
use crate::state::{State, StoreOptions};

/// What a hub is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it keeps everything.
    pub directory: PathBuf,
    /// What holds its objects.
    pub store: StoreOptions,
    /// Where it listens.
    pub bind: SocketAddr,
    /// DNS names and addresses by which agents reach it, besides this machine's loopback.
    pub names: Vec<String>,
    /// How it treats requests.
    pub serving: Serving,
    /// How long agents' certificates hold; `None`: a day.
    pub agent_certificate_ttl: Option<Duration>,
    /// How long test runs are kept.
    pub test_retention: hub::test_runs::Retention,
    /// Where agents reach it from now on, if that changes: `https://host:port`.
    pub announce: Option<String>,
    /// The OpenTelemetry collector that is told of test runs, if there is one.
    pub telemetry: Option<hub::test_runs::Telemetry>,
    /// Where other processes of this hub reach this one, `https://host:port`; `None`: where it listens.
    pub replica_url: Option<String>,
}

/// A running hub.
pub struct Hub {
    plane: ControlPlane,
    handle: hub::Handle,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Hub {
    /// Starts everything; returns when the API server is ready.
    ///
    /// # Errors
    /// When the state cannot be opened or the address not listened on.
    pub async fn start(options: Options) -> Result<Self, AssemblyError> {
        let endpoints = Arc::new(OnceLock::new());
        let reached = Arc::new(OnceLock::new());
        let state = State::Directory(options.directory.clone());
        let mut plane = ControlPlane::start(Plan {
            name: "hub".to_owned(),
            state,
            store: options.store.clone(),
            bind: Some(options.bind),
            names: server_names(&options.names),
            catalogue: catalogue()?,
            extensions: vec![extension(Arc::clone(&endpoints))],
            connectors: vec![access_connector(Arc::clone(&reached))],
            write_rights: Some(Arc::new(SetRights)),
            object_rules: Some(Arc::new(FleetRules(Cel::default()))),
            nodes: None,
            service_cidr: None,
            serving: options.serving,
            metrics: Vec::new(),
            controllers: false,
        })
        .await?;
        let failed = |cause: crate::error::Cause| AssemblyError::new("failed to start the hub", cause);
        plane.ready().await?;
        plane.start_credentials();
        let client = plane.client("system:fairlead:hub");
        let issuer = Arc::new(Issuer(plane.identity.authority.clone()));
        let epoch = plane.store.incarnation().to_string();
        let data_dir = options.directory.join("data");
        let mut hub_options = hub::Options::new(client, data_dir, epoch, issuer);
        hub_options.public_url = plane.server.address().map(|address| public_url(&options.names, address));
        hub_options.expressions = Arc::new(Cel::default());
        hub_options.object_expressions = Arc::new(Cel::default());
        hub_options.test_retention = options.test_retention;
        hub_options.announce = options.announce;
        hub_options.telemetry = options.telemetry;
        hub_options.namespaces =
            Some(Arc::new(|client, stop| Box::pin(controllers::namespace::run(client, stop))));
        if let Some(sealed) = &plane.sealed {
            hub_options.content_sealer = Some(Arc::new(crate::sealing::Content(sealed.sealer())));
        }
        if plane.shared {
            let identity = crate::leader::identity("hub");
            hub_options.replica = Some(hub::replicas::Replica {
                store: Arc::clone(&plane.store),
                election: Arc::new(replica::LeaseElection {
                    server: plane.server.clone(),
                    store: Arc::clone(&plane.store),
                    identity: identity.clone(),
                }),
                peers: Arc::new(replica::TlsPeers(Arc::clone(&plane.identity))),
                url: match (options.replica_url, plane.server.address()) {
                    (Some(url), _) => url,
                    (None, address) => {
                        let address = address.map(crate::reach::reached_at);
                        address.map(|address| format!("https://{address}")).unwrap_or_default()
                    }
                },
                identity,
            });
        }
        if let Some(ttl) = options.agent_certificate_ttl {
            hub_options.certificate_ttl = ttl;
        }
        let service = hub::Service::new(hub_options).await.map_err(|error| failed(error.into()))?;
        let handle = service.handle();
        // Set once, here; the server answers 503 for these paths until now.
        let _ = endpoints.set(handle.endpoints());
        let _ = reached.set(handle.access());
        plane.authorizer.restrict(Arc::new(AgentGuard(handle.agent_guard())));
        plane.authorizer.widen(Arc::new(Projects(handle.project_scopes())));
        let stop = plane.tasks.stop.clone();
        plane.tasks.spawn("hub", async move { service.run(stop).await });
        let (resealing, mut resealed, stop) =
            (handle.clone(), plane.resealed.clone(), plane.tasks.stop.clone());
        plane.tasks.spawn("sealing of the hub's files", async move {
            while let Some(Ok(())) = stop.run_until_cancelled(resealed.changed()).await {
                resealing.seal_anew().await;
                tracing::info!("the hub's files are sealed as its encryption configuration says now");
            }
            Ok::<(), AssemblyError>(())
        });
        Ok(Self { plane, handle })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.plane.server.address()
    }

    /// A client in process with all rights.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.plane.client("kubernetes-admin")
    }

    /// Reaches the hub in process.
    #[must_use]
    pub fn handle(&self) -> &hub::Handle {
        &self.handle
    }

    /// By what agents recognise it: `sha256:…` of its authority's public key.
    #[must_use]
    pub fn pin(&self) -> String {
        self.plane.identity.authority.now().pin().to_string()
    }

    /// Runs until `shutdown`, then ends every part.
    ///
    /// # Errors
    /// What made a part end before.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AssemblyError> {
        self.plane.tasks.finish(shutdown).await
    }
}

/// Holds agents to their partitions before any role is asked.
struct AgentGuard(hub::guard::AgentGuard);

impl Guard for AgentGuard {
    fn restricts(&self, user: &UserInfo) -> bool {
        hub::guard::is_agent(user)
    }

    fn forbids(&self, user: &UserInfo, attributes: &Attributes) -> Option<String> {
        let wanted = hub::guard::Wanted {
            verb: &attributes.verb,
            group: &attributes.group,
            resource: &attributes.resource,
            subresource: &attributes.subresource,
            namespace: &attributes.namespace,
            is_path: attributes.path.is_some(),
        };
        self.0.forbids(user, wanted)
    }
}

/// Lets roles of projects count for their clusters.
struct Projects(hub::ProjectScopes);

impl Scopes for Projects {
    fn namespaces_of(&self, asked: &Attributes) -> Vec<String> {
        if asked.path.is_some() {
            return Vec::new();
        }
        self.0.namespaces_of(&asked.group, &asked.resource, &asked.namespace, &asked.name)
    }

    fn lies_in_none(&self, asked: &Attributes) -> bool {
        asked.path.is_none() && hub::lies_in_no_namespace(&asked.group, &asked.resource)
    }

    fn belongings(&self) -> Vec<Belongings> {
        let of = |(namespace, names)| Belongings {
            namespace,
            group: fleet_objects::GROUP.to_owned(),
            resource: "clusters".to_owned(),
            subresources: ["proxy", "status"].map(str::to_owned).to_vec(),
            names,
        };
        self.0.clusters().into_iter().map(of).collect()
    }
}

/// Asks for the rights over cluster sets that a write needs, and keeps the namespaces that the hub needs.
struct SetRights;

impl WriteRights for SetRights {
    fn concerns(&self, group: &str, resource: &str) -> bool {
        hub::set_rights::concerns(group, resource)
    }

    fn needed(&self, write: &Write<'_>) -> Vec<NeededRight> {
        let asked = |set: &str| {
            Attributes::resource(project::JOIN_VERB, fleet_objects::GROUP, project::SETS_RESOURCE, "", set)
                .with_subresource(project::JOIN_SUBRESOURCE)
        };
        hub::set_rights::needed(write)
            .into_iter()
            .map(|needed| NeededRight { asked: asked(&needed.set), purpose: needed.purpose })
            .collect()
    }

    fn kept(&self, group: &str, resource: &str, name: &str) -> Option<Kept> {
        if (group, resource) != ("", "namespaces") {
            return None;
        }
        if name == SYSTEM_NAMESPACE {
            return Some(Kept { by: None, why: "the hub keeps what is its own in it".to_owned() });
        }
        let cluster = partition_cluster(name)?.to_owned();
        let why =
            format!("it is the partition of cluster {cluster:?}, which is there; delete the Cluster first");
        let by =
            Keeper { group: fleet_objects::GROUP.to_owned(), resource: "clusters".to_owned(), name: cluster };
        Some(Kept { by: Some(by), why })
    }
}

/// What documents of the fleet keep to beyond their schemas. The expressions that it compiles are its own: what people try
/// out forces none out that the hub lives by.
struct FleetRules(Cel);

impl ObjectRules for FleetRules {
    fn concerns(&self, group: &str, resource: &str) -> bool {
        hub::validation::concerns(group, resource)
    }

    fn problems(&self, write: &Write<'_>) -> Vec<StatusCause> {
        hub::validation::of_write(write, self.0.languages())
    }
}

/// The generic control-plane kinds and the fleet's.
pub(crate) fn catalogue() -> Result<Catalogue, AssemblyError> {
    fleet_objects::custom_resource_definitions().iter().try_fold(
        Catalogue::control_plane(),
        |catalogue, definition| {
            let ownership = if fleet_objects::is_written_by_programs(definition) {
                Ownership::FromFirstApply
            } else {
                Ownership::FromCreation
            };
            catalogue
                .with_custom_resource(definition, ownership)
                .map_err(|error| AssemblyError::new("failed to serve the fleet's kinds", error.into()))
        },
    )
}

/// Where others reach it: by the first name it was given, or by the address that leads out of this machine.
fn public_url(names: &[String], address: SocketAddr) -> String {
    match names.first() {
        Some(name) if name.contains(':') => format!("https://[{name}]:{}", address.port()),
        Some(name) => format!("https://{name}:{}", address.port()),
        None => format!("https://{}", crate::reach::reached_at(address)),
    }
}

fn server_names(names: &[String]) -> ServerNames {
    let mut sorted = ServerNames::default();
    for name in names {
        match name.parse() {
            Ok(address) => sorted.addresses.push(address),
            Err(_) => sorted.dns.push(name.clone()),
        }
    }
    sorted
}

/// The hub's endpoints under the API server's address. The hub is made after the server whose client it is.
fn extension(endpoints: Arc<OnceLock<hub::Endpoints>>) -> Extension {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let endpoints = endpoints.get().cloned();
        async move {
            Ok(match endpoints {
                Some(endpoints) => endpoints.answer(request).await,
                None => starting(),
            })
        }
    });
    Extension {
        prefix: "/fleet/v1/".to_owned(),
        anonymous: true,
        service: tower::util::BoxCloneSyncService::new(service),
    }
}

/// `clusters/NAME/proxy`: people's requests to clusters.
fn access_connector(access: Arc<OnceLock<hub::access::Access>>) -> Connector {
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        let access = access.get().cloned();
        if let Some(Connected { name, tail, right }) = request.extensions_mut().remove::<Connected>() {
            let holds = Arc::new(move || right.holds());
            request.extensions_mut().insert(hub::access::Wanted { cluster: name, path: tail, holds });
        }
        async move {
            Ok(match access {
                Some(access) => access.answer(request).await,
                None => starting(),
            })
        }
    });
    Connector {
        group: fleet_objects::GROUP.to_owned(),
        resource: "clusters".to_owned(),
        subresource: "proxy".to_owned(),
        service: tower::util::BoxCloneSyncService::new(service),
    }
}

pub(crate) fn starting() -> http::Response<Body> {
    let status = kube_objects::Status::new(kube_objects::Reason::ServiceUnavailable, "the hub is starting");
    let body = http_body_util::Full::from(status.to_json().to_string());
    let mut response = http::Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    response
}

/// Signs agents' certificates with the hub's authority.
#[derive(Debug)]
struct Issuer(Authority);

impl CertificateIssuer for Issuer {
    fn requested_key(&self, csr_pem: &str) -> Result<String, IssueError> {
        let pin =
            requested_pin(csr_pem).map_err(|error| IssueError::BadRequest(error.to_string()))?.to_string();
        Ok(pin.strip_prefix("sha256:").unwrap_or(&pin).to_owned())
    }

    fn issue(
        &self,
        csr_pem: &str,
        subject: &CertificateSubject,
        validity: Duration,
    ) -> Result<IssuedCertificate, IssueError> {
        let subject =
            ClientSubject { user: subject.common_name.clone(), groups: vec![subject.organization.clone()] };
        let signer = self.0.now();
        let certificate_pem =
            signer.sign_client_request(csr_pem, &subject, validity).map_err(|error| match error {
                access::CertificateError::Unusable { .. } => IssueError::BadRequest(error.to_string()),
                error => IssueError::Authority(error.to_string()),
            })?;
        let ends = jiff::Timestamp::now() + jiff::SignedDuration::try_from(validity).unwrap_or_default();
        let authority = signer.pin().to_string();
        Ok(IssuedCertificate { certificate_pem, not_after: ends.to_string(), authority })
    }

    fn ca_bundle(&self) -> String {
        self.0.now().bundle_pem().to_owned()
    }
}
