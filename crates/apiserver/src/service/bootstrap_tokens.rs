//! Bootstrap tokens: `ID.SECRET`, kept in Secrets of `kube-system` (upstream `plugin/pkg/auth/authenticator/token/bootstrap`).

use std::sync::Arc;

use access::Secret;
use access::authentication::{Bearer, TokenSource};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kube_objects::UserInfo;
use serde_json::Value;

use crate::registry::objects::ObjectAccess;
use crate::registry::strategy::Objects as _;

/// The group of every user of a bootstrap token.
const GROUP: &str = "system:bootstrappers";

/// The server's own Secrets.
pub(super) struct StoredTokens(pub(super) Arc<ObjectAccess>);

#[async_trait]
impl TokenSource for StoredTokens {
    async fn user(&self, Bearer(token): Bearer<'_>) -> Option<UserInfo> {
        let (id, secret) = parts(token)?;
        let name = format!("bootstrap-token-{id}");
        let found = self.0.get("", "secrets", "kube-system", &name).await.ok()??;
        user(&found, id, secret, Timestamp::now())
    }
}

/// `[a-z0-9]{6}.[a-z0-9]{16}`.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

/// Whom a token's Secret lets in, if the token is this and still good. Pure.
fn user(stored: &Value, id: &str, secret: &str, now: Timestamp) -> Option<UserInfo> {
    let text = |key: &str| -> Option<String> {
        let bytes = STANDARD.decode(stored["data"][key].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let own = Secret::new(text("token-secret").filter(|own| !own.is_empty())?);
    let right = own.matches(secret)
        && stored["type"] == "bootstrap.kubernetes.io/token"
        && stored["metadata"]["deletionTimestamp"].is_null()
        && text("token-id").is_some_and(|own| own == id)
        && text("usage-bootstrap-authentication").is_some_and(|may| may == "true");
    // An end that cannot be read has passed.
    let lives = match text("expiration") {
        Some(end) => end.parse::<Timestamp>().is_ok_and(|end| now < end),
        None => true,
    };
    if !right || !lives {
        return None;
    }
    let mut user = UserInfo::new(format!("system:bootstrap:{id}"), &[GROUP]);
    for group in text("auth-extra-groups").unwrap_or_default().split(',').filter(|group| !group.is_empty()) {
        // One bad group spoils the token, as upstream: it must not let in with less than was meant.
        if !is_group(group) {
            tracing::warn!(token = id, group, "a bootstrap token names a group that it may not");
            return None;
        }
        if !user.in_group(group) {
            user.groups.push(group.to_owned());
        }
    }
    user.groups.sort();
    Some(user)
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`.
fn is_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let end = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=256).contains(&rest.len())
        && rest.bytes().all(|byte| end(&byte) || matches!(byte, b':' | b'-'))
        && rest.as_bytes().last().is_some_and(end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(more: &[(&str, &str)]) -> Value {
        let mut data = json!({});
        let own = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (key, value) in own.iter().chain(more) {
            data[*key] = json!(STANDARD.encode(value));
        }
        json!({"type": "bootstrap.kubernetes.io/token", "metadata": {"name": "bootstrap-token-abcdef"}, "data": data})
    }

    fn ask(stored: &Value, secret: &str) -> Option<UserInfo> {
        user(stored, "abcdef", secret, "2026-01-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_token_lets_in_as_its_own_user_with_its_groups() {
        let stored = stored(&[("auth-extra-groups", "system:bootstrappers:nodes")]);
        let found = ask(&stored, "0123456789abcdef").unwrap();
        assert_eq!(found.username, "system:bootstrap:abcdef");
        assert_eq!(found.groups, ["system:bootstrappers", "system:bootstrappers:nodes"]);
    }

    #[test]
    fn wrong_expired_disabled_and_presumptuous_tokens_do_not() {
        assert!(ask(&stored(&[]), "0123456789abcdee").is_none());
        let with = |key: &str, value: &str| ask(&stored(&[(key, value)]), "0123456789abcdef").is_some();
        assert!(with("expiration", "2026-01-01T00:00:01Z"));
        assert!(!with("expiration", "2025-12-31T23:59:59Z"));
        assert!(!with("expiration", "soon"));
        assert!(!with("usage-bootstrap-authentication", "false"));
        assert!(!with("auth-extra-groups", "system:masters"));
        let mut other = stored(&[]);
        other["type"] = json!("Opaque");
        assert!(ask(&other, "0123456789abcdef").is_none());
        assert_eq!(parts("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        assert_eq!(parts("ABCDEF.0123456789abcdef"), None);
        assert_eq!(parts("abcdef.0123"), None);
    }
}
