//! The listener: TLS with optional client certificates, HTTP/1.1 and HTTP/2.

use std::cell::RefCell;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulConnection;
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::BoxError;

use super::severable::Severable;
use crate::server::{AUDIT_ID, Peer, Server};

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
    // Of thousands of connections every kilobyte counts: what a handshake takes goes with it, and what is moved about while it
    // is made would stay reserved in each place where it was.
    let Some((stream, peer)) = Box::pin(handshake(stream, address, acceptor, &server)).await else { return };
    let (stream, knife) = Severable::new(stream);
    let certificate = peer.certificate.clone();
    let mut running = requests(stream, peer, Arc::clone(&server));
    // What was upgraded goes on elsewhere.
    let held = async {
        let ended = tokio::select! {
            ended = running.as_mut() => ended,
            () = shutdown.cancelled() => {
                running.as_mut().graceful_shutdown();
                running.as_mut().await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = &*error, "a connection ended early");
        }
        drop(running);
        shutdown.run_until_cancelled(knife.gone()).await;
    };
    tokio::select! {
        () = held => {}
        () = server.distrusted(certificate.as_ref()) => knife.cut(),
    }
}

/// Lets a client in, and says who it is.
async fn handshake(
    stream: TcpStream,
    address: IpAddr,
    acceptor: TlsAcceptor,
    server: &Server,
) -> Option<(TlsStream<TcpStream>, Peer)> {
    let tls = match tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    let chain = tls.get_ref().1.peer_certificates();
    let front_proxy = server.is_front_proxy(chain);
    // A front proxy's own certificate need not be one of a client.
    let certificate = if front_proxy { None } else { server.verify_peer(chain) };
    Some((tls, Peer { certificate, address, front_proxy }))
}

/// Answers what comes over a connection.
fn requests(
    stream: Severable<TlsStream<TcpStream>>,
    peer: Peer,
    server: Arc<Server>,
) -> Pin<Box<impl GracefulConnection<Error = BoxError>>> {
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let (server, peer) = (Arc::clone(&server), peer.clone());
        async move {
            let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            request.extensions_mut().insert(peer);
            let multiplexed = request.version() == http::Version::HTTP_2;
            let mut response = server.handle(request).await;
            if multiplexed {
                keep_out_of_table(response.headers_mut());
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(250)
        .keep_alive_interval(Duration::from_secs(30));
    Box::pin(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned())
}

/// What differs in every answer is not remembered for the next one: a connection's table of headers, which both sides keep, would
/// be filled with it (nine kilobytes for each of thousands of agents), and nothing be found there again.
fn keep_out_of_table(headers: &mut HeaderMap) {
    headers.entry(header::DATE).or_insert_with(date);
    for name in [header::DATE, AUDIT_ID] {
        if let Some(value) = headers.get_mut(name) {
            value.set_sensitive(true);
        }
    }
}

/// The time as answers say it (RFC 9110, IMF-fixdate); written once in a second on each thread.
fn date() -> HeaderValue {
    thread_local! {
        static WRITTEN: RefCell<(i64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let now = jiff::Timestamp::now();
    WRITTEN.with_borrow_mut(|(second, written)| {
        if *second != now.as_second()
            && let Ok(text) = DateTimePrinter::new().timestamp_to_rfc9110_string(&now)
        {
            *written = HeaderValue::from_str(&text).expect("letters, digits, commas and colons");
            *second = now.as_second();
        }
        written.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_every_answer_is_not_remembered() {
        let mut headers = HeaderMap::new();
        headers.insert(AUDIT_ID, HeaderValue::from_static("one"));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        keep_out_of_table(&mut headers);
        let kept: Vec<bool> = [AUDIT_ID, header::DATE, header::CONTENT_TYPE]
            .iter()
            .map(|name| headers[name].is_sensitive())
            .collect();
        assert_eq!(kept, [true, true, false]);
        let date = headers[header::DATE].to_str().unwrap();
        let parsed = jiff::fmt::rfc2822::parse(date).unwrap().timestamp();
        assert!(
            jiff::Timestamp::now().duration_since(parsed).as_secs() < 60 && date.ends_with(" GMT"),
            "{date}"
        );
    }

    /// What the future takes, and what is in the box.
    fn size<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    fn boxed_size<A, B, C, F>(_: fn(A, B, C) -> Pin<Box<F>>) -> usize {
        size_of::<F>()
    }

    /// A future holds what it awaits twice where it is moved into place; that made twelve kilobytes of a connection.
    #[test]
    fn a_connection_takes_little() {
        let (task, requests) = (size(connection), boxed_size(requests));
        assert!(task + requests <= 5 * 1024, "{task} and {requests} bytes");
    }
}
