//! A person's request for a cluster whose agent is at another process of the hub, passed on to that process: as the hub,
//! which says on whose behalf. The other process asks its own roles whether that person may, and audits it.

use fleet_objects::cluster_proxy_path;
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kube_objects::{Reason, Status, UserInfo};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Replica;
use super::directory::Seat;
use crate::access::head;
use crate::endpoints::Body;

/// Says that a request has been passed on: it is not passed on again. Who says it without being a process of the hub does
/// himself harm alone.
pub(crate) const FORWARDED: HeaderName = HeaderName::from_static("x-fairlead-forwarded");

/// Passes a request on. What the client says about itself goes no further than here: the head is written anew.
///
/// # Errors
/// 503 when the other process does not answer.
pub(crate) async fn pass_on(
    replica: &Replica,
    seat: &Seat,
    user: &UserInfo,
    cluster: &str,
    path: &str,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let (mut parts, body) = request.into_parts();
    let ours = parts.extensions.remove::<OnUpgrade>();
    // Also checks method, path and origin, as for a cluster that is here.
    head::plan(&parts, user, path)?;
    let head = head_for(&parts, user, cluster, path)?;
    let sent = replica.peers.send(&seat.url, Request::from_parts(head, body)).await;
    let mut answer = sent.map_err(|why| {
        tracing::warn!(cluster, replica = %seat.replica, %why, "a request was not passed on");
        Status::new(Reason::ServiceUnavailable, format!("cluster {cluster} is not connected"))
    })?;
    let theirs = answer.extensions_mut().remove::<OnUpgrade>();
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS
        && let (Some(ours), Some(theirs)) = (ours, theirs)
    {
        tokio::spawn(async move {
            let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else { return };
            // Either end may close; what was under way is passed on first.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
        });
    }
    Ok(answer)
}

/// The head of a request to another process: of the client's the method, the query and a few headers; and who asks.
fn head_for(client: &Parts, user: &UserInfo, cluster: &str, path: &str) -> Result<Parts, Status> {
    let query = client.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let uri = format!("{}{path}{query}", cluster_proxy_path(cluster));
    let mut head = Request::builder().method(client.method.clone()).uri(uri);
    let mut add = |name: String, value: &str| {
        let value = HeaderValue::from_str(value).map_err(Status::internal)?;
        let name = HeaderName::try_from(name).map_err(Status::internal)?;
        if let Some(headers) = head.headers_mut() {
            headers.append(name, value);
        }
        Ok::<(), Status>(())
    };
    add(FORWARDED.to_string(), "1")?;
    add("impersonate-user".to_owned(), &user.username)?;
    if !user.uid.is_empty() {
        add("impersonate-uid".to_owned(), &user.uid)?;
    }
    for group in &user.groups {
        add("impersonate-group".to_owned(), group)?;
    }
    for (key, values) in &user.extra {
        for value in values {
            add(format!("impersonate-extra-{}", escape(key)), value)?;
        }
    }
    for name in agent_protocol::access::REQUEST_HEADERS.map(HeaderName::from_static) {
        for value in client.headers.get_all(&name) {
            if let Some(value) = head::passed(&name, value) {
                add(name.to_string(), value.to_str().map_err(Status::internal)?)?;
            }
        }
    }
    if let Some(protocol) = head::upgrade(&client.headers) {
        add(CONNECTION.to_string(), "Upgrade")?;
        add(UPGRADE.to_string(), protocol.to_str().map_err(Status::internal)?)?;
    }
    Ok(head.body(()).map_err(Status::internal)?.into_parts().0)
}

/// Names of headers have no capital letters.
const NOT_IN_KEYS: &AsciiSet = &{
    let mut set = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
    let mut letter = b'A';
    while letter <= b'Z' {
        set = set.add(letter);
        letter += 1;
    }
    set
};

/// A key of what is known about a person, as a header's name carries it.
fn escape(key: &str) -> String {
    utf8_percent_encode(key, NOT_IN_KEYS).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_said_by_the_hub_alone() {
        let mut user = UserInfo::new("ada", &["dev", "system:authenticated"]);
        user.extra.insert("example.com/Team".to_owned(), vec!["web".to_owned()]);
        let request = Request::get("https://hub/x?limit=5")
            .header("impersonate-user", "smuggled")
            .header("authorization", "Bearer smuggled")
            .header("x-remote-user", "smuggled")
            .header("accept", "application/json");
        let client = request.body(()).unwrap().into_parts().0;
        let head = head_for(&client, &user, "prod", "/api/v1/pods").unwrap();
        assert_eq!(head.uri.to_string(), format!("{}/api/v1/pods?limit=5", cluster_proxy_path("prod")));
        let all = |name: &str| -> Vec<_> {
            head.headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            (all("impersonate-user"), all("impersonate-group")),
            (vec!["ada".to_owned()], vec!["dev".to_owned(), "system:authenticated".to_owned()])
        );
        assert_eq!(all("impersonate-extra-example.com%2f%54eam"), ["web"]);
        assert!(all("authorization").is_empty() && all("x-remote-user").is_empty());
        assert_eq!(all("accept"), ["application/json"]);
    }
}
