//! A hub of several processes on one etcd: who leads, and how they reach one another.
//!
//! The lead is a Lease (`fairlead-hub` in `fairlead-system`), as of upstream's components. Whoever has won it draws a fence: it
//! writes a key of its own, on the condition that the Lease is still the one it won, and every write it makes as leader is
//! conditional on that key. A process that was deposed while it slept writes nothing more, whatever its clock says.

use std::sync::Arc;
use std::time::Duration;

use access::certificates::ClientSubject;
use access::tls::{ClientIdentity, client_config};
use apiserver::{Body, Fence};
use async_trait::async_trait;
use fleet_objects::SYSTEM_NAMESPACE;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hub::replicas::{Election, Peers, Term};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client, ResourceExt as _};
use kube_objects::UserInfo;
use rustls_pki_types::ServerName;
use storage::{Compare, Operation, Revision, Store, StoreError, Transaction};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::identity::Identity;
use crate::leader::{self, Candidate};

/// The Lease.
const LEASE: &str = "fairlead-hub";
/// The leader's fence.
const FENCE: &str = "fairlead/hub/leader";
/// As whom processes of a hub ask one another.
const USER: &str = "system:fairlead:hub";
/// How long another process may take to take a connection, and to begin its answer.
const DIAL: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(90);
/// How long a certificate for one request holds.
const CERTIFICATE: Duration = Duration::from_secs(3600);
/// After a try that was disturbed.
const RETRY: Duration = Duration::from_secs(1);

/// Leads by a Lease and a fence.
pub(crate) struct LeaseElection {
    pub(crate) server: apiserver::Handle,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) identity: String,
}

impl LeaseElection {
    fn client(&self) -> Client {
        self.server.client(hub_user())
    }

    /// Draws a fence: every other leader's holds no longer. `None`: somebody else has won the Lease meanwhile.
    async fn draw(&self, lease: Revision) -> Result<Option<Fence>, StoreError> {
        let key = format!("/registry/coordination.k8s.io/leases/{SYSTEM_NAMESPACE}/{LEASE}");
        let drawn = Transaction {
            compare: vec![Compare::unchanged_since(key, lease)],
            success: vec![Operation::put(FENCE, self.identity.clone())],
            failure: Vec::new(),
        };
        let done = self.store.transact(drawn).await?;
        Ok(done.succeeded.then(|| Fence { key: FENCE.into(), revision: done.revision }))
    }

    /// The Lease's version, when this process holds it.
    async fn won(&self) -> Option<Revision> {
        let leases: Api<Lease> = Api::namespaced(self.client(), SYSTEM_NAMESPACE);
        let lease = leases.get(LEASE).await.ok()?;
        let holder = lease.spec.as_ref()?.holder_identity.clone()?;
        let version = lease.resource_version()?.parse().ok()?;
        (holder == self.identity).then_some(Revision(version))
    }
}

fn hub_user() -> UserInfo {
    UserInfo::new(USER, &["system:masters"])
}

#[async_trait]
impl Election for LeaseElection {
    async fn term(&self) -> Term {
        loop {
            let candidate = Candidate {
                client: self.client(),
                lease: LEASE,
                identity: self.identity.clone(),
                namespace: SYSTEM_NAMESPACE,
            };
            let mut election = leader::Election::new(candidate);
            election.win().await;
            // Nobody renews it before the fence is drawn, so its version stays.
            let fence = match self.won().await {
                Some(version) => self.draw(version).await,
                None => Ok(None),
            };
            let Ok(Some(fence)) = fence else {
                tokio::time::sleep(RETRY).await;
                continue;
            };
            let (lost, given_up) = (CancellationToken::new(), CancellationToken::new());
            let (loses, gives_up) = (lost.clone(), given_up.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = election.hold() => {}
                    () = gives_up.cancelled() => {}
                }
                loses.cancel();
                election.release().await;
            });
            return Term {
                client: self.server.fenced_client(hub_user(), fence.clone()),
                fence: Compare::unchanged_since(fence.key, fence.revision),
                lost,
                held: given_up.drop_guard(),
            };
        }
    }
}

/// Reaches other processes of the hub with a certificate of the authority that they share.
pub(crate) struct TlsPeers(pub(crate) Arc<Identity>);

impl TlsPeers {
    fn config(&self) -> Result<rustls::ClientConfig, String> {
        let subject = ClientSubject { user: USER.to_owned(), groups: vec!["system:masters".to_owned()] };
        let authority = self.0.authority.now();
        let issued = authority.issue_client(&subject, CERTIFICATE).map_err(|error| error.to_string())?;
        let identity = ClientIdentity { certificate_pem: issued.certificate_pem, key_pem: issued.key_pem };
        client_config(authority.bundle_pem(), Some(&identity)).map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Peers for TlsPeers {
    async fn send(&self, url: &str, mut request: Request<Body>) -> Result<Response<Body>, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
        let authority = uri.authority().ok_or_else(|| format!("{url:?} names nobody"))?.clone();
        let connect = async {
            let address = (authority.host().trim_matches(['[', ']']), authority.port_u16().unwrap_or(443));
            let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
            let connector = tokio_rustls::TlsConnector::from(Arc::new(self.config()?));
            // Whatever its address: every server of the hub is called this, and the authority is the hub's own.
            let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
            connector.connect(name, stream).await.map_err(|error| error.to_string())
        };
        let stream =
            tokio::time::timeout(DIAL, connect).await.map_err(|_| format!("{url} does not answer"))??;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        // It ends with the answer, or with what the connection is upgraded to.
        tokio::spawn(connection.with_upgrades());
        let host = http::HeaderValue::from_str(authority.as_str()).map_err(|error| error.to_string())?;
        request.headers_mut().insert(http::header::HOST, host);
        let answer = tokio::time::timeout(ANSWER, sender.send_request(request)).await;
        let mut answer =
            answer.map_err(|_| format!("{url} does not answer"))?.map_err(|error| error.to_string())?;
        let upgraded = (answer.status() == http::StatusCode::SWITCHING_PROTOCOLS)
            .then(|| hyper::upgrade::on(&mut answer));
        let (mut parts, body) = answer.into_parts();
        parts.extensions.clear();
        if let Some(upgraded) = upgraded {
            parts.extensions.insert(upgraded);
        }
        // The connection lives as long as its answer is read.
        let body = body.map_err(Into::into).boxed_unsync();
        Ok(Response::from_parts(parts, body))
    }
}
