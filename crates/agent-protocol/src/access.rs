//! What a hub and an agent say when a person reaches a cluster through them.
//!
//! The agent dials [`crate::endpoint::TUNNEL`] and asks for an upgrade to [`PROTOCOL`]. From then on the roles are turned
//! around: over that connection the *hub* is a client of HTTP/2 (RFC 9113) and the *agent* its server. HTTP/2 brings what a
//! tunnel needs: many requests at once with a bound, flow control for each, and a way to cut one. Requests that upgrade
//! (`exec`, `port-forward`) are extended CONNECT (RFC 8441) whose `:protocol` is what the client asked for.
//!
//! A request carries its path, a few headers of the client's, and what is named here. Nothing here does I/O.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube_objects::UserInfo;

/// What the agent's connection is upgraded to.
pub const PROTOCOL: &str = "fairlead-tunnel/1";

/// Header: on whose behalf, a [`UserInfo`] as the hub authenticated it and [`encode_person`] writes it.
pub const PERSON: &str = "x-fairlead-person";

/// Header of an extended CONNECT: the method of the client's request.
pub const METHOD: &str = "x-fairlead-method";

/// Groups a person is taken with at most; upstream's front ends refuse headers long before.
pub const MAX_GROUPS: usize = 1000;

/// Requests through one tunnel at once. A request holds some 600 kB in hub and agent together while both its ends are
/// slow, so that a cluster costs 60 MB at worst.
pub const MAX_REQUESTS: u32 = 100;

/// What a stream may send before it was read, bytes: a megabyte per second over 250 ms.
pub const STREAM_WINDOW: u32 = 256 << 10;

/// What all streams of a tunnel may send before it was read, bytes.
pub const TUNNEL_WINDOW: u32 = 2 << 20;

/// Request headers that go through, of the client's. Whatever says who asks, whose cookies, or how a connection is used is
/// not among them; hub and agent add what belongs there. `sec-websocket-protocol` goes through without its tokens
/// ([`websocket_protocols`]).
pub const REQUEST_HEADERS: [&str; 11] = [
    "accept",
    "content-type",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "range",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "user-agent",
    "x-stream-protocol-version",
];

/// Answer headers that go through, of the cluster's.
pub const RESPONSE_HEADERS: [&str; 16] = [
    "audit-id",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-range",
    "content-type",
    "etag",
    "last-modified",
    "retry-after",
    "sec-websocket-accept",
    "sec-websocket-protocol",
    "vary",
    "warning",
    "x-accepted-stream-protocol-versions",
    "x-content-type-options",
    "x-stream-protocol-version",
];

/// By this a browser's WebSocket carries a bearer token (upstream `pkg/authentication/request/websocket`).
const TOKEN_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// A person as they stand in the header [`PERSON`].
#[must_use]
pub fn encode_person(person: &UserInfo) -> String {
    let json = serde_json::to_vec(person).expect("strings and maps of strings are JSON");
    URL_SAFE_NO_PAD.encode(json)
}

/// Reads [`encode_person`]; `None` when it is nothing of the kind, or has no name.
#[must_use]
pub fn decode_person(text: &str) -> Option<UserInfo> {
    let person: UserInfo = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    (!person.username.is_empty()).then_some(person)
}

/// The subprotocols of a WebSocket request without those that carry a token; "" when none is left.
#[must_use]
pub fn websocket_protocols(header: &str) -> String {
    let kept = header.split(',').map(str::trim).filter(|own| !own.is_empty());
    kept.filter(|own| !own.starts_with(TOKEN_PROTOCOL)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_person_survives_its_header_whatever_it_is_called() {
        let person = UserInfo {
            username: "zoë\r\nImpersonate-User: root".to_owned(),
            uid: "7".to_owned(),
            groups: vec!["dev".to_owned(), String::new()],
            extra: BTreeMap::from([("example.org/scopes".to_owned(), vec!["view".to_owned()])]),
        };
        let text = encode_person(&person);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        assert_eq!(decode_person(&text), Some(person));
        assert_eq!(decode_person("e30"), None, "a person has a name");
        assert_eq!(decode_person("not base64!"), None);
    }

    #[test]
    fn a_websocket_keeps_its_protocols_and_loses_its_token() {
        let given = "base64url.bearer.authorization.k8s.io.c2VjcmV0, v5.channel.k8s.io,v4.channel.k8s.io";
        assert_eq!(websocket_protocols(given), "v5.channel.k8s.io, v4.channel.k8s.io");
        assert_eq!(websocket_protocols(" , "), "");
    }

    #[test]
    fn no_header_that_says_who_asks_goes_through() {
        for name in REQUEST_HEADERS {
            let bad =
                ["authorization", "cookie", "impersonate", "x-remote", "x-forwarded", "forwarded", "host"];
            assert!(bad.iter().all(|bad| !name.starts_with(bad)), "{name}");
            assert_eq!(name, name.to_ascii_lowercase());
        }
    }
}
