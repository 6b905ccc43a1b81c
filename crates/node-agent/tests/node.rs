//! The agent against the real API server, in process: with simulated pods, and with real containers where they can run.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::Catalogue;
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use kube_objects::UserInfo;
use node_agent::runtime::PodRuntime;
use node_agent::runtime::containerd::{self, Containerd, ContainerdOptions};
use node_agent::runtime::cri::{Cri, CriOptions};
use node_agent::runtime::simulated::{Simulated, SimulatedOptions};
use node_agent::{Handle, LogOptions, Options, Service};
use serde_json::{Value, json};
use storage::model::MemoryStore;
use tokio_util::sync::{CancellationToken, DropGuard};

struct Cluster {
    client: Client,
    _stop: DropGuard,
}

async fn cluster() -> Cluster {
    let mut options = apiserver::Options::new(Arc::new(MemoryStore::default()), Catalogue::cluster());
    let key = access::tokens::SigningKey::ephemeral().expect("a key");
    options.token_issuer = Some(access::TokenIssuer::new(key, "https://issuer.test", vec!["api".to_owned()]));
    let service = apiserver::Service::new(options).await.expect("a server");
    let server = service.handle();
    let stop = CancellationToken::new();
    tokio::spawn(Box::pin(service.run(stop.clone())));
    assert!(server.ready().await);
    let client = server.client(UserInfo::new("tester", &["system:masters"]));
    let cluster = Cluster { client, _stop: stop.drop_guard() };
    for namespace in ["default", "kube-node-lease"] {
        let api: Api<Namespace> = Api::all(cluster.client.clone());
        let document =
            serde_json::from_value(json!({ "metadata": { "name": namespace } })).expect("a namespace");
        let made = api.create(&PostParams::default(), &document).await;
        assert!(made.is_ok() || api.get(namespace).await.is_ok(), "{made:?}");
    }
    cluster.create::<ServiceAccount>(json!({ "metadata": { "name": "default" } })).await;
    cluster
}

impl Cluster {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, document: Value)
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let document = serde_json::from_value(document).expect("a document");
        self.api::<K>().create(&PostParams::default(), &document).await.expect("created");
    }

    async fn pod(&self, name: &str, annotations: Value, spec: Value) {
        let mut document = json!({
            "metadata": { "name": name, "annotations": annotations },
            "spec": { "nodeName": "node", "automountServiceAccountToken": false },
        });
        for (field, value) in spec.as_object().expect("an object") {
            document["spec"][field] = value.clone();
        }
        self.create::<Pod>(document).await;
    }

    /// The status once it is as wanted, as JSON.
    async fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let pod = self.api::<Pod>().get(name).await.expect("the pod");
            let status = serde_json::to_value(pod.status).expect("JSON");
            if wanted(&status) {
                return status;
            }
            if Instant::now() > end {
                let events = self.events(name).await;
                panic!("{name} was never {what}: {status:#}\n{events:?}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn gone(&self, name: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while let Some(pod) = self.api::<Pod>().get_opt(name).await.expect("an answer") {
            assert!(Instant::now() < end, "{name} never went away: {:?}", pod.status);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn events(&self, pod: &str) -> Vec<String> {
        let events = self.api::<Event>().list(&ListParams::default()).await.expect("events");
        let of_pod =
            events.items.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(pod));
        of_pod
            .map(|event| {
                format!("{}: {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default())
            })
            .collect()
    }

    async fn log(&self, agent: &Handle, pod: &str, options: LogOptions) -> String {
        let uid = self.api::<Pod>().get(pod).await.expect("the pod").uid().expect("a uid");
        let mut stream = agent.logs("default", pod, &uid, "main", &options).await.expect("a log");
        let mut text = Vec::new();
        while let Some(bytes) = stream.next().await {
            text.extend_from_slice(&bytes.expect("bytes"));
        }
        String::from_utf8(text).expect("text")
    }

    fn agent(&self, runtime: Arc<dyn PodRuntime>, pods_dir: PathBuf) -> (Handle, DropGuard) {
        let options = Options {
            back_off_initial: Duration::from_millis(200),
            back_off_max: Duration::from_secs(2),
            volume_period: Duration::from_millis(500),
            resync_period: Duration::from_millis(500),
            pods_dir,
            ..Options::new("node")
        };
        let service = Service::new(options, self.client.clone(), runtime).expect("a name");
        let handle = service.handle();
        let stop = CancellationToken::new();
        tokio::spawn(Box::pin(service.run(stop.clone())));
        (handle, stop.drop_guard())
    }
}

fn tool(args: &[&str]) -> Value {
    json!({ "name": "main", "image": tool_image::TOOL_IMAGE, "imagePullPolicy": "IfNotPresent", "args": args })
}

fn condition(status: &Value, kind: &str) -> bool {
    let conditions = status["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == kind && c["status"] == "True")
}

fn main_state(status: &Value) -> &Value {
    &status["containerStatuses"][0]["state"]
}

fn waits_for(reason: &'static str) -> impl Fn(&Value) -> bool {
    move |status| main_state(status)["waiting"]["reason"] == reason
}

#[tokio::test]
async fn a_node_registers_and_its_simulated_pods_live_and_die() {
    let cluster = cluster().await;
    let (agent, _stop) = cluster.agent(Arc::new(Simulated::new(SimulatedOptions::default())), PathBuf::new());

    cluster.pod("serving", json!({}), json!({ "containers": [tool(&["serve"])] })).await;
    let status = cluster.until("serving", "ready", |status| condition(status, "Ready")).await;
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["qosClass"], "BestEffort");
    assert!(status["podIP"].is_string() && status["startTime"].is_string(), "{status:#}");
    assert!(condition(&status, "Initialized") && condition(&status, "PodReadyToStartContainers"));
    assert_eq!(cluster.log(&agent, "serving", LogOptions::default()).await, "listening on port 8080\n");
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let node = nodes.get("node").await.expect("the node");
    assert!(node.status.is_some_and(|status| {
        status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
    }));
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), "kube-node-lease");
    assert!(leases.get("node").await.is_ok());
    let version = cluster.api::<Pod>().get("serving").await.expect("the pod").resource_version();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let later = cluster.api::<Pod>().get("serving").await.expect("the pod").resource_version();
    assert_eq!(version, later, "a pod that does not change is not written");

    cluster.api::<Pod>().delete("serving", &DeleteParams::default()).await.expect("deleted");
    cluster.gone("serving").await;

    let init = json!([{ "name": "init", "image": "any/image", "imagePullPolicy": "IfNotPresent" }]);
    let spec = json!({ "restartPolicy": "Never", "initContainers": init, "containers": [tool(&["do", "print done", "exit 0"])] });
    cluster.pod("job", json!({}), spec).await;
    let status = cluster.until("job", "ended", |status| status["phase"] == "Succeeded").await;
    assert_eq!(main_state(&status)["terminated"]["reason"], "Completed");
    assert_eq!(
        cluster.log(&agent, "job", LogOptions { follow: true, ..LogOptions::default() }).await,
        "done\n"
    );
    cluster
        .pod("failing", json!({}), json!({ "restartPolicy": "Never", "containers": [tool(&["exit", "7"])] }))
        .await;
    let status = cluster.until("failing", "failed", |status| status["phase"] == "Failed").await;
    assert_eq!(main_state(&status)["terminated"]["exitCode"], 7);
}

#[tokio::test]
async fn simulated_failures_are_told_in_upstreams_words() {
    let cluster = cluster().await;
    let (agent, _stop) = cluster.agent(Arc::new(Simulated::new(SimulatedOptions::default())), PathBuf::new());

    cluster.pod("crashing", json!({}), json!({ "containers": [tool(&["do", "print oh", "exit 2"])] })).await;
    let again = |status: &Value| {
        waits_for("CrashLoopBackOff")(status)
            && status["containerStatuses"][0]["restartCount"].as_i64() >= Some(2)
    };
    let status = cluster.until("crashing", "in back-off", again).await;
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 2);
    assert_eq!(status["phase"], "Running");
    assert!(!condition(&status, "Ready"));
    assert_eq!(
        cluster.log(&agent, "crashing", LogOptions { previous: true, ..LogOptions::default() }).await,
        "oh\n"
    );

    let annotations = json!({ "simulation.fairlead.dev/main.pull-error": "no such image" });
    cluster.pod("pulling", annotations, json!({ "containers": [tool(&["serve"])] })).await;
    let status = cluster.until("pulling", "in image back-off", waits_for("ImagePullBackOff")).await;
    let message = main_state(&status)["waiting"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("no such image"), "{message}");
    assert_eq!(status["phase"], "Pending");

    let mut container = tool(&["env", "COLOUR"]);
    container["env"] = json!([{ "name": "COLOUR", "valueFrom": { "configMapKeyRef": { "name": "colours", "key": "wall" } } }]);
    cluster
        .pod("configured", json!({}), json!({ "restartPolicy": "Never", "containers": [container] }))
        .await;
    let status = cluster.until("configured", "waiting", waits_for("CreateContainerConfigError")).await;
    assert_eq!(main_state(&status)["waiting"]["message"], "configmap \"colours\" not found");
    cluster
        .create::<ConfigMap>(json!({ "metadata": { "name": "colours" }, "data": { "wall": "green" } }))
        .await;
    cluster.until("configured", "ended", |status| status["phase"] == "Succeeded").await;
    assert_eq!(cluster.log(&agent, "configured", LogOptions::default()).await, "green\n");

    let annotations = json!({ "simulation.fairlead.dev/main.never-ready": "true" });
    cluster.pod("unready", annotations, json!({ "containers": [tool(&["serve"])] })).await;
    let status = cluster.until("unready", "running", |status| status["phase"] == "Running").await;
    assert!(!condition(&status, "Ready") && !condition(&status, "ContainersReady"));
}

/// A private containerd with the tool image, or `None` where real containers cannot run.
async fn machine(dir: &std::path::Path) -> Option<Containerd> {
    if let Some(why) = containerd::unavailable() {
        eprintln!("skipped: {why}");
        return None;
    }
    let test = std::env::current_exe().expect("own path");
    let tool = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("a target directory")
        .join("examples/fairlead_tool");
    assert!(tool.exists(), "{} is missing: run `cargo build -p node-agent --examples`", tool.display());
    let containerd = Containerd::start(&ContainerdOptions::new(dir.join("c"))).await.expect("containerd");
    let (archive, socket) = (dir.join("tool.tar"), containerd.socket());
    container_images::build::write_tool_image(&tool, &archive).expect("an image");
    let loaded = tokio::task::spawn_blocking(move || container_images::load::load(&archive, &socket));
    loaded.await.expect("joined").expect("imported");
    Some(containerd)
}

#[tokio::test(flavor = "multi_thread")]
async fn real_pods_get_their_configuration_outlive_the_agent_and_stop() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(containerd) = machine(dir.path()).await else { return };
    let cluster = cluster().await;
    let connect = async || {
        let mut options = CriOptions::new(containerd.socket(), "node", dir.path().join("logs"));
        options.network_problem = containerd.network_problem();
        Arc::new(Cri::connect(options).await.expect("it answers"))
    };
    let cri = connect().await;
    let (agent, stop) = cluster.agent(cri, dir.path().join("pods"));

    cluster.create::<ConfigMap>(json!({ "metadata": { "name": "c" }, "data": { "k": "first" } })).await;
    cluster
        .create::<Secret>(json!({ "metadata": { "name": "s" }, "stringData": { "p": "secret value" } }))
        .await;
    let mut container = tool(&[
        "do",
        "cat /config/k",
        "cat /secret/p",
        "env NODE",
        "write /scratch/x $(NODE)",
        "cat /scratch/x",
        "exit 0",
    ]);
    container["env"] =
        json!([{ "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } }]);
    container["volumeMounts"] = json!([
        { "name": "config", "mountPath": "/config" }, { "name": "secret", "mountPath": "/secret" },
        { "name": "scratch", "mountPath": "/scratch" },
    ]);
    let volumes = json!([
        { "name": "config", "configMap": { "name": "c" } }, { "name": "secret", "secret": { "secretName": "s" } },
        { "name": "scratch", "emptyDir": {} },
    ]);
    let spec = json!({ "restartPolicy": "Never", "volumes": volumes, "containers": [container] });
    cluster.pod("reading", json!({}), spec).await;
    cluster.until("reading", "ended", |status| status["phase"] == "Succeeded").await;
    assert_eq!(
        cluster.log(&agent, "reading", LogOptions::default()).await,
        "first\nsecret value\nnode\nnode\n"
    );

    let mut container = tool(&["do", "cat /token/token", "cat /token/name", "sleep inf"]);
    container["volumeMounts"] = json!([{ "name": "token", "mountPath": "/token" }]);
    let name = json!({ "path": "name", "fieldRef": { "fieldPath": "metadata.name" } });
    let sources =
        json!([{ "serviceAccountToken": { "path": "token" } }, { "downwardAPI": { "items": [name] } }]);
    let volumes = json!([{ "name": "token", "projected": { "sources": sources } }]);
    cluster.pod("identified", json!({}), json!({ "volumes": volumes, "containers": [container] })).await;
    cluster.until("identified", "ready", |status| condition(status, "Ready")).await;
    let follow = LogOptions { follow: true, limit_bytes: Some(3), ..LogOptions::default() };
    assert_eq!(cluster.log(&agent, "identified", follow).await, "eyJ", "a JSON web token");

    let mut missing = tool(&["serve"]);
    missing["image"] = json!("localhost:1/none:1");
    cluster.pod("pulling", json!({}), json!({ "containers": [missing] })).await;
    cluster.until("pulling", "in image back-off", waits_for("ImagePullBackOff")).await;
    cluster.pod("crashing", json!({}), json!({ "containers": [tool(&["exit", "2"])] })).await;
    let twice = |status: &Value| status["containerStatuses"][0]["restartCount"].as_i64() >= Some(2);
    cluster.until("crashing", "restarted twice", twice).await;

    let mut serving = tool(&["serve", "--port", "18081"]);
    serving["readinessProbe"] =
        json!({ "httpGet": { "path": "/healthz", "port": 18081 }, "periodSeconds": 1 });
    cluster.pod("serving", json!({}), json!({ "containers": [serving] })).await;
    let status = cluster.until("serving", "ready", |status| condition(status, "Ready")).await;
    let id = status["containerStatuses"][0]["containerID"].clone();

    // An agent that comes back finds the container running and leaves it so.
    drop(stop);
    let end = Instant::now() + Duration::from_secs(5);
    while agent.is_running() && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let cri = connect().await;
    let (agent, _stop) = cluster.agent(cri.clone(), dir.path().join("pods"));
    cluster
        .pod("after", json!({}), json!({ "restartPolicy": "Never", "containers": [tool(&["exit", "0"])] }))
        .await;
    cluster.until("after", "ended", |status| status["phase"] == "Succeeded").await;
    let status = cluster.until("serving", "ready", |status| condition(status, "Ready")).await;
    assert_eq!(status["containerStatuses"][0]["containerID"], id);
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(cluster.log(&agent, "serving", LogOptions::default()).await, "listening on port 18081\n");

    for name in ["serving", "crashing", "pulling", "reading", "after", "identified"] {
        cluster.api::<Pod>().delete(name, &DeleteParams::default()).await.expect("deleted");
    }
    for name in ["serving", "crashing", "pulling", "reading", "after", "identified"] {
        cluster.gone(name).await;
    }
    assert!(cri.list().await.expect("listed").is_empty(), "nothing is left behind");
    let left = std::fs::read_dir(dir.path().join("pods")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "no pod directory is left behind");
    containerd.remove().await;
}
