//! The server of a simulated pod: answers as the tool's `serve` does.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use streams::Duplex;

/// Bytes that wait in a connection.
const PIPE: usize = 64 << 10;

/// A connection to a server that says `text`, and `ok` for `/healthz`. The server ends with its client.
pub(super) fn serve(text: String) -> Duplex {
    let (near, far) = tokio::io::duplex(PIPE);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let said = if request.uri().path() == "/healthz" { "ok" } else { text.as_str() };
        let mut answer = http::Response::new(Full::new(Bytes::from(format!("{said}\n"))));
        let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
        answer.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        async move { Ok::<_, Infallible>(answer) }
    });
    tokio::spawn(async move {
        let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
        if let Err(error) = served.await {
            tracing::debug!(%error, "a connection to a simulated pod ended early");
        }
    });
    Box::new(near)
}
