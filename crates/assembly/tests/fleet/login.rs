//! People's tokens: an issuer behind https, a hub that trusts it, and requests over the network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use access::CertificateAuthority;
use access::certificates::ServerNames;
use access::tls::{ServerCertificate, server_config};
use assembly::control_plane::Serving;
use assembly::hub::{Hub, Options};
use assembly::identity::GivenFiles;
use assembly::state::StoreOptions;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::PostParams;
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// An issuer: discovery and keys over TLS of an authority of its own.
struct Issuer {
    authority: CertificateAuthority,
    address: SocketAddr,
    key: KeyPair,
}

impl Issuer {
    async fn start() -> Self {
        let authority = CertificateAuthority::ephemeral("issuer").unwrap();
        let mut names = ServerNames::default();
        names.addresses.push([127, 0, 0, 1].into());
        let issued = authority.issue_server("issuer", &names, std::time::Duration::from_secs(3600)).unwrap();
        let mut tls = (*server_config(&ServerCertificate::new(&issued).unwrap()).unwrap()).clone();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let (x, y) = key.public_key_raw()[1..].split_at(32);
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let url = format!("https://{address}");
        let discovery = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": text(x), "y": text(y)}]})
            .to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, discovery, keys) = (acceptor.clone(), discovery.clone(), keys.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut head = vec![0; 4096];
                    let count = stream.read(&mut head).await.unwrap_or(0);
                    let known = String::from_utf8_lossy(&head[..count]).starts_with("GET /keys");
                    let body = if known { keys } else { discovery };
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { authority, address, key }
    }

    /// As a configuration names it.
    fn written(&self) -> String {
        let indented = self.authority.bundle_pem().replace('\n', "\n      ");
        format!(
            "url: https://{}\n    audiences: [fairlead]\n    certificateAuthority: |\n      {indented}",
            self.address
        )
    }

    fn token(&self, changes: Value) -> String {
        let expires = jiff::Timestamp::now().as_second() + 300;
        let mut claims = json!({"iss": format!("https://{}", self.address), "aud": "fairlead", "sub": "1", "exp": expires,
            "email": "ada@example.com", "groups": ["web"]});
        for (key, value) in changes.as_object().into_iter().flatten() {
            claims[key] = value.clone();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&json!({"alg": "ES256", "kid": "k"})), part(&claims));
        // What rcgen signs is DER; a token has the two numbers side by side.
        let der = self.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(numbers(&der)))
    }
}

/// The two 32-byte numbers of an ECDSA signature in DER.
fn numbers(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = &der[2..];
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let trimmed = &number[number.len().saturating_sub(32)..];
        out.extend(std::iter::repeat_n(0, 32 - trimmed.len()));
        out.extend_from_slice(trimmed);
        rest = &rest[2 + length..];
    }
    out
}

/// Where somebody asks who he is.
const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

fn review() -> Value {
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
}

/// A hub that lets in whom a file says.
struct Trusting {
    hub: Hub,
    kubeconfig: kube::config::Kubeconfig,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl Trusting {
    async fn start(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("authentication.yaml");
        std::fs::write(&file, configuration).unwrap();
        let files = GivenFiles { authentication: Some(file.clone()), ..GivenFiles::default() };
        let serving = Serving { files, ..Serving::default() };
        let hub = Hub::start(Options {
            directory: directory.path().join("hub"),
            store: StoreOptions::default(),
            bind: "127.0.0.1:0".parse().unwrap(),
            names: Vec::new(),
            serving,
            agent_certificate_ttl: None,
            test_retention: Default::default(),
            announce: None,
            replica_url: None,
            telemetry: None,
        })
        .await
        .unwrap();
        let kubeconfig = std::fs::read_to_string(directory.path().join("hub/admin.kubeconfig")).unwrap();
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&kubeconfig).unwrap();
        Self { hub, kubeconfig, file, _directory: directory }
    }

    /// What is answered to whoever shows this token.
    async fn ask(&self, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut kubeconfig = self.kubeconfig.clone();
        let user = json!({"token": token});
        kubeconfig.auth_infos[0].auth_info = Some(serde_json::from_value(user).unwrap());
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let request =
            http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        let body =
            if body.is_null() { kube::client::Body::empty() } else { body.to_string().into_bytes().into() };
        let response = client.send(request.body(body).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (code, serde_json::from_slice::<Value>(&bytes).unwrap_or_default())
    }

    /// The code of what is answered to nobody.
    async fn knock(&self, path: &str) -> u16 {
        let mut kubeconfig = self.kubeconfig.clone();
        kubeconfig.auth_infos[0].auth_info = Some(kube::config::AuthInfo::default());
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let request = http::Request::get(path).body(kube::client::Body::empty()).unwrap();
        client.send(request).await.unwrap().status().as_u16()
    }

    async fn stop(self) {
        let stop = CancellationToken::new();
        stop.cancel();
        self.hub.run(stop).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_who_the_issuer_says_and_may_what_roles_say() {
    let issuer = Issuer::start().await;
    let configuration = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    {}\n  claimMappings:\n    \
         username: {{claim: email, prefix: ''}}\n    groups: {{claim: groups, prefix: 'oidc:'}}\n",
        issuer.written()
    );
    let hub = Trusting::start(&configuration).await;
    let ask =
        async |token: &str, method: &str, path: &str, body: Value| hub.ask(token, method, path, body).await;
    let review = review();
    let who = WHO;
    let (code, answer) = ask(&issuer.token(json!({})), "POST", who, review.clone()).await;
    let user = &answer["status"]["userInfo"];
    assert_eq!((code, &user["username"]), (201, &json!("ada@example.com")), "{answer}");
    assert_eq!(user["groups"], json!(["oidc:web", "system:authenticated"]));

    let clusters = "/apis/fleet.fairlead.dev/v1alpha1/clusters";
    let (code, answer) = ask(&issuer.token(json!({})), "GET", clusters, Value::Null).await;
    assert_eq!(code, 403, "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("User \"ada@example.com\" cannot list"), "{answer}");
    // With a role in a project: which clusters somebody has is said, and no others.
    let make = async |path: &str, object: Value| {
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(kube::client::Body::from(object.to_string().into_bytes())).unwrap();
        let response = hub.hub.client().send(request).await.unwrap();
        assert_eq!(response.status(), 201, "{object}");
    };
    for (name, set) in [("a", "edge"), ("b", "shop")] {
        make(
            clusters,
            json!({"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Cluster", "spec": {},
            "metadata": {"name": name, "labels": {fleet_objects::LABEL_CLUSTER_SET: set}}}),
        )
        .await;
    }
    let labels = json!({fleet_objects::project::LABEL_PROJECT: ""});
    let sets = json!({fleet_objects::project::ANNOTATION_CLUSTER_SETS: "edge"});
    make(
        "/api/v1/namespaces",
        json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "team", "labels": labels, "annotations": sets}}),
    )
    .await;
    make(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/team/rolebindings",
        json!({"metadata": {"name": "web"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "fleet-viewer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "oidc:web"}]}),
    )
    .await;
    crate::bench::eventually("the project's cluster is listed, and no other", || async {
        let (code, list) = ask(&issuer.token(json!({})), "GET", "/fleet/v1/clusters", Value::Null).await;
        let names: Vec<_> =
            list["items"].as_array().into_iter().flatten().map(|one| &one["metadata"]["name"]).collect();
        code == 200 && names == [&json!("a")]
    })
    .await;
    let bindings: Api<ClusterRoleBinding> = Api::all(hub.hub.client());
    let binding = json!({"metadata": {"name": "web"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "fleet-viewer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "oidc:web"}]});
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    crate::bench::eventually("the group's role counts", || async {
        ask(&issuer.token(json!({})), "GET", clusters, Value::Null).await.0 == 200
    })
    .await;

    let mut tampered = issuer.token(json!({}));
    tampered.replace_range(tampered.len() - 4.., "AAAA");
    let other = Issuer::start().await;
    let stranger = other.token(json!({"iss": format!("https://{}", issuer.address)}));
    for (what, token) in [
        ("expired", issuer.token(json!({"exp": 1000}))),
        ("for somebody else", issuer.token(json!({"aud": "other"}))),
        ("an agent's group", issuer.token(json!({"email": "fairlead:cluster:dev:1"}))),
        ("an administrator", issuer.token(json!({"email": "system:admin"}))),
        ("an unverified address", issuer.token(json!({"email_verified": false}))),
        ("tampered with", tampered),
        ("signed by a stranger", stranger),
        ("of an issuer that nobody trusts", other.token(json!({}))),
    ] {
        assert_eq!(ask(&token, "POST", who, review.clone()).await.0, 401, "{what}");
    }
    // The file says otherwise while the hub runs.
    std::fs::write(&hub.file, configuration.replace("prefix: ''", "prefix: 'sso:'")).unwrap();
    let named = async || {
        let answer = ask(&issuer.token(json!({})), "POST", who, review.clone()).await.1;
        answer["status"]["userInfo"]["username"].as_str().unwrap_or_default().to_owned()
    };
    crate::bench::eventually("names are given as the file says now", || async {
        named().await == "sso:ada@example.com"
    })
    .await;
    std::fs::write(&hub.file, configuration.replace("[fairlead]", "[another]")).unwrap();
    crate::bench::eventually("who was let in is not any more", || async { named().await.is_empty() }).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_say_who_somebody_is_and_who_is_let_in() {
    let issuer = Issuer::start().await;
    let configuration = format!(
        r#"apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    {}
  claimValidationRules:
  - expression: claims.?email_verified.orValue(true) == true
    message: the address is not verified
  - {{ claim: hd, requiredValue: example.com }}
  claimMappings:
    username: {{ expression: 'claims.email.lowerAscii()' }}
    groups: {{ expression: 'claims.roles.split(",").map(role, "oidc:" + role)' }}
    uid: {{ expression: claims.sub }}
    extra:
    - {{ key: example.com/tenant, valueExpression: claims.example__dot__com.tenant }}
    - {{ key: example.com/spare, valueExpression: 'claims.?spare.orValue("")' }}
  userValidationRules:
  - expression: '!("oidc:root" in user.groups)'
    message: nobody is root
"#,
        issuer.written()
    );
    let hub = Trusting::start(&configuration).await;
    let token = |changes: Value| {
        let mut claims = json!({"email": "Ada@example.com", "hd": "example.com", "roles": "web,ops",
            "example.com": {"tenant": ["north", "south"]}, "jti": "t1"});
        for (key, value) in changes.as_object().into_iter().flatten() {
            claims[key] = value.clone();
        }
        issuer.token(claims)
    };
    let who = async |changes: Value| hub.ask(&token(changes), "POST", WHO, review()).await;
    let (code, answer) = who(json!({})).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(
        answer["status"]["userInfo"],
        json!({"username": "ada@example.com", "uid": "1", "groups": ["oidc:web", "oidc:ops", "system:authenticated"],
            "extra": {"example.com/tenant": ["north", "south"], "authentication.kubernetes.io/credential-id": ["JTI=t1"]}})
    );
    let bindings: Api<ClusterRoleBinding> = Api::all(hub.hub.client());
    let binding = json!({"metadata": {"name": "ops"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "fleet-viewer"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "oidc:ops"}]});
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
    let clusters = "/apis/fleet.fairlead.dev/v1alpha1/clusters";
    crate::bench::eventually("the role of a group that an expression made counts", || async {
        hub.ask(&token(json!({})), "GET", clusters, Value::Null).await.0 == 200
    })
    .await;
    assert_eq!(hub.ask(&token(json!({"roles": "web"})), "GET", clusters, Value::Null).await.0, 403);

    for (what, changes) in [
        ("an unverified address", json!({"email_verified": false})),
        ("a flag that is no flag", json!({"email_verified": "true"})),
        ("another domain", json!({"hd": "evil.com"})),
        ("no address", json!({"email": null})),
        ("an empty name", json!({"email": ""})),
        ("an administrator's name", json!({"email": "System:admin"})),
        ("a group that a rule forbids", json!({"roles": "web,root"})),
        ("roles that are no text", json!({"roles": 7})),
        ("no tenant", json!({"example.com": {}})),
        ("a tenant that is a number", json!({"example.com": {"tenant": 7}})),
    ] {
        assert_eq!(who(changes).await.0, 401, "{what}");
    }
    // Another rule while the hub runs.
    std::fs::write(&hub.file, configuration.replace(r#""oidc:root" in"#, r#""oidc:ops" in"#)).unwrap();
    crate::bench::eventually("the new rule counts", || async { who(json!({})).await.0 == 401 }).await;
    assert_eq!(who(json!({"roles": "web,root"})).await.0, 201);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_but_where_the_file_says() {
    let configuration = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous:\n  enabled: true\n  \
                         conditions: [{path: /readyz}]\n";
    let hub = Trusting::start(configuration).await;
    assert_eq!(hub.knock("/readyz").await, 200);
    assert_eq!(hub.knock("/version").await, 401, "its roles would let anybody see it");
    assert_eq!(hub.knock("/fleet/v1/ca").await, 200, "who joins shows what it has there");
    hub.stop().await;
}
