//! Where etcd is and how it is spoken to.

use std::fmt;
use std::time::Duration;

use storage::Witness;

/// Keys lie below this unless said otherwise.
pub const DEFAULT_PREFIX: &str = "/fairlead";

/// A client's side of TLS.
#[derive(Clone, Default)]
pub struct Tls {
    /// PEM bundle that etcd's certificate is checked against.
    pub certificate_authority: Option<Vec<u8>>,
    /// PEM certificate chain shown to etcd.
    pub certificate: Option<Vec<u8>>,
    /// PEM key of that certificate.
    pub key: Option<Vec<u8>>,
    /// The name that etcd's certificate must carry, when it is not the endpoint's host.
    pub server_name: Option<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// How an etcd store is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// URLs of the cluster's members; at least one. A call that cannot reach one goes to the next.
    pub endpoints: Vec<String>,
    /// TLS for `https` endpoints.
    pub tls: Tls,
    /// Everything lies below this; two stores in one etcd differ in it.
    pub prefix: String,
    /// How long one call may take before it counts as failed.
    pub call_timeout: Duration,
    /// How many calls may be on their way at once; more wait. One costs at most a page of values (64 MiB) of memory.
    pub calls_in_flight: usize,
    /// How long history is kept by automatic compaction; `None`: only when asked for. Servers of one store take turns.
    pub history: Option<Duration>,
    /// Create the store when there is none; otherwise that is an error.
    pub create: bool,
    /// What this process knows to have been served of the store: the guard against revisions that go back.
    pub witness: Option<Witness>,
}

impl Options {
    /// With the defaults: five seconds per call, five minutes of history.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            tls: Tls::default(),
            prefix: DEFAULT_PREFIX.to_owned(),
            call_timeout: Duration::from_secs(5),
            calls_in_flight: 256,
            history: Some(Duration::from_secs(300)),
            create: true,
            witness: None,
        }
    }
}

/// An endpoint that cannot be one, or TLS material that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{endpoint}` cannot be used as an etcd endpoint: {reason}")]
pub struct InvalidEndpoint {
    /// Which one.
    pub endpoint: String,
    /// What is wrong.
    pub reason: String,
}
