//! The request chain as a client sees it.

use access::Authorizer;
use apiserver::{Extension, Limits};

use super::*;

pub(crate) async fn serve(options: Options) -> (Handle, DropGuard) {
    let service = Service::new(options).await.unwrap();
    let handle = service.handle();
    let stop = CancellationToken::new();
    tokio::spawn(Box::pin(service.run(stop.clone())));
    assert!(handle.ready().await);
    (handle, stop.drop_guard())
}

pub(crate) fn options() -> Options {
    Options::new(Arc::new(MemoryStore::default()), Catalogue::cluster())
}

pub(crate) fn request(method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let text = if body.is_null() { String::new() } else { body.to_string() };
    request.body(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()).unwrap()
}

pub(crate) fn masters() -> UserInfo {
    UserInfo::new("root", &["system:masters"])
}

#[tokio::test]
async fn every_answer_has_an_audit_id() {
    let (handle, _stop) = serve(options()).await;
    let own = request(Method::GET, "/api/v1/pods", &[("Audit-ID", "mine")], &Value::Null);
    assert_eq!(handle.request(masters(), own).await.headers()["audit-id"], "mine");
    let without = request(Method::GET, "/nowhere", &[], &Value::Null);
    let answer = handle.request(masters(), without).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.headers()["audit-id"].len(), 36);
    assert_eq!(answer.headers()["cache-control"], "no-cache, private");
}

#[tokio::test]
async fn a_timeout_that_is_no_duration_is_refused() {
    let (handle, _stop) = serve(options()).await;
    let asked = request(Method::GET, "/api/v1/pods?timeout=soon", &[], &Value::Null);
    let (code, status) = read(handle.request(masters(), asked).await).await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")));
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_server_goes_on() {
    let panicking = tower::service_fn(|request: Request<Body>| async move {
        assert!(request.uri().path().is_empty(), "planted: this handler panics");
        Ok(Response::new(Full::default().map_err(|never| match never {}).boxed_unsync()))
    });
    let mut options = options();
    options.extensions.push(Extension {
        prefix: "/broken/".to_owned(),
        anonymous: true,
        service: tower::util::BoxCloneSyncService::new(panicking),
    });
    let (handle, _stop) = serve(options).await;
    let answer = handle.request(masters(), request(Method::GET, "/broken/x", &[], &Value::Null)).await;
    assert_eq!(answer.status(), 500);
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "This request caused apiserver to panic. Look in the logs for details.\n");
    let next = handle.request(masters(), request(Method::GET, "/livez", &[], &Value::Null)).await;
    assert_eq!(next.status(), 200);
}

/// Lets `ada` do what `rules` say, in the whole cluster.
async fn grant(handle: &Handle, rules: Value) {
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "ada"}, "rules": rules});
    let binding = json!({"metadata": {"name": "ada"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ada"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada"}]});
    for (resource, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let asked = request(Method::POST, &format!("{rbac}/{resource}"), &[], &object);
        let (code, answer) = read(handle.request(masters(), asked).await).await;
        assert_eq!(code, 201, "{answer}");
    }
}

async fn who_am_i(handle: &Handle, headers: &[(&str, &str)]) -> (u16, Value) {
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let ada = UserInfo::new("ada", &["system:authenticated"]);
    read(handle.request(ada, request(Method::POST, path, headers, &json!({}))).await).await
}

#[tokio::test]
async fn who_may_impersonate_acts_as_the_other() {
    let mut options = options();
    options.authorizer = Some(Arc::new(Authorizer::new()));
    let (handle, _stop) = serve(options).await;
    let bob = [("Impersonate-User", "bob"), ("Impersonate-Extra-Acme.org%2Fscopes", "view")];
    let (code, refused) = who_am_i(&handle, &bob).await;
    assert_eq!(code, 403, "{refused}");
    assert_eq!(
        refused["message"],
        "selfsubjectreviews.authentication.k8s.io is forbidden: User \"ada\" cannot impersonate-on:user-info:create \
         resource \"selfsubjectreviews\" in API group \"authentication.k8s.io\" at the cluster scope"
    );
    grant(
        &handle,
        json!([
            {"verbs": ["impersonate"], "apiGroups": [""], "resources": ["users"], "resourceNames": ["bob"]},
            {"verbs": ["impersonate"], "apiGroups": ["authentication.k8s.io"],
                "resources": ["userextras/acme.org/scopes"], "resourceNames": ["view"]},
        ]),
    )
    .await;
    let (code, review) = who_am_i(&handle, &bob).await;
    assert_eq!(code, 201, "{review}");
    let user = &review["status"]["userInfo"];
    assert_eq!(user["username"], "bob");
    assert_eq!(user["groups"], json!(["system:authenticated"]));
    assert_eq!(user["extra"]["acme.org/scopes"], json!(["view"]));
    let (code, status) = who_am_i(&handle, &[("Impersonate-Group", "dev")]).await;
    assert_eq!((code, &status["reason"]), (400, &json!("BadRequest")));
}

#[tokio::test]
async fn extensions_are_asked_by_whom_a_request_acts_as() {
    let told = tower::service_fn(|request: Request<Body>| async move {
        let name = request.extensions().get::<UserInfo>().map_or("-", |user| user.username.as_str());
        let kept = request.headers().contains_key("impersonate-user");
        let text = json!({"user": name, "headers": kept}).to_string();
        Ok(Response::new(Full::from(text).map_err(|never| match never {}).boxed_unsync()))
    });
    let mut options = options();
    options.authorizer = Some(Arc::new(Authorizer::new()));
    options.extensions.push(Extension {
        prefix: "/told/".to_owned(),
        anonymous: true,
        service: tower::util::BoxCloneSyncService::new(told),
    });
    let (handle, _stop) = serve(options).await;
    let as_bob = || request(Method::GET, "/told/x", &[("Impersonate-User", "bob")], &Value::Null);
    let (code, answer) = read(handle.request(masters(), as_bob()).await).await;
    assert_eq!((code, answer), (200, json!({"user": "bob", "headers": false})));
    let ada = UserInfo::new("ada", &["system:authenticated"]);
    let (code, refused) = read(handle.request(ada, as_bob()).await).await;
    assert_eq!(code, 403, "{refused}");
}

#[tokio::test]
async fn too_many_requests_are_told_to_come_back() {
    let mut options = options();
    options.limits = Limits { reads: 8, writes: 8, wait: std::time::Duration::from_millis(20) };
    options.authorizer = Some(Arc::new(Authorizer::new()));
    let (handle, _stop) = serve(options).await;
    grant(&handle, json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}])).await;
    let ada = UserInfo::new("ada", &["system:authenticated"]);
    let may = async || {
        let asked = request(Method::POST, "/api/v1/namespaces", &[], &json!({}));
        handle.request(ada.clone(), asked).await.status() != 403
    };
    while !may().await {
        tokio::task::yield_now().await;
    }
    // Bodies that never come keep their requests, and so their seats.
    let mut stuck = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (handle, ada) = (handle.clone(), ada.clone());
        stuck.spawn(async move {
            let body = http_body_util::StreamBody::new(futures::stream::pending()).boxed_unsync();
            handle.request(ada, Request::post("/api/v1/namespaces").body(body).unwrap()).await
        });
    }
    let refused = loop {
        tokio::task::yield_now().await;
        let asked = request(Method::POST, "/api/v1/namespaces", &[], &json!({}));
        let answer = handle.request(ada.clone(), asked).await;
        if answer.status() == 429 {
            break answer;
        }
    };
    assert_eq!(refused.headers()["retry-after"], "1");
    let text = refused.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "Too many requests, please try again later.\n");
    let other = UserInfo::new("bob", &["system:authenticated"]);
    let asked = request(Method::POST, "/api/v1/namespaces", &[], &json!({}));
    assert_eq!(
        handle.request(other, asked).await.status(),
        403,
        "another user is served, if only to be refused"
    );
    let node = UserInfo::new("system:node:n1", &["system:nodes", "system:authenticated"]);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let asked = request(Method::POST, lease, &[], &json!({"metadata": {"name": "n1"}}));
    assert_ne!(handle.request(node, asked).await.status(), 429, "leases are renewed");
}
