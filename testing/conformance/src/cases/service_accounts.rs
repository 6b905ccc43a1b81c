//! Service accounts: tokens, their reviews, and how pods get them.

use anyhow::ensure;
use serde_json::{Value, json};

use super::kinds::nowhere;
use crate::case;
use crate::case::Case;
use crate::subject::{Namespace, Subject, text};

pub(super) const CASES: &[Case] = &[
    case!(
        "service accounts/pods get a token unless someone says no",
        ApiServer,
        ["ServiceAccounts should allow opting out of API token automount"],
        automount
    ),
    case!(
        "service accounts/tokens are issued and reviewed",
        ApiServer,
        ["ServiceAccounts should create a serviceAccountToken and ensure a successful TokenReview"],
        tokens
    ),
    case!("service accounts/a token is bound to its object", ApiServer, [], bound),
    case!("service accounts/a token's bearer is its account", ApiServer, [], bearer),
    case!("service accounts/tokens that cannot be", ApiServer, [], refusals),
    case!("service accounts/pods of an account that is not there", ApiServer, [], missing),
    case!(
        "service accounts/every namespace has one and the root certificate",
        Controllers,
        ["ServiceAccounts should guarantee kube-root-ca.crt exist in any namespace"],
        root_certificate
    ),
    case!("service accounts/issuer and keys are published", ApiServer, [], issuer),
];

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

async fn account(
    subject: &Subject,
    space: &Namespace<'_>,
    name: &str,
    mount: Option<bool>,
) -> anyhow::Result<Value> {
    let body = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}, "automountServiceAccountToken": mount,
    });
    subject.post(&space.core("serviceaccounts"), &body).await?.expect(201)
}

/// A token of an account, with these options of its specification.
async fn token(subject: &Subject, space: &Namespace<'_>, name: &str, spec: Value) -> anyhow::Result<Value> {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    subject.post(&space.core(&format!("serviceaccounts/{name}/token")), &body).await?.expect(201)
}

async fn review(subject: &Subject, spec: Value) -> anyhow::Result<Value> {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec});
    Ok(subject.post(REVIEWS, &body).await?.expect(201)?["status"].clone())
}

async fn automount(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("accounts").await?;
    account(subject, &space, "mount", Some(true)).await?;
    account(subject, &space, "nomount", Some(false)).await?;
    for (index, (account, own, wanted)) in [
        ("default", None, true),
        ("mount", None, true),
        ("nomount", None, false),
        ("default", Some(true), true),
        ("mount", Some(true), true),
        ("nomount", Some(true), true),
        ("default", Some(false), false),
        ("mount", Some(false), false),
        ("nomount", Some(false), false),
    ]
    .into_iter()
    .enumerate()
    {
        let mut spec = nowhere();
        spec["serviceAccountName"] = json!(account);
        spec["automountServiceAccountToken"] = json!(own);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{index}")}, "spec": spec});
        let made = subject.post(&space.core("pods"), &pod).await?.expect(201)?;
        let place = "/var/run/secrets/kubernetes.io/serviceaccount";
        let mounts = made["spec"]["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
        let mounted = mounts.iter().any(|mount| mount["mountPath"] == place && mount["readOnly"] == true);
        ensure!(mounted == wanted, "account {account}, pod {own:?}: mounted {mounted}, not {wanted}: {made}");
        if wanted {
            let volume = &made["spec"]["volumes"][0];
            ensure!(
                volume["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-")),
                "{volume}"
            );
            let sources = &volume["projected"]["sources"];
            ensure!(sources[0]["serviceAccountToken"]["expirationSeconds"] == 3607, "{sources}");
            ensure!(sources[1]["configMap"]["name"] == "kube-root-ca.crt", "{sources}");
            ensure!(sources[2]["downwardAPI"]["items"][0]["path"] == "namespace", "{sources}");
        }
    }
    space.end().await
}

async fn tokens(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("accounts").await?;
    let made = account(subject, &space, "a", None).await?;
    let answer = token(subject, &space, "a", json!({})).await?;
    ensure!(answer["kind"] == "TokenRequest" && answer["spec"]["expirationSeconds"] == 3600, "{answer}");
    ensure!(answer["status"]["expirationTimestamp"].is_string(), "{}", answer["status"]);
    let status = review(subject, json!({"token": text(&answer, "/status/token")?})).await?;
    ensure!(status["authenticated"] == true && status["error"].is_null(), "{status}");
    let user = &status["user"];
    ensure!(user["username"] == format!("system:serviceaccount:{}:a", space.name), "{user}");
    ensure!(user["uid"] == made["metadata"]["uid"], "{user}");
    let groups = json!([
        "system:serviceaccounts",
        format!("system:serviceaccounts:{}", space.name),
        "system:authenticated"
    ]);
    ensure!(user["groups"] == groups, "{user}");
    let id = user["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap_or_default();
    ensure!(id.starts_with("JTI="), "{user}");
    let other =
        review(subject, json!({"token": text(&answer, "/status/token")?, "audiences": ["other"]})).await?;
    ensure!(other["authenticated"].as_bool() != Some(true), "for another audience: {other}");
    let rubbish = review(subject, json!({"token": "rubbish"})).await?;
    ensure!(
        rubbish["authenticated"].as_bool() != Some(true) && rubbish["user"]["username"].is_null(),
        "{rubbish}"
    );
    let theirs = token(subject, &space, "a", json!({"audiences": ["them"]})).await?;
    let theirs = text(&theirs, "/status/token")?;
    let status = review(subject, json!({"token": theirs, "audiences": ["them", "us"]})).await?;
    ensure!(status["authenticated"] == true && status["audiences"] == json!(["them"]), "{status}");
    let refused = subject.bearing(Some(theirs))?.get("/api/v1/namespaces").await?;
    refused.refused(401, "Unauthorized")?;
    space.end().await
}

async fn bound(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("accounts").await?;
    account(subject, &space, "a", None).await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
    let secret = subject.post(&space.core("secrets"), &secret).await?.expect(201)?;
    let reference =
        json!({"apiVersion": "v1", "kind": "Secret", "name": "s", "uid": secret["metadata"]["uid"]});
    let answer = token(subject, &space, "a", json!({"boundObjectRef": reference})).await?;
    ensure!(answer["spec"]["boundObjectRef"]["uid"] == secret["metadata"]["uid"], "{answer}");
    let bearer = text(&answer, "/status/token")?.to_owned();
    ensure!(review(subject, json!({"token": bearer})).await?["authenticated"] == true);
    subject.delete(&space.core("secrets/s")).await?.expect(200)?;
    while review(subject, json!({"token": bearer})).await?["authenticated"] == true {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": nowhere()});
    subject.post(&space.core("pods"), &pod).await?.expect(201)?;
    let reference = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}});
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": reference});
    let refused = subject.post(&space.core("serviceaccounts/a/token"), &body).await?;
    // The pod is one of another account.
    refused.refused(400, "BadRequest")?;
    space.end().await
}

async fn bearer(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("accounts").await?;
    account(subject, &space, "a", None).await?;
    let answer = token(subject, &space, "a", json!({})).await?;
    let account = subject.bearing(Some(text(&answer, "/status/token")?))?;
    let who = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let who = account.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &who).await?.expect(201)?;
    let name = format!("system:serviceaccount:{}:a", space.name);
    ensure!(who["status"]["userInfo"]["username"] == name, "{who}");
    let refused = account.get(&space.core("configmaps")).await?;
    refused.refused(403, "Forbidden")?;
    let message = format!(
        "configmaps is forbidden: User \"{name}\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"{}\"",
        space.name
    );
    ensure!(refused.message() == message, "{}", refused.message());
    subject.bearing(Some("rubbish"))?.get("/api").await?.refused(401, "Unauthorized")?;
    space.end().await
}

async fn refusals(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("accounts").await?;
    account(subject, &space, "a", None).await?;
    let send = async |name: &str, spec: Value| {
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        subject.post(&space.core(&format!("serviceaccounts/{name}/token")), &body).await
    };
    send("nothing", json!({})).await?.refused(404, "NotFound")?;
    let short = send("a", json!({"expirationSeconds": 60})).await?;
    short.refused(422, "Invalid")?;
    ensure!(short.json["details"]["causes"][0]["field"] == "spec.expirationSeconds", "{}", short.json);
    let reference = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "ConfigMap", "name": "c"}});
    send("a", reference).await?.refused(400, "BadRequest")?;
    let absent = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": "c"}});
    send("a", absent).await?.refused(404, "NotFound")?;
    let empty = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {}});
    subject.post(REVIEWS, &empty).await?.refused(400, "BadRequest")?;
    space.end().await
}

async fn missing(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("accounts").await?;
    let mut spec = nowhere();
    spec["serviceAccountName"] = json!("nothing");
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec});
    let refused = subject.post(&space.core("pods"), &pod).await?;
    refused.refused(403, "Forbidden")?;
    let message = format!(
        "pods \"p\" is forbidden: error looking up service account {}/nothing: serviceaccount \"nothing\" not found",
        space.name
    );
    ensure!(refused.message() == message, "{}", refused.message());
    space.end().await
}

async fn root_certificate(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("accounts").await?;
    let path = space.core("configmaps/kube-root-ca.crt");
    let made = subject.wait_for(&path, |answer| answer.code == 200).await?.json;
    ensure!(text(&made, "/data/ca.crt")?.starts_with("-----BEGIN CERTIFICATE-----"), "{made}");
    subject.delete(&path).await?.expect(200)?;
    let again = |answer: &crate::subject::Answer| {
        answer.code == 200 && answer.json["metadata"]["uid"] != made["metadata"]["uid"]
    };
    subject.wait_for(&path, again).await?;
    let spoilt = json!({"data": {"ca.crt": "spoilt"}});
    subject.patch(&path, "merge", &spoilt).await?.expect(200)?;
    subject.wait_for(&path, |answer| answer.json["data"] == made["data"]).await?;
    space.end().await
}

async fn issuer(subject: &Subject) -> anyhow::Result<()> {
    let about = subject.get("/.well-known/openid-configuration").await?;
    let content = about.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(about.code == 200 && content == "application/json", "{} {content}", about.code);
    ensure!(text(&about.json, "/issuer")?.starts_with("https://"), "{}", about.json);
    ensure!(about.json["response_types_supported"] == json!(["id_token"]), "{}", about.json);
    let keys = subject.get("/openid/v1/jwks").await?;
    let content = keys.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    ensure!(keys.code == 200 && content == "application/jwk-set+json", "{} {content}", keys.code);
    let key = &keys.json["keys"][0];
    ensure!(key["use"] == "sig" && key["kid"].is_string() && key["d"].is_null(), "{}", keys.json);
    Ok(())
}
