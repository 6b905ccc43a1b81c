//! Waiting until a server answers.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};

use super::error::UpError;

/// Between two tries; a start takes some hundred milliseconds.
const LOOK: Duration = Duration::from_millis(10);

/// A server that answers.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) address: SocketAddr,
    /// `sha256:…` of its authority.
    pub(crate) pin: String,
}

/// Waits until there is a kubeconfig and the server it names is ready. Never gives up: the caller does.
pub(crate) async fn server(kubeconfig: &Path) -> Result<Server, UpError> {
    loop {
        // The file appears whole.
        if let Ok(text) = tokio::fs::read_to_string(kubeconfig).await {
            let server = connect(&text).await?;
            if ready(&server.client).await {
                return Ok(server);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn connect(kubeconfig: &str) -> Result<Server, UpError> {
    let invalid =
        |source: crate::error::Cause| UpError::Request { what: "understand a kubeconfig".to_owned(), source };
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).map_err(|error| invalid(error.into()))?;
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options);
    let config = config.await.map_err(|error| invalid(error.into()))?;
    let address = config.cluster_url.authority().and_then(|authority| authority.as_str().parse().ok());
    let address = address.ok_or_else(|| invalid("it names no address".into()))?;
    let authority = config.root_cert.as_deref().and_then(|roots| roots.first());
    let authority = authority.ok_or_else(|| invalid("it names no authority".into()))?;
    let pin = access::certificates::pin_of_certificate(authority).map_err(|error| invalid(error.into()))?;
    let client = Client::try_from(config).map_err(|error| invalid(error.into()))?;
    Ok(Server { client, address, pin: pin.to_string() })
}

async fn ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else { return false };
    client.request_text(request).await.is_ok()
}
