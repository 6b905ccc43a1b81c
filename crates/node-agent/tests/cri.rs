//! Real containers: a private containerd, the tool image, and the CRI runtime. Needs root, containerd and runc; says so
//! and passes without.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use node_agent::runtime::containerd::{self, Containerd, ContainerdOptions};
use node_agent::runtime::cri::{Cri, CriOptions};
use node_agent::runtime::{
    ContainerState, ImageError, Launch, LogQuery, Mount, PodObservation, PodRuntime, ProbeOutcome,
    ProbeTarget, PullPolicy,
};
use serde_json::json;
use streams::{RemoteCommand, Streams};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

struct Machine {
    _dir: tempfile::TempDir,
    containerd: Option<Containerd>,
    cri: Cri,
    network: bool,
}

/// A private containerd with the tool image, or `None` where real containers cannot run.
async fn machine() -> Option<Machine> {
    if let Some(why) = containerd::unavailable() {
        eprintln!("skipped: {why}");
        return None;
    }
    let test = std::env::current_exe().expect("own path");
    let tool = test.parent().and_then(|deps| deps.parent()).map(|debug| debug.join("examples/fairlead_tool"));
    let tool: PathBuf = tool.expect("a target directory");
    assert!(tool.exists(), "{} is missing: run `cargo build -p node-agent --examples`", tool.display());
    let dir = tempfile::tempdir().expect("a directory");
    let containerd =
        Containerd::start(&ContainerdOptions::new(dir.path().join("c"))).await.expect("containerd");
    let archive = dir.path().join("tool.tar");
    container_images::build::write_tool_image(&tool, &archive).expect("an image");
    let socket = containerd.socket();
    let loaded = tokio::task::spawn_blocking(move || container_images::load::load(&archive, &socket));
    loaded.await.expect("joined").expect("imported");
    let mut options = CriOptions::new(containerd.socket(), "test-node", dir.path().join("logs"));
    options.network_problem = containerd.network_problem();
    let network = options.network_problem.is_none();
    let cri = Cri::connect(options).await.expect("it answers");
    Some(Machine { _dir: dir, containerd: Some(containerd), cri, network })
}

impl Machine {
    async fn stop(mut self) {
        self.cri.remove_all().await.expect("pods removed");
        if let Some(containerd) = self.containerd.take() {
            containerd.remove().await;
        }
    }

    async fn start(&self, pod: &Arc<Pod>, attempt: u32, mounts: Vec<Mount>) {
        let container = pod.spec.as_ref().expect("a spec").containers[0].clone();
        let image = container.image.clone().expect("an image");
        let found = self.cri.ensure_image(pod, &image, PullPolicy::IfNotPresent).await.expect("the image");
        let environment = vec![("GREETING".to_owned(), "hello".to_owned())];
        let launch = Launch {
            pod: pod.clone(),
            container,
            attempt,
            image: found.reference,
            environment,
            mounts,
            files: Vec::new(),
        };
        self.cri.start_container(&launch).await.expect("started");
    }

    async fn until(&self, uid: &str, what: &str, wanted: impl Fn(&PodObservation) -> bool) -> PodObservation {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let observed = self.cri.observe(uid).await.expect("observed");
            if wanted(&observed) {
                return observed;
            }
            assert!(Instant::now() < end, "never {what}: {observed:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// What `exec` and `port-forward` do, against the pod `serving` on port 18080.
    async fn runs_commands_and_forwards_ports(&self, container: &str) {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let streams = Streams { stdin: true, stdout: true, stderr: true, tty: false };
        let run = async |line: &str, streams| {
            let command = self.cri.exec("serving", container, &words(line), streams).await.expect("begun");
            let RemoteCommand { stdout, stderr, run, .. } = command;
            let (ending, out, err) = tokio::join!(run, said(stdout), said(stderr));
            let ending: serde_json::Value = serde_json::from_slice(&ending.document()).expect("a document");
            (ending, out, err)
        };
        let (ending, out, err) = run("/fairlead tool print hi there", streams).await;
        assert_eq!(
            (ending["status"].as_str(), out.as_str(), err.as_str()),
            (Some("Success"), "hi there\n", "")
        );
        let (ending, _, err) = run("/fairlead tool env NOT_THERE", streams).await;
        assert_eq!(ending["details"]["causes"][0]["message"], "1", "{ending}");
        assert_eq!(err, "NOT_THERE is not set\n");
        let terminal = Streams { stdin: true, stdout: true, stderr: false, tty: true };
        let (_, out, _) = run("/fairlead tool print on a terminal", terminal).await;
        assert_eq!(out, "on a terminal\r\n");
        let (ending, ..) = run("/not-there", streams).await;
        assert_eq!(ending["reason"], "InternalError", "{ending}");
        assert!(
            self.cri.exec("ending", container, &words("/fairlead"), streams).await.is_err(),
            "of another pod"
        );

        for (port, open) in [(18080, true), (18081, false)] {
            let mut io = self.cri.port_forward("serving", port).await.expect("a connection");
            io.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.expect("sent");
            let mut answer = String::new();
            let read = io.read_to_string(&mut answer).await;
            assert_eq!(answer.ends_with("ok\n"), open, "{answer}");
            assert_eq!(read.is_ok(), open, "{read:?}");
        }
        self.cri.connect("serving", 18080).await.expect("the pod's own address");
    }

    async fn log(&self, uid: &str, id: &str, query: LogQuery) -> String {
        let mut stream = self.cri.logs(uid, id, query).await.expect("a log");
        let mut text = Vec::new();
        while let Some(bytes) = stream.next().await {
            text.extend_from_slice(&bytes.expect("bytes"));
        }
        String::from_utf8(text).expect("text")
    }
}

/// All that a command says.
async fn said(from: Option<mpsc::Receiver<Bytes>>) -> String {
    let mut text = Vec::new();
    let Some(mut from) = from else { return String::new() };
    while let Some(chunk) = from.recv().await {
        text.extend_from_slice(&chunk);
    }
    String::from_utf8(text).expect("text")
}

fn pod(uid: &str, args: &[&str]) -> Arc<Pod> {
    let pod = json!({
        "metadata": { "name": uid, "namespace": "default", "uid": uid },
        "spec": { "restartPolicy": "Never", "containers": [{
            "name": "main", "image": tool_image::TOOL_IMAGE, "args": args,
            "resources": { "limits": { "memory": "64Mi", "cpu": "500m" } },
        }]},
    });
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn exit_code(pod: &PodObservation) -> Option<i32> {
    match pod.latest("main")?.state {
        ContainerState::Exited { exit_code, .. } => Some(exit_code),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_containers_run_log_serve_and_stop() {
    let Some(machine) = machine().await else { return };

    // To completion, with a log, an environment and a mounted file; then once more under the next number.
    let files = tempfile::tempdir().expect("a directory");
    std::fs::write(files.path().join("a"), "from a volume\n").expect("written");
    let mount = Mount {
        container_path: "/config".to_owned(),
        host_path: files.path().to_owned(),
        read_only: true,
        propagation: None,
    };
    let steps = ["do", "env GREETING", "cat /config/a", "print bye", "exit 3"];
    let ending = pod("ending", &steps);
    machine.cri.start_sandbox(&ending, 0).await.expect("a sandbox");
    for attempt in 0..2 {
        machine.start(&ending, attempt, vec![mount.clone()]).await;
        let seen = |p: &PodObservation| {
            p.latest("main").is_some_and(|c| c.attempt == attempt) && exit_code(p) == Some(3)
        };
        machine.until("ending", "ended with 3", seen).await;
    }
    let observed = machine.cri.observe("ending").await.expect("observed");
    assert_eq!(observed.previous("main").map(|container| container.attempt), Some(0));
    let id = observed.latest("main").expect("there").id.clone();
    let whole = machine.log("ending", &id, LogQuery::default()).await;
    assert_eq!(whole, "hello\nfrom a volume\nbye\n");
    let tail = LogQuery { tail_lines: Some(1), follow: true, ..LogQuery::default() };
    assert_eq!(machine.log("ending", &id, tail).await, "bye\n");
    let refused = machine.cri.logs("other-pod", &id, LogQuery::default()).await;
    assert!(refused.is_err(), "a log is only given for the pod it is of");

    // A server is probed on the pod's own address and stops on TERM well before its grace is over.
    let serving = pod("serving", &["serve", "--port", "18080"]);
    machine.cri.start_sandbox(&serving, 0).await.expect("a sandbox");
    machine.start(&serving, 0, Vec::new()).await;
    let observed =
        machine.until("serving", "running", |p| p.latest("main").is_some_and(|c| c.state.is_running())).await;
    let container = observed.latest("main").expect("there").id.clone();
    let ip = observed.sandbox.as_ref().and_then(|sandbox| sandbox.ips.first().cloned());
    assert_eq!(ip.is_some(), machine.network, "a pod has an address where there is a pod network");
    let target = ProbeTarget {
        uid: "serving".to_owned(),
        container_id: container.clone(),
        ip: ip.unwrap_or_else(|| "127.0.0.1".to_owned()),
        ports: vec![("web".to_owned(), 18080)],
    };
    let probe = |probe| serde_json::from_value(probe).expect("a probe");
    let http = probe(json!({ "httpGet": { "path": "/healthz", "port": "web" } }));
    let end = Instant::now() + Duration::from_secs(10);
    while machine.cri.probe(&target, &http).await != ProbeOutcome::Success {
        assert!(Instant::now() < end, "never answered: {:?}", machine.cri.probe(&target, &http).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let exec = |code: &str| {
        probe(json!({ "exec": { "command": ["/fairlead", "tool", "exit", code] }, "timeoutSeconds": 5 }))
    };
    assert_eq!(machine.cri.probe(&target, &exec("0")).await, ProbeOutcome::Success);
    assert!(
        matches!(machine.cri.probe(&target, &exec("4")).await, ProbeOutcome::Failure(why) if why.contains('4'))
    );
    machine.runs_commands_and_forwards_ports(&container).await;
    let before = Instant::now();
    machine.cri.stop_container("serving", &container, Duration::from_secs(20)).await.expect("stopped");
    assert!(before.elapsed() < Duration::from_secs(10), "TERM was not heeded");
    assert_eq!(exit_code(&machine.cri.observe("serving").await.expect("observed")), Some(0));

    // An image that isn't there is named.
    let missing = machine.cri.ensure_image(&serving, "localhost:1/none:1", PullPolicy::IfNotPresent).await;
    assert!(
        matches!(&missing, Err(ImageError::Pull { image, .. }) if image == "localhost:1/none:1"),
        "{missing:?}"
    );
    let never = machine.cri.ensure_image(&serving, "localhost:1/none:1", PullPolicy::Never).await;
    assert_eq!(never.expect_err("not there").reason(), "ErrImageNeverPull");

    // Another connection of the same owner finds them all; one of another owner finds none.
    let listed = machine.cri.list().await.expect("listed");
    assert_eq!(listed.iter().map(|pod| pod.uid.as_str()).collect::<Vec<_>>(), ["ending", "serving"]);
    let socket = machine.containerd.as_ref().expect("running").socket();
    let stranger =
        Cri::connect(CriOptions::new(socket, "other-node", "/nonexistent")).await.expect("connected");
    assert!(stranger.list().await.expect("listed").is_empty());
    machine.stop().await;
}
