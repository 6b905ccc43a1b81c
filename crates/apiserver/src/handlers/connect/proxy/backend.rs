//! One request to a pod, its answer, and, after an upgrade, its connection.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming as Answer;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kube_objects::{Reason, Status};
use streams::Duplex;
use tokio_util::sync::CancellationToken;

use super::links::Links;
use super::{Incoming, Target, tls, unreachable};
use crate::extension::Body;
use crate::handlers::Call;
use crate::http::body;
use crate::server::Peer;

/// How long a connection may take to be made.
const DIAL_LIMIT: Duration = Duration::from_secs(30);
/// Bytes of a page whose links are rewritten; larger ones pass as they are.
const MAX_PAGE: usize = 8 << 20;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What concerns one connection only: RFC 9110, section 7.6.1.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Sends a request on and gives its answer.
pub(super) async fn forward(
    call: &Call,
    incoming: Incoming,
    target: Target,
    tail: &str,
) -> Result<Response<Body>, Status> {
    let io = tokio::time::timeout(DIAL_LIMIT, dial(call, &target))
        .await
        .unwrap_or_else(|_| Err(unreachable(format!("dial tcp {}: i/o timeout", target.authority()))))?;
    let links =
        Links::new(prefix(incoming.parts.uri.path(), tail), target.authority(), host(call, &incoming));
    let upgrade = incoming.upgrade.filter(|_| call.headers.contains_key(header::UPGRADE));
    let mut headers = headers(&call.headers, upgrade.is_some(), &links, tail);
    if let Some(peer) = incoming.parts.extensions.get::<Peer>() {
        forwarded_for(&mut headers, peer.address);
    }
    let mut request = Request::new(incoming.body);
    *request.method_mut() = incoming.parts.method;
    *request.uri_mut() = destination(tail, incoming.parts.uri.query())?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    request.headers_mut().entry(header::HOST).or_insert(header_value(&links.host)?);
    let answer = exchange(io, request, call.server.shutdown.clone()).await?;
    match upgrade {
        Some(upgrade) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => join(call, upgrade, answer),
        Some(_) if answer.status().as_u16() < 400 => {
            let code = answer.status().as_u16();
            Err(Status::internal(format!("invalid upgrade response: status code {code}")))
        }
        _ => answered(answer, &links, tail).await,
    }
}

/// Sends one request. Boxed: what a body's error may become would leak a lifetime into every caller's future.
fn exchange(
    io: Duplex,
    request: Request<Body>,
    stop: CancellationToken,
) -> BoxFuture<'static, Result<Response<Answer>, Status>> {
    Box::pin(async move {
        let request = request.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(io));
        let (mut sender, connection) = handshake.await.map_err(unreachable)?;
        // Ends by itself: with the answer's body, with the upgraded connection, or with the server.
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled_owned() => {}
                _ = connection.with_upgrades() => {}
            }
        });
        sender.send_request(request).await.map_err(unreachable)
    })
}

async fn dial(call: &Call, target: &Target) -> Result<Duplex, Status> {
    let io = call.nodes()?.connect(&target.pod, target.port).await;
    let io = io.map_err(|status| unreachable(status.message))?;
    if !target.tls {
        return Ok(io);
    }
    tls::connect(io, target.ip).await.map_err(unreachable)
}

/// What stands before the tail of a path.
fn prefix(path: &str, tail: &str) -> String {
    path.strip_suffix(tail).unwrap_or(path).trim_end_matches('/').to_owned()
}

/// The host the client asked.
fn host(call: &Call, incoming: &Incoming) -> String {
    let named = call.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let in_uri = incoming.parts.uri.authority().map(http::uri::Authority::as_str);
    named.or(in_uri).unwrap_or_default().to_owned()
}

fn header_value(text: &str) -> Result<HeaderValue, Status> {
    let bad = |_| Status::new(Reason::BadRequest, format!("invalid host {text:?}"));
    HeaderValue::from_str(text).map_err(bad)
}

fn destination(tail: &str, query: Option<&str>) -> Result<Uri, Status> {
    let slash = if tail.starts_with('/') { "" } else { "/" };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let text = format!("{slash}{tail}{query}");
    text.parse().map_err(|_| Status::new(Reason::BadRequest, format!("invalid path {text:?}")))
}

/// The client's headers without what was for this server alone: its credentials must not reach a pod.
fn headers(own: &HeaderMap, upgrading: bool, links: &Links, tail: &str) -> HeaderMap {
    let named: Vec<String> = own
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let dropped = |name: &HeaderName| {
        let text = name.as_str();
        let hop = HOP_BY_HOP.contains(&text) || named.iter().any(|own| own == text);
        let kept = upgrading && matches!(text, "connection" | "upgrade");
        hop && !kept || text == "authorization" || text.starts_with("impersonate-")
    };
    let mut headers: HeaderMap = own
        .iter()
        .filter(|(name, _)| !dropped(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Ok(uri) = HeaderValue::from_str(&links.forwarded(tail)) {
        headers.insert(HeaderName::from_static("x-forwarded-uri"), uri);
    }
    headers
}

/// Names the client behind those that are named already.
fn forwarded_for(headers: &mut HeaderMap, client: std::net::IpAddr) {
    let before: Vec<String> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .collect();
    let all = before.into_iter().chain([client.to_string()]).collect::<Vec<_>>().join(", ");
    if let Ok(value) = HeaderValue::from_str(&all) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// An ordinary answer: its links point through this server again.
async fn answered(answer: Response<Answer>, links: &Links, tail: &str) -> Result<Response<Body>, Status> {
    let (mut parts, answer) = answer.into_parts();
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    parts.version = Version::default();
    if let Some(location) = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) {
        if let Ok(location) = HeaderValue::from_str(&links.rewrite(location)) {
            parts.headers.insert(header::LOCATION, location);
        }
        return Ok(Response::from_parts(parts, passed(answer)));
    }
    let is = |name: HeaderName, wanted: &str| {
        let value = parts.headers.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.split(';').next().is_some_and(|kind| kind.trim() == wanted))
    };
    let gzip = is(header::CONTENT_ENCODING, "gzip");
    let readable = gzip || !parts.headers.contains_key(header::CONTENT_ENCODING);
    if !is(header::CONTENT_TYPE, "text/html") || !readable || tail.is_empty() {
        return Ok(Response::from_parts(parts, passed(answer)));
    }
    let page = page(answer).await?;
    let rewritten = match page {
        Page::Whole(page) if gzip => links.gzipped(&page, MAX_PAGE).unwrap_or_else(|| page.to_vec()),
        Page::Whole(page) => links.page(&page),
        Page::TooLong(begun, rest) => {
            let begun = futures::stream::once(async { Ok(http_body::Frame::data(begun)) });
            let rest = http_body_util::BodyStream::new(rest);
            let whole = http_body_util::StreamBody::new(futures::StreamExt::chain(begun, rest));
            return Ok(Response::from_parts(parts, whole.boxed_unsync()));
        }
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, body::full(rewritten)))
}

fn passed(answer: Answer) -> Body {
    answer.map_err(Into::into).boxed_unsync()
}

enum Page {
    Whole(Bytes),
    TooLong(Bytes, Body),
}

async fn page(answer: Answer) -> Result<Page, Status> {
    let mut answer = passed(answer);
    let mut whole = BytesMut::new();
    while let Some(frame) = answer.frame().await {
        let Ok(data) = frame.map_err(unreachable)?.into_data() else { continue };
        whole.extend_from_slice(&data);
        if whole.len() > MAX_PAGE {
            return Ok(Page::TooLong(whole.freeze(), answer));
        }
    }
    Ok(Page::Whole(whole.freeze()))
}

/// Both sides have changed their protocol: their bytes are passed on until either ends.
fn join(call: &Call, upgrade: OnUpgrade, answer: Response<Answer>) -> Result<Response<Body>, Status> {
    let mut head = Response::new(body::full(Bytes::new()));
    *head.status_mut() = answer.status();
    *head.headers_mut() = answer.headers().clone();
    let theirs = hyper::upgrade::on(answer);
    call.server.sessions.start(upgrade, move |mut ours| async move {
        match theirs.await {
            Ok(theirs) => {
                let copied = tokio::io::copy_bidirectional(&mut ours, &mut TokioIo::new(theirs)).await;
                if let Err(error) = copied {
                    tracing::debug!(%error, "a proxied connection ended early");
                }
            }
            Err(error) => tracing::debug!(%error, "a pod did not upgrade its connection after all"),
        }
    })?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_what_concerns_one_connection_stay_here() {
        let own: HeaderMap = [
            ("authorization", "Bearer x"),
            ("impersonate-user", "root"),
            ("connection", "close, X-Own"),
            ("x-own", "1"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ]
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
        let links = Links::new("/p/proxy".to_owned(), "10.0.0.1:80".to_owned(), "h".to_owned());
        let names = |upgrading| {
            let headers = headers(&own, upgrading, &links, "/a/");
            assert_eq!(headers["x-forwarded-uri"], "/p/proxy/a/");
            let mut names: Vec<String> = headers.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(names(false), ["accept", "x-forwarded-uri"]);
        assert_eq!(names(true), ["accept", "connection", "upgrade", "x-forwarded-uri"]);
    }

    #[test]
    fn destinations_keep_what_was_escaped() {
        let of = |tail, query| destination(tail, query).map(|uri| uri.to_string());
        assert_eq!(of("", None).as_deref(), Ok("/"));
        assert_eq!(of("/a%2Fb/", Some("x=1")).as_deref(), Ok("/a%2Fb/?x=1"));
        assert_eq!(of("a", None).as_deref(), Ok("/a"));
        assert_eq!(
            prefix("/api/v1/namespaces/n/pods/p/proxy/a/", "/a/"),
            "/api/v1/namespaces/n/pods/p/proxy"
        );
    }
}
