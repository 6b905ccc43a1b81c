//! Which signatures `cluster-info` should carry. Pure.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::json;
use sha2::{Digest, Sha256};

/// What a signature's key in the ConfigMap begins with.
const SIGNATURE: &str = "jws-kubeconfig-";

/// A token that may sign. Does not print.
pub(super) struct Token {
    id: String,
    secret: String,
}

fn text<'a>(secret: &'a Secret, key: &str) -> &'a str {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    bytes.and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).unwrap_or_default()
}

/// When a token ends; `None` when it does not. One that does not say so readably has ended, as upstream.
pub(super) fn expiration(secret: &Secret) -> Option<Timestamp> {
    match text(secret, "expiration") {
        "" => None,
        written => Some(written.parse().unwrap_or(Timestamp::MIN)),
    }
}

/// The token of a secret, if it is whole, lives and may sign.
pub(super) fn signing_token(secret: &Secret, now: Timestamp) -> Option<Token> {
    let (id, own) = (text(secret, "token-id"), text(secret, "token-secret"));
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let named = name.strip_prefix("bootstrap-token-") == Some(id);
    let lives = expiration(secret).is_none_or(|end| now < end);
    let may = text(secret, "usage-bootstrap-signing") == "true";
    let whole = !id.is_empty() && !own.is_empty();
    (named && lives && may && whole).then(|| Token { id: id.to_owned(), secret: own.to_owned() })
}

/// What of the ConfigMap's data has to change, `null` for what has to go; `None` when nothing has.
pub(super) fn changes(
    document: &ConfigMap,
    tokens: impl Iterator<Item = Token>,
) -> Option<BTreeMap<String, Option<String>>> {
    let empty = BTreeMap::new();
    let data = document.data.as_ref().unwrap_or(&empty);
    let mut wanted = BTreeMap::new();
    if let Some(kubeconfig) = data.get("kubeconfig") {
        for token in tokens {
            wanted.insert(format!("{SIGNATURE}{}", token.id), detached_signature(kubeconfig, &token));
        }
    }
    let mut changes = BTreeMap::new();
    for key in data.keys().filter(|key| key.starts_with(SIGNATURE) && !wanted.contains_key(*key)) {
        changes.insert(key.clone(), None);
    }
    for (key, signature) in wanted {
        if data.get(&key) != Some(&signature) {
            changes.insert(key, Some(signature));
        }
    }
    (!changes.is_empty()).then_some(changes)
}

/// A JWS (RFC 7515) over `content` without it: HS256, keyed with the token's secret.
fn detached_signature(content: &str, token: &Token) -> String {
    let header = json!({"alg": "HS256", "kid": token.id}).to_string();
    let header = URL_SAFE_NO_PAD.encode(header);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(content));
    let signature = hmac_sha256(token.secret.as_bytes(), signed.as_bytes());
    format!("{header}..{}", URL_SAFE_NO_PAD.encode(signature))
}

/// RFC 2104 over SHA-256, whose blocks have 64 bytes.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut block = [0_u8; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn secret(id: &str, more: &[(&str, &str)]) -> Secret {
        let mut data = serde_json::Map::new();
        for (key, value) in [("token-id", id), ("token-secret", "0123456789abcdef")].iter().chain(more) {
            let encoded = base64::engine::general_purpose::STANDARD.encode(value);
            data.insert((*key).to_owned(), encoded.into());
        }
        let object = json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "data": data});
        serde_json::from_value(object).unwrap()
    }

    fn document(data: Value) -> ConfigMap {
        serde_json::from_value(json!({"data": data})).unwrap()
    }

    #[test]
    fn the_code_is_rfc_4231s() {
        let got = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        let hex: String = got.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn tokens_that_may_sign_and_others_are_taken_out() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let signing = ("usage-bootstrap-signing", "true");
        let secrets = [
            secret("aaaaaa", &[signing]),
            secret("bbbbbb", &[]),
            secret("cccccc", &[signing, ("expiration", "2025-12-31T00:00:00Z")]),
        ];
        let tokens = || secrets.iter().filter_map(|secret| signing_token(secret, now));
        let before = document(json!({"kubeconfig": "k", "jws-kubeconfig-bbbbbb": "old"}));
        let changed = changes(&before, tokens()).unwrap();
        assert_eq!(changed["jws-kubeconfig-bbbbbb"], None);
        let signature = changed["jws-kubeconfig-aaaaaa"].as_deref().unwrap();
        assert!(signature.contains(".."), "the content is left out: {signature}");
        let after = document(json!({"kubeconfig": "k", "jws-kubeconfig-aaaaaa": signature}));
        assert_eq!(changes(&after, tokens()), None);
        let elsewhere = document(json!({"kubeconfig": "other", "jws-kubeconfig-aaaaaa": signature}));
        assert_ne!(
            changes(&elsewhere, tokens()).unwrap()["jws-kubeconfig-aaaaaa"].as_deref(),
            Some(signature)
        );
        assert_eq!(expiration(&secrets[2]), "2025-12-31T00:00:00Z".parse().ok());
    }
}
