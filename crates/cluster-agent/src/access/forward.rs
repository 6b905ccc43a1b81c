//! One request of a person, put to the cluster's API server.

use agent_protocol::access::{METHOD, PERSON, REQUEST_HEADERS, RESPONSE_HEADERS, decode_person};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::client::Body;
use kube_objects::{Reason, Status};

use super::person::impersonation;

/// What a request may send: Kubernetes takes 3 MiB, and what is proxied further a little more.
const MAX_BODY: usize = 4 << 20;

/// Asks, and answers what was answered; what goes wrong is an answer too.
pub(super) async fn forward(cluster: Client, mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = request.extensions().get::<Protocol>().cloned();
    let head = match plan(request.headers(), request.method(), request.uri(), upgrade.as_ref()) {
        Ok(head) => head,
        Err(message) => return refusal(Reason::BadRequest, &message),
    };
    let tunnel = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    let body = if upgrade.is_some() { Ok(Body::empty()) } else { read(request.into_body()).await };
    let body = match body {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    let mut answer = match cluster.send(Request::from_parts(head, body)).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%error, "this cluster's API server did not answer a person's request");
            return refusal(
                Reason::ServiceUnavailable,
                "the cluster's API server cannot be reached by its agent",
            );
        }
    };
    let Some(tunnel) = tunnel.filter(|_| answer.status() == StatusCode::SWITCHING_PROTOCOLS) else {
        let headers = kept(answer.headers(), &RESPONSE_HEADERS);
        // A connection that changes its protocol unasked is no answer.
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return refusal(
                Reason::ServiceUnavailable,
                "the cluster's API server changed the protocol unasked",
            );
        }
        let (mut parts, body) = answer.into_parts();
        parts.headers = headers;
        parts.version = http::Version::HTTP_2;
        parts.extensions.clear();
        return Response::from_parts(parts, body);
    };
    let connection = hyper::upgrade::on(&mut answer);
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = kept(answer.headers(), &RESPONSE_HEADERS);
    // Ends when either end does: the tunnel's when the hub lets go of the request.
    tokio::spawn(async move {
        let (Ok(tunnel), Ok(connection)) = tokio::join!(tunnel, connection) else { return };
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(tunnel), &mut TokioIo::new(connection)).await;
    });
    response
}

/// A request's body; an API server takes 3 MiB.
async fn read(body: Incoming) -> Result<Body, Response<Body>> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(collected) => Ok(Body::from(collected.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the body is larger than {MAX_BODY} bytes");
            Err(refusal(Reason::RequestEntityTooLarge, &message))
        }
        Err(error) => Err(refusal(Reason::BadRequest, &format!("the body could not be read: {error}"))),
    }
}

/// The head for the API server, written anew: what a hub sends beyond its part is dropped here a second time.
fn plan(given: &HeaderMap, method: &Method, uri: &Uri, upgrade: Option<&Protocol>) -> Result<Parts, String> {
    let person = given.get(PERSON).and_then(|value| value.to_str().ok()).and_then(decode_person);
    let person = person.ok_or("the hub does not say on whose behalf it asks")?;
    let method = match (upgrade, given.get(METHOD)) {
        (None, _) if *method == Method::CONNECT => {
            return Err("nothing is dialled on the hub's behalf".to_owned());
        }
        (None, _) => method.clone(),
        (Some(_), Some(method)) if method == "GET" => Method::GET,
        (Some(_), Some(method)) if method == "POST" => Method::POST,
        (Some(_), _) => return Err("a connection is upgraded by GET or POST".to_owned()),
    };
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let request =
        Request::builder().method(method).uri(target).body(()).map_err(|error| error.to_string())?;
    let mut head = request.into_parts().0;
    head.headers = kept(given, &REQUEST_HEADERS);
    head.headers.extend(impersonation(&person)?);
    if let Some(protocol) = upgrade {
        let protocol = HeaderValue::from_bytes(protocol.as_ref()).map_err(|error| error.to_string())?;
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers.insert(header::UPGRADE, protocol);
    }
    Ok(head)
}

fn kept(given: &HeaderMap, names: &[&'static str]) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in names.iter().map(|name| HeaderName::from_static(name)) {
        for value in given.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

fn refusal(reason: Reason, message: &str) -> Response<Body> {
    let status = Status::new(reason, message);
    let mut response = Response::new(Body::from(status.to_json().to_string().into_bytes()));
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use agent_protocol::access::encode_person;
    use kube_objects::UserInfo;

    use super::*;

    fn given(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let person = encode_person(&UserInfo::new("ada", &[]));
        headers.insert(PERSON, HeaderValue::from_str(&person).unwrap());
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_hub_that_was_taken_over_cannot_say_who_the_agent_acts_as() {
        let headers = given(&[
            ("impersonate-user", "system:admin"),
            ("impersonate-group", "system:masters"),
            ("impersonate-extra-x", "y"),
            ("authorization", "Bearer stolen"),
            ("x-remote-user", "root"),
            ("cookie", "a=b"),
            ("accept", "application/json"),
        ]);
        let uri: Uri = "https://elsewhere:9/api/v1/pods?watch=1".parse().unwrap();
        let head = plan(&headers, &Method::GET, &uri, None).unwrap();
        let mut names: Vec<&str> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "impersonate-user"]);
        assert_eq!(head.headers["impersonate-user"], "cluster:hub:ada");
        assert_eq!(head.uri, "/api/v1/pods?watch=1", "the agent's own API server and no other");
    }

    #[test]
    fn nothing_is_dialled_and_nobody_is_nobody() {
        let uri: Uri = "https://cluster/x".parse().unwrap();
        assert!(plan(&given(&[]), &Method::CONNECT, &uri, None).is_err());
        assert!(plan(&HeaderMap::new(), &Method::GET, &uri, None).is_err());
        let spdy = Protocol::from_static("SPDY/3.1");
        assert!(plan(&given(&[]), &Method::CONNECT, &uri, Some(&spdy)).is_err());
        assert!(plan(&given(&[(METHOD, "DELETE")]), &Method::CONNECT, &uri, Some(&spdy)).is_err());
        let head = plan(&given(&[(METHOD, "POST")]), &Method::CONNECT, &uri, Some(&spdy)).unwrap();
        assert_eq!((head.method, head.headers["upgrade"].to_str().unwrap()), (Method::POST, "SPDY/3.1"));
    }
}
