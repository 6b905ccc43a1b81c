//! Tokens of an issuer: which are somebody's, and which are nobody's.

use std::collections::BTreeMap;

use jsonwebtoken::{EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::json;

use super::*;

const URL: &str = "https://issuer.example.com";

/// An issuer without a network: its documents, and how often it was asked.
struct Issued {
    documents: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: Mutex<usize>,
}

#[async_trait]
impl Fetch for Issued {
    async fn get(&self, url: &str, _: Option<&str>) -> Result<Vec<u8>, String> {
        *self.asked.lock() += 1;
        self.documents.lock().get(url).cloned().ok_or_else(|| "404".to_owned())
    }
}

struct Key {
    pair: KeyPair,
    id: &'static str,
}

impl Key {
    fn new(id: &'static str) -> Self {
        Self { pair: KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key"), id }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key_raw();
        let (x, y) = point[1..].split_at(32);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.id, "x": text(x), "y": text(y)})
    }

    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.to_owned());
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        jsonwebtoken::encode(&header, claims, &key).expect("signed")
    }
}

fn issued(keys: &[&Key]) -> Arc<Issued> {
    let issued = Issued { documents: Mutex::default(), asked: Mutex::default() };
    publish(&issued, keys);
    Arc::new(issued)
}

fn publish(issued: &Issued, keys: &[&Key]) {
    let discovery = json!({"issuer": URL, "jwks_uri": format!("{URL}/keys")}).to_string();
    let set = json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()}).to_string();
    let mut documents = issued.documents.lock();
    documents.insert(format!("{URL}/.well-known/openid-configuration"), discovery.into_bytes());
    documents.insert(format!("{URL}/keys"), set.into_bytes());
}

fn configuration() -> Vec<IssuerConfiguration> {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: {URL}\n    \
         audiences: [fairlead, other]\n    audienceMatchPolicy: MatchAny\n  claimValidationRules:\n  - claim: hd\n    \
         requiredValue: example.com\n  claimMappings:\n    username: {{claim: sub, prefix: 'oidc:'}}\n    groups: \
         {{claim: groups, prefix: 'team:'}}\n    uid: {{claim: oid}}\n"
    );
    configuration::parse(&text, "https://own").expect("valid")
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).expect("a time")
}

fn claims() -> Value {
    json!({"iss": URL, "sub": "ada", "aud": "fairlead", "exp": now().as_second() + 60, "hd": "example.com",
        "groups": ["web", "ops"], "oid": "1", "jti": "x"})
}

fn with(changes: Value) -> Value {
    let mut all = claims();
    for (key, value) in changes.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    all
}

#[tokio::test]
async fn a_token_of_the_issuer_is_its_user_and_no_other_is() {
    let (key, stranger) = (Key::new("a"), Key::new("a"));
    let issuers = Issuers::new(configuration(), issued(&[&key]));
    let user = issuers.user(&key.sign(&claims()), now()).await.expect("it is ada's");
    assert_eq!(user.username, "oidc:ada");
    assert_eq!((user.groups, user.uid.as_str()), (vec!["team:web".to_owned(), "team:ops".to_owned()], "1"));
    assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], ["JTI=x"]);
    let one = issuers.user(&key.sign(&with(json!({"groups": "web", "aud": ["x", "other"]}))), now()).await;
    assert_eq!(one.expect("one group as text").groups, ["team:web"]);

    let claim = |name: &str| OidcError::Claim(name.to_owned());
    let audience = || OidcError::Audience(vec!["fairlead".to_owned(), "other".to_owned()]);
    let cases = [
        (with(json!({"exp": now().as_second()})), OidcError::Time),
        (with(json!({"nbf": now().as_second() + 5})), OidcError::Time),
        (with(json!({"exp": null})), claim("exp")),
        (with(json!({"aud": "somebody"})), audience()),
        (with(json!({"aud": null})), audience()),
        (with(json!({"hd": "evil.com"})), claim("hd")),
        (with(json!({"hd": null})), claim("hd")),
        (with(json!({"sub": ""})), claim("sub")),
        (with(json!({"sub": 7})), claim("sub")),
    ];
    for (claims, wanted) in cases {
        assert_eq!(issuers.user(&key.sign(&claims), now()).await.expect_err("nobody's"), wanted, "{claims}");
    }
    assert_eq!(issuers.user(&stranger.sign(&claims()), now()).await, Err(OidcError::Signature));
    assert!(
        !issuers.knows(&key.sign(&with(json!({"iss": format!("{URL}/")})))),
        "issuers are compared to the letter"
    );
    assert!(!issuers.knows("a.b.c") && !issuers.knows("") && !issuers.knows(&"x".repeat(100_000)));

    // Without a signature, and with one that anybody who knows the public key could make.
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims()));
    assert!(issuers.user(&none, now()).await.is_err());
    let shared = EncodingKey::from_secret(key.jwk()["x"].as_str().expect("text").as_bytes());
    let confused = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &shared).expect("signed");
    assert_eq!(issuers.user(&confused, now()).await, Err(OidcError::Malformed));
}

#[tokio::test]
async fn names_that_only_the_server_gives_are_taken_from_nobody() {
    let key = Key::new("a");
    let mut plain = configuration();
    (plain[0].username.1, plain[0].groups) = (String::new(), Some(("groups".to_owned(), String::new())));
    let issuers = Issuers::new(plain, issued(&[&key]));
    for (changes, name) in [
        (json!({"sub": "system:admin"}), "system:admin"),
        (json!({"sub": "fairlead:cluster:dev:1"}), "fairlead:cluster:dev:1"),
        (json!({"groups": ["web", "system:masters"]}), "system:masters"),
        (json!({"groups": ["fairlead:clusters"]}), "fairlead:clusters"),
    ] {
        let refused = issuers.user(&key.sign(&with(changes)), now()).await;
        assert_eq!(refused, Err(OidcError::Reserved(name.to_owned())));
    }
}

#[tokio::test]
async fn keys_are_kept_asked_for_anew_when_a_token_names_another_and_not_lost_with_the_issuer() {
    let (old, new) = (Key::new("old"), Key::new("new"));
    let issuer = issued(&[&old]);
    let issuers = Issuers::new(configuration(), Arc::clone(&issuer) as _);
    for _ in 0..5 {
        issuers.user(&old.sign(&claims()), now()).await.expect("good");
    }
    assert_eq!(*issuer.asked.lock(), 2, "discovery and keys, once");
    publish(&issuer, &[&old, &new]);
    // Not within the ten seconds in which it is not asked again: nobody makes the server ask by naming keys.
    assert_eq!(issuers.user(&new.sign(&claims()), now()).await, Err(OidcError::Signature));
    assert_eq!(*issuer.asked.lock(), 2);
    *issuers.all.load()[0].asked.lock() = None;
    issuers.user(&new.sign(&claims()), now()).await.expect("the new key");
    issuer.documents.lock().clear();
    *issuers.all.load()[0].asked.lock() = None;
    assert_eq!(issuers.user(&Key::new("x").sign(&claims()), now()).await, Err(OidcError::Signature));
    issuers.user(&old.sign(&claims()), now()).await.expect("what is known goes on counting");
    let never = Issuers::new(configuration(), Arc::clone(&issuer) as _);
    assert!(matches!(never.user(&old.sign(&claims()), now()).await, Err(OidcError::Keys { .. })));
}

#[test]
fn a_configuration_says_what_is_wrong_with_it() {
    let document = |issuer: &str, mappings: &str, more: &str| {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer: {issuer}\n  claimMappings: {mappings}\n{more}"
        )
    };
    let (good, names) = ("{url: 'https://a', audiences: [x]}", "{username: {claim: sub, prefix: ''}}");
    assert_eq!(configuration::parse(&document(good, names, ""), "https://own").expect("valid").len(), 1);
    let cases = [
        (
            document("{url: 'http://a', audiences: [x]}", names, ""),
            "jwt[0].issuer.url: Invalid value: \"http://a\": URL scheme must be https",
        ),
        (
            document("{url: 'https://own', audiences: [x]}", names, ""),
            "URL must not overlap with disallowed issuers",
        ),
        (
            document("{url: 'https://u@a', audiences: [x]}", names, ""),
            "URL must not contain a username or password",
        ),
        (document("{url: 'https://a?b', audiences: [x]}", names, ""), "URL must not contain a query"),
        (
            document("{url: 'https://a', audiences: []}", names, ""),
            "at least one issuer.audiences is required",
        ),
        (
            document("{url: 'https://a', audiences: [x, y]}", names, ""),
            "audienceMatchPolicy must be MatchAny",
        ),
        (document(good, "{username: {claim: sub}}", ""), "prefix is required when claim is set"),
        (document(good, "{}", ""), "claimMappings.username: Required value: claim or expression is required"),
        (document(good, "{username: {expression: claims.sub}}", ""), "CEL is not supported here"),
        (
            document(good, names, "  userValidationRules: [{expression: 'true'}]\n"),
            "CEL is not supported here",
        ),
        (
            document(good, names, &format!("- issuer: {good}\n  claimMappings: {names}\n")),
            "jwt[1].issuer.url: Duplicate value",
        ),
        ("kind: Secret".to_owned(), "not valid"),
    ];
    for (text, wanted) in cases {
        let error = configuration::parse(&text, "https://own").expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
