//! Who may do what, decided over the protocol: twelve thousand decisions on generated roles, bindings and pods, whose answers
//! are those of kube-apiserver 1.36 with `--authorization-mode=Node,RBAC`; and that what was just granted holds.

use access::Authorizer;
use serde::Deserialize;

use super::chain::{masters, options, request, serve};
use super::*;

/// The generated objects, and tables of answers.
#[derive(Deserialize)]
struct Corpus {
    objects: Vec<Value>,
    tables: Vec<Table>,
}

/// Questions that are asked about each of some users.
#[derive(Deserialize)]
struct Table {
    /// `VERB GROUP RESOURCE[/SUBRESOURCE] NAMESPACE NAME [FIELD SELECTOR]` with a dash for "", or `VERB PATH`.
    questions: Vec<String>,
    answers: Vec<Answers>,
}

#[derive(Deserialize)]
struct Answers {
    user: String,
    groups: Vec<String>,
    /// A bit a question, the first question's first, in hexadecimal digits.
    allowed: String,
}

impl Answers {
    fn allows(&self, index: usize) -> bool {
        let digit = self.allowed.as_bytes()[index / 4];
        char::from(digit).to_digit(16).unwrap() >> (3 - index % 4) & 1 == 1
    }
}

fn review(who: &Answers, question: &str) -> Value {
    let words: Vec<&str> = question.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
    let mut spec = json!({"user": who.user, "groups": who.groups});
    match words.as_slice() {
        [verb, path] => spec["nonResourceAttributes"] = json!({"verb": verb, "path": path}),
        [verb, group, resource, namespace, name, selector @ ..] => {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let mut asked = json!({"verb": verb, "group": group, "resource": resource, "subresource": subresource,
                "namespace": namespace, "name": name});
            if let [selector] = selector {
                asked["fieldSelector"] = json!({"rawSelector": selector});
            }
            spec["resourceAttributes"] = asked;
        }
        _ => panic!("no question: {question}"),
    }
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec})
}

fn collection(object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap();
    let root = if version.contains('/') { "/apis" } else { "/api" };
    let resource = format!("{}s", object["kind"].as_str().unwrap().to_lowercase());
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/{version}/namespaces/{namespace}/{resource}"),
        None => format!("{root}/{version}/{resource}"),
    }
}

/// Takes away what our controllers have beyond upstream's roles: the reference knows nothing of it.
async fn without_additions(handle: &Handle) {
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
    for addition in access::bootstrap::additions() {
        let name = addition["metadata"]["name"].as_str().unwrap();
        let asked = request(Method::DELETE, &format!("{path}/{name}"), &[], &Value::Null);
        let (code, answer) = read(handle.request(masters(), asked).await).await;
        assert!(code == 200 || code == 404, "{answer}");
    }
}

#[tokio::test]
async fn decisions_are_those_of_the_reference() {
    let corpus: Corpus = serde_json::from_str(include_str!("access_decisions.json")).unwrap();
    let mut options = options();
    options.authorizer = Some(Arc::new(Authorizer::new()));
    let (handle, _stop) = serve(options).await;
    for object in &corpus.objects {
        let asked = request(Method::POST, &collection(object), &[], object);
        let (code, answer) = read(handle.request(masters(), asked).await).await;
        assert!(code == 201 || code == 409, "{code} {answer}");
    }
    without_additions(&handle).await;
    // A read sees every write before it: what nodes may is decided by what the cache holds.
    let asked = request(Method::GET, "/api/v1/pods", &[], &Value::Null);
    assert_eq!(handle.request(masters(), asked).await.status(), 200);
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let mut wrong = Vec::new();
    for table in &corpus.tables {
        for who in &table.answers {
            for (index, question) in table.questions.iter().enumerate() {
                let asked = request(Method::POST, path, &[], &review(who, question));
                let (code, answer) = read(handle.request(masters(), asked).await).await;
                assert_eq!(code, 201, "{answer}");
                if answer["status"]["allowed"] != who.allows(index) {
                    wrong.push(format!("{} {question}: {}", who.user, answer["status"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} decisions differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_grant_holds_for_the_next_request_and_so_does_its_end() {
    let mut options = options();
    options.authorizer = Some(Arc::new(Authorizer::new()));
    let (handle, _stop) = serve(options).await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    for round in 0..20 {
        let role = json!({"metadata": {"name": "r"},
            "rules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}]});
        let binding = json!({"metadata": {"name": "r"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada"}]});
        let list = || {
            let ada = UserInfo::new("ada", &["system:authenticated"]);
            let asked = request(Method::GET, "/api/v1/namespaces/default/configmaps", &[], &Value::Null);
            handle.request(ada, asked)
        };
        assert_eq!(list().await.status(), 403, "round {round}");
        for (resource, object) in [("roles", &role), ("rolebindings", &binding)] {
            let asked = request(Method::POST, &format!("{rbac}/{resource}"), &[], object);
            assert_eq!(handle.request(masters(), asked).await.status(), 201);
        }
        assert_eq!(list().await.status(), 200, "round {round}");
        for resource in ["rolebindings", "roles"] {
            let asked = request(Method::DELETE, &format!("{rbac}/{resource}/r"), &[], &Value::Null);
            assert_eq!(handle.request(masters(), asked).await.status(), 200);
            assert_eq!(list().await.status(), 403, "round {round}");
        }
    }
}

#[tokio::test]
async fn who_writes_a_policy_must_be_allowed_to_read_its_parameters() {
    let mut options = options();
    options.authorizer = Some(Arc::new(Authorizer::new()));
    let (handle, _stop) = serve(options).await;
    let grant = async |name: &str, rules: Value| {
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let metadata = json!({"name": name});
        let role = json!({"metadata": metadata, "rules": rules});
        let binding = json!({"metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada"}]});
        for (resource, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
            let asked = request(Method::POST, &format!("{rbac}/{resource}"), &[], &object);
            assert_eq!(handle.request(masters(), asked).await.status(), 201);
        }
    };
    grant(
        "author",
        json!([{"verbs": ["*"], "apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"]}]),
    )
    .await;
    let create = async |resource: &str, object: &Value| {
        let ada = UserInfo::new("ada", &["system:authenticated"]);
        let path = format!("/apis/admissionregistration.k8s.io/v1/{resource}");
        read(handle.request(ada, request(Method::POST, &path, &[], object)).await).await
    };
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["pods"]}]},
        "validations": [{"expression": "true"}]}});
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"],
        "paramRef": {"name": "m", "namespace": "default", "parameterNotFoundAction": "Deny"}}});
    let (code, refused) = create("validatingadmissionpolicies", &policy).await;
    assert_eq!(
        (code, &refused["details"]["causes"][0]["field"]),
        (422, &json!("spec.paramKind")),
        "{refused}"
    );
    assert_eq!(
        refused["details"]["causes"][0]["message"],
        "Forbidden: user &{ada  [system:authenticated] map[]} must have \"get\" permission on all objects of the referenced \
         paramKind (kind=ConfigMap, apiVersion=v1)"
    );
    let (code, refused) = create("validatingadmissionpolicybindings", &binding).await;
    assert_eq!(
        (code, &refused["details"]["causes"][0]["field"]),
        (422, &json!("spec.paramRef")),
        "{refused}"
    );
    grant("reader", json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["configmaps"]}])).await;
    let (code, created) = create("validatingadmissionpolicies", &policy).await;
    assert_eq!(code, 201, "{created}");
    let (code, created) = create("validatingadmissionpolicybindings", &binding).await;
    assert_eq!(code, 201, "{created}");
}

#[tokio::test]
async fn metrics_tell_of_requests_the_store_and_admission() {
    let subject = Subject::start().await;
    subject.create("counted").await;
    let answer = subject.send(Method::GET, "/metrics", &[], "").await;
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text);
    for part in [
        "apiserver_request_total{verb=\"POST\",dry_run=\"\",group=\"\",version=\"v1\",resource=\"configmaps\",",
        "etcd_request_duration_seconds_count{operation=\"create\",type=\"\"} ",
        "apiserver_admission_controller_admission_duration_seconds_count{name=\"NamespaceLifecycle\",operation=\"CREATE\",",
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} ",
        "\nprocess_resident_memory_bytes ",
        "kubernetes_build_info{major=\"1\",minor=\"36\",",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
