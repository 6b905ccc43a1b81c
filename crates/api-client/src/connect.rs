//! Getting a `kube::Client`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::{
    Client, Config,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig file could not be read or makes no sense.
    #[error("reading the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// Neither a pod's service account nor a kubeconfig was found.
    #[error("finding a kubeconfig or a pod's service account")]
    Environment(#[source] Box<kube::config::InferConfigError>),
    /// What a server's certificate is to be checked against is no PEM bundle.
    #[error("reading the authorities")]
    Authorities(#[source] pem::PemError),
    /// The bundle has no certificate in it.
    #[error("the authorities hold no certificate")]
    NoAuthority,
    /// The configuration was read but no client could be built from it.
    #[error("building a client")]
    Build(#[source] Box<kube::Error>),
}

/// A client for the cluster that a kubeconfig file names, in its current context or in `context`.
///
/// # Errors
/// When the file cannot be read, names no such context, or its credentials cannot be used.
pub async fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Client, ConnectError> {
    let refuse = |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(refuse)?;
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(refuse)?;
    Client::try_from(config).map_err(|source| ConnectError::Build(Box::new(source)))
}

/// A client as `kubectl` would find its cluster: `KUBECONFIG`, `~/.kube/config`, or a pod's service account.
///
/// # Errors
/// When none of them is there or usable.
pub async fn from_environment() -> Result<Client, ConnectError> {
    let config = Config::infer().await.map_err(|source| ConnectError::Environment(Box::new(source)))?;
    Client::try_from(config).map_err(|source| ConnectError::Build(Box::new(source)))
}

/// A client for the cluster a pod runs in, as the pod's service account.
///
/// # Errors
/// When this is no pod or its service account cannot be read.
pub fn in_cluster() -> Result<Client, ConnectError> {
    let config = Config::incluster()
        .map_err(|source| ConnectError::Build(Box::new(kube::Error::Service(Box::new(source)))))?;
    Client::try_from(config).map_err(|source| ConnectError::Build(Box::new(source)))
}

/// A client of one server that is no API server: a receiver of notices, an issuer of tokens. `authorities` is the PEM
/// bundle that its certificate is checked against, the machine's own when none. No answer may take longer than `patience`.
/// Follows no redirection and tries nothing again: whoever asks decides that.
///
/// # Errors
/// When the bundle is none.
pub fn to_server(
    origin: http::Uri,
    authorities: Option<&str>,
    patience: Duration,
) -> Result<Client, ConnectError> {
    let mut config = Config::new(origin);
    (config.connect_timeout, config.read_timeout) = (Some(patience), Some(patience));
    config.default_retry = false;
    config.root_cert = authorities.map(certificates).transpose()?;
    Client::try_from(config).map_err(|source| ConnectError::Build(Box::new(source)))
}

/// The certificates of a PEM bundle, as DER; at least one.
///
/// # Errors
/// When the bundle is none, or has no certificate.
pub fn certificates(bundle: &str) -> Result<Vec<Vec<u8>>, ConnectError> {
    let blocks = pem::parse_many(bundle).map_err(ConnectError::Authorities)?;
    let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    let certificates: Vec<_> = certificates.map(pem::Pem::into_contents).collect();
    if certificates.is_empty() { Err(ConnectError::NoAuthority) } else { Ok(certificates) }
}

/// A client for an API server in the same process. Whoever builds `service` attaches the identity of the caller.
pub fn in_process<S, B>(service: S) -> Client
where
    S: tower::Service<http::Request<Body>, Response = http::Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    Client::new(service, "default")
}
