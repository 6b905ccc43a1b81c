//! A hub, clusters and agents, each its own process on its own directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::kubectl::Kubectl;
use crate::process::{Process, run_fairlead};
use crate::wait;

/// Long enough for a debug build on a busy machine; a healthy start takes far less.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Which nodes the clusters have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// One simulated node each.
    Simulated,
    /// One node each on a private containerd.
    Containers,
}

/// With what an agent joins.
#[derive(Debug)]
pub struct Invitation {
    /// The token.
    pub token: String,
    /// The pin of the hub's authority.
    pub ca_pin: String,
}

impl Invitation {
    /// The command that invites a cluster.
    #[must_use]
    pub fn command(cluster: &str) -> [&str; 7] {
        ["join", "token", "create", "--cluster", cluster, "-o", "json"]
    }

    /// Reads what [`Self::command`] prints.
    ///
    /// # Errors
    /// When that is no invitation.
    pub fn read(printed: &str) -> Result<Self> {
        let printed_json: serde_json::Value = serde_json::from_str(printed)?;
        let field = |key: &str| {
            let text = printed_json[key].as_str().with_context(|| format!("no {key} in {printed}"))?;
            anyhow::Ok(text.to_owned())
        };
        Ok(Self { token: field("token")?, ca_pin: field("caPin")? })
    }
}

/// A fleet under test. Every process dies with it, its directory too.
#[derive(Debug)]
pub struct Fleet {
    dir: TempDir,
    nodes: Nodes,
    hub: Option<Process>,
    hub_listen: String,
    hub_arguments: Vec<String>,
    clusters: BTreeMap<String, Process>,
    agents: BTreeMap<String, Process>,
    /// What processes have more in their environment: `hub`, and the agents by their names.
    environments: BTreeMap<String, Vec<(String, String)>>,
}

impl Fleet {
    /// Starts a hub, and a cluster and an agent for each name; returns when every agent is connected.
    ///
    /// # Errors
    /// When a process ends early or is not ready in time.
    pub fn start(names: &[&str], nodes: Nodes) -> Result<Self> {
        Self::start_with(names, nodes, &[])
    }

    /// [`Self::start`] with more arguments for `fairlead hub serve`.
    ///
    /// # Errors
    /// When a process ends early or is not ready in time.
    pub fn start_with(names: &[&str], nodes: Nodes, hub_arguments: &[&str]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("fairlead-e2e-").tempdir()?;
        let mut fleet = Self {
            dir,
            nodes,
            hub: None,
            hub_listen: "127.0.0.1:0".to_owned(),
            hub_arguments: hub_arguments.iter().map(|&argument| argument.to_owned()).collect(),
            clusters: BTreeMap::new(),
            agents: BTreeMap::new(),
            environments: BTreeMap::new(),
        };
        fleet.start_hub()?;
        for name in names {
            fleet.start_cluster(name)?;
        }
        for name in names {
            fleet.join(name)?;
        }
        for name in names {
            fleet.wait_connected(name, "True")?;
        }
        Ok(fleet)
    }

    /// From its next start on, the hub (`hub`) or an agent has this in its environment, too.
    pub fn set_environment(&mut self, process: &str, environment: Vec<(String, String)>) {
        self.environments.insert(process.to_owned(), environment);
    }

    fn environment(&self, process: &str) -> &[(String, String)] {
        self.environments.get(process).map_or(&[], Vec::as_slice)
    }

    /// The directory that holds everything.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// `kubectl` against the hub.
    #[must_use]
    pub fn hub(&self) -> Kubectl {
        Kubectl::new(&self.hub_kubeconfig())
    }

    /// The hub's administrator kubeconfig.
    #[must_use]
    pub fn hub_kubeconfig(&self) -> PathBuf {
        self.hub_dir().join("admin.kubeconfig")
    }

    /// Where the hub is reached.
    ///
    /// # Errors
    /// When its kubeconfig does not say.
    pub fn hub_url(&self) -> Result<String> {
        server_address(&self.hub_kubeconfig()).map(|address| format!("https://{address}"))
    }

    /// The hub's own directory.
    #[must_use]
    pub fn hub_dir(&self) -> PathBuf {
        self.path().join("hub")
    }

    /// `kubectl` against a cluster.
    #[must_use]
    pub fn cluster(&self, name: &str) -> Kubectl {
        Kubectl::new(&self.cluster_dir(name).join("admin.kubeconfig"))
    }

    /// A cluster's own directory.
    #[must_use]
    pub fn cluster_dir(&self, name: &str) -> PathBuf {
        self.path().join("clusters").join(name)
    }

    /// An agent's own directory.
    #[must_use]
    pub fn agent_dir(&self, name: &str) -> PathBuf {
        self.path().join("agents").join(name)
    }

    /// Runs `fairlead ARGUMENTS` as the hub's administrator; with its exit code, stdout and stderr.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn command(&self, arguments: &[&str]) -> Result<(i32, String, String)> {
        let kubeconfig = self.hub_kubeconfig();
        let mut all: Vec<&std::ffi::OsStr> = arguments.iter().map(std::ffi::OsStr::new).collect();
        all.extend(["--kubeconfig".as_ref(), kubeconfig.as_os_str()]);
        let output = run_fairlead(&all)?;
        Ok((
            output.status.code().unwrap_or(-1),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    }

    /// Runs `fairlead ARGUMENTS` as the hub's administrator and returns its stdout.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub fn succeed(&self, arguments: &[&str]) -> Result<String> {
        let (code, stdout, stderr) = self.command(arguments)?;
        if code != 0 {
            bail!("fairlead {} ended with {code}:\n{stdout}{stderr}", arguments.join(" "));
        }
        Ok(stdout)
    }

    /// Starts the hub on its directory, on the address it had before; returns when it is ready.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn start_hub(&mut self) -> Result<()> {
        let dir = self.hub_dir();
        std::fs::create_dir_all(&dir)?;
        let dir_argument = path_text(&dir)?;
        let log = self.path().join("hub.log");
        let mut arguments = vec!["hub", "serve", "--dir", &dir_argument, "--listen", &self.hub_listen];
        arguments.extend(self.hub_arguments.iter().map(String::as_str));
        let mut process = Process::fairlead_in(&arguments, &log, self.environment("hub"))?;
        let hub = self.hub();
        wait_ready("the hub", &mut process, &hub)?;
        self.hub_listen = server_address(&self.hub_kubeconfig())?;
        self.hub = Some(process);
        Ok(())
    }

    /// `kill -9` of the hub.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill_hub(&mut self) -> Result<()> {
        self.hub.take().context("the hub is not running")?.kill()
    }

    /// The hub's process id.
    #[must_use]
    pub fn hub_pid(&self) -> Option<u32> {
        self.hub.as_ref().map(Process::id)
    }

    /// Starts a cluster on its directory; returns when it is ready.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn start_cluster(&mut self, name: &str) -> Result<()> {
        let dir = self.cluster_dir(name);
        std::fs::create_dir_all(&dir)?;
        let dir_argument = path_text(&dir)?;
        let mut arguments =
            vec!["cluster", "serve", "--name", name, "--dir", &dir_argument, "--listen", "127.0.0.1:0"];
        match self.nodes {
            Nodes::Simulated => arguments.extend(["--runtime", "simulated"]),
            Nodes::Containers => arguments.extend(["--runtime", "containerd"]),
        }
        let mut process = Process::fairlead(&arguments, &self.path().join(format!("cluster-{name}.log")))?;
        wait_ready(&format!("cluster {name}"), &mut process, &self.cluster(name))?;
        self.clusters.insert(name.to_owned(), process);
        Ok(())
    }

    /// Invites a cluster.
    ///
    /// # Errors
    /// When the hub gives no token.
    pub fn invite(&self, name: &str) -> Result<Invitation> {
        Invitation::read(&self.succeed(&Invitation::command(name))?)
    }

    /// Joins a cluster to the hub with a fresh token and starts its agent.
    ///
    /// # Errors
    /// When the hub gives no token or the agent cannot be started.
    pub fn join(&mut self, name: &str) -> Result<()> {
        let Invitation { token, ca_pin } = self.invite(name)?;
        self.join_with(name, &token, &ca_pin)
    }

    /// Joins a Kubernetes that is not one of this fleet's clusters, by its kubeconfig.
    ///
    /// # Errors
    /// When the hub gives no token or the agent cannot be started.
    pub fn join_elsewhere(&mut self, name: &str, kubeconfig: &Path) -> Result<()> {
        let Invitation { token, ca_pin } = self.invite(name)?;
        let join = ["--token", &token, "--ca-pin", &ca_pin, "--name", name];
        self.spawn_agent_on(name, kubeconfig, &join)
    }

    /// Starts the agent of such a Kubernetes that has joined before.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_elsewhere(&mut self, name: &str, kubeconfig: &Path) -> Result<()> {
        self.spawn_agent_on(name, kubeconfig, &[])
    }

    /// Starts an agent that joins with this token and pin; one that runs for the cluster already is killed.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn join_with(&mut self, name: &str, token: &str, pin: &str) -> Result<()> {
        drop(self.agents.remove(name));
        let label = format!("stage={name}");
        self.spawn_agent(name, &["--token", token, "--ca-pin", pin, "--name", name, "--labels", &label])
    }

    /// What an agent has printed, over all its starts.
    #[must_use]
    pub fn agent_output(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(format!("agent-{name}.log"))).unwrap_or_default()
    }

    /// Every record the hub keeps of a cluster, with its place: each has `agentEpoch`, `sequence`, `kind` and `data`.
    ///
    /// # Errors
    /// When the hub does not answer.
    pub fn records(&self, cluster: &str) -> Result<Vec<serde_json::Value>> {
        let mut all = Vec::new();
        let mut from = 0;
        loop {
            let path = format!("/fleet/v1/clusters/{cluster}/records?from={from}");
            let page: serde_json::Value = serde_json::from_str(&self.hub().run(&["get", "--raw", &path])?)?;
            for stored in page["records"].as_array().context("no records")? {
                all.push(stored.get("record").unwrap_or(stored).clone());
            }
            match page["next"].as_u64() {
                Some(next) => from = next,
                None => return Ok(all),
            }
        }
    }

    /// Checks that every record of a cluster is there once: each outbox counts from 1 without gaps.
    ///
    /// # Errors
    /// When one is missing or there twice; else the number of records.
    pub fn check_sequences(&self, cluster: &str) -> Result<usize> {
        let mut by_epoch: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let records = self.records(cluster)?;
        for record in &records {
            let epoch = record["agentEpoch"].as_str().context("no agentEpoch")?.to_owned();
            by_epoch.entry(epoch).or_default().push(record["sequence"].as_u64().context("no sequence")?);
        }
        for (epoch, mut numbers) in by_epoch {
            numbers.sort_unstable();
            let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
            if numbers != expected {
                bail!("{cluster}: records of outbox {epoch} are missing or doubled: {numbers:?}");
            }
        }
        Ok(records.len())
    }

    /// Waits until an agent's output contains `text`.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait_agent_says(&self, name: &str, text: &str) -> Result<()> {
        let agent = self.agents.get(name).with_context(|| format!("agent {name} is not running"))?;
        wait::until(&format!("agent {name} to say {text:?}"), START_LIMIT, || {
            let said = agent.output();
            if said.contains(text) { Ok(Some(())) } else { bail!("it said: {said}") }
        })
    }

    /// Starts the agent of a cluster that has joined before.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_agent(&mut self, name: &str) -> Result<()> {
        self.spawn_agent(name, &[])
    }

    fn spawn_agent(&mut self, name: &str, join: &[&str]) -> Result<()> {
        let kubeconfig = self.cluster_dir(name).join("admin.kubeconfig");
        self.spawn_agent_on(name, &kubeconfig, join)
    }

    fn spawn_agent_on(&mut self, name: &str, kubeconfig: &Path, join: &[&str]) -> Result<()> {
        let dir = self.agent_dir(name);
        std::fs::create_dir_all(&dir)?;
        let dir_argument = path_text(&dir)?;
        let kubeconfig = path_text(kubeconfig)?;
        let hub = format!("https://{}", self.hub_listen);
        let mut arguments =
            vec!["agent", "serve", "--dir", &dir_argument, "--hub", &hub, "--kubeconfig", &kubeconfig];
        arguments.extend(["--access", "cluster-admin"]);
        arguments.extend(join);
        let log = self.path().join(format!("agent-{name}.log"));
        let process = Process::fairlead_in(&arguments, &log, self.environment(name))?;
        self.agents.insert(name.to_owned(), process);
        Ok(())
    }

    /// `kill -9` of an agent.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill_agent(&mut self, name: &str) -> Result<()> {
        self.agents.remove(name).with_context(|| format!("agent {name} is not running"))?.kill()
    }

    /// Ends an agent as an operator would.
    ///
    /// # Errors
    /// When it does not end cleanly.
    pub fn stop_agent(&mut self, name: &str) -> Result<()> {
        self.agents.remove(name).with_context(|| format!("agent {name} is not running"))?.terminate()
    }

    /// Waits until the hub shows the cluster's `Connected` condition with `status`.
    ///
    /// # Errors
    /// When it does not in time, with the agent's output.
    pub fn wait_connected(&self, name: &str, status: &str) -> Result<()> {
        let hub = self.hub();
        wait::until(&format!("cluster {name} to be Connected={status}"), START_LIMIT, || {
            let cluster = hub.find(&["clusters.fleet.fairlead.dev", name])?.context("no such cluster")?;
            Ok((condition(&cluster, "Connected") == Some(status)).then_some(()))
        })
        .with_context(|| {
            format!("agent's output:\n{}", self.agents.get(name).map(Process::output).unwrap_or_default())
        })
    }
}

/// One embedded cluster with a simulated node, without a hub.
#[derive(Debug)]
pub struct StandaloneCluster {
    dir: TempDir,
    name: String,
    process: Option<Process>,
}

impl StandaloneCluster {
    /// Starts it on a new directory; returns when it is ready.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn start(name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("fairlead-e2e-").tempdir()?;
        let mut cluster = Self { dir, name: name.to_owned(), process: None };
        cluster.spawn()?;
        Ok(cluster)
    }

    /// `kubectl` against it.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.dir.path().join("admin.kubeconfig"))
    }

    /// `kill -9`, then a start on the same directory.
    ///
    /// # Errors
    /// When it is not ready in time.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.process.take().context("the cluster is not running")?.kill()?;
        self.spawn()
    }

    fn spawn(&mut self) -> Result<()> {
        let dir = path_text(self.dir.path())?;
        let kubeconfig = self.dir.path().join("admin.kubeconfig");
        // Left by an earlier start: it names an address that may no longer be ours.
        let _ = std::fs::remove_file(&kubeconfig);
        let arguments = ["cluster", "serve", "--name", &self.name, "--dir", &dir, "--listen", "127.0.0.1:0"];
        let mut process = Process::fairlead(&arguments, &self.dir.path().join("cluster.log"))?;
        wait_ready(&format!("cluster {}", self.name), &mut process, &self.kubectl())?;
        self.process = Some(process);
        Ok(())
    }
}

/// The status of a condition of an object.
#[must_use]
pub fn condition<'a>(object: &'a serde_json::Value, kind: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

fn wait_ready(what: &str, process: &mut Process, client: &Kubectl) -> Result<()> {
    wait::until(&format!("{what} to be ready"), START_LIMIT, || {
        process.expect_running()?;
        Ok((client.run(&["get", "--raw", "/readyz"])? == "ok").then_some(()))
    })
    .with_context(|| format!("{what} printed:\n{}", process.output()))
}

fn server_address(kubeconfig: &Path) -> Result<String> {
    let text = std::fs::read_to_string(kubeconfig)?;
    let server = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("server:"))
        .context("no server in kubeconfig")?;
    let url = server.trim().trim_matches('"');
    Ok(url.strip_prefix("https://").with_context(|| format!("{url} is no https URL"))?.to_owned())
}

fn path_text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8", path.display()))
}
