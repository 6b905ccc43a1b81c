//! A hub of three processes on one etcd: an agent moves between them, they are restarted one after the other, the leader is
//! put to sleep past its lease; nothing is lost, nothing is taken twice, and nobody writes who leads no more.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::fleet::{Invitation, condition};
use e2e::kubectl::Kubectl;
use e2e::process::{Process, run_fairlead};
use e2e::wait::until;
use fixtures::etcd::{self, Etcd};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);

/// What stands between an agent and its hub: one address, behind which is whichever process it is told.
struct Balancer {
    address: SocketAddr,
    behind: Arc<Mutex<(SocketAddr, Vec<TcpStream>)>>,
}

impl Balancer {
    fn start(first: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let behind = Arc::new(Mutex::new((first, Vec::new())));
        let (address, shared) = (listener.local_addr()?, Arc::clone(&behind));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = shared.lock().expect("lock").0;
                let Ok(server) = TcpStream::connect(target) else { continue };
                let Ok(pair) = client.try_clone().and_then(|client| Ok((client, server.try_clone()?))) else {
                    continue;
                };
                shared.lock().expect("lock").1.extend([pair.0, pair.1]);
                for (from, to) in
                    [(client.try_clone(), server.try_clone()), (server.try_clone(), client.try_clone())]
                {
                    let (Ok(from), Ok(to)) = (from, to) else { continue };
                    std::thread::spawn(move || pass(from, to));
                }
            }
        });
        Ok(Self { address, behind })
    }

    /// From now on that process; what is open is cut.
    fn lead_to(&self, target: SocketAddr) {
        let mut behind = self.behind.lock().expect("lock");
        behind.0 = target;
        for stream in behind.1.drain(..) {
            // Gone already is as good.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// One process of the hub.
struct Hub {
    name: &'static str,
    directory: PathBuf,
    listen: String,
    store: String,
    process: Option<Process>,
}

impl Hub {
    fn new(root: &Path, name: &'static str, store: &str) -> Self {
        let directory = root.join(name);
        Self { name, directory, listen: "127.0.0.1:0".to_owned(), store: store.to_owned(), process: None }
    }

    fn start(&mut self) -> Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let directory = self.directory.display().to_string();
        let arguments =
            ["hub", "serve", "--dir", &directory, "--listen", &self.listen, "--store", &self.store];
        let mut process = Process::fairlead(&arguments, &self.directory.with_extension("log"))?;
        let kubectl = self.kubectl();
        until(&format!("hub {} to be ready", self.name), LIMIT, || {
            process.expect_running()?;
            Ok((kubectl.run(&["get", "--raw", "/readyz"])? == "ok").then_some(()))
        })?;
        self.process = Some(process);
        self.listen = self.address()?.to_string();
        Ok(())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig())
    }

    fn address(&self) -> Result<SocketAddr> {
        let text = std::fs::read_to_string(self.kubeconfig())?;
        let line = text.lines().find_map(|line| line.trim().strip_prefix("server: https://"));
        Ok(line.context("no server in the kubeconfig")?.trim_matches('"').parse()?)
    }

    fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("it does not run")
    }

    fn fairlead(&self, arguments: &[&str]) -> Result<String> {
        let kubeconfig = self.kubeconfig().display().to_string();
        let all: Vec<&str> = arguments.iter().copied().chain(["--kubeconfig", &kubeconfig]).collect();
        let output = run_fairlead(&all)?;
        let told = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "fairlead {} ended with {}: {told}",
            arguments.join(" "),
            output.status
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sequences of the cluster's records that this process shows, by outbox.
    fn records(&self, cluster: &str) -> Result<BTreeMap<String, Vec<u64>>> {
        let (mut all, mut from) = (BTreeMap::<String, Vec<u64>>::new(), 0);
        loop {
            let path = format!("/fleet/v1/clusters/{cluster}/records?from={from}");
            let page: Value = serde_json::from_str(&self.kubectl().run(&["get", "--raw", &path])?)?;
            for stored in page["records"].as_array().context("no records")? {
                let record = &stored["record"];
                let epoch = record["agentEpoch"].as_str().context("no epoch")?.to_owned();
                all.entry(epoch).or_default().push(record["sequence"].as_u64().context("no sequence")?);
            }
            match page["next"].as_u64() {
                Some(next) => from = next,
                None => return Ok(all),
            }
        }
    }

    fn leader(&self) -> Result<String> {
        let lease = self.kubectl().json(&["get", "lease", "-n", "fairlead-system", "fairlead-hub"])?;
        Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    }
}

fn connected(hub: &Hub) -> Result<()> {
    until(&format!("the cluster to be connected, as hub {} shows it", hub.name), LIMIT, || {
        let cluster = hub.kubectl().json(&["get", "clusters.fleet.fairlead.dev", "dev"])?;
        Ok((condition(&cluster, "Connected") == Some("True")).then_some(()))
    })
}

/// Through a process of the hub into the cluster, wherever its agent is.
fn reach(hub: &Hub) -> Result<()> {
    until(&format!("the way to the cluster through hub {}", hub.name), LIMIT, || {
        let path =
            "/apis/fleet.fairlead.dev/v1alpha1/clusters/dev/proxy/api/v1/namespaces/default/configmaps";
        let list: Value = serde_json::from_str(&hub.kubectl().run(&["get", "--raw", path])?)?;
        Ok((list["kind"] == "ConfigMapList").then_some(()))
    })
}

const PROFILE: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
    {"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Profile", "metadata": {"name": "app", "namespace": "default"}, "spec": {"manifests": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held"}, "data": {"key": "VALUE"}}]}},
    {"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Placement", "metadata": {"name": "app", "namespace": "default"}, "spec": {"profile": "app", "clusterSelector": {}}}]}"#;

#[test]
fn three_processes_of_a_hub_are_one_hub() -> Result<()> {
    let Some(program) = etcd::program() else { return Ok(()) };
    let root = tempfile::Builder::new().prefix("fairlead-e2e-").tempdir()?;
    let etcd = Etcd::start(&program, root.path(), etcd::Options::default())?;
    let store = format!("etcd={}", etcd.endpoint());
    let mut hubs = ["one", "two", "three"].map(|name| Hub::new(root.path(), name, &store));
    hubs[0].start()?;
    // Authority and keys are one hub's; each process has a directory of its own.
    for name in ["two", "three"] {
        let target = root.path().join(name);
        std::fs::create_dir_all(&target)?;
        let status = std::process::Command::new("cp")
            .arg("-r")
            .arg(hubs[0].directory.join("pki"))
            .arg(&target)
            .status()?;
        ensure!(status.success(), "the authority was not copied");
    }
    hubs[1].start()?;
    hubs[2].start()?;

    let cluster = root.path().join("cluster");
    std::fs::create_dir_all(&cluster)?;
    let (cluster_dir, agent_dir) =
        (cluster.display().to_string(), root.path().join("agent").display().to_string());
    let arguments = ["cluster", "serve", "--name", "dev", "--dir", &cluster_dir, "--listen", "127.0.0.1:0"];
    let mut running = Process::fairlead(&arguments, &root.path().join("cluster.log"))?;
    let kubeconfig = cluster.join("admin.kubeconfig");
    let inside = Kubectl::new(&kubeconfig);
    until("the cluster to be ready", LIMIT, || {
        running.expect_running()?;
        Ok((inside.run(&["get", "--raw", "/readyz"])? == "ok").then_some(()))
    })?;
    let Invitation { token, ca_pin } = Invitation::read(&hubs[2].fairlead(&Invitation::command("dev"))?)?;
    let balancer = Balancer::start(hubs[0].address()?)?;
    let url = format!("https://{}", balancer.address);
    let kubeconfig = kubeconfig.display().to_string();
    let arguments = [
        "agent",
        "serve",
        "--dir",
        &agent_dir,
        "--hub",
        &url,
        "--kubeconfig",
        &kubeconfig,
        "--access",
        "cluster-admin",
        "--token",
        &token,
        "--ca-pin",
        &ca_pin,
        "--name",
        "dev",
    ];
    let agent = Process::fairlead(&arguments, &root.path().join("agent.log"))?;

    // The agent is at one of them; all of them show it and lead to it.
    for hub in &hubs {
        connected(hub)?;
        reach(hub)?;
    }
    hubs[1].kubectl().apply(&PROFILE.replace("VALUE", "1"))?;
    let holds = |value: &str| {
        until(&format!("the cluster to hold {value}"), LIMIT, || {
            let found = inside.json(&["get", "configmap", "held"])?;
            Ok((found["data"]["key"] == value).then_some(()))
        })
    };
    holds("1")?;

    // Each is restarted in its turn, one of them by kill -9, while there is something to tell; the agent moves on each time.
    for (index, next) in [(0_usize, 1_usize), (1, 2), (2, 0)] {
        let target = hubs[next].address()?;
        inside.run(&["delete", "configmap", "held"])?;
        let ended = hubs[index].process.take().context("it does not run")?;
        if index == 1 {
            ended.kill()?
        } else {
            ended.terminate()?
        }
        balancer.lead_to(target);
        connected(&hubs[next])?;
        holds(&(index + 1).to_string())?;
        hubs[next].kubectl().apply(&PROFILE.replace("VALUE", &(index + 2).to_string()))?;
        holds(&(index + 2).to_string())?;
        hubs[index].start()?;
        reach(&hubs[index])?;
    }
    // What the agent told is the same everywhere, each record once, from the first on.
    until("all to show the same records", LIMIT, || {
        let shown: Vec<_> = hubs.iter().map(|hub| hub.records("dev")).collect::<Result<_>>()?;
        for (epoch, sequences) in &shown[0] {
            let expected: Vec<u64> = (1..=sequences.len() as u64).collect();
            ensure!(
                *sequences == expected,
                "records of outbox {epoch} are missing or doubled: {sequences:?}"
            );
        }
        Ok((shown[0] == shown[1] && shown[1] == shown[2] && !shown[0].is_empty()).then_some(()))
    })?;

    // The leader sleeps past its lease. When it wakes another leads, and goes on leading.
    let first = until("a leader", LIMIT, || Ok(Some(hubs[0].leader()?).filter(|name| !name.is_empty())))?;
    let led = |hub: &Hub| {
        let log = std::fs::read_to_string(hub.directory.with_extension("log")).unwrap_or_default();
        log.matches("leading the hub").count()
    };
    let before: Vec<usize> = hubs.iter().map(led).collect();
    let sleeper = hubs
        .iter()
        .position(|hub| {
            let log = std::fs::read_to_string(hub.directory.with_extension("log")).unwrap_or_default();
            log.contains(&first)
        })
        .context("nobody says that it leads")?;
    let awake = (sleeper + 1) % 3;
    balancer.lead_to(hubs[awake].address()?);
    let pid = Pid::from_raw(i32::try_from(hubs[sleeper].process()?.id())?);
    kill(pid, Signal::SIGSTOP)?;
    let second = until("another leader", LIMIT, || {
        let now = hubs[awake].leader()?;
        Ok((now != first && !now.is_empty()).then_some(now))
    })?;
    connected(&hubs[awake])?;
    hubs[awake].kubectl().apply(&PROFILE.replace("VALUE", "awake"))?;
    holds("awake")?;
    kill(pid, Signal::SIGCONT)?;
    until("the old leader to know", LIMIT, || {
        let log = std::fs::read_to_string(hubs[sleeper].directory.with_extension("log"))?;
        Ok(log.contains("another process may lead the hub now").then_some(()))
    })?;
    ensure!(hubs[awake].leader()? == second, "the lead went back");
    reach(&hubs[sleeper])?;
    hubs[sleeper].kubectl().apply(&PROFILE.replace("VALUE", "end"))?;
    holds("end")?;
    let after: Vec<usize> = hubs.iter().map(led).collect();
    ensure!(after.iter().sum::<usize>() == before.iter().sum::<usize>() + 1, "{before:?} {after:?}");
    drop(agent);
    Ok(())
}
