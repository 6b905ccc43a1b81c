//! Verifying tokens.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::Validation;
use jsonwebtoken::errors::{ErrorKind, new_error};
use kube_objects::UserInfo;

use super::claims::{Claims, service_account_user};
use super::{BoundKind, BoundObjects, BoundReference, TokenError, TokenIssuer};

/// Tokens longer than this are refused unread; ours have about 1 kB, and a header line is bounded anyway.
const MAXIMUM_BYTES: usize = 16 * 1024;

/// Whom a token speaks for.
#[derive(Clone, Debug)]
pub struct VerifiedToken {
    /// The service account as a user, without `system:authenticated`.
    pub user: UserInfo,
    /// Those of the audiences asked about that the token is for.
    pub audiences: Vec<String>,
    /// When it ends.
    pub expires: Timestamp,
}

/// Verifies what the [`TokenIssuer`] with the same key signed.
pub struct TokenVerifier {
    issuer: TokenIssuer,
    objects: Arc<dyn BoundObjects>,
}

impl std::fmt::Debug for TokenVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenVerifier").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl TokenVerifier {
    /// Verifies tokens of `issuer`, asking `objects` whether what they are bound to is still there.
    #[must_use]
    pub fn new(issuer: TokenIssuer, objects: Arc<dyn BoundObjects>) -> Self {
        Self { issuer, objects }
    }

    /// Whether `token` claims to be of our issuer. Nothing is verified: it only chooses the authenticator to ask.
    #[must_use]
    pub fn is_ours(&self, token: &str) -> bool {
        #[derive(serde::Deserialize)]
        struct Issuer {
            iss: String,
        }
        let mut parts = token.split('.');
        let (Some(_), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        token.len() <= MAXIMUM_BYTES
            && URL_SAFE_NO_PAD
                .decode(payload)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Issuer>(&bytes).ok())
                .is_some_and(|claims| claims.iss == self.issuer.issuer())
    }

    /// Checks signature, issuer, times, audience and bindings. `audiences` empty: the API server's own.
    ///
    /// # Errors
    /// [`TokenError`]; safe to retry.
    pub async fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<VerifiedToken, TokenError> {
        let claims = self.verified_claims(token, now)?;
        let expected = if audiences.is_empty() { self.issuer.audiences() } else { audiences };
        let audiences: Vec<String> =
            expected.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        if audiences.is_empty() {
            return Err(TokenError::Audience { actual: claims.aud, expected: expected.to_vec() });
        }
        self.check_bindings(&claims).await?;
        let expires = i64::try_from(claims.exp).ok().and_then(|second| Timestamp::from_second(second).ok());
        Ok(VerifiedToken { user: user(&claims), audiences, expires: expires.unwrap_or(Timestamp::MAX) })
    }

    fn verified_claims(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        if token.len() > MAXIMUM_BYTES {
            return Err(TokenError::Claims("it is too long"));
        }
        let claims = self.signed_claims(token)?;
        let now = u64::try_from(now.as_second()).unwrap_or(0);
        if now >= claims.exp {
            return Err(TokenError::Invalid(new_error(ErrorKind::ExpiredSignature)));
        }
        // A second of tolerance: issuer and verifier may be two replicas.
        if claims.nbf > now + 1 {
            return Err(TokenError::Invalid(new_error(ErrorKind::ImmatureSignature)));
        }
        let bound = &claims.kubernetes;
        if bound.namespace.is_empty()
            || bound.serviceaccount.name.is_empty()
            || bound.serviceaccount.uid.is_empty()
        {
            return Err(TokenError::Claims("it names no service account"));
        }
        if claims.sub != service_account_user(&bound.namespace, &bound.serviceaccount.name) {
            return Err(TokenError::Claims("its subject is not its service account"));
        }
        Ok(claims)
    }

    /// The claims of a token that one of the keys signed.
    fn signed_claims(&self, token: &str) -> Result<Claims, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(TokenError::Invalid)?;
        let keys = self.issuer.keys();
        let mut refused = None;
        for key in keys.candidates(header.kid.as_deref()) {
            let mut validation = Validation::new(key.algorithm);
            validation.set_issuer(&[self.issuer.issuer()]);
            validation.set_required_spec_claims(&["exp", "iss", "sub"]);
            validation.validate_aud = false;
            // Times are checked by the caller against its own clock.
            validation.validate_exp = false;
            match jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => refused = Some(error),
            }
        }
        // No key of that name: it was retired, or never ours.
        Err(TokenError::Invalid(refused.unwrap_or_else(|| new_error(ErrorKind::InvalidSignature))))
    }

    async fn check_bindings(&self, claims: &Claims) -> Result<(), TokenError> {
        let bound = &claims.kubernetes;
        self.check(BoundKind::ServiceAccount, &bound.namespace, &bound.serviceaccount).await?;
        if let Some(pod) = &bound.pod {
            self.check(BoundKind::Pod, &bound.namespace, pod).await?;
        }
        if let Some(secret) = &bound.secret {
            self.check(BoundKind::Secret, &bound.namespace, secret).await?;
        }
        // With a pod, the node only says where the pod is.
        if let (Some(node), None) = (&bound.node, &bound.pod) {
            self.check(BoundKind::Node, "", node).await?;
        }
        Ok(())
    }

    async fn check(
        &self,
        kind: BoundKind,
        namespace: &str,
        reference: &BoundReference,
    ) -> Result<(), TokenError> {
        match self.objects.uid(kind, namespace, &reference.name).await {
            Some(uid) if uid == reference.uid => Ok(()),
            _ => Err(TokenError::Unbound {
                kind: kind.as_str(),
                namespace: namespace.to_owned(),
                name: reference.name.clone(),
            }),
        }
    }
}

/// The user a token speaks for (upstream `pkg/serviceaccount/util.go`).
fn user(claims: &Claims) -> UserInfo {
    let bound = &claims.kubernetes;
    let mut user = UserInfo {
        username: claims.sub.clone(),
        uid: bound.serviceaccount.uid.clone(),
        groups: vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{}", bound.namespace),
        ],
        ..UserInfo::default()
    };
    let mut extra = |key: &str, value: &str| {
        if !value.is_empty() {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    if !claims.jti.is_empty() {
        extra("credential-id", &format!("JTI={}", claims.jti));
    }
    if let Some(pod) = &bound.pod {
        extra("pod-name", &pod.name);
        extra("pod-uid", &pod.uid);
    }
    if let Some(node) = &bound.node {
        extra("node-name", &node.name);
        extra("node-uid", &node.uid);
    }
    user
}
