//! Credentials: certificates, tokens, signing requests, what an agent joins with.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use access::authentication::{Bearer, Credentials};
use access::certificates::{CertificateAuthority, ClientSubject, read_request, requested_pin};
use access::tokens::{BoundKind, BoundObjects, SigningKey, TokenIssuer, TokenVerifier};
use access::{Authenticator, PeerCertificate};
use agent_protocol::{JoinRequest, JoinToken, ReattestRequest};
use async_trait::async_trait;
use rustls_pki_types::CertificateDer;

/// Nothing that a token could be bound to exists.
struct Nothing;

#[async_trait]
impl BoundObjects for Nothing {
    async fn uid(&self, _: BoundKind, _: &str, _: &str) -> Option<String> {
        None
    }
}

fn authority() -> &'static CertificateAuthority {
    static AUTHORITY: OnceLock<CertificateAuthority> = OnceLock::new();
    AUTHORITY.get_or_init(|| CertificateAuthority::ephemeral("fuzz").expect("a key of this machine"))
}

fn authenticator() -> &'static Authenticator {
    static AUTHENTICATOR: OnceLock<Authenticator> = OnceLock::new();
    AUTHENTICATOR.get_or_init(|| {
        let key = SigningKey::ephemeral().expect("a key of this machine");
        let issuer = TokenIssuer::new(key, "https://kubernetes.default.svc", vec!["api".to_owned()]);
        let authenticator =
            Authenticator::new(true).with_certificates(authority()).expect("it is an authority");
        authenticator.with_tokens(Arc::new(TokenVerifier::new(issuer, Arc::new(Nothing))))
    })
}

/// Nothing here waits: what is asked answers at once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a lookup in memory waited"),
    }
}

/// Bytes as a certificate; and text as the subject of a certificate of ours, which speaks for exactly that user.
pub(super) fn client_certificate(input: &[u8]) {
    let raw = CertificateDer::from(input.to_vec());
    assert!(authenticator().verify_peer(&[raw]).is_err(), "somebody else's bytes are a client");
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.split('\n').map(str::to_owned);
    let user = lines.next().unwrap_or_default();
    let groups: Vec<String> = lines.take(2).collect();
    let subject = ClientSubject { user: user.clone(), groups: groups.clone() };
    let Ok(issued) = authority().issue_client(&subject, Duration::from_secs(3600)) else { return };
    let peer: Result<PeerCertificate, _> = authenticator().verify_peer(&issued.chain());
    let authenticated =
        at_once(authenticator().authenticate(Credentials { peer: Some(&peer), ..Credentials::default() }));
    if let Ok(authenticated) = authenticated {
        assert_eq!(authenticated.user.username, user, "the certificate speaks for somebody else");
        let known = |group: &String| groups.contains(group) || group.starts_with("system:authenticated");
        assert!(authenticated.user.groups.iter().all(known), "groups that nobody certified");
    }
}

/// An `Authorization` header: nothing that was not issued is anybody.
pub(super) fn bearer_token(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let token = Bearer::from_header(text).unwrap_or(Bearer(text));
    let answer =
        at_once(authenticator().authenticate(Credentials { bearer: Some(token), ..Credentials::default() }));
    assert!(answer.is_err(), "a token that was never issued is good");
    let _ = JoinToken::parse(text);
}

/// PEM with a signing request in it.
pub(super) fn signing_request(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let read = read_request(text);
    let pin = requested_pin(text);
    assert!(read.is_err() || pin.is_ok(), "a request that is read has no key");
}

/// What agents send before they have a certificate.
pub(super) fn join_request(input: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<JoinRequest>(input) {
        let _ = read_request(&request.csr_pem);
        let _ = api_machinery::names::dns1123_subdomain(&request.name);
    }
    if let Ok(request) = serde_json::from_slice::<ReattestRequest>(input) {
        let _ = requested_pin(&request.csr_pem);
    }
}
