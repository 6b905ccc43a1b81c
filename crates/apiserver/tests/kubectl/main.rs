//! Unmodified kubectl against the server over TLS with a client certificate.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use apiserver::Catalogue;
use kube::api::{Api, PostParams};
use kube_objects::UserInfo;

/// What a command printed, standard output before errors, and whether it succeeded.
struct Ran {
    text: String,
    success: bool,
}

fn kubectl(kubeconfig: &Path, input: &str, arguments: &[&str]) -> Ran {
    let home = kubeconfig.parent().unwrap();
    let mut child = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["--cache-dir", home.join("cache").to_str().unwrap(), "--request-timeout=20s"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ran { text, success: output.status.success() }
}

/// Runs a command that has to succeed and print all of `wanted`.
fn expect(kubeconfig: &Path, input: &str, arguments: &[&str], wanted: &[&str]) {
    let ran = kubectl(kubeconfig, input, arguments);
    assert!(ran.success, "kubectl {arguments:?} failed: {}", ran.text);
    for text in wanted {
        assert!(ran.text.contains(text), "kubectl {arguments:?} does not say {text:?}: {}", ran.text);
    }
}

/// Runs a command that has to fail and say `wanted`.
fn refuse(kubeconfig: &Path, input: &str, arguments: &[&str], wanted: &str) {
    let ran = kubectl(kubeconfig, input, arguments);
    assert!(!ran.success && ran.text.contains(wanted), "kubectl {arguments:?}: {}", ran.text);
}

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: main, image: "example.com/web:1", ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_unmodified() {
    if Command::new("kubectl").arg("version").arg("--client").output().is_err() {
        println!("skipped: no kubectl on PATH");
        return;
    }
    let running = support::start(Catalogue::cluster()).await;
    let client = running.handle.client(UserInfo::new("tester", &["system:masters"]));
    // No controllers run here; pods need the account that one of them makes.
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::default_namespaced(client);
    let account = serde_json::from_value(serde_json::json!({"metadata": {"name": "default"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    let config = running.kubeconfig.clone();
    tokio::task::spawn_blocking(move || session(&config)).await.unwrap();
}

fn session(config: &Path) {
    objects(config);
    workloads(config);
    access(config);
    discovery(config);
}

fn objects(config: &Path) {
    expect(config, "", &["create", "configmap", "a", "--from-literal=x=1"], &["configmap/a created"]);
    refuse(config, "", &["create", "configmap", "a"], "already exists");
    expect(config, "", &["get", "cm", "a"], &["NAME", "DATA", "AGE"]);
    expect(config, "", &["get", "cm", "a", "-o", "yaml"], &["x: \"1\"", "resourceVersion:"]);
    expect(config, "", &["get", "cm", "a", "-o", "json"], &["\"kind\": \"ConfigMap\""]);
    expect(config, "", &["get", "cm", "-o", "name"], &["configmap/a"]);
    expect(config, "", &["get", "cm", "a", "-o", "jsonpath={.data.x}"], &["1"]);
    expect(config, "", &["label", "cm", "a", "tier=front"], &["labeled"]);
    expect(config, "", &["get", "cm", "-l", "tier=front", "-o", "wide"], &["a "]);
    expect(config, "", &["annotate", "cm", "a", "note=x"], &["annotated"]);
    expect(config, "", &["describe", "cm", "a"], &["tier=front", "x:"]);
    expect(
        config,
        "",
        &["patch", "cm", "a", "--type=json", "-p", r#"[{"op":"add","path":"/data/y","value":"2"}]"#],
        &["patched"],
    );
    let bad = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\ndta: {a: b}\n";
    refuse(config, bad, &["apply", "-f", "-"], "unknown field \"dta\"");
    expect(config, "", &["delete", "cm", "a"], &["deleted"]);
    refuse(config, "", &["get", "cm", "a"], "not found");
    expect(config, "", &["create", "namespace", "x"], &["created"]);
    refuse(config, "", &["delete", "namespace", "default"], "forbidden");
}

fn workloads(config: &Path) {
    expect(config, WEB, &["apply", "-f", "-"], &["deployment.apps/web created", "service/web created"]);
    expect(config, WEB, &["apply", "-f", "-"], &["deployment.apps/web unchanged", "service/web unchanged"]);
    expect(config, WEB, &["diff", "-f", "-"], &[]);
    expect(config, WEB, &["apply", "--server-side", "-f", "-"], &["serverside-applied"]);
    let three = WEB.replace("replicas: 2", "replicas: 3");
    let other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
    refuse(config, &three, &other, "conflict");
    expect(config, &three, &[&other[..], &["--force-conflicts"]].concat(), &["serverside-applied"]);
    expect(config, "", &["get", "deploy,svc"], &["deployment.apps/web", "service/web", "0/3"]);
    expect(config, "", &["scale", "deploy", "web", "--replicas=5"], &["scaled"]);
    expect(config, "", &["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"], &["5"]);
    expect(config, "", &["describe", "deploy", "web"], &["5 desired", "example.com/web:1"]);
    expect(
        config,
        "",
        &["wait", "deploy/web", "--for=jsonpath={.spec.replicas}=5", "--timeout=10s"],
        &["condition met"],
    );
    expect(config, "", &["run", "p", "--image=example.com/p:1"], &["pod/p created"]);
    expect(config, "", &["get", "pods", "-o", "wide"], &["NODE", "Pending"]);
    expect(config, "", &["describe", "pod", "p"], &["kube-api-access", "Pending"]);
    expect(config, "", &["logs", "p"], &[]);
    expect(config, "", &["delete", "pod", "p", "--timeout=10s"], &["deleted"]);
    expect(config, WEB, &["delete", "-f", "-"], &["deployment.apps \"web\" deleted"]);
}

fn access(config: &Path) {
    expect(config, "", &["auth", "can-i", "create", "pods"], &["yes"]);
    refuse(config, "", &["auth", "can-i", "create", "pods", "--as", "bob"], "no");
    expect(
        config,
        "",
        &["create", "clusterrolebinding", "b", "--clusterrole=view", "--user=bob"],
        &["created"],
    );
    expect(config, "", &["get", "pods", "--as", "bob"], &["No resources found"]);
    refuse(config, "", &["get", "secrets", "--as", "bob"], "User \"bob\" cannot list resource \"secrets\"");
    expect(config, "", &["auth", "whoami"], &["admin", "system:masters"]);
    expect(config, "", &["create", "token", "default"], &["ey"]);
}

fn discovery(config: &Path) {
    expect(config, "", &["api-resources"], &["deployments", "po ", "apps/v1"]);
    expect(config, "", &["api-versions"], &["rbac.authorization.k8s.io/v1"]);
    let wanted = ["integer", "Number of desired pods. This is a pointer"];
    expect(config, "", &["explain", "deployment.spec.replicas"], &wanted);
    expect(config, "", &["version"], &["v1.36"]);
    expect(config, "", &["get", "--raw", "/readyz"], &["ok"]);
}
