//! Making tokens, and the documents by which others can verify them.

use std::sync::Arc;

use jiff::Timestamp;
use jsonwebtoken::Header;
use serde_json::{Value, json};

use super::claims::{Claims, Private, service_account_user};
use super::key::algorithm_name;
use super::ring::Keys;
use super::{BoundReference, KeyRing, TokenError, TokenRequest};
use crate::secret::Secret;

/// Signs tokens.
#[derive(Clone, Debug)]
pub struct TokenIssuer {
    keys: KeyRing,
    issuer: String,
    audiences: Vec<String>,
}

/// A new token.
#[derive(Clone, Debug)]
pub struct IssuedToken {
    /// The token.
    pub token: Secret,
    /// When it ends.
    pub expires: Timestamp,
    /// Its id, for the audit log.
    pub id: String,
}

impl TokenIssuer {
    /// Signs with the signing one of `keys` as `issuer` (a URL: `https://kubernetes.default.svc.cluster.local`); `audiences` is what a request
    /// for no audience gets, the API server's own names. Must not be empty; the issuer is the usual one.
    #[must_use]
    pub fn new(keys: impl Into<KeyRing>, issuer: impl Into<String>, audiences: Vec<String>) -> Self {
        Self { keys: keys.into(), issuer: issuer.into(), audiences }
    }

    /// The `iss` of every token.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The API server's own audiences.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        self.keys.now()
    }

    /// A token for `request`, valid from `now`.
    ///
    /// # Errors
    /// [`TokenError::Sign`].
    pub fn issue(&self, request: &TokenRequest, now: Timestamp) -> Result<IssuedToken, TokenError> {
        let issued_at = u64::try_from(now.as_second()).unwrap_or(0);
        let exp = issued_at.saturating_add(request.expiration_seconds);
        let id = uuid::Uuid::new_v4().to_string();
        let aud =
            if request.audiences.is_empty() { self.audiences.clone() } else { request.audiences.clone() };
        let claims = Claims {
            aud,
            exp,
            iat: issued_at,
            nbf: issued_at,
            iss: self.issuer.clone(),
            jti: id.clone(),
            sub: service_account_user(&request.namespace, &request.name),
            kubernetes: Private {
                namespace: request.namespace.clone(),
                node: request.node.clone(),
                pod: request.pod.clone(),
                secret: request.secret.clone(),
                serviceaccount: BoundReference { name: request.name.clone(), uid: request.uid.clone() },
            },
        };
        let keys = self.keys.now();
        let mut header = Header::new(keys.signing.public.algorithm);
        header.kid = Some(keys.signing.public.id().to_owned());
        // Go's issuer writes no `typ`.
        header.typ = None;
        let token =
            jsonwebtoken::encode(&header, &claims, &keys.signing.encoding).map_err(TokenError::Sign)?;
        let expires = i64::try_from(exp).ok().and_then(|second| Timestamp::from_second(second).ok());
        Ok(IssuedToken { token: Secret::new(token), expires: expires.unwrap_or(Timestamp::MAX), id })
    }

    /// `/openid/v1/jwks`.
    #[must_use]
    pub fn key_set(&self) -> Value {
        json!(self.keys.now().set())
    }

    /// `/.well-known/openid-configuration`.
    #[must_use]
    pub fn discovery(&self) -> Value {
        let mut algorithms: Vec<&str> = Vec::new();
        for key in self.keys.now().candidates(None) {
            let name = algorithm_name(key.algorithm);
            if !algorithms.contains(&name) {
                algorithms.push(name);
            }
        }
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/openid/v1/jwks", self.issuer.trim_end_matches('/')),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        })
    }
}
