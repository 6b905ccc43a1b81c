//! [`Options`] in, [`Service`] to run, [`Handle`] to reach it in process.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use storage::Store;

use crate::catalogue::Catalogue;
use crate::extension::Extension;
use crate::node_connection::NodeConnection;
use crate::registry::bootstrap::Facts;

/// What a server is made of.
#[derive(Clone)]
pub struct Options {
    /// Where objects are kept.
    pub store: Arc<dyn Store>,
    /// Which kinds are served.
    pub catalogue: Catalogue,
    /// TLS; `None` with a `bind` is refused: credentials never travel in the clear.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Where to listen; `None`: in process only.
    pub bind: Option<SocketAddr>,
    /// Endpoints that are not Kubernetes objects.
    pub extensions: Vec<Extension>,
    /// How `pods/log` reaches nodes; `None` answers such requests 503.
    pub nodes: Option<Arc<dyn NodeConnection>>,
    /// What start-up objects depend on.
    pub facts: Facts,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("bind", &self.bind)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl Options {
    /// A server in process only, with nothing plugged in.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, catalogue: Catalogue) -> Self {
        let facts = Facts { cluster: catalogue.is_cluster(), ..Facts::default() };
        Self { store, catalogue, tls: None, bind: None, extensions: Vec::new(), nodes: None, facts }
    }
}
