use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::*;

/// Knows one service account and one pod, by uid.
struct Objects(Mutex<Vec<(BoundKind, &'static str, &'static str)>>);

#[async_trait]
impl BoundObjects for Objects {
    async fn uid(&self, kind: BoundKind, _: &str, name: &str) -> Option<String> {
        let objects = self.0.lock();
        objects.iter().find(|(k, n, _)| *k == kind && *n == name).map(|(_, _, uid)| (*uid).to_owned())
    }
}

fn setup() -> (TokenIssuer, TokenVerifier, Arc<Objects>) {
    let issuer = TokenIssuer::new(SigningKey::ephemeral().unwrap(), "https://a", vec!["https://a".into()]);
    let objects = Arc::new(Objects(Mutex::new(vec![
        (BoundKind::ServiceAccount, "builder", "u1"),
        (BoundKind::Pod, "p", "u2"),
    ])));
    (issuer.clone(), TokenVerifier::new(issuer, objects.clone()), objects)
}

fn request() -> TokenRequest {
    TokenRequest {
        namespace: "ns".into(),
        name: "builder".into(),
        uid: "u1".into(),
        audiences: vec![],
        expiration_seconds: 600,
        pod: Some(BoundReference { name: "p".into(), uid: "u2".into() }),
        secret: None,
        node: Some(BoundReference { name: "n".into(), uid: "u3".into() }),
    }
}

#[tokio::test]
async fn a_fresh_token_names_its_account() {
    let (issuer, verifier, _) = setup();
    let now = Timestamp::now();
    let issued = issuer.issue(&request(), now).unwrap();
    assert!(verifier.is_ours(issued.token.reveal()));
    let verified = verifier.verify(issued.token.reveal(), &[], now).await.unwrap();
    assert_eq!(verified.user.username, "system:serviceaccount:ns:builder");
    assert_eq!(verified.user.uid, "u1");
    assert_eq!(verified.user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns"]);
    assert_eq!(verified.user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(verified.user.extra["authentication.kubernetes.io/node-uid"], ["u3"]);
}

#[tokio::test]
async fn it_ends_with_its_time() {
    let (issuer, verifier, _) = setup();
    let now = Timestamp::now();
    let issued = issuer.issue(&request(), now).unwrap();
    let later = now + SignedDuration::from_secs(601);
    assert!(matches!(verifier.verify(issued.token.reveal(), &[], later).await, Err(TokenError::Invalid(_))));
    let before = now - SignedDuration::from_secs(60);
    assert!(verifier.verify(issued.token.reveal(), &[], before).await.is_err());
}

#[tokio::test]
async fn it_ends_with_what_it_is_bound_to() {
    let (issuer, verifier, objects) = setup();
    let now = Timestamp::now();
    let issued = issuer.issue(&request(), now).unwrap();
    objects.0.lock()[1].2 = "another pod of that name";
    assert!(matches!(
        verifier.verify(issued.token.reveal(), &[], now).await,
        Err(TokenError::Unbound { kind: "pod", .. })
    ));
    objects.0.lock().clear();
    assert!(matches!(
        verifier.verify(issued.token.reveal(), &[], now).await,
        Err(TokenError::Unbound { kind: "serviceaccount", .. })
    ));
}

#[tokio::test]
async fn it_speaks_only_to_its_audience() {
    let (issuer, verifier, _) = setup();
    let now = Timestamp::now();
    let issued = issuer.issue(&TokenRequest { audiences: vec!["vault".into()], ..request() }, now).unwrap();
    assert!(matches!(
        verifier.verify(issued.token.reveal(), &[], now).await,
        Err(TokenError::Audience { .. })
    ));
    let asked = ["vault".to_owned(), "other".to_owned()];
    let verified = verifier.verify(issued.token.reveal(), &asked, now).await.unwrap();
    assert_eq!(verified.audiences, ["vault"]);
}

#[tokio::test]
async fn another_key_or_a_changed_byte_is_refused() {
    let (_, verifier, _) = setup();
    let (other, ..) = setup();
    let now = Timestamp::now();
    let foreign = other.issue(&request(), now).unwrap();
    assert!(matches!(verifier.verify(foreign.token.reveal(), &[], now).await, Err(TokenError::Invalid(_))));
    assert!(!verifier.is_ours("not.a.token"));
    // `alg: none` is the classic forgery.
    let mut parts: Vec<&str> = foreign.token.reveal().split('.').collect();
    parts[0] = "eyJhbGciOiJub25lIn0";
    assert!(verifier.verify(&parts.join("."), &[], now).await.is_err());
}

#[test]
fn the_documents_name_the_key_the_token_names() {
    let (issuer, ..) = setup();
    let issued = issuer.issue(&request(), Timestamp::now()).unwrap();
    let header = jsonwebtoken::decode_header(issued.token.reveal()).unwrap();
    let keys = issuer.key_set();
    assert_eq!(keys["keys"][0]["kid"].as_str(), header.kid.as_deref());
    assert_eq!(keys["keys"][0]["crv"], "P-256");
    assert!(keys["keys"][0].get("d").is_none(), "the private part stays here");
    assert_eq!(issuer.discovery()["jwks_uri"], "https://a/openid/v1/jwks");
}

#[tokio::test]
async fn a_key_that_signs_no_more_verifies_until_it_is_retired() {
    let home = tempfile::tempdir().unwrap();
    let directory = KeyDirectory::new(home.path());
    let ring = directory.open().unwrap();
    let issuer = TokenIssuer::new(ring.clone(), "https://a", vec!["https://a".into()]);
    let objects =
        Objects(Mutex::new(vec![(BoundKind::ServiceAccount, "builder", "u1"), (BoundKind::Pod, "p", "u2")]));
    let verifier = TokenVerifier::new(issuer.clone(), Arc::new(objects));
    let now = Timestamp::now();
    let is_good = async |token: &IssuedToken| verifier.verify(token.token.reveal(), &[], now).await.is_ok();
    let before = issuer.issue(&request(), now).unwrap();

    let id = directory.rotate().unwrap();
    ring.replace(&directory.open().unwrap());
    let after = issuer.issue(&request(), now).unwrap();
    assert!(is_good(&before).await && is_good(&after).await);
    assert_eq!(ring.ids()[0], id, "the new key signs");
    let published = issuer.key_set()["keys"].as_array().unwrap().len();
    assert_eq!(published, 2, "others verify by the set, so it names both");
    assert_eq!(directory.list().unwrap().iter().map(|key| key.signs).collect::<Vec<_>>(), [true, false]);

    assert!(!directory.retire(&id).unwrap(), "the key that signs stays");
    let old = ring.ids()[1].clone();
    assert!(directory.retire(&old).unwrap());
    ring.replace(&directory.open().unwrap());
    assert!(!is_good(&before).await && is_good(&after).await);
    // What is written is what is read after a restart.
    assert_eq!(KeyDirectory::new(home.path()).open().unwrap().ids(), ring.ids());
}

#[test]
fn a_public_key_is_the_same_from_its_file() {
    let key = SigningKey::ephemeral().unwrap();
    let read = VerificationKey::from_pem(&key.public().to_pem()).unwrap();
    assert_eq!(read.id(), key.public().id());
    assert!(VerificationKey::from_pem("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----").is_err());
}
