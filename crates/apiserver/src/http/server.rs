//! The listener: TLS with optional client certificates, HTTP/1.1 and HTTP/2.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::{Peer, Server};

/// Connections at once: enough for thousands of watchers over HTTP/1.1, within an ordinary limit of open files.
const CONNECTIONS: usize = 16_384;

/// How long a client may take for its handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long requests in flight have when the server stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// How long to wait after accepting failed (out of file descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts until `shutdown`, then lets requests in flight end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    server: Arc<Server>,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let tracker = TaskTracker::new();
    while let Some(Ok(place)) = shutdown.run_until_cancelled(Arc::clone(&places).acquire_owned()).await {
        let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await else { break };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, server, shutdown) = (acceptor.clone(), Arc::clone(&server), shutdown.clone());
        tracker.spawn(async move {
            Box::pin(connection(stream, address.ip(), acceptor, server, shutdown)).await;
            drop(place);
        });
    }
    tracker.close();
    let _ = tokio::time::timeout(DRAIN_LIMIT, tracker.wait()).await;
}

async fn connection(
    stream: TcpStream,
    address: IpAddr,
    acceptor: TlsAcceptor,
    server: Arc<Server>,
    shutdown: CancellationToken,
) {
    // Watch events are small and must not wait for more.
    let _ = stream.set_nodelay(true);
    let tls = match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let chain = tls.get_ref().1.peer_certificates();
    let front_proxy = server.is_front_proxy(chain);
    // A front proxy's own certificate need not be one of a client.
    let certificate = if front_proxy { None } else { server.verify_peer(chain) };
    let peer = Peer { certificate, address, front_proxy };
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let (server, peer) = (Arc::clone(&server), peer.clone());
        async move {
            let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            request.extensions_mut().insert(peer);
            Ok::<_, std::convert::Infallible>(server.handle(request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .keep_alive_interval(Duration::from_secs(30));
    let running = builder.serve_connection_with_upgrades(TokioIo::new(tls), service);
    tokio::pin!(running);
    let ended = tokio::select! {
        ended = running.as_mut() => ended,
        () = shutdown.cancelled() => {
            running.as_mut().graceful_shutdown();
            running.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
