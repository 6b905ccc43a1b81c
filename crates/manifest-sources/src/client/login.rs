//! What a registry asks of who is not logged in, and the token that its server gives for it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

/// How to log in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// By user name and password.
    Basic,
    /// By a token of this server.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header.
    pub(super) fn read(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (name, value) in parameters(rest) {
            match name {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }

    /// Where the token is asked for.
    pub(super) fn token_uri(&self) -> Option<String> {
        let Self::Bearer { realm, service, scope } = self else { return None };
        let mut uri = realm.clone();
        let mut separator = if realm.contains('?') { '&' } else { '?' };
        for (name, value) in [("service", service), ("scope", scope)] {
            let Some(value) = value else { continue };
            uri.push(separator);
            uri.push_str(name);
            uri.push('=');
            uri.push_str(&escaped(value));
            separator = '&';
        }
        Some(uri)
    }
}

/// `name="value"` pairs with commas between them; commas within quotes are of the value.
fn parameters(mut rest: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']);
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name, value.to_owned()));
        rest = next;
    }
    found
}

/// Registries are used to scopes and service names as they are.
const NOT_IN_VALUES: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':')
    .remove(b'/')
    .remove(b',');

/// Percent-encoded as a query's value.
fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NOT_IN_VALUES).to_string()
}

/// The token of a token server's answer.
pub(super) fn token(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let of = |name: &str| answer[name].as_str().filter(|token| !token.is_empty()).map(str::to_owned);
    of("token").or_else(|| of("access_token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let header = r#"Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a/b:pull,push""#;
        let challenge = Challenge::read(header).unwrap();
        assert_eq!(
            challenge.token_uri().unwrap(),
            "https://auth.example.com/token?service=registry&scope=repository:a/b:pull,push"
        );
        assert_eq!(Challenge::read(r#"Basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(Challenge::read("Negotiate"), None);
        assert_eq!(Challenge::read("Bearer"), None);
        let odd = Challenge::read(r#"bearer realm="https://x/t?a=1", service="a b&c""#).unwrap();
        assert_eq!(odd.token_uri().unwrap(), "https://x/t?a=1&service=a%20b%26c");
        assert_eq!(token(br#"{"access_token": "t"}"#).as_deref(), Some("t"));
        assert_eq!(token(b"{}"), None);
    }
}
