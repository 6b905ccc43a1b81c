//! The head of a request to a cluster, written anew. Pure.

use agent_protocol::access::{
    METHOD, PERSON, REQUEST_HEADERS, RESPONSE_HEADERS, encode_person, websocket_protocols,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use kube_objects::{Reason, Status, UserInfo};

/// What roles on the hub speak of; any other method would be authorized as one of these.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// A request as it goes through the tunnel.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Its head.
    pub(crate) head: Parts,
    /// What the client's connection becomes, where it is upgraded.
    pub(crate) upgrade: Option<HeaderValue>,
}

/// Writes the head for `path` in the cluster on behalf of `user`. Nothing of the client's head is taken over but the method,
/// the query and the headers of [`REQUEST_HEADERS`].
///
/// # Errors
/// 405 for a method that no verb stands for, 400 for a path that is none, 403 for an upgrade that another site's page asks for.
pub(crate) fn plan(client: &Parts, user: &UserInfo, path: &str) -> Result<Planned, Status> {
    if !METHODS.contains(&client.method) {
        return Err(Status::new(
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        ));
    }
    let upgrade = upgrade(&client.headers);
    if upgrade.is_some() {
        same_origin(client)?;
    }
    let mut request = Request::builder().uri(target(client, path)?).method(client.method.clone());
    if let Some(protocol) = &upgrade {
        let method = HeaderValue::from_str(client.method.as_str()).map_err(Status::internal)?;
        let text = protocol.to_str().map_err(|_| bad("the protocol to upgrade to is no word"))?;
        request = request.method(Method::CONNECT).header(METHOD, method);
        request = request.extension(hyper::ext::Protocol::from(text));
    }
    let mut head =
        request.header(PERSON, encode_person(user)).body(()).map_err(Status::internal)?.into_parts().0;
    for name in REQUEST_HEADERS.map(HeaderName::from_static) {
        for value in client.headers.get_all(&name) {
            if let Some(value) = passed(&name, value) {
                head.headers.append(name.clone(), value);
            }
        }
    }
    Ok(Planned { head, upgrade })
}

/// What goes back to the client of an answer's headers.
pub(super) fn answer_headers(given: &HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    for name in RESPONSE_HEADERS.map(HeaderName::from_static) {
        for value in given.get_all(&name) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// A header of the client's as it may go on; `None`: not at all.
pub(crate) fn passed(name: &HeaderName, value: &HeaderValue) -> Option<HeaderValue> {
    if name != header::SEC_WEBSOCKET_PROTOCOL {
        return Some(value.clone());
    }
    let left = websocket_protocols(value.to_str().ok()?);
    (!left.is_empty()).then(|| HeaderValue::from_str(&left).ok()).flatten()
}

/// What a request wants its connection to become.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asked =
        asked.flat_map(|text| text.split(',')).any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

/// A browser says on which site's behalf it opens a WebSocket, and sends the user's certificate whatever the site.
fn same_origin(client: &Parts) -> Result<(), Status> {
    let Some(origin) = client.headers.get(header::ORIGIN) else { return Ok(()) };
    let host = client.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let host = host.or_else(|| client.uri.authority().map(http::uri::Authority::as_str));
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://")).map(|(_, authority)| authority);
    if origin.is_some() && origin == host {
        return Ok(());
    }
    Err(Status::new(Reason::Forbidden, "the page that asks for this connection is another site's"))
}

/// The path in the cluster, with the client's query. Its segments are looked at decoded: what the audit log shows is what
/// the cluster is asked for.
fn target(client: &Parts, path: &str) -> Result<Uri, Status> {
    let path = if path.is_empty() { "/" } else { path };
    let dots = |segment: &str| {
        let plain = segment.to_ascii_lowercase().replace("%2e", ".");
        plain == "." || plain == ".."
    };
    if !path.starts_with('/') || path.split('/').any(dots) {
        return Err(bad("the path must not step out of itself"));
    }
    let query = client.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    // The authority is never looked at: an agent asks its own API server and nobody else.
    let uri = Uri::builder().scheme("https").authority("cluster").path_and_query(format!("{path}{query}"));
    uri.build().map_err(|error| bad(&format!("the path cannot be used: {error}")))
}

fn bad(message: &str) -> Status {
    Status::new(Reason::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use agent_protocol::access::decode_person;

    use super::*;

    fn head(request: http::request::Builder) -> Parts {
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn nothing_that_a_client_says_about_itself_goes_through() {
        let mut request = Request::get("https://hub/x?limit=5").header("accept", "application/json");
        for name in [
            "Authorization",
            "Cookie",
            "Impersonate-User",
            "Impersonate-Group",
            "Impersonate-Extra-Scopes",
            "IMPERSONATE-UID",
            "X-Remote-User",
            "X-Remote-Group",
            "X-Forwarded-For",
            "Forwarded",
            "X-Fairlead-Person",
            "X-Fairlead-Method",
            "Connection",
            "Keep-Alive",
            "TE",
            "Transfer-Encoding",
            "Proxy-Authorization",
            "Host",
            "X-HTTP-Method-Override",
        ] {
            request = request.header(name, "smuggled");
        }
        let user = UserInfo::new("ada", &["dev"]);
        let planned = plan(&head(request), &user, "/api/v1/pods").unwrap();
        let mut names: Vec<&str> = planned.head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", PERSON]);
        let person = planned.head.headers[PERSON].to_str().unwrap();
        assert_eq!(decode_person(person).unwrap().username, "ada");
        assert_eq!(planned.head.uri.to_string(), "https://cluster/api/v1/pods?limit=5");
        assert!(planned.upgrade.is_none());
    }

    #[test]
    fn a_header_named_in_connection_is_no_way_around() {
        let request = Request::get("https://hub/x")
            .header("connection", "x-fairlead-person, upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("x-fairlead-person", "smuggled");
        let planned = plan(&head(request), &UserInfo::new("ada", &[]), "/x").unwrap();
        assert_eq!(planned.head.headers.get_all(PERSON).iter().count(), 1);
        assert_eq!(planned.head.method, Method::CONNECT);
        assert_eq!(planned.head.headers[METHOD], "GET");
    }

    #[test]
    fn a_method_that_no_role_speaks_of_does_not_pass_as_another() {
        for method in ["post", "PROPFIND", "CONNECT", "TRACE", "Delete"] {
            let request = head(Request::builder().method(method).uri("https://hub/x"));
            assert_eq!(plan(&request, &UserInfo::new("ada", &[]), "/x").unwrap_err().code, 405, "{method}");
        }
    }

    #[test]
    fn paths_stay_where_they_are() {
        let user = UserInfo::new("ada", &[]);
        let of = |path: &str| {
            plan(&head(Request::get("https://hub/x")), &user, path).map(|own| own.head.uri.path().to_owned())
        };
        assert_eq!(of("").unwrap(), "/");
        assert_eq!(of("/a//b%2Fc/").unwrap(), "/a//b%2Fc/");
        for path in ["/../x", "/a/..", "/a/%2e%2E/b", "/a/.%2e", "/./a", "a"] {
            assert_eq!(of(path).unwrap_err().code, 400, "{path}");
        }
    }

    #[test]
    fn another_sites_page_opens_no_connection() {
        let user = UserInfo::new("ada", &[]);
        let asked = |origin: &str| {
            let request = Request::get("https://hub/x")
                .header("host", "hub:6443")
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("origin", origin);
            plan(&head(request), &user, "/x").map(drop)
        };
        assert!(asked("https://hub:6443").is_ok());
        for origin in ["https://evil", "https://hub", "null", "https://hub:6443.evil"] {
            assert_eq!(asked(origin).unwrap_err().code, 403, "{origin}");
        }
    }

    #[test]
    fn of_an_answer_no_cookie_and_no_redirect_comes_back() {
        let mut given = HeaderMap::new();
        for name in ["set-cookie", "location", "www-authenticate", "content-type", "connection"] {
            given.insert(name, HeaderValue::from_static("x"));
        }
        let kept = answer_headers(&given);
        assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
    }
}
