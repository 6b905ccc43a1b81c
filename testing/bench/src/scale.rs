//! One hub and as many agents as the machine bears, over real sockets and TLS: how long a change takes to reach all, what
//! a restart of the hub does, and what a cluster costs the hub at rest.
//!
//! The hub is a process of its own. The agents are tasks of this one, each with its own key, certificate, outbox and
//! connection, and a simulated cluster; what this process costs is the price of the agents.

mod agents;
mod cluster;
mod hub;
mod relay;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::join_all;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::figures::Figure;
use crate::usage;
use agents::{Gate, Member};
use cluster::PATIENCE;
use hub::HubProcess;
use relay::Relay;

pub use hub::serve;

/// Between two looks at the hub while waiting for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What an agent opens in this process: its connection, and the four files of its outbox; and what everything else does.
const FILES_EACH: u64 = 5;
const FILES_BESIDE: u64 = 500;
/// How long nothing may be written before the fleet counts as at rest: longer than what is gathered anywhere.
const REST: Duration = Duration::from_secs(3);

/// How much is measured.
#[derive(clap::Args, Clone, Debug)]
pub struct Amounts {
    /// How many agents
    #[arg(long, default_value_t = 2_000)]
    agents: usize,
    /// How many profiles each of them has
    #[arg(long, default_value_t = 10)]
    profiles: usize,
    /// How many objects a profile has
    #[arg(long, default_value_t = 3)]
    objects: usize,
    /// How often a profile is changed for all
    #[arg(long, default_value_t = 3)]
    changes: usize,
    /// How many objects are spoilt
    #[arg(long, default_value_t = 200)]
    drifts: usize,
    /// Seconds for which the fleet at rest is looked at
    #[arg(long, default_value_t = 60)]
    rest: u64,
    /// How many agents' bytes are counted
    #[arg(long, default_value_t = 20)]
    counted: usize,
}

/// Measures everything once, in a directory of its own.
///
/// # Errors
/// When the fleet does not come up, or does not do what it should within ten minutes.
pub async fn run(amounts: &Amounts) -> anyhow::Result<Vec<Figure>> {
    ensure!(amounts.agents > 0 && amounts.profiles > 0 && amounts.objects > 0, "there must be something");
    let (wanted, limit) = (amounts.agents as u64 * FILES_EACH + FILES_BESIDE, usage::open_files()?);
    ensure!(limit >= wanted, "{wanted} files must be open at once, and {limit} may be: `ulimit -n {wanted}`");
    let directory = tempfile::tempdir()?;
    let stop = CancellationToken::new();
    let _ends = stop.clone().drop_guard();
    let mut fleet = Fleet::start(amounts, directory.path(), stop).await?;
    let mut figures = std::mem::take(&mut fleet.figures);
    eprintln!("placing {} profiles", amounts.profiles);
    figures.extend(fleet.place().await?);
    eprintln!("changing one profile {} times", amounts.changes);
    figures.extend(fleet.change(amounts.changes).await?);
    eprintln!("spoiling {} objects", amounts.drifts);
    figures.extend(fleet.drift().await);
    eprintln!("at rest for {} s", amounts.rest);
    figures.extend(fleet.rest().await?);
    eprintln!("killing the hub and starting it again");
    figures.extend(fleet.restart().await?);
    Ok(figures)
}

struct Fleet {
    amounts: Amounts,
    hub: HubProcess,
    relay: Relay,
    client: Client,
    members: Vec<Member>,
    /// What the hub's process took before anybody joined, and what of it was allocated.
    empty_bytes: u64,
    empty_allocated: u64,
    /// What the changed profile says now.
    version: usize,
    figures: Vec<Figure>,
}

impl Fleet {
    async fn start(amounts: &Amounts, directory: &Path, stop: CancellationToken) -> anyhow::Result<Self> {
        let hub = HubProcess::start(&directory.join("hub"), "127.0.0.1:0".parse()?).await?;
        let client = hub.client().await?;
        let relay = Relay::start(hub.address).await?;
        tokio::time::sleep(REST).await;
        let empty_bytes = usage::resident(&[hub.pid()?])?;
        let empty_allocated = usage::allocated(&[hub.pid()?])?;
        eprintln!("joining {} agents", amounts.agents);
        let began = (Instant::now(), usage::cpu(&[hub.pid()?])?);
        let gate =
            Gate { client: client.clone(), pin: hub.pin.clone(), directory: directory.join("agents"), stop };
        let address = |index| if index < amounts.counted { relay.address } else { hub.address };
        let (members, joins) = agents::start(&gate, amounts.agents, address).await?;
        let mut figures = vec![Figure::one("all agents joined", milliseconds(began.0.elapsed()), "ms")];
        figures.extend(Figure::times("an agent joined, 32 at once", joins));
        let mut fleet = Self {
            amounts: amounts.clone(),
            hub,
            relay,
            client,
            members,
            empty_bytes,
            empty_allocated,
            version: 1,
            figures: Vec::new(),
        };
        figures.push(fleet.cpu_per_cluster("hub: processor time of a join", began.1)?);
        fleet.figures = figures;
        Ok(fleet)
    }

    async fn place(&mut self) -> anyhow::Result<Vec<Figure>> {
        let (began, cpu) = (Instant::now(), self.cpu()?);
        for profile in 0..self.amounts.profiles {
            self.put("Profile", &name(profile), self.profile(profile, 1)).await?;
            self.put("Placement", &name(profile), json!({"profile": name(profile), "clusterSelector": {}}))
                .await?;
        }
        for profile in 0..self.amounts.profiles {
            self.reached(profile, "1", began).await?;
        }
        let applied = began.elapsed();
        for profile in 0..self.amounts.profiles {
            self.shown(profile).await?;
        }
        let shown = began.elapsed();
        self.at_rest().await?;
        Ok(vec![
            Figure::one("all profiles placed: applied everywhere", milliseconds(applied), "ms"),
            Figure::one("all profiles placed: shown by the hub", milliseconds(shown), "ms"),
            self.cpu_per_cluster("hub: processor time of the placements", cpu)?,
        ])
    }

    async fn change(&mut self, rounds: usize) -> anyhow::Result<Vec<Figure>> {
        let (mut times, mut last, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        let cpu = self.cpu()?;
        for _ in 0..rounds {
            self.version += 1;
            let began = Instant::now();
            self.put("Profile", &name(0), self.profile(0, self.version)).await?;
            let round = self.reached(0, &self.version.to_string(), began).await?;
            last.extend(round.iter().max());
            times.extend(round);
            self.shown(0).await?;
            shown.push(began.elapsed());
            self.at_rest().await?;
        }
        let mut figures: Vec<Figure> = [
            Figure::times("change of a profile: applied in a cluster", times),
            Figure::times("change of a profile: applied in the last cluster", last),
            Figure::times("change of a profile: shown by the hub", shown),
        ]
        .into_iter()
        .flatten()
        .collect();
        if rounds > 0 {
            let mut figure = self.cpu_per_cluster("hub: processor time of a change", cpu)?;
            figure.value /= rounds as f64;
            figures.push(figure);
        }
        Ok(figures)
    }

    /// Spoils one object after the other, each in another cluster.
    async fn drift(&self) -> Option<Figure> {
        let mut times = Vec::new();
        let wanted = self.version.to_string();
        let object = object(0, 0);
        for index in 0..self.amounts.drifts {
            // A prime step visits all before one comes again; the first pause between repairs comes much later.
            let member = &self.members[index * 7919 % self.members.len()];
            member.cluster.spoil(&object);
            let began = Instant::now();
            times.push(member.cluster.says(&object, &wanted).await - began);
        }
        Figure::times("drift to repaired", times)
    }

    async fn rest(&mut self) -> anyhow::Result<Vec<Figure>> {
        self.at_rest().await?;
        let revision = self.revision().await?;
        let (began, cpu, bytes) = (Instant::now(), self.cpu()?, self.relay.bytes());
        tokio::time::sleep(Duration::from_secs(self.amounts.rest)).await;
        let hours = began.elapsed().as_secs_f64() / 3600.0;
        let spent = (self.cpu()? - cpu).as_secs_f64();
        let counted = self.amounts.counted.min(self.amounts.agents).max(1) as f64;
        let bytes = (self.relay.bytes() - bytes) as f64;
        let writes = self.revision().await? - revision;
        let agents = self.amounts.agents as f64;
        let hub_bytes = usage::resident(&[self.hub.pid()?])?;
        let allocated = usage::allocated(&[self.hub.pid()?])?;
        let own = usage::resident(&[std::process::id()])?;
        let kilobytes = |bytes: u64| bytes as f64 / 1024.0 / agents;
        Ok(vec![
            Figure::one("at rest: writes to the hub's store", writes as f64, ""),
            Figure::one("at rest: bytes per cluster and hour", bytes / counted / hours / 1024.0, "kB"),
            Figure::one("at rest: hub's processor time per cluster and hour", spent / agents / hours, "s"),
            Figure::one(
                "hub: memory per cluster",
                kilobytes(hub_bytes.saturating_sub(self.empty_bytes)),
                "kB",
            ),
            Figure::one(
                "hub: of that, without pages of files",
                kilobytes(allocated.saturating_sub(self.empty_allocated)),
                "kB",
            ),
            Figure::one("hub: memory without clusters", self.empty_bytes as f64 / 1024.0, "kB"),
            Figure::one("agents: memory of one, with its simulated cluster", kilobytes(own), "kB"),
        ])
    }

    async fn restart(&mut self) -> anyhow::Result<Vec<Figure>> {
        let began = Instant::now();
        self.hub.restart().await?;
        let serving = began.elapsed();
        self.client = self.hub.client().await?;
        // All have lost their streams long before a new one can be open again: the hub was gone.
        let connected = join_all(self.members.iter().map(|member| async {
            member.connected(true).await.map(|at| at.saturating_duration_since(began))
        }))
        .await;
        let connected: Option<Vec<Duration>> = connected.into_iter().collect();
        let connected = connected.context("an agent did not come back in time")?;
        let all = began.elapsed();
        let cpu = self.cpu()?;
        self.version += 1;
        let changed = Instant::now();
        self.put("Profile", &name(0), self.profile(0, self.version)).await?;
        let round = self.reached(0, &self.version.to_string(), changed).await?;
        let mut figures = vec![
            Figure::one("hub killed and started: serving", milliseconds(serving), "ms"),
            Figure::one("hub killed and started: all connected", milliseconds(all), "ms"),
            Figure::one(
                "hub killed and started: processor time until then, per cluster",
                milliseconds(cpu) / self.amounts.agents as f64,
                "ms",
            ),
        ];
        figures.extend(Figure::times("hub killed and started: an agent connected", connected));
        figures.extend(Figure::times("first change after that: applied in a cluster", round));
        Ok(figures)
    }

    /// Waits until every cluster has a version of a profile; answers how long each took.
    async fn reached(&self, profile: usize, value: &str, began: Instant) -> anyhow::Result<Vec<Duration>> {
        let object = object(profile, self.amounts.objects - 1);
        let waits = self.members.iter().map(|member| async {
            member.cluster.says(&object, value).await.saturating_duration_since(began)
        });
        let all = tokio::time::timeout(PATIENCE, join_all(waits)).await;
        all.with_context(|| format!("version {value} of profile {} did not reach everybody", name(profile)))
    }

    /// Waits until the hub shows a profile applied everywhere.
    async fn shown(&self, profile: usize) -> anyhow::Result<()> {
        let api = self.api("Profile");
        let name = name(profile);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let applied = api.get(&name).await?.data["status"]["applied"].as_u64();
            if applied == Some(self.amounts.agents as u64) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the hub does not show profile {name} applied: {applied:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until nothing has been written for a while.
    async fn at_rest(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let (mut seen, mut since) = (self.revision().await?, Instant::now());
        while since.elapsed() < REST {
            ensure!(Instant::now() < deadline, "the hub does not come to rest");
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.revision().await?;
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// The revision of the hub's store.
    async fn revision(&self) -> anyhow::Result<u64> {
        let list = self.api("Rollout").list(&ListParams::default()).await?;
        let revision = list.metadata.resource_version.context("a list without a revision")?;
        Ok(revision.parse()?)
    }

    fn cpu(&self) -> anyhow::Result<Duration> {
        usage::cpu(&[self.hub.pid()?])
    }

    fn cpu_per_cluster(&self, what: &str, since: Duration) -> anyhow::Result<Figure> {
        let spent = self.cpu()? - since;
        let name = format!("{what}, per cluster");
        Ok(Figure::one(name, milliseconds(spent) / self.amounts.agents as f64, "ms"))
    }

    fn profile(&self, profile: usize, version: usize) -> Value {
        let filler = "x".repeat(1024);
        let manifests: Vec<Value> = (0..self.amounts.objects)
            .map(|index| {
                let data = json!({"key": version.to_string(), "filler": filler});
                let metadata = json!({"name": object(profile, index)});
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
            })
            .collect();
        json!({"manifests": manifests})
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(fleet_objects::GROUP, fleet_objects::VERSION, kind);
        Api::namespaced_with(self.client.clone(), "default", &ApiResource::from_gvk(&kind))
    }

    async fn put(&self, kind: &str, name: &str, spec: Value) -> anyhow::Result<()> {
        let version = format!("{}/{}", fleet_objects::GROUP, fleet_objects::VERSION);
        let object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec});
        self.api(kind).patch(name, &PatchParams::apply("bench").force(), &Patch::Apply(object)).await?;
        Ok(())
    }
}

fn name(profile: usize) -> String {
    format!("profile-{profile}")
}

fn object(profile: usize, index: usize) -> String {
    format!("object-{profile}-{index}")
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
