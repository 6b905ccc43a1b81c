use std::time::Duration;

use kube_objects::UserInfo;
use rustls_pki_types::CertificateDer;

use super::*;
use crate::certificates::{ClientSubject, ServerNames};

const HOUR: Duration = Duration::from_secs(3600);

fn client(authority: &CertificateAuthority, validity: Duration) -> CertificateDer<'static> {
    let subject = ClientSubject { user: "ada".into(), groups: vec!["dev".into(), "ops".into()] };
    authority.issue_client(&subject, validity).unwrap().certificate().clone()
}

#[tokio::test]
async fn a_certificate_names_user_and_groups() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    let authenticator = Authenticator::new(true).with_certificates(&authority).unwrap();
    let peer = authenticator.verify_peer(&[client(&authority, HOUR)]);
    let credentials = Credentials { peer: Some(&peer), ..Credentials::default() };
    let user = authenticator.authenticate(credentials).await.unwrap().user;
    assert_eq!(user.username, "ada");
    assert_eq!(user.groups, ["dev", "ops", AUTHENTICATED]);
    assert!(user.extra[certificate::CREDENTIAL_ID][0].starts_with("X509SHA256="));
}

#[tokio::test]
async fn a_bad_certificate_is_an_error_and_not_anonymous() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    let other = CertificateAuthority::ephemeral("ca").unwrap();
    let authenticator = Authenticator::new(true).with_certificates(&authority).unwrap();
    let expired = client(&authority, Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let server = authority.issue_server("s", &ServerNames::default(), HOUR).unwrap().certificate().clone();
    for bad in [client(&other, HOUR), server, expired] {
        let peer = authenticator.verify_peer(&[bad]);
        assert!(peer.is_err());
        let credentials = Credentials { peer: Some(&peer), ..Credentials::default() };
        assert!(matches!(
            authenticator.authenticate(credentials).await,
            Err(AuthenticationError::Certificate { .. })
        ));
    }
}

#[tokio::test]
async fn a_certificate_that_expires_on_an_open_connection_is_refused() {
    let authority = CertificateAuthority::ephemeral("ca").unwrap();
    let authenticator = Authenticator::new(true).with_certificates(&authority).unwrap();
    let peer = authenticator.verify_peer(&[client(&authority, HOUR)]).unwrap();
    assert!(peer.user_at(Timestamp::now()).is_ok());
    assert!(peer.user_at(Timestamp::now() + jiff::SignedDuration::from_hours(2)).is_err());
}

#[tokio::test]
async fn a_client_is_nobody_when_its_authority_is_trusted_no_more() {
    let (first, second) =
        (CertificateAuthority::ephemeral("ca").unwrap(), CertificateAuthority::ephemeral("ca").unwrap());
    let roots = ClientRoots::new(first.roots().chain(second.roots())).unwrap();
    let authenticator = Authenticator::new(true).with_client_roots(roots.clone());
    let peers = [&first, &second].map(|authority| authenticator.verify_peer(&[client(authority, HOUR)]));
    let known = |at: usize| {
        let credentials = Credentials { peer: Some(&peers[at]), ..Credentials::default() };
        let authenticator = &authenticator;
        async move { authenticator.authenticate(credentials).await.map(|who| who.user.username) }
    };
    assert_eq!((known(0).await.unwrap(), known(1).await.unwrap()), ("ada".into(), "ada".into()));
    let distrusted = |at: usize| {
        let told = authenticator.distrusted(peers[at].as_ref().unwrap());
        async { tokio::time::timeout(Duration::from_millis(20), told).await.is_ok() }
    };
    assert!(!distrusted(0).await);
    assert!(roots.replace([].into_iter()).is_err());
    assert!(known(0).await.is_ok(), "what cannot be used leaves what was");
    roots.replace(second.roots()).unwrap();
    let refused = known(0).await.unwrap_err().to_string();
    assert!(refused.contains("not trusted any more"), "{refused}");
    assert!(distrusted(0).await && !distrusted(1).await);
    assert!(known(1).await.is_ok());
    assert!(authenticator.verify_peer(&[client(&first, HOUR)]).is_err());
    assert!(authenticator.verify_peer(&[client(&second, HOUR)]).is_ok());
}

#[tokio::test]
async fn static_tokens_and_anonymous() {
    let authenticator = Authenticator::new(true);
    authenticator.add_static_token("t0ken", UserInfo::new("boot", &["system:masters"]));
    let with = |token| Credentials { bearer: Bearer::from_header(token), ..Credentials::default() };
    let user = authenticator.authenticate(with("Bearer t0ken")).await.unwrap().user;
    assert_eq!((user.username.as_str(), user.in_group("system:masters")), ("boot", true));
    assert!(authenticator.authenticate(with("Bearer other")).await.is_err());
    let nobody = authenticator.authenticate(Credentials::default()).await.unwrap().user;
    assert_eq!(
        (nobody.username.as_str(), nobody.groups.as_slice()),
        (ANONYMOUS, [UNAUTHENTICATED.to_owned()].as_slice())
    );
    authenticator.remove_static_token("t0ken");
    assert!(authenticator.authenticate(with("Bearer t0ken")).await.is_err());
    assert!(Authenticator::new(false).authenticate(Credentials::default()).await.is_err());
    assert!(!format!("{:?}", with("Bearer t0ken")).contains("t0ken"));
}

#[tokio::test]
async fn without_credentials_only_named_paths_are_let_in() {
    let at = |path| Credentials { path, ..Credentials::default() };
    let only = Anonymous { enabled: true, paths: vec!["/livez".to_owned(), "/readyz".to_owned()] };
    let authenticator = Authenticator::new(true).with_anonymous(only);
    authenticator.add_static_token("t0ken", UserInfo::new("boot", &[]));
    for path in ["/livez", "/readyz"] {
        assert_eq!(authenticator.authenticate(at(path)).await.unwrap().user.username, ANONYMOUS, "{path}");
    }
    for path in ["", "/", "/livez/", "/livez/ping", "/LIVEZ", "/version"] {
        let refused = authenticator.authenticate(at(path)).await;
        assert!(matches!(refused, Err(AuthenticationError::Missing)), "{path}");
    }
    let somebody = Credentials { bearer: Bearer::from_header("Bearer t0ken"), ..at("/version") };
    assert_eq!(authenticator.authenticate(somebody).await.unwrap().user.username, "boot");
    let never = Authenticator::new(true).with_anonymous(Anonymous::default());
    assert!(never.authenticate(at("/livez")).await.is_err());
}
