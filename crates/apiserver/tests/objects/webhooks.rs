//! Admission webhooks as real HTTPS servers: what they are sent, what they may answer, and every way they can fail.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use kube_objects::UserInfo;
use serde_json::{Value, json};

use super::custom_resources::{DEFINITIONS, ask};
use super::https::Https;
use super::{custom_conversion, start};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A webhook server: what it does is chosen by path, what it was sent is kept.
struct Backend {
    server: Https,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Backend {
    async fn start() -> Self {
        let seen: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let kept = Arc::clone(&seen);
        Self { server: Https::start(move |request| answer(request, Arc::clone(&kept))).await, seen }
    }

    /// A webhook at `path` for new and changed config maps; `more` replaces fields.
    fn hook(&self, name: &str, path: &str, more: Value) -> Value {
        let mut hook = json!({
            "name": format!("{name}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {"url": format!("https://{}{path}", self.server.address), "caBundle": self.server.ca},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
                "operations": ["CREATE", "UPDATE", "DELETE"]}],
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            hook[key] = value.clone();
        }
        hook
    }

    fn seen_at(&self, path: &str) -> Vec<Value> {
        let all = self.seen.lock().unwrap();
        all.iter().filter(|(own, _)| own == path).map(|(_, review)| review.clone()).collect()
    }
}

fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

async fn answer(request: Request<Incoming>, seen: Arc<Mutex<Vec<(String, Value)>>>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut review: Value = serde_json::from_slice(&body).unwrap();
    let object = review["request"]["object"].clone();
    let uid = review["request"]["uid"].clone();
    review["query"] = json!(query);
    seen.lock().unwrap().push((path.clone(), review));
    let mut response = match path.as_str() {
        "/allow" | "/wrong-uid" => json!({"allowed": true}),
        "/warn" => json!({"allowed": true, "warnings": ["mind the gap"], "auditAnnotations": {"k": "v"}}),
        "/deny" => {
            json!({"allowed": false, "status": {"message": "not like this", "code": 418, "reason": "TooTall"}})
        }
        "/deny-reason" => json!({"allowed": false, "status": {"reason": "the data is unwanted"}}),
        "/deny-bare" => json!({"allowed": false}),
        "/stage-1" if object["data"]["start"] == "yes" => {
            patch(json!([{"op": "add", "path": "/data/stage-1", "value": "yes"}]))
        }
        "/stage-2" if object["data"]["stage-1"] == "yes" => {
            patch(json!([{"op": "add", "path": "/data/stage-2", "value": "yes"}]))
        }
        "/count" => {
            let count = object["data"]["count"].as_str().map_or(0, |text| text.parse::<i32>().unwrap());
            patch(json!([{"op": "add", "path": "/data/count", "value": (count + 1).to_string()}]))
        }
        "/rehost" => patch(json!([{"op": "replace", "path": "/spec/host", "value": "elsewhere"}])),
        "/stage-1" | "/stage-2" => json!({"allowed": true}),
        "/bad-patch" => patch(json!([{"op": "remove", "path": "/not/there"}])),
        "/no-patch" => {
            json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode("nonsense")})
        }
        "/merge-patch" => {
            json!({"allowed": true, "patchType": "MergePatch", "patch": STANDARD.encode("[{}]")})
        }
        "/patch-alone" => json!({"allowed": true, "patch": STANDARD.encode("[]")}),
        "/wrong-type" => patch(json!([{"op": "add", "path": "/data/n", "value": 1}])),
        "/unknown-field" => patch(json!([{"op": "add", "path": "/wings", "value": 2}])),
        "/slow" => {
            tokio::time::sleep(Duration::from_secs(20)).await;
            json!({"allowed": true})
        }
        "/hang-up" => panic!("closes the connection without an answer"),
        "/garbage" => return Response::new(Full::from("<html>")),
        "/absent" => {
            return Response::new(Full::from(
                r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#,
            ));
        }
        "/huge" => return Response::new(Full::from(vec![b' '; 6 << 20])),
        other => {
            let code: u16 = other.trim_start_matches("/status/").parse().unwrap();
            return Response::builder().status(code).body(Full::from("boom")).unwrap();
        }
    };
    response["uid"] = uid;
    if path == "/wrong-uid" {
        response["uid"] = json!("other");
    }
    let document =
        json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
    Response::new(Full::from(document.to_string()))
}

async fn send(client: &kube::Client, method: &str, path: &str, body: Value) -> Result<Value, Value> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let content = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let request =
        Request::builder().method(method).uri(path).header("content-type", content).body(body).unwrap();
    let text = match client.request_text(request).await {
        Ok(text) => text,
        Err(kube::Error::Api(status)) => {
            return Err(json!({"message": status.message, "code": status.code, "reason": status.reason}));
        }
        Err(other) => panic!("{other}"),
    };
    Ok(serde_json::from_str(&text).unwrap())
}

async fn configure(client: &kube::Client, sort: &str, hooks: Vec<Value>) {
    let plural = format!("{}webhookconfigurations", sort.to_ascii_lowercase());
    let _ = send(client, "DELETE", &format!("{GROUP}/{plural}/test"), Value::Null).await;
    let document = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{sort}WebhookConfiguration"),
        "metadata": {"name": "test"}, "webhooks": hooks});
    send(client, "POST", &format!("{GROUP}/{plural}"), document).await.unwrap();
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

/// Creates a config map without keeping it; the message of a refusal.
async fn attempt(client: &kube::Client) -> Result<Value, String> {
    let created = send(client, "POST", &format!("{MAPS}?dryRun=All"), map(json!({}))).await;
    created.map_err(|status| status["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_review_says_all_of_a_request() {
    let (handle, _, _stop) = start().await;
    let backend = Backend::start().await;
    let admin = handle.client(UserInfo::new("tester", &["system:masters"]));
    configure(&admin, "Validating", vec![backend.hook("all", "/allow", json!({}))]).await;
    let created =
        send(&admin, "POST", &format!("{MAPS}?fieldManager=me"), map(json!({"a": "b"}))).await.unwrap();
    let mut changed = created.clone();
    changed["data"]["a"] = json!("c");
    send(&admin, "PUT", &format!("{MAPS}/m?dryRun=All"), changed).await.unwrap();
    send(&admin, "DELETE", &format!("{MAPS}/m?propagationPolicy=Background"), Value::Null).await.unwrap();
    let seen = backend.seen_at("/allow");
    assert_eq!(seen.len(), 3);
    let request = &seen[0]["request"];
    assert_eq!(seen[0]["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(seen[0]["query"], "timeout=10s");
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(request["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!(
        (&request["requestKind"], &request["requestResource"]),
        (&request["kind"], &request["resource"])
    );
    assert_eq!(request["operation"], "CREATE");
    assert_eq!((&request["name"], &request["namespace"]), (&json!("m"), &json!("default")));
    assert_eq!(request["userInfo"], json!({"username": "tester", "groups": ["system:masters"]}));
    assert_eq!(request["object"]["data"], json!({"a": "b"}));
    assert_eq!(request["object"]["metadata"]["uid"], created["metadata"]["uid"]);
    assert_eq!((&request["oldObject"], &request["dryRun"]), (&Value::Null, &json!(false)));
    assert_eq!(
        request["options"],
        json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"})
    );
    let request = &seen[1]["request"];
    assert_eq!((&request["operation"], &request["dryRun"]), (&json!("UPDATE"), &json!(true)));
    assert_eq!(
        (&request["oldObject"]["data"]["a"], &request["object"]["data"]["a"]),
        (&json!("b"), &json!("c"))
    );
    assert_eq!(request["options"]["dryRun"], json!(["All"]));
    let request = &seen[2]["request"];
    assert_eq!((&request["operation"], &request["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!(request["oldObject"]["data"]["a"], "b");
    assert_eq!(request["options"]["kind"], "DeleteOptions");
}

#[tokio::test]
async fn refusals_read_as_upstreams() {
    let (_handle, client, _stop) = start().await;
    let backend = Backend::start().await;
    for (path, message, code, reason) in [
        ("/deny", "admission webhook \"x.example.com\" denied the request: not like this", 418, "TooTall"),
        (
            "/deny-reason",
            "admission webhook \"x.example.com\" denied the request: the data is unwanted",
            400,
            "the data is unwanted",
        ),
        ("/deny-bare", "admission webhook \"x.example.com\" denied the request without explanation", 400, ""),
    ] {
        for sort in ["Mutating", "Validating"] {
            configure(&client, sort, vec![backend.hook("x", path, json!({}))]).await;
            let refused = send(&client, "POST", MAPS, map(json!({}))).await.unwrap_err();
            assert_eq!((refused["message"].as_str(), &refused["code"]), (Some(message), &json!(code)));
            assert_eq!(refused["reason"], reason);
            configure(&client, sort, Vec::new()).await;
        }
    }
    // What decides on admission is never shown to webhooks: it can always be removed.
    let everything =
        json!([{"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"], "operations": ["*"]}]);
    configure(&client, "Validating", vec![backend.hook("x", "/deny", json!({"rules": everything}))]).await;
    assert!(attempt(&client).await.is_err());
    configure(&client, "Validating", Vec::new()).await;
    assert!(attempt(&client).await.is_ok());
}

#[tokio::test]
async fn failures_follow_the_failure_policy() {
    let (_handle, client, _stop) = start().await;
    let backend = Backend::start().await;
    let other = Backend::start().await;
    let url = |path: &str| format!("https://{}{path}", backend.server.address);
    let internal =
        |why: &str| format!("Internal error occurred: failed calling webhook \"x.example.com\": {why}");
    let call = |why: &str| internal(&format!("failed to call webhook: {why}"));
    let invalid = |why: &str| internal(&format!("received invalid webhook response: {why}"));
    let cases = [
        (
            "/slow",
            json!({"timeoutSeconds": 1}),
            call(&format!("Post \"{}?timeout=1s\": context deadline exceeded", url("/slow"))),
        ),
        (
            "/status/500",
            json!({}),
            call("an error on the server (\"boom\") has prevented the request from succeeding"),
        ),
        ("/status/404", json!({}), call("the server could not find the requested resource")),
        ("/wrong-uid", json!({}), "expected response.uid=".to_owned()),
        ("/garbage", json!({}), call("couldn't get version/kind; json parse error: ")),
        ("/absent", json!({}), invalid("webhook response was absent")),
        ("/huge", json!({}), call("")),
        ("/hang-up", json!({}), call("")),
        ("/no-patch", json!({}), internal("received undecodable patch in webhook response: ")),
        ("/merge-patch", json!({}), internal("unsupported patch type \"MergePatch\"")),
        ("/patch-alone", json!({}), invalid("webhook returned response.patch but not response.patchType")),
        (
            "/allow",
            json!({"clientConfig": {"url": url("/allow"), "caBundle": other.server.ca}}),
            call(&format!(
                "Post \"{}?timeout=10s\": tls: failed to verify certificate: x509: certificate signed by unknown authority",
                url("/allow")
            )),
        ),
        (
            "/allow",
            json!({"clientConfig": {"url": "https://127.0.0.1:1/allow", "caBundle": backend.server.ca}}),
            call(
                "Post \"https://127.0.0.1:1/allow?timeout=10s\": dial tcp 127.0.0.1:1: connect: connection refused",
            ),
        ),
        (
            "/allow",
            json!({"clientConfig": {"service": {"namespace": "default", "name": "none", "path": "/allow"}, "caBundle": backend.server.ca}}),
            call("Post \"https://none.default.svc:443/allow?timeout=10s\": service \"none\" not found"),
        ),
    ];
    for (path, more, wanted) in cases {
        let mut more = more;
        more["failurePolicy"] = json!("Fail");
        configure(&client, "Mutating", vec![backend.hook("x", path, more.clone())]).await;
        let refused = attempt(&client).await.unwrap_err();
        assert!(refused.contains(&wanted), "{path}: {refused}\nwanted {wanted}");
        more["failurePolicy"] = json!("Ignore");
        configure(&client, "Mutating", vec![backend.hook("x", path, more)]).await;
        attempt(&client).await.unwrap_or_else(|refused| panic!("{path} fails open: {refused}"));
    }
    // A patch that cannot be applied is the webhook's fault whatever its policy.
    for (path, wanted) in
        [("/bad-patch", "Internal error occurred: "), ("/wrong-type", "Internal error occurred: ")]
    {
        configure(&client, "Mutating", vec![backend.hook("x", path, json!({"failurePolicy": "Ignore"}))])
            .await;
        let refused = attempt(&client).await.unwrap_err();
        assert!(refused.starts_with(wanted), "{path}: {refused}");
    }
    configure(&client, "Mutating", Vec::new()).await;
    configure(&client, "Validating", vec![backend.hook("x", "/count", json!({}))]).await;
    assert_eq!(
        attempt(&client).await.unwrap_err(),
        invalid("validating webhook may not return response.patch")
    );
}

#[tokio::test]
async fn mutations_are_chained_reinvoked_and_completed() {
    let (_handle, client, _stop) = start().await;
    let backend = Backend::start().await;
    let hooks = |policy: &str| {
        vec![
            backend.hook("a", "/stage-2", json!({"reinvocationPolicy": policy})),
            backend.hook("b", "/stage-1", json!({})),
        ]
    };
    for (policy, second) in [("Never", Value::Null), ("IfNeeded", json!("yes"))] {
        configure(&client, "Mutating", hooks(policy)).await;
        let created = send(&client, "POST", MAPS, map(json!({"start": "yes"}))).await.unwrap();
        assert_eq!(created["data"]["stage-1"], "yes");
        assert_eq!(created["data"]["stage-2"], second, "{policy}");
        send(&client, "DELETE", &format!("{MAPS}/m"), Value::Null).await.unwrap();
    }
    // A webhook that always changes something is called twice at most.
    configure(
        &client,
        "Mutating",
        vec![
            backend.hook("a", "/count", json!({"reinvocationPolicy": "IfNeeded"})),
            backend.hook("b", "/count", json!({"reinvocationPolicy": "IfNeeded"})),
        ],
    )
    .await;
    let created = send(&client, "POST", MAPS, map(json!({}))).await.unwrap();
    assert_eq!(created["data"]["count"], "4", "each changed it for the other, so both are asked again, once");
    let patched =
        send(&client, "PATCH", &format!("{MAPS}/m"), json!({"data": {"count": "7"}})).await.unwrap();
    assert_eq!(patched["data"]["count"], "11");
    send(&client, "DELETE", &format!("{MAPS}/m"), Value::Null).await.unwrap_err();
    configure(&client, "Mutating", vec![backend.hook("a", "/unknown-field", json!({}))]).await;
    let created = attempt(&client).await.unwrap_or(Value::Null);
    assert!(created.get("wings").is_none(), "what the kind does not know is dropped");
}

#[tokio::test]
async fn selectors_rules_and_equivalent_resources_choose() {
    let (_handle, client, _stop) = start().await;
    let backend = Backend::start().await;
    let labelled = json!({"objectSelector": {"matchLabels": {"pick": "me"}}});
    configure(
        &client,
        "Validating",
        vec![
            backend.hook("a", "/deny", labelled),
            backend.hook(
                "b",
                "/deny",
                json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}}),
            ),
            backend.hook(
                "c",
                "/warn",
                json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}),
            ),
        ],
    )
    .await;
    assert!(attempt(&client).await.is_ok());
    let mut picked = map(json!({}));
    picked["metadata"]["labels"] = json!({"pick": "me"});
    assert!(send(&client, "POST", MAPS, picked).await.is_err());
    // An event of events.k8s.io reaches a webhook that asks for core events, as a core event.
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["events"], "operations": ["CREATE"]}]);
    configure(
        &client,
        "Validating",
        vec![
            backend.hook("exact", "/status/500", json!({"rules": rules, "matchPolicy": "Exact"})),
            backend.hook("equivalent", "/allow", json!({"rules": rules, "matchPolicy": "Equivalent"})),
        ],
    )
    .await;
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/c", "reportingInstance": "i",
        "action": "Do", "reason": "Because", "type": "Normal", "note": "text",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}});
    send(&client, "POST", "/apis/events.k8s.io/v1/namespaces/default/events", event).await.unwrap();
    let seen = backend.seen_at("/allow");
    let request = &seen[0]["request"];
    assert_eq!(request["resource"], json!({"group": "", "version": "v1", "resource": "events"}));
    assert_eq!(request["requestResource"]["group"], "events.k8s.io");
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "Event"}));
    assert_eq!(
        (&request["object"]["message"], &request["object"]["apiVersion"]),
        (&json!("text"), &json!("v1"))
    );
}

/// A webhook that knows only one version of a custom kind is shown that version, by the kind's own conversion.
#[tokio::test]
async fn a_custom_kind_is_converted_for_a_webhook_that_wants_another_version() {
    let (handle, client, _stop) = start().await;
    let backend = Backend::start().await;
    let conversion = custom_conversion::webhook().await;
    let (code, made) =
        ask(&handle, http::Method::POST, DEFINITIONS, &custom_conversion::definition(&conversion)).await;
    assert_eq!(code, 201, "{made}");
    let rules = json!([{"apiGroups": ["example.com"], "apiVersions": ["v2"], "resources": ["servers"], "operations": ["CREATE", "UPDATE"]}]);
    let condition = json!([{"name": "c", "expression": "object.spec.port == '1'"}]);
    let hooks = vec![
        backend.hook("exact", "/deny", json!({"rules": rules, "matchPolicy": "Exact"})),
        backend.hook("equivalent", "/rehost", json!({"rules": rules, "matchConditions": condition})),
    ];
    configure(&client, "Mutating", hooks).await;
    let spec = |host_port: &str| custom_conversion::server("a", &json!({ "hostPort": host_port }));
    let (code, made) = ask(&handle, http::Method::POST, custom_conversion::V1, &spec("h:1")).await;
    assert_eq!((code, &made["spec"]), (201, &json!({"hostPort": "elsewhere:1"})), "{made}");
    let seen = backend.seen_at("/rehost");
    let request = &seen[0]["request"];
    assert_eq!(request["object"]["spec"], json!({"host": "h", "port": "1"}));
    assert_eq!(
        (&request["kind"]["version"], &request["requestKind"]["version"], &request["object"]["apiVersion"]),
        (&json!("v2"), &json!("v1"), &json!("example.com/v2"))
    );
    let path = format!("{}/a", custom_conversion::V1);
    let mut changed = made.clone();
    changed["spec"]["hostPort"] = json!("i:1");
    let (code, changed) = ask(&handle, http::Method::PUT, &path, &changed).await;
    assert_eq!((code, &changed["spec"]["hostPort"]), (200, &json!("elsewhere:1")), "{changed}");
    assert_eq!(backend.seen_at("/rehost")[1]["request"]["oldObject"]["spec"]["host"], "elsewhere");
}

#[tokio::test]
async fn match_conditions_leave_requests_out() {
    let (_handle, client, _stop) = start().await;
    let backend = Backend::start().await;
    let conditions = |expression: &str| json!({"matchConditions": [{"name": "c", "expression": expression}]});
    for (expression, asked) in [
        ("object.metadata.name == 'm'", true),
        ("object.metadata.name == 'other'", false),
        ("request.operation == 'CREATE' && request.userInfo.username == 'tester'", true),
        ("has(object.metadata.labels) && 'skip' in object.metadata.labels", false),
    ] {
        configure(&client, "Validating", vec![backend.hook("x", "/deny", conditions(expression))]).await;
        assert_eq!(attempt(&client).await.is_err(), asked, "{expression}");
    }
    // A condition that fails decides by the failure policy.
    let mut failing = conditions("object.nothing.there == 'x'");
    configure(&client, "Validating", vec![backend.hook("x", "/deny", failing.clone())]).await;
    let refused = attempt(&client).await.unwrap_err();
    assert!(refused.starts_with("configmaps \"m\" is forbidden: "), "{refused}");
    failing["failurePolicy"] = json!("Ignore");
    configure(&client, "Validating", vec![backend.hook("x", "/deny", failing)]).await;
    assert!(attempt(&client).await.is_ok());
}
