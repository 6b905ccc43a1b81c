//! A request on its way to an aggregated API server.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use kube_objects::{Status, UserInfo};

use super::Remote;
use crate::extension::{Body, BoxError};
use crate::http::body::full;
use crate::http::response;
use crate::server::{Peer, Server};

/// What only concerns one connection (RFC 9110 §7.6.1).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Takes away what only a front proxy may say.
pub(crate) fn without_remote_headers(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Serves a request there.
pub(crate) async fn serve(
    server: &Arc<Server>,
    remote: &Remote,
    user: &UserInfo,
    mut parts: Parts,
    body: Body,
) -> Result<Response<Body>, Status> {
    if !remote.is_available() {
        return Ok(error(StatusCode::SERVICE_UNAVAILABLE, "service unavailable"));
    }
    let upgrade = parts.headers.get(header::UPGRADE).cloned().filter(|_| {
        let connection = parts.headers.get_all(header::CONNECTION).iter();
        connection
            .filter_map(|value| value.to_str().ok())
            .any(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case("upgrade")))
    });
    let ours = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    forwarded(&mut parts, user);
    if let Some(protocol) = &upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, protocol.clone());
    }
    parts.extensions.clear();
    parts.version = http::Version::HTTP_11;
    // What was asked for, without scheme and host: those are the other server's.
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    parts.uri = target.parse().map_err(Status::internal)?;
    let answered = remote.send(server.objects.as_ref(), Request::from_parts(parts, body)).await;
    let mut answer = match answered {
        Ok(answer) => answer,
        Err(why) => {
            tracing::debug!(name = remote.name, why, "an aggregated API server did not answer");
            let text = format!("error trying to reach service: {why}");
            return Ok(error(StatusCode::SERVICE_UNAVAILABLE, &text));
        }
    };
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(ours) = ours else {
            return Ok(error(StatusCode::BAD_GATEWAY, "the connection cannot be upgraded"));
        };
        let theirs = hyper::upgrade::on(&mut answer);
        server.sessions.start(ours, |mut client| async move {
            let Ok(theirs) = theirs.await else { return };
            // Either end may close; what was under way is passed on first.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut TokioIo::new(theirs)).await;
        })?;
        let (parts, _) = answer.into_parts();
        return Ok(Response::from_parts(parts, full(bytes::Bytes::new())));
    }
    let (mut parts, body) = answer.into_parts();
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    Ok(Response::from_parts(parts, body.map_err(BoxError::from).boxed_unsync()))
}

/// Makes a client's head one of the front proxy.
fn forwarded(parts: &mut Parts, user: &UserInfo) {
    let peer = parts.extensions.get::<Peer>().map(|peer| peer.address);
    let headers = &mut parts.headers;
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers.remove(header::AUTHORIZATION);
    without_remote_headers(headers);
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add("x-remote-user", &user.username);
    if !user.uid.is_empty() {
        add("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        add("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        for value in values {
            add(&format!("x-remote-extra-{}", kube_objects::extra_header_key(key)), value);
        }
    }
    if let Some(address) = peer {
        let before = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
        let all = before.map_or_else(|| address.to_string(), |before| format!("{before}, {address}"));
        if let Ok(value) = HeaderValue::from_str(&all) {
            headers.insert(HeaderName::from_static("x-forwarded-for"), value);
        }
    }
}

/// Text, as upstream's aggregator answers.
fn error(code: StatusCode, text: &str) -> Response<Body> {
    let mut answer = response::plain(code.as_u16(), "text/plain; charset=utf-8", format!("{text}\n").into());
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let request = Request::get("/apis/g/v1/things?x=1")
            .header("X-Remote-User", "root")
            .header("X-Remote-Group", "system:masters")
            .header("X-Remote-Extra-Scopes", "all")
            .header("Authorization", "Bearer secret")
            .header("Connection", "keep-alive")
            .body(())
            .unwrap();
        let (mut parts, ()) = request.into_parts();
        let mut user = UserInfo::new("ada", &["dev"]);
        user.extra.insert("acme.org/scopes".to_owned(), vec!["view".to_owned()]);
        forwarded(&mut parts, &user);
        let of = |name: &str| -> Vec<&str> {
            parts.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
        };
        assert_eq!(of("x-remote-user"), ["ada"]);
        assert_eq!(of("x-remote-group"), ["dev"]);
        assert_eq!(of("x-remote-extra-acme.org%2Fscopes"), ["view"]);
        assert!(of("x-remote-extra-scopes").is_empty() && of("authorization").is_empty());
        assert!(of("connection").is_empty());
    }
}
