//! A client whose requests share one connection where the hub speaks HTTP/2, as ours does: for thousands of agents one
//! handshake each after a restart of the hub, and a fifth of the buffers at rest. Proxies that speak only HTTP/1.1 still do.

use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{ClientBuilder, ConfigExt as _};
use kube::{Client, Config};
use tower::Layer as _;

use crate::error::Error;

/// How long a connection may be without a sign of life before it is given up: what is sent into a broken line must not
/// wait for the operating system's patience.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A client of a hub by its configuration.
pub(super) fn client(config: &Config) -> Result<Client, Error> {
    let mut plain = HttpConnector::new();
    plain.enforce_http(false);
    plain.set_nodelay(true);
    plain.set_connect_timeout(config.connect_timeout);
    let tls = config.rustls_client_config().map_err(Error::hub("make a client"))?;
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
    let connector = builder.enable_all_versions().wrap_connector(plain);
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .build(connector);
    let service = config.base_uri_layer().layer(http);
    Ok(ClientBuilder::new(service, config.default_namespace.clone()).build())
}
