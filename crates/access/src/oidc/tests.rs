//! Tokens of an issuer: which are somebody's, and which are nobody's.

use std::collections::BTreeMap;

use jsonwebtoken::{EncodingKey, Header};
use rcgen::KeyPair;
use serde_json::json;

use super::configuration::Mapping;
use super::expressions::{Compiled, Compiler, Subject};
use super::*;

const URL: &str = "https://issuer.example.com";

/// The engine that the server itself is given.
pub(super) struct Cel;

#[derive(Debug)]
struct Ready(policy_engines::authentication::Expression);

impl Compiler for Cel {
    fn compile(&self, source: &str, subject: Subject, condition: bool) -> Result<Arc<dyn Compiled>, String> {
        use policy_engines::authentication::{Expression, Subject as Known};
        let subject = match subject {
            Subject::Claims => Known::Claims,
            Subject::User => Known::User,
        };
        Ok(Arc::new(Ready(Expression::compile(source, subject, condition)?)))
    }
}

impl Compiled for Ready {
    fn selects(&self, field: &str) -> bool {
        self.0.selects(field)
    }

    fn evaluate(&self, data: &Value) -> Result<Value, String> {
        self.0.evaluate(data)
    }
}

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
    configuration::parse(&text, "https://own", &Cel).expect("valid").issuers
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

    let none = issuers.user(&key.sign(&with(json!({"groups": null}))), now()).await;
    assert!(none.expect("no group").groups.is_empty());

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
        (with(json!({"groups": ["web", 1]})), claim("groups")),
        (with(json!({"groups": {"web": true}})), claim("groups")),
        (with(json!({"oid": null})), claim("oid")),
        (with(json!({"oid": 7})), claim("oid")),
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
    let claim = |claim: &str| Mapping::Claim { claim: claim.to_owned(), prefix: String::new() };
    (plain[0].username, plain[0].groups) = (claim("sub"), Some(claim("groups")));
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

/// An issuer whose users are made by expressions; `more` is the rest of its part of the document.
fn expressions(mappings: &str, more: &str) -> Vec<IssuerConfiguration> {
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1beta1\nkind: AuthenticationConfiguration\njwt:\n- issuer: {{url: '{URL}', audiences: \
         [fairlead]}}\n  claimMappings:\n{mappings}\n{more}"
    );
    configuration::parse(&text, "https://own", &Cel).expect("valid").issuers
}

const MAPPINGS: &str = "    username: {expression: '\"oidc:\" + claims.sub'}
    groups: {expression: 'claims.?teams.orValue(null)'}
    uid: {expression: 'claims.?oid.orValue(\"\")'}
    extra:
    - {key: example.org/role, valueExpression: 'claims.?role.orValue(\"\")'}
    - {key: example.org/tags, valueExpression: 'claims.tags'}";

const RULES: &str = "  claimValidationRules:
  - {claim: hd, requiredValue: example.com}
  - {expression: 'claims.exp - claims.iat <= 86400.0', message: longer than a day}
  - {expression: '!has(claims.blocked)'}
  userValidationRules:
  - {expression: 'user.groups.all(group, group != \"root\")', message: nobody is root}
  - {expression: 'user.extra[?\"authentication.kubernetes.io/credential-id\"][0].orValue(\"\") != \"JTI=lost\"', message: lost}";

fn modern(changes: Value) -> Value {
    let mut all =
        with(json!({"iat": now().as_second() - 60, "teams": ["web", "", "ops"], "tags": ["a", "b"]}));
    for (key, value) in changes.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    all
}

#[tokio::test]
async fn expressions_make_the_user() {
    let key = Key::new("a");
    let issuers = Issuers::new(expressions(MAPPINGS, RULES), issued(&[&key]));
    let user = async |changes: Value| issuers.user(&key.sign(&modern(changes)), now()).await.expect("a user");
    let ada = user(json!({"role": "lead"})).await;
    assert_eq!((ada.username.as_str(), ada.uid.as_str()), ("oidc:ada", "1"));
    assert_eq!(ada.groups, ["web", "ops"], "empty texts are left out");
    let extra: BTreeMap<_, _> = [
        ("authentication.kubernetes.io/credential-id", vec!["JTI=x"]),
        ("example.org/role", vec!["lead"]),
        ("example.org/tags", vec!["a", "b"]),
    ]
    .into();
    let known: BTreeMap<_, Vec<&str>> = ada
        .extra
        .iter()
        .map(|(key, values)| (key.as_str(), values.iter().map(String::as_str).collect()))
        .collect();
    assert_eq!(known, extra);

    // What comes to nothing is not there.
    for teams in [json!(null), json!([]), json!(""), json!([""])] {
        let user = user(json!({"teams": teams, "tags": null, "jti": 7})).await;
        assert!(user.groups.is_empty() && user.extra.is_empty(), "{user:?}");
    }
    assert_eq!(user(json!({"teams": "one"})).await.groups, ["one"]);
    let plain = expressions("    username: {expression: claims.sub}", "");
    let plain = Issuers::new(plain, issued(&[&key])).user(&key.sign(&claims()), now()).await.expect("ada");
    assert_eq!((plain.username.as_str(), plain.groups.len(), plain.uid.as_str()), ("ada", 0, ""));
}

#[tokio::test]
async fn an_expression_without_a_usable_value_lets_nobody_in() {
    let key = Key::new("a");
    let issuers = Issuers::new(expressions(MAPPINGS, RULES), issued(&[&key]));
    let rule = |expression: &str, message: &str| OidcError::Rule {
        expression: expression.to_owned(),
        message: message.to_owned(),
    };
    let cases = [
        (json!({"iat": 0}), rule("claims.exp - claims.iat <= 86400.0", "longer than a day")),
        (json!({"blocked": false}), rule("!has(claims.blocked)", "")),
        (
            json!({"teams": ["web", "root"]}),
            rule("user.groups.all(group, group != \"root\")", "nobody is root"),
        ),
        (
            json!({"jti": "lost"}),
            rule(
                "user.extra[?\"authentication.kubernetes.io/credential-id\"][0].orValue(\"\") != \"JTI=lost\"",
                "lost",
            ),
        ),
        (json!({"hd": "evil.com"}), OidcError::Claim("hd".to_owned())),
    ];
    for (changes, wanted) in cases {
        let refused = issuers.user(&key.sign(&modern(changes)), now()).await;
        assert_eq!(refused, Err(wanted));
    }
    let many: Vec<String> = (0..1001).map(|number| number.to_string()).collect();
    let cases = [
        (json!({"iat": "yesterday"}), "claimValidationRules[1].expression", "no such overload"),
        (json!({"teams": ["web", 1]}), "claimMappings.groups.expression", "a list with double"),
        (
            json!({"teams": true}),
            "claimMappings.groups.expression",
            "it must be a string or a list of strings",
        ),
        (json!({"teams": many}), "claimMappings.groups.expression", "more than 1000 values"),
        (json!({"oid": 7}), "claimMappings.uid.expression", "and is double"),
        (json!({"oid": ["a"]}), "claimMappings.uid.expression", "it must be a string"),
        (json!({"sub": 7}), "claimMappings.username.expression", "no such overload"),
        (json!({"tags": {"a": "b"}}), "claimMappings.extra[1].valueExpression", "and is map"),
    ];
    for (changes, place, why) in cases {
        let refused = issuers.user(&key.sign(&modern(changes.clone())), now()).await.expect_err(place);
        let shown = refused.to_string();
        assert!(shown.starts_with(place) && shown.contains(why), "{changes}: {shown}");
    }
    let mut without = modern(json!({}));
    without.as_object_mut().expect("claims").remove("tags");
    let refused = issuers.user(&key.sign(&without), now()).await.expect_err("no tags").to_string();
    assert!(refused.contains("no such key: tags"), "{refused}");
}

#[tokio::test]
async fn a_name_made_by_an_expression_is_held_to_the_same() {
    let key = Key::new("a");
    let mappings = "    username: {expression: claims.nick}\n    groups: {expression: claims.groups}";
    let issuers = Issuers::new(expressions(mappings, ""), issued(&[&key]));
    let reserved = |name: &str| OidcError::Reserved(name.to_owned());
    for (changes, wanted) in [
        (json!({"nick": "system:admin"}), reserved("system:admin")),
        (json!({"nick": "fairlead:cluster:dev:1"}), reserved("fairlead:cluster:dev:1")),
        (json!({"nick": "ada", "groups": ["web", "system:masters"]}), reserved("system:masters")),
    ] {
        assert_eq!(issuers.user(&key.sign(&with(changes)), now()).await, Err(wanted));
    }
    for (nick, why) in [
        (json!(""), "it is empty"),
        (json!(null), "it must be a string"),
        (json!(["ada"]), "it must be a string"),
    ] {
        let refused = issuers.user(&key.sign(&with(json!({"nick": nick}))), now()).await.expect_err(why);
        assert!(refused.to_string().contains(why), "{refused}");
    }
    // Verified or not is the expression's to ask.
    let mappings =
        "    username: {expression: 'claims.?email_verified.orValue(false) ? claims.email : claims.sub'}";
    let issuers = Issuers::new(expressions(mappings, ""), issued(&[&key]));
    for (verified, name) in [(true, "ada@example.com"), (false, "ada")] {
        let claims = with(json!({"email": "ada@example.com", "email_verified": verified}));
        let user = issuers.user(&key.sign(&claims), now()).await.expect("a user");
        assert_eq!(user.username, name);
    }
}

#[tokio::test]
async fn keys_stay_known_when_nothing_changes_and_rules_count_at_once_when_they_do() {
    let key = Key::new("a");
    let issuer = issued(&[&key]);
    let issuers = Issuers::new(expressions(MAPPINGS, RULES), Arc::clone(&issuer) as _);
    let token = key.sign(&modern(json!({})));
    issuers.user(&token, now()).await.expect("good");
    issuers.replace(expressions(MAPPINGS, RULES));
    issuers.user(&token, now()).await.expect("good");
    assert_eq!(*issuer.asked.lock(), 2, "the same texts are the same configuration");
    issuers.replace(expressions(MAPPINGS, &RULES.replace("!has(claims.blocked)", "has(claims.allowed)")));
    assert!(matches!(issuers.user(&token, now()).await, Err(OidcError::Rule { .. })));
}
