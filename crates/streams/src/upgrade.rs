//! Which streaming protocol a request asks for, and what it is answered. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Protocol versions of SPDY sessions stand in this header (upstream `httpstream.HeaderProtocolVersion`).
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What a server would have taken, in a refusal.
const ACCEPTED_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// What a request wants its connection to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// SPDY/3.1.
    Spdy,
    /// A WebSocket.
    WebSocket,
}

/// A request that cannot be upgraded as it asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 400 or 403.
    pub code: StatusCode,
    /// Why, in upstream's words.
    pub message: String,
    /// What would be accepted.
    pub accepted: Vec<&'static str>,
}

impl Refusal {
    /// The headers of the answer.
    pub fn write(&self, headers: &mut HeaderMap) {
        for protocol in &self.accepted {
            headers.append(ACCEPTED_VERSIONS, HeaderValue::from_static(protocol));
        }
    }
}

/// The upgrade a request asks for; `None` for an ordinary request or a protocol that is not known.
#[must_use]
pub fn requested(headers: &HeaderMap) -> Option<Upgrade> {
    let upgrading = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.to_ascii_lowercase().contains("upgrade"));
    let wanted = headers.get(header::UPGRADE)?.to_str().ok()?;
    match wanted.to_ascii_lowercase().as_str() {
        _ if !upgrading => None,
        "websocket" => Some(Upgrade::WebSocket),
        wanted if wanted.contains("spdy/3.1") => Some(Upgrade::Spdy),
        _ => None,
    }
}

/// The words of a header that may stand several times and hold several, parted by commas.
fn words(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The subprotocols a WebSocket request offers.
#[must_use]
pub fn subprotocols(headers: &HeaderMap) -> Vec<String> {
    words(headers, &header::SEC_WEBSOCKET_PROTOCOL)
}

/// The first offered protocol that is supported; `None` when none is offered.
///
/// # Errors
/// 403 when none of the offered is supported.
pub fn negotiate_spdy(
    headers: &HeaderMap,
    supported: &[&'static str],
) -> Result<Option<&'static str>, Refusal> {
    let offered = words(headers, &PROTOCOL_VERSION);
    if offered.is_empty() {
        return Ok(None);
    }
    let found = offered.iter().find_map(|own| supported.iter().find(|protocol| *protocol == own));
    found.copied().map(Some).ok_or_else(|| Refusal {
        code: StatusCode::FORBIDDEN,
        message: format!(
            "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
            offered.join(" "),
            supported.join(" ")
        ),
        accepted: supported.to_vec(),
    })
}

/// The same for WebSockets. A client that offers none gets the protocol without a name.
///
/// # Errors
/// 403 when none of the offered is supported.
pub fn negotiate_websocket(
    headers: &HeaderMap,
    supported: &[&'static str],
) -> Result<Option<&'static str>, Refusal> {
    let offered = subprotocols(headers);
    if offered.is_empty() {
        return Ok(None);
    }
    let found = offered.iter().find_map(|own| supported.iter().find(|protocol| *protocol == own));
    found.copied().map(Some).ok_or_else(|| Refusal {
        code: StatusCode::FORBIDDEN,
        message: format!(
            "requested protocol(s) are not supported: [{}]; supports [{}]",
            offered.join(" "),
            supported.join(" ")
        ),
        accepted: Vec::new(),
    })
}

/// The 101 for SPDY.
#[must_use]
pub fn spdy_response(protocol: Option<&'static str>) -> Response<()> {
    let mut response = switching("SPDY/3.1");
    if let Some(protocol) = protocol {
        response.headers_mut().insert(PROTOCOL_VERSION, HeaderValue::from_static(protocol));
    }
    response
}

/// The 101 for a WebSocket.
///
/// # Errors
/// 400 when the request is no WebSocket handshake of RFC 6455.
pub fn websocket_response(headers: &HeaderMap, protocol: Option<&str>) -> Result<Response<()>, Refusal> {
    let bad = |message: &str| Refusal {
        code: StatusCode::BAD_REQUEST,
        message: message.to_owned(),
        accepted: Vec::new(),
    };
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(&header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(bad("missing or bad WebSocket Version"));
    }
    let key = text(&header::SEC_WEBSOCKET_KEY).filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| bad("bad challenge in WebSocket handshake"))?;
    let mut response = switching("websocket");
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()));
    response.headers_mut().insert(
        header::SEC_WEBSOCKET_ACCEPT,
        accept.map_err(|_| bad("bad challenge in WebSocket handshake"))?,
    );
    if let Some(protocol) = protocol {
        let value =
            HeaderValue::from_str(protocol).map_err(|_| bad("bad protocol in WebSocket handshake"))?;
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
    }
    Ok(response)
}

fn switching(to: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(to));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn upgrades_are_told_apart() {
        let of =
            |upgrade| requested(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", upgrade)]));
        assert_eq!(of("SPDY/3.1"), Some(Upgrade::Spdy));
        assert_eq!(of("websocket"), Some(Upgrade::WebSocket));
        assert_eq!(of("h2c"), None);
        assert_eq!(requested(&headers(&[("upgrade", "websocket")])), None);
    }

    #[test]
    fn the_clients_first_choice_is_taken() {
        let offered = headers(&[
            ("x-stream-protocol-version", "v9.channel.k8s.io"),
            ("x-stream-protocol-version", "v3.channel.k8s.io, v4.channel.k8s.io"),
        ]);
        let supported = ["v4.channel.k8s.io", "v3.channel.k8s.io"];
        assert_eq!(negotiate_spdy(&offered, &supported), Ok(Some("v3.channel.k8s.io")));
        assert_eq!(negotiate_spdy(&HeaderMap::new(), &supported), Ok(None));
        let refusal = negotiate_spdy(&offered, &["x"]).expect_err("nothing in common");
        assert_eq!(refusal.code, 403);
        assert_eq!(
            refusal.message,
            "unable to upgrade: unable to negotiate protocol: client supports [v9.channel.k8s.io v3.channel.k8s.io \
             v4.channel.k8s.io], server accepts [x]"
        );
    }

    #[test]
    fn a_websocket_handshake_is_answered() {
        // The example of RFC 6455, section 1.3.
        let asked =
            headers(&[("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]);
        let response = websocket_response(&asked, Some("v4.channel.k8s.io")).expect("a handshake");
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()["sec-websocket-protocol"], "v4.channel.k8s.io");
        assert_eq!(websocket_response(&HeaderMap::new(), None).expect_err("no handshake").code, 400);
    }
}
