//! Who may do what: roles, escalation, impersonation, reviews.

use anyhow::ensure;
use serde_json::{Value, json};

use super::status_errors::config_map;
use crate::case;
use crate::case::Case;
use crate::subject::{Answer, Namespace, Subject};

pub(super) const CASES: &[Case] = &[
    case!("access/a refusal says who may not do what where", ApiServer, [], refusals),
    case!("access/roles and bindings allow", ApiServer, [], allowed),
    case!("access/nobody gives away more than they have", ApiServer, [], escalation),
    case!("access/impersonation makes another user of a request", ApiServer, [], impersonation),
    case!(
        "access/reviews tell what would be allowed",
        ApiServer,
        ["SubjectReview should support SubjectReview API operations"],
        reviews
    ),
    case!("access/reviews that make no sense", ApiServer, [], senseless),
    case!("access/what may I do, and who am I", ApiServer, [], own_rules),
    case!("access/the default roles are there", ApiServer, [], defaults),
    case!("access/without credentials", ApiServer, [], anonymous),
];

const RBAC: &str = "rbac.authorization.k8s.io/v1";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";

/// A user that only one case knows.
fn someone() -> String {
    format!("someone-{}", &uuid::Uuid::new_v4().simple().to_string()[..8])
}

fn rule(group: &str, resource: &str, verbs: &[&str]) -> Value {
    json!({"apiGroups": [group], "resources": [resource], "verbs": verbs})
}

fn role(name: &str, rules: Value) -> Value {
    json!({"apiVersion": RBAC, "kind": "Role", "metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({
        "apiVersion": RBAC, "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}

/// Gives `user` these rules in a namespace; done when they count.
async fn grant(subject: &Subject, space: &Namespace<'_>, user: &str, rules: Value) -> anyhow::Result<()> {
    subject.post(&space.of(RBAC, "roles"), &role("granted", rules)).await?.expect(201)?;
    let binding = binding("granted", "Role", "granted", user);
    subject.post(&space.of(RBAC, "rolebindings"), &binding).await?.expect(201)?;
    let own = subject.acting_as(user, &[]);
    own.wait_for(&space.core("configmaps"), |answer| answer.code == 200).await?;
    Ok(())
}

fn forbidden(answer: &Answer, message: &str) -> anyhow::Result<()> {
    answer.refused(403, "Forbidden")?;
    ensure!(answer.message() == message, "{message:?} expected, not {:?}", answer.message());
    Ok(())
}

async fn refusals(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("access").await?;
    let user = someone();
    let own = subject.acting_as(&user, &[]);
    let within = format!("in API group \"\" in the namespace \"{}\"", space.name);
    let listing = format!("User \"{user}\" cannot list resource \"configmaps\"");
    forbidden(
        &own.get(&space.core("configmaps")).await?,
        &format!("configmaps is forbidden: {listing} {within}"),
    )?;
    forbidden(
        &own.get("/api/v1/configmaps").await?,
        &format!("configmaps is forbidden: {listing} in API group \"\" at the cluster scope"),
    )?;
    forbidden(
        &own.get(&space.core("configmaps/a")).await?,
        &format!(
            "configmaps \"a\" is forbidden: User \"{user}\" cannot get resource \"configmaps\" {within}"
        ),
    )?;
    forbidden(
        &own.delete(&space.core("configmaps")).await?,
        &format!(
            "configmaps is forbidden: User \"{user}\" cannot deletecollection resource \"configmaps\" {within}"
        ),
    )?;
    forbidden(
        &own.get(&space.core("pods/a/log")).await?,
        &format!("pods \"a\" is forbidden: User \"{user}\" cannot get resource \"pods/log\" {within}"),
    )?;
    forbidden(
        &own.get("/metrics").await?,
        &format!("forbidden: User \"{user}\" cannot get path \"/metrics\""),
    )?;
    own.get("/version").await?.expect(200)?;
    own.get("/api").await?.expect(200)?;
    space.end().await
}

async fn allowed(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("access").await?;
    let user = someone();
    let rules = json!([rule("", "configmaps", &["get", "list"]), {
        "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"], "verbs": ["get"],
    }]);
    grant(subject, &space, &user, rules).await?;
    let own = subject.acting_as(&user, &[]);
    own.get(&space.core("configmaps/a")).await?.refused(404, "NotFound")?;
    own.get(&space.core("secrets/one")).await?.refused(404, "NotFound")?;
    own.get(&space.core("secrets/two")).await?.refused(403, "Forbidden")?;
    own.get(&space.core("secrets")).await?.refused(403, "Forbidden")?;
    own.get(&space.core("configmaps?watch=1")).await?.refused(403, "Forbidden")?;
    own.post(&space.core("configmaps"), &config_map("a", "1")).await?.refused(403, "Forbidden")?;
    subject.delete(&space.of(RBAC, "rolebindings/granted")).await?.expect(200)?;
    own.wait_for(&space.core("configmaps"), |answer| answer.code == 403).await?;
    let group = format!("group-{user}");
    let mut body = binding("to-group", "Role", "granted", &group);
    body["subjects"][0]["kind"] = json!("Group");
    subject.post(&space.of(RBAC, "rolebindings"), &body).await?.expect(201)?;
    let member = subject.acting_as(&user, &[&group]);
    member.wait_for(&space.core("configmaps"), |answer| answer.code == 200).await?;
    member.get(&space.core("secrets")).await?.refused(403, "Forbidden")?;
    space.end().await
}

async fn escalation(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("access").await?;
    let user = someone();
    let rules = json!([
        rule("", "configmaps", &["get", "list"]),
        rule("rbac.authorization.k8s.io", "roles", &["create", "update", "patch"]),
        rule("rbac.authorization.k8s.io", "rolebindings", &["create", "update", "patch"]),
    ]);
    grant(subject, &space, &user, rules).await?;
    let own = subject.acting_as(&user, &[]);
    let roles = space.of(RBAC, "roles");
    own.post(&roles, &role("less", json!([rule("", "configmaps", &["get"])]))).await?.expect(201)?;
    let more = json!([rule("", "secrets", &["get"]), rule("", "configmaps", &["*"])]);
    let refused = own.post(&roles, &role("more", more)).await?;
    forbidden(
        &refused,
        &format!(
            "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"{user}\" (groups=[\"system:authenticated\"]) is \
             attempting to grant RBAC permissions not currently held:\n{{APIGroups:[\"\"], Resources:[\"configmaps\"], \
             Verbs:[\"*\"]}}\n{{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}}"
        ),
    )?;
    let wider = json!({"rules": [rule("", "secrets", &["get"])]});
    own.patch(&space.of(RBAC, "roles/less"), "merge", &wider).await?.refused(403, "Forbidden")?;
    let bindings = space.of(RBAC, "rolebindings");
    let admin = binding("admin", "ClusterRole", "cluster-admin", &user);
    own.post(&bindings, &admin).await?.refused(403, "Forbidden")?;
    own.post(&bindings, &binding("less", "Role", "less", "another")).await?.expect(201)?;
    let change = json!({"roleRef": {"name": "granted"}});
    let refused = subject.patch(&space.of(RBAC, "rolebindings/less"), "merge", &change).await?;
    refused.refused(422, "Invalid")?;
    ensure!(refused.message().ends_with("cannot change roleRef"), "{}", refused.message());
    space.end().await
}

async fn whoami(subject: &Subject) -> anyhow::Result<Value> {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = subject.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &body).await?;
    Ok(answer.expect(201)?["status"]["userInfo"].clone())
}

async fn impersonation(subject: &Subject) -> anyhow::Result<()> {
    let user = someone();
    let seen = whoami(&subject.acting_as(&user, &["one", "two"])).await?;
    ensure!(seen == json!({"username": user, "groups": ["one", "two", "system:authenticated"]}), "{seen}");
    let account = "system:serviceaccount:default:default";
    let seen = whoami(&subject.acting_as(account, &[])).await?;
    let groups = json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]);
    ensure!(seen == json!({"username": account, "groups": groups}), "{seen}");
    let headers =
        [("impersonate-user", user.as_str()), ("impersonate-uid", "u1"), ("impersonate-extra-why", "so")];
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let body = r#"{"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}"#;
    let seen = subject.send(http::Method::POST, path, &headers, body).await?.expect(201)?;
    let seen = &seen["status"]["userInfo"];
    ensure!(seen["uid"] == "u1" && seen["extra"] == json!({"why": ["so"]}), "{seen}");
    let alone = subject.send(http::Method::GET, "/api", &[("impersonate-group", "x")], "").await?;
    alone.refused(400, "BadRequest")?;
    ensure!(alone.message().ends_with("without impersonating a user name"), "{}", alone.message());
    // One who is impersonated may impersonate nobody, however often it is asked.
    let space = subject.namespace("access").await?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "plain"}});
    subject.post(&space.core("serviceaccounts"), &account).await?.expect(201)?;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let token = subject.post(&space.core("serviceaccounts/plain/token"), &request).await?.expect(201)?;
    let plain = subject.bearing(token["status"]["token"].as_str())?;
    let refused = plain.acting_as("admin", &[]).get("/api").await?;
    refused.refused(403, "Forbidden")?;
    let whose = format!("User \"system:serviceaccount:{}:plain\" cannot impersonate", space.name);
    ensure!(refused.message().contains(&whose), "{}", refused.message());
    space.end().await
}

async fn reviewed(subject: &Subject, path: &str, kind: &str, spec: Value) -> anyhow::Result<Value> {
    let body = json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec});
    Ok(subject.post(path, &body).await?.expect(201)?["status"].clone())
}

async fn reviews(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("access").await?;
    let (all, here) = (
        format!("{REVIEWS}/subjectaccessreviews"),
        format!("{REVIEWS}/namespaces/{}/localsubjectaccessreviews", space.name),
    );
    let user = format!("system:serviceaccount:{}:e2e", space.name);
    let groups = json!([
        "system:authenticated",
        "system:serviceaccounts",
        format!("system:serviceaccounts:{}", space.name)
    ]);
    let listing = |verb: &str| {
        json!({"user": user, "groups": groups, "resourceAttributes": {
            "verb": verb, "resource": "configmaps", "namespace": space.name, "version": "v1",
        }})
    };
    let own = subject.acting_as(&user, &[]);
    for (path, kind) in [(&all, "SubjectAccessReview"), (&here, "LocalSubjectAccessReview")] {
        let status = reviewed(subject, path, kind, listing("list")).await?;
        ensure!(status["allowed"] == false, "{status}");
    }
    own.get(&space.core("configmaps")).await?.refused(403, "Forbidden")?;
    grant(subject, &space, &user, json!([rule("", "configmaps", &["list"])])).await?;
    let reason = format!(
        "RBAC: allowed by RoleBinding \"granted/{}\" of Role \"granted\" to User \"{user}\"",
        space.name
    );
    for (path, kind) in [(&all, "SubjectAccessReview"), (&here, "LocalSubjectAccessReview")] {
        let status = reviewed(subject, path, kind, listing("list")).await?;
        ensure!(status == json!({"allowed": true, "reason": reason}), "{status}");
        let status = reviewed(subject, path, kind, listing("delete")).await?;
        ensure!(status["allowed"] == false, "{status}");
    }
    let masters = json!({"user": "x", "groups": ["system:masters"], "nonResourceAttributes": {"path": "/metrics", "verb": "get"}});
    let status = reviewed(subject, &all, "SubjectAccessReview", masters).await?;
    ensure!(status["allowed"] == true, "{status}");
    space.end().await
}

async fn senseless(subject: &Subject) -> anyhow::Result<()> {
    let path = format!("{REVIEWS}/subjectaccessreviews");
    for (spec, field) in [
        (json!({"user": "x"}), "spec.resourceAttributes"),
        (json!({"resourceAttributes": {"verb": "get"}}), "spec.user"),
        (
            json!({"user": "x", "resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"path": "/"}}),
            "spec.nonResourceAttributes",
        ),
    ] {
        let body =
            json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec});
        let refused = subject.post(&path, &body).await?;
        refused.refused(422, "Invalid")?;
        ensure!(refused.json["details"]["causes"][0]["field"] == field, "{field}: {}", refused.json);
    }
    let elsewhere = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "LocalSubjectAccessReview",
        "spec": {"user": "x", "resourceAttributes": {"namespace": "other", "verb": "get"}},
    });
    let path = format!("{REVIEWS}/namespaces/default/localsubjectaccessreviews");
    subject.post(&path, &elsewhere).await?.refused(422, "Invalid")?;
    let nowhere =
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {}});
    subject
        .post(&format!("{REVIEWS}/selfsubjectrulesreviews"), &nowhere)
        .await?
        .refused(400, "BadRequest")?;
    subject.get(&format!("{REVIEWS}/subjectaccessreviews")).await?.refused(405, "MethodNotAllowed")
}

async fn own_rules(subject: &Subject) -> anyhow::Result<()> {
    let space = subject.namespace("access").await?;
    let user = someone();
    grant(subject, &space, &user, json!([rule("", "configmaps", &["get", "list"])])).await?;
    let own = subject.acting_as(&user, &[]);
    let path = format!("{REVIEWS}/selfsubjectrulesreviews");
    let status = reviewed(&own, &path, "SelfSubjectRulesReview", json!({"namespace": space.name})).await?;
    let rules = status["resourceRules"].as_array().cloned().unwrap_or_default();
    ensure!(rules.contains(&rule("", "configmaps", &["get", "list"])), "{status}");
    ensure!(rules.iter().any(|rule| rule["resources"] == json!(["selfsubjectreviews"])), "{status}");
    let paths = status["nonResourceRules"].to_string();
    ensure!(paths.contains("/healthz") && paths.contains("/version"), "{status}");
    ensure!(status["incomplete"] == false, "{status}");
    let path = format!("{REVIEWS}/selfsubjectaccessreviews");
    for (resource, wanted) in [("configmaps", true), ("secrets", false)] {
        let spec =
            json!({"resourceAttributes": {"namespace": space.name, "verb": "get", "resource": resource}});
        let status = reviewed(&own, &path, "SelfSubjectAccessReview", spec).await?;
        ensure!(status["allowed"] == wanted, "{resource}: {status}");
    }
    space.end().await
}

async fn defaults(subject: &Subject) -> anyhow::Result<()> {
    for name in [
        "cluster-admin",
        "admin",
        "edit",
        "view",
        "system:discovery",
        "system:basic-user",
        "system:public-info-viewer",
        "system:node",
        "system:kube-scheduler",
        "system:kube-controller-manager",
        "system:auth-delegator",
        "system:aggregate-to-view",
        "system:controller:deployment-controller",
    ] {
        let role = subject.get(&format!("/apis/{RBAC}/clusterroles/{name}")).await?.expect(200)?;
        let metadata = &role["metadata"];
        ensure!(metadata["labels"]["kubernetes.io/bootstrapping"] == "rbac-defaults", "{name}: {metadata}");
        ensure!(
            metadata["annotations"]["rbac.authorization.kubernetes.io/autoupdate"] == "true",
            "{name}: {metadata}"
        );
    }
    for name in ["cluster-admin", "system:discovery", "system:public-info-viewer"] {
        subject.get(&format!("/apis/{RBAC}/clusterrolebindings/{name}")).await?.expect(200)?;
    }
    let name = "extension-apiserver-authentication-reader";
    subject.get(&format!("/apis/{RBAC}/namespaces/kube-system/roles/{name}")).await?.expect(200)?;
    Ok(())
}

async fn anonymous(subject: &Subject) -> anyhow::Result<()> {
    let nobody = subject.bearing(None)?;
    nobody.get("/version").await?.expect(200)?;
    for path in ["/livez", "/readyz", "/healthz"] {
        let health = nobody.get(path).await?;
        ensure!(health.code == 200 && &*health.bytes == b"ok", "{path}: {}", health.code);
    }
    let refused = nobody.get("/api/v1/nodes").await?;
    forbidden(
        &refused,
        "nodes is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \"\" at the cluster scope",
    )?;
    subject.bearing(Some("nonsense"))?.get("/api/v1/nodes").await?.refused(401, "Unauthorized")
}
