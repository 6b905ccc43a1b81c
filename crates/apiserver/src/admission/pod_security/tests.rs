use serde_json::json;

use super::super::fixture::Fixture;
use super::*;

fn label(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn plugin() -> PodSecurity {
    PodSecurity::new(PodSecurityConfiguration {
        exempt_users: vec!["trusted".to_owned()],
        exempt_runtime_classes: vec!["sandboxed".to_owned()],
        exempt_namespaces: vec!["system".to_owned()],
        ..PodSecurityConfiguration::default()
    })
}

fn fixture(labels: Value) -> Fixture {
    Fixture::new().with("", "namespaces", json!({"metadata": {"name": "n", "labels": labels}})).with(
        "",
        "namespaces",
        json!({"metadata": {"name": "system", "labels": labels}}),
    )
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})
}

#[tokio::test]
async fn pods_are_refused_warned_about_and_noted() {
    let labels = json!({label("enforce"): "baseline", label("warn"): "restricted", label("audit"): "restricted", label("audit-version"): "v1.20"});
    let fixture = fixture(labels);
    let refused = fixture
        .run(&plugin(), Operation::Create, "", "pods", "n", pod(json!({"hostPID": true, "containers": []})))
        .await;
    assert_eq!(
        refused.unwrap_err().message,
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"
    );
    assert!(fixture.warnings.lock().is_empty(), "who is refused is not warned as well");
    fixture
        .run(&plugin(), Operation::Create, "", "pods", "n", pod(json!({"containers": [{"name": "c"}]})))
        .await
        .unwrap();
    let warned = fixture.warnings.lock().join("");
    assert!(
        warned.starts_with("would violate PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set"),
        "{warned}"
    );
    let audit = fixture.audit.lock();
    assert_eq!(audit[&label("enforce-policy")], "baseline:latest");
    assert!(
        audit[&label("audit-violations")]
            .starts_with("would violate PodSecurity \"restricted:v1.20\": host namespaces (hostPID=true)")
    );
}

#[tokio::test]
async fn workloads_are_only_warned_about() {
    let fixture = fixture(json!({label("enforce"): "restricted"}));
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"hostPID": true, "containers": []}}}});
    fixture.run(&plugin(), Operation::Create, "apps", "deployments", "n", deployment).await.unwrap();
    assert!(
        fixture
            .warnings
            .lock()
            .join("")
            .starts_with("would violate PodSecurity \"restricted:latest\": host namespaces (hostPID=true)")
    );
    let job = json!({"metadata": {"name": "j"}, "spec": {"jobTemplate": {"spec": {"template": {"spec": {"hostIPC": true}}}}}});
    fixture.run(&plugin(), Operation::Create, "batch", "cronjobs", "n", job).await.unwrap();
    assert_eq!(fixture.warnings.lock().len(), 2);
}

#[tokio::test]
async fn exemptions_and_insignificant_updates_pass() {
    let bad = json!({"hostPID": true, "containers": [{"name": "c", "image": "a"}]});
    let strict = || fixture(json!({label("enforce"): "restricted"}));
    let by = strict().by(kube_objects::UserInfo::new("trusted", &[]));
    by.run(&plugin(), Operation::Create, "", "pods", "n", pod(bad.clone())).await.unwrap();
    assert_eq!(by.audit.lock()[&label("exempt")], "user");
    strict().run(&plugin(), Operation::Create, "", "pods", "system", pod(bad.clone())).await.unwrap();
    let mut sandboxed = pod(bad.clone());
    sandboxed["spec"]["runtimeClassName"] = json!("sandboxed");
    strict().run(&plugin(), Operation::Create, "", "pods", "n", sandboxed).await.unwrap();
    let mut labelled = pod(bad.clone());
    labelled["metadata"]["labels"] = json!({"a": "b"});
    strict()
        .updating(pod(bad.clone()))
        .run(&plugin(), Operation::Update, "", "pods", "n", labelled)
        .await
        .unwrap();
    let mut changed = pod(bad.clone());
    changed["spec"]["containers"][0]["image"] = json!("b");
    strict()
        .updating(pod(bad.clone()))
        .run(&plugin(), Operation::Update, "", "pods", "n", changed)
        .await
        .unwrap_err();
    let mut debugged = pod(bad.clone());
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "x"}]);
    let at = strict().updating(pod(bad.clone())).at("ephemeralcontainers");
    at.run(&plugin(), Operation::Update, "", "pods", "n", debugged).await.unwrap_err();
    let at = strict().updating(pod(bad.clone())).at("status");
    at.run(&plugin(), Operation::Update, "", "pods", "n", pod(bad)).await.unwrap();
}

#[tokio::test]
async fn namespaces_labels_are_checked_and_running_pods_looked_at() {
    let namespace = |labels: Value| json!({"metadata": {"name": "n", "labels": labels}});
    let refused = fixture(json!({}))
        .run(
            &plugin(),
            Operation::Create,
            "",
            "namespaces",
            "",
            namespace(json!({label("enforce"): "strict"})),
        )
        .await;
    assert_eq!(
        refused.unwrap_err().message,
        "Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be \
         one of privileged, baseline, restricted"
    );
    let running = |name: &str, spec: Value, owner: Option<&str>| {
        let owners: Vec<Value> =
            owner.map(|uid| json!({"uid": uid, "controller": true})).into_iter().collect();
        json!({"metadata": {"name": name, "namespace": "n", "ownerReferences": owners}, "spec": spec})
    };
    let fixture = fixture(json!({}))
        .with("", "pods", running("b", json!({"hostPID": true}), Some("u")))
        .with("", "pods", running("a", json!({"hostPID": true}), Some("u")))
        .with(
            "",
            "pods",
            running("c", json!({"containers": [{"name": "c", "ports": [{"hostPort": 1}]}]}), None),
        )
        .updating(namespace(json!({})));
    let stricter = namespace(json!({label("enforce"): "baseline"}));
    fixture.run(&plugin(), Operation::Update, "", "namespaces", "", stricter).await.unwrap();
    assert_eq!(
        *fixture.warnings.lock(),
        [
            "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 1 other pod): host namespaces",
            "c: hostPort",
        ]
    );
    let exempt = json!({"metadata": {"name": "system", "labels": {label("enforce"): "restricted"}}});
    let fixture = Fixture::new();
    fixture.run(&plugin(), Operation::Create, "", "namespaces", "", exempt).await.unwrap();
    assert_eq!(
        *fixture.warnings.lock(),
        [
            "namespace \"system\" is exempt from Pod Security, and the policy (enforce=restricted:latest) will be ignored",
        ]
    );
}
