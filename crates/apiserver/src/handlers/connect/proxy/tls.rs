//! TLS to pods. Their certificates are not verified, as upstream's proxy transport does not: nobody could say by which
//! authority; what a pod is was decided by its address.

use std::sync::Arc;

use rustls_pki_types::ServerName;
use streams::Duplex;
use tokio_rustls::TlsConnector;

/// The same connection inside of TLS.
pub(super) async fn connect(io: Duplex, ip: std::net::IpAddr) -> Result<Duplex, String> {
    let config = access::tls::unverified_client_config().map_err(|error| error.to_string())?;
    let connector = TlsConnector::from(Arc::new(config));
    let connected = connector.connect(ServerName::from(ip), io).await;
    connected.map(|tls| Box::new(tls) as Duplex).map_err(|error| error.to_string())
}
