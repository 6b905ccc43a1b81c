//! The controllers of credentials, which a hub needs as much as a cluster: CertificateSigningRequests are approved
//! where upstream's rules say so, signed and cleaned up (`requests`); bootstrap tokens sign `cluster-info` and end
//! (`bootstrap`); aggregating ClusterRoles get their rules (`aggregation`).
//!
//! The keys are elsewhere: a [`CertificateSigner`] signs. Nothing here ever sees a private key.

mod aggregation;
mod bootstrap;
mod requests;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use foundation::clock::{SharedClock, SystemClock};
use jiff::Timestamp;
use reconcile::{Driver, DriverOptions};
use tokio_util::sync::CancellationToken;

use crate::identity::Identities;

/// What a signing request asks to certify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// CN.
    pub common_name: String,
    /// Every O.
    pub organizations: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// E-mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

/// Reads and signs what CertificateSigningRequests carry. Errors are for the reader of a condition or a log.
pub trait CertificateSigner: Send + Sync + 'static {
    /// What a PEM request asks for; its signature is checked.
    ///
    /// # Errors
    /// Why it is none.
    fn read(&self, request_pem: &str) -> Result<Requested, String>;

    /// Signs it with these usages for at most this long.
    ///
    /// # Errors
    /// Why not; asking again does not help.
    fn sign(&self, request_pem: &str, usages: &[String], validity: Duration) -> Result<String, String>;

    /// When a PEM certificate ends; `None` when it is none.
    fn expires(&self, certificate_pem: &str) -> Option<Timestamp>;
}

/// What the controllers need.
pub struct Options {
    /// Who each controller acts as: `certificate-controller`, `bootstrap-signer`, `token-cleaner`,
    /// `clusterrole-aggregation-controller`.
    pub identities: Identities,
    /// Signs certificates.
    pub signer: Arc<dyn CertificateSigner>,
    /// The time of day.
    pub clock: SharedClock,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

impl Options {
    /// With the machine's clock.
    #[must_use]
    pub fn new(identities: Identities, signer: Arc<dyn CertificateSigner>) -> Self {
        Self { identities, signer, clock: SystemClock::shared() }
    }
}

/// The controllers of credentials.
#[derive(Debug)]
pub struct Service {
    options: Options,
}

impl Service {
    /// Nothing happens until [`Service::run`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// None today: failed requests are retried for as long as it takes.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), crate::Error> {
        let Options { identities, signer, clock } = self.options;
        let requests = requests::Requests::start(identities("certificate-controller"), signer, clock.clone());
        let tokens =
            bootstrap::Tokens::start(identities("bootstrap-signer"), identities("token-cleaner"), clock);
        let roles = aggregation::Aggregation::start(identities("clusterrole-aggregation-controller"));
        tokio::select! {
            () = async { tokio::join!(requests.has_synced(), tokens.has_synced(), roles.has_synced()); } => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        let (request_queue, token_queue, role_queue) = (requests.queue(), tokens.queue(), roles.queue());
        let options = DriverOptions::new("certificatesigningrequest").concurrency(4);
        let signing = Driver::new(Arc::new(requests), request_queue, options);
        let tokens = Driver::new(Arc::new(tokens), token_queue, DriverOptions::new("bootstrap token"));
        let roles = Driver::new(Arc::new(roles), role_queue, DriverOptions::new("clusterrole aggregation"));
        tokio::join!(signing.run(shutdown.clone()), tokens.run(shutdown.clone()), roles.run(shutdown));
        Ok(())
    }
}
