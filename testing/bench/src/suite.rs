//! Everything that says how fast Fairlead is, with nothing but the binary beside this one: what `./dev bench` runs when it is
//! not told otherwise.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use fleet_objects::{Assignment, Placement, Profile, assignment_name, partition_namespace};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::figures::Figure;
use crate::fleet::{self, Target};
use crate::{connect, in_process, objects, process, usage};

/// How often each start is measured.
const STARTS: usize = 5;
/// How often the full list is read.
const LISTS: usize = 5;
/// How often an object is spoilt.
const DRIFTS: usize = 20;
/// How many watchers wait for an event; one measurement each.
const WATCHERS: [usize; 2] = [1, 100];
/// How many objects an agent is given: what it may hold in an edge box.
const MANAGED: usize = 1_000;
/// How long giving them may take, and between two looks.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// After it: processes let go of what they do not use every half minute.
const REST: Duration = Duration::from_secs(70);
/// The clusters that `fairlead up` makes.
const CLUSTERS: [&str; 3] = ["dev", "staging", "prod"];

/// Runs all of it; `pods` are created and listed.
///
/// # Errors
/// When there is no `fairlead` beside this program, or something does not work.
pub async fn run(pods: usize) -> anyhow::Result<Vec<Figure>> {
    let program = std::env::current_exe()?.with_file_name("fairlead");
    ensure!(program.exists(), "{} is not there: build it with the same profile", program.display());
    let mut figures = Vec::new();
    for dir in [None, Some(tempfile::tempdir()?)] {
        figures.extend(in_process::start(dir.as_ref().map(tempfile::TempDir::path)).await?.figures);
    }
    eprintln!("starting clusters");
    figures.extend(process::cold_start(&serve(&program), STARTS).await?);
    figures.extend(one_cluster(&program, pods).await?);
    figures.extend(a_fleet(&program).await?);
    Ok(figures)
}

/// A durable cluster in a directory of its own.
fn serve(program: &Path) -> Vec<String> {
    let program = program.to_string_lossy();
    let words = ["cluster", "serve", "--name", "bench", "--dir", "{dir}", "--runtime", "simulated"];
    [&*program].into_iter().chain(words).map(str::to_owned).collect()
}

/// What one durable cluster does with many pods.
async fn one_cluster(program: &Path, pods: usize) -> anyhow::Result<Vec<Figure>> {
    let dir = tempfile::tempdir()?;
    let (server, client) = process::start(&serve(program), dir.path()).await?;
    let namespace = objects::namespace(&client).await?;
    eprintln!("creating {pods} pods, listing them {LISTS} times");
    let mut figures = objects::creates(&client, &namespace, pods).await?;
    figures.extend(objects::lists(&client, &namespace, pods, LISTS).await?);
    let held = usage::resident(&[server.id()])?;
    figures.push(Figure::one(format!("resident memory with {pods} pods"), usage::mebibytes(held), "MiB"));
    for count in WATCHERS {
        eprintln!("watching with {count}");
        figures.extend(objects::delivery(&client, &namespace, count).await?);
    }
    objects::clean(&client, &namespace).await?;
    Ok(figures)
}

/// A fleet that `fairlead up` leaves running, ended when this is dropped.
struct Fleet {
    program: PathBuf,
    dir: tempfile::TempDir,
}

impl Fleet {
    fn start(program: &Path) -> anyhow::Result<Self> {
        let fleet = Self { program: program.to_owned(), dir: tempfile::tempdir()? };
        let status = fleet.command(&["up", "--detach", "--runtime", "simulated"]).status()?;
        ensure!(status.success(), "fairlead up: {status}");
        Ok(fleet)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--dir").arg(self.dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn kubeconfig(&self, of: &str) -> PathBuf {
        self.dir.path().join(format!("{of}.kubeconfig"))
    }

    /// What processes of these names hold together.
    fn resident(&self, names: &[&str]) -> anyhow::Result<f64> {
        let pid = |name: &&str| {
            let file = self.dir.path().join("run").join(format!("{name}.pid"));
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file:?}"))?;
            // After it comes what tells the process from a later one of the same number.
            let first = text.split_whitespace().next().unwrap_or_default();
            first.parse::<u32>().with_context(|| format!("no process id in {file:?}"))
        };
        let pids = names.iter().map(pid).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(usage::mebibytes(usage::resident(&pids)?))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // What is left of it dies with its directory.
        let _ = self.command(&["down"]).status();
    }
}

/// A hub and three clusters: drift, a change for all, memory.
async fn a_fleet(program: &Path) -> anyhow::Result<Vec<Figure>> {
    eprintln!("starting a fleet");
    let fleet = Fleet::start(program)?;
    let dev = connect(Some(&fleet.kubeconfig("dev"))).await?;
    let page: Target = "/v1/configmaps/ConfigMap/hello/hello".parse()?;
    let drift = fleet::drift_repair(&dev, &page, "/data/greeting", &json!("spoilt"), DRIFTS).await?;
    let hub = connect(Some(&fleet.kubeconfig("hub"))).await?;
    let change = fleet::change_to_applied(
        &hub,
        &"fleet.fairlead.dev/v1alpha1/profiles/Profile/default/hello".parse()?,
        &json!({"spec": {"variables": [{"name": "replicas", "type": "int", "default": 3}]}}),
        &CLUSTERS.map(|name| fleet.kubeconfig(name)),
        &"apps/v1/deployments/Deployment/hello/hello".parse()?,
        "/spec/replicas",
        &json!(3),
    )
    .await?;
    let memory = |name: &str, of: &[&str]| anyhow::Ok(Figure::one(name, fleet.resident(of)?, "MiB"));
    let figures = [
        memory("resident memory of the hub of three", &["hub"])?,
        memory("resident memory of a cluster with its agent", &["cluster-dev", "agent-dev"])?,
    ];
    eprintln!("giving an agent {MANAGED} objects");
    manage(&hub, MANAGED).await?;
    let managed =
        memory(&format!("resident memory of an agent with {MANAGED} managed objects"), &["agent-dev"])?;
    Ok(drift.into_iter().chain([change]).chain(figures).chain([managed]).collect())
}

/// Has the first cluster hold that many objects more, and waits until it does and its agent has come to rest.
async fn manage(hub: &Client, objects: usize) -> anyhow::Result<()> {
    let map = |number: usize| {
        let metadata = json!({"name": format!("managed-{number}"), "namespace": "default"});
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"number": number.to_string()}})
    };
    let manifests: Vec<Value> = (0..objects).map(map).collect();
    let profile = serde_json::from_value(json!({"targetNamespace": "default", "manifests": manifests}))?;
    let selector = json!({"matchLabels": {"stage": CLUSTERS[0]}});
    let placement = serde_json::from_value(json!({"profile": "managed", "clusterSelector": selector}))?;
    let (profiles, params) = (Api::namespaced(hub.clone(), "default"), PostParams::default());
    profiles.create(&params, &Profile::new("managed", profile)).await.context("create the profile")?;
    let placements = Api::namespaced(hub.clone(), "default");
    placements
        .create(&params, &Placement::new("managed", placement))
        .await
        .context("create the placement")?;
    let assignments: Api<Assignment> = Api::namespaced(hub.clone(), &partition_namespace(CLUSTERS[0]));
    let name = assignment_name("default", "managed");
    let holds = async {
        loop {
            let status = assignments.get_opt(&name).await?.and_then(|found| found.status);
            let healthy = status.is_some_and(|status| usize::try_from(status.healthy_count) == Ok(objects));
            if healthy {
                return anyhow::Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(PATIENCE, holds).await.context("the agent does not hold everything")??;
    tokio::time::sleep(REST).await;
    Ok(())
}
