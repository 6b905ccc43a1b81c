//! A webhook's `clientConfig`. Pure.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use kind_rules::json::{present, text};
use serde_json::Value;

/// Where a webhook is, and whose word its certificate needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientConfig {
    pub(super) target: Target,
    /// Path without a query; begins with `/` or is empty.
    pub(super) path: String,
    /// PEM; empty: the system's roots.
    pub(super) ca_bundle: Vec<u8>,
}

/// Whom to dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    /// A host by name or address (IPv6 without brackets).
    Host { host: String, port: u16, shown: String },
    /// A Service.
    Service { namespace: String, name: String, port: u16 },
}

impl ClientConfig {
    /// Of a `WebhookClientConfig` document.
    ///
    /// # Errors
    /// A sentence naming what is wrong.
    pub(crate) fn from_json(config: &Value) -> Result<Self, String> {
        let ca_bundle = STANDARD.decode(text(config, "caBundle")).map_err(|_| "caBundle is no base64")?;
        if present(config, "service") {
            let service = &config["service"];
            let port = match service["port"].as_u64() {
                None => 443,
                Some(port) => u16::try_from(port).map_err(|_| format!("{port} is no port"))?,
            };
            let target = Target::Service {
                namespace: text(service, "namespace").to_owned(),
                name: text(service, "name").to_owned(),
                port,
            };
            let path = match text(service, "path") {
                "" => String::new(),
                path if path.starts_with('/') => path.to_owned(),
                path => format!("/{path}"),
            };
            return Ok(Self { target, path, ca_bundle });
        }
        let url = text(config, "url");
        if url.is_empty() {
            return Err("webhook configuration must have either service or URL".to_owned());
        }
        let uri: Uri = url.parse().map_err(|error| format!("Unparsable URL: {error}"))?;
        if uri.scheme_str() != Some("https") {
            return Err(format!("Unparsable URL: {url:?} is no https URL"));
        }
        let host = uri.host().ok_or_else(|| format!("Unparsable URL: {url:?} has no host"))?;
        let target = Target::Host {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: uri.port_u16().unwrap_or(443),
            shown: uri.authority().map_or_else(|| host.to_owned(), ToString::to_string),
        };
        Ok(Self { target, path: uri.path().trim_end_matches('/').to_owned(), ca_bundle })
    }

    /// The name that the server's certificate has to be for.
    pub(super) fn server_name(&self) -> String {
        match &self.target {
            Target::Host { host, .. } => host.clone(),
            Target::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }

    /// What stands in the `Host` header.
    pub(super) fn authority(&self) -> String {
        match &self.target {
            Target::Host { shown, .. } => shown.clone(),
            Target::Service { port, .. } => format!("{}:{port}", self.server_name()),
        }
    }

    /// Path and query of a call that may take this long.
    pub(super) fn path_and_query(&self, timeout: Duration) -> String {
        // Whole seconds, rounded up, as the webhook is told.
        let seconds = timeout.as_millis().div_ceil(1000);
        let path = if self.path.is_empty() { "/" } else { &self.path };
        format!("{path}?timeout={seconds}s")
    }

    /// The whole address, for messages.
    pub(crate) fn url(&self, timeout: Duration) -> String {
        format!("https://{}{}", self.authority(), self.path_and_query(timeout))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_follow_from_the_configuration() {
        let second = Duration::from_secs(1);
        for (config, url, name) in [
            (
                json!({"service": {"namespace": "n", "name": "s", "path": "/p"}}),
                "https://s.n.svc:443/p?timeout=1s",
                "s.n.svc",
            ),
            (
                json!({"service": {"namespace": "n", "name": "s", "port": 8443, "path": "p"}}),
                "https://s.n.svc:8443/p?timeout=1s",
                "s.n.svc",
            ),
            (json!({"url": "https://127.0.0.1:9443/x"}), "https://127.0.0.1:9443/x?timeout=1s", "127.0.0.1"),
            (json!({"url": "https://[::1]:9443"}), "https://[::1]:9443/?timeout=1s", "::1"),
            (json!({"url": "https://hook.example"}), "https://hook.example/?timeout=1s", "hook.example"),
        ] {
            let parsed = ClientConfig::from_json(&config).unwrap();
            assert_eq!(parsed.url(second), url);
            assert_eq!(parsed.server_name(), name);
        }
        assert_eq!(
            ClientConfig::from_json(&json!({})).unwrap_err(),
            "webhook configuration must have either service or URL"
        );
        assert!(ClientConfig::from_json(&json!({"url": "http://hook.example"})).is_err());
    }
}
