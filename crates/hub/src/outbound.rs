//! Sends documents to servers outside the fleet: over HTTP or verified TLS, without following redirections, within a bounded
//! time; and signs them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foundation::causes;
use http::{HeaderName, HeaderValue, Request, Uri};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;

/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Servers to which connections are kept; beyond that all are made anew.
const MAX_KEPT: usize = 64;
/// How secrets begin that are written as Standard Webhooks writes them: the rest is base64.
const STANDARD_PREFIX: &[u8] = b"whsec_";

/// Why a document did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refusal {
    /// For people.
    pub(crate) message: String,
    /// Whether it may arrive when it is tried again.
    pub(crate) again: bool,
}

impl Refusal {
    pub(crate) fn final_(message: impl Into<String>) -> Self {
        Self { message: message.into(), again: false }
    }

    pub(crate) fn passing(message: impl Into<String>) -> Self {
        Self { message: message.into(), again: true }
    }
}

/// Keeps connections. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Outbound {
    /// By server and authorities.
    clients: Arc<Mutex<HashMap<(String, String), Client>>>,
}

impl Outbound {
    /// Posts a document. Answers what the server said when that is a success.
    pub(crate) async fn post(
        &self,
        url: &str,
        ca_bundle: Option<&str>,
        headers: &[(String, String)],
        body: Vec<u8>,
    ) -> Result<String, Refusal> {
        let url = target(url)?;
        let client = self.client(&url, ca_bundle)?;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::post(path);
        for (name, value) in headers {
            let (name, value) = header(name, value)?;
            request = request.header(name, value);
        }
        let request = request.body(Body::from(body)).map_err(|error| Refusal::final_(error.to_string()))?;
        let answer = tokio::time::timeout(TIMEOUT, client.send(request)).await;
        let answer =
            answer.map_err(|_| Refusal::passing(format!("no answer within {} s", TIMEOUT.as_secs())))?;
        let answer = answer.map_err(|error| Refusal::passing(causes::in_line(&error)))?;
        let status = answer.status();
        match status.as_u16() {
            200..=299 => Ok(status.to_string()),
            408 | 425 | 429 | 500..=599 => Err(Refusal::passing(format!("the server answered {status}"))),
            _ => Err(Refusal::final_(format!("the server answered {status}"))),
        }
    }

    fn client(&self, url: &Uri, ca_bundle: Option<&str>) -> Result<Client, Refusal> {
        let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(Refusal::final_(format!("{url} is not http:// or https://")));
        };
        let key = (format!("{scheme}://{authority}"), ca_bundle.unwrap_or_default().to_owned());
        if let Some(known) = self.clients.lock().get(&key) {
            return Ok(known.clone());
        }
        let base = key.0.parse().map_err(|_| Refusal::final_(format!("{url} is no URL")))?;
        let client = api_client::connect::to_server(base, ca_bundle, TIMEOUT)
            .map_err(|error| Refusal::final_(causes::in_line(&error)))?;
        let mut clients = self.clients.lock();
        if clients.len() >= MAX_KEPT {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// Where a document may be sent.
///
/// # Errors
/// What is wrong with the URL.
pub(crate) fn target(url: &str) -> Result<Uri, Refusal> {
    let url: Uri = url.parse().map_err(|error| Refusal::final_(format!("{url:?} is no URL: {error}")))?;
    let known = matches!(url.scheme_str(), Some("http" | "https"));
    let Some(authority) = url.authority().filter(|_| known) else {
        return Err(Refusal::final_(format!("{url} is not http:// or https://")));
    };
    if authority.as_str().contains('@') {
        return Err(Refusal::final_("user names in URLs are not sent; use headers"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    if is_link_local(host) {
        return Err(Refusal::final_(format!("{host} is a link-local address")));
    }
    Ok(url)
}

/// A header that can be sent.
///
/// # Errors
/// Which part cannot. The value is not repeated: it may be a secret.
pub(crate) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Refusal> {
    let name = HeaderName::try_from(name).map_err(|_| Refusal::final_("a header's name cannot be sent"))?;
    let value = HeaderValue::try_from(value)
        .map_err(|_| Refusal::final_(format!("the value of header {name} cannot be sent")))?;
    Ok((name, value))
}

/// Whether these can be trusted at all.
///
/// # Errors
/// What is wrong with the PEM.
pub(crate) fn authorities(pem: &str) -> Result<(), Refusal> {
    let certificates = api_client::connect::certificates(pem);
    certificates.map(drop).map_err(|error| Refusal::final_(causes::in_line(&error)))
}

/// Whether a host is an address that no packet leaves its network for: machines' metadata services hand out credentials
/// there.
pub(crate) fn is_link_local(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => address.is_unicast_link_local(),
        Err(_) => false,
    }
}

/// As Standard Webhooks signs: HMAC-SHA256 over id, time (seconds since 1970) and body.
///
/// # Errors
/// When the secret says that it is base64 and is not.
pub(crate) fn signature(secret: &[u8], id: &str, time: &str, body: &str) -> Result<String, Refusal> {
    let key = match secret.trim_ascii().strip_prefix(STANDARD_PREFIX) {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| Refusal::final_("the secret begins with whsec_ but is no base64"))?,
        None => secret.to_vec(),
    };
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{id}.{time}.{body}").as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let told = signature(
            b"whsec_plJ3nmyCDGBKInavdOK15jsl",
            "msg_loFOjxBNrRLzqYUf",
            "1731705121",
            "{\"event_type\":\"ping\",\"data\":{\"success\":true}}",
        );
        assert_eq!(told.as_deref(), Ok("v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="));
    }

    #[tokio::test]
    async fn only_whole_urls_of_servers_are_posted_to() {
        let outbound = Outbound::default();
        for (url, told) in [
            ("ftp://a/b", "is not http:// or https://"),
            ("/path", "is not http:// or https://"),
            ("http://user@host/", "user names"),
            ("http://169.254.169.254/latest", "link-local"),
            ("http://[fe80::1]/", "link-local"),
        ] {
            let refused = outbound.post(url, None, &[], Vec::new()).await.expect_err(url);
            assert!(refused.message.contains(told) && !refused.again, "{url}: {refused}");
        }
        let refused = outbound.post("http://127.0.0.1:1/", None, &[], Vec::new()).await.expect_err("nobody");
        assert!(refused.again, "{refused}");
        let refused = outbound.post("https://a/", Some("x"), &[], Vec::new()).await.expect_err("no PEM");
        assert!(!refused.again, "{refused}");
    }
}
