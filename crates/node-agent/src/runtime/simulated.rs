//! Pods without containers: a model, for tests, demonstrations and large fleets on small machines.
//!
//! **What it models.** A sandbox is there at once, with an address of its own that nothing answers on. An image is there
//! at once, or its pull fails when an annotation says so. A container whose image is the tool image does what its
//! command line says: exit codes, durations, log lines, files that its pod's other containers see through shared
//! volumes, JUnit reports and collected frames come from the same code that runs in a real container; time passes as
//! the command line says, but files are written when the container starts. Any other container does what its command
//! says, if that is one of those below; else it runs until it is stopped if its image is known to serve or its pod
//! restarts always, and ends with 0 at once if it is an init container or its pod does not. A tag that says that there
//! is no such image (`404`, `nonexistent`) cannot be pulled. A container is ready as soon as it runs; probes are not carried out. TERM ends a container at once, with 0 unless it was in the
//! middle of something (143). Volumes that are a Secret, a ConfigMap or
//! fields of the pod are read as they were when the container started. Memory, processors, networks, projected volumes and
//! tokens are not modelled; that config maps and secrets exist is checked as on a real node.
//!
//! **Scripting** by annotations of the pod, `simulation.fairlead.dev/<container>.<what>`:
//! `exit-code`, `exit-after` (`2s`), `pull-error` (its message), `never-ready` (`true`), `ready-after`, `start-delay`,
//! `log` (lines), `ignore-term` (`true`: lives until KILL), `http` (`80=hello`: answers HTTP on that port),
//! `exec` (JSON: `{"ls /": {"stdout": "bin\n", "stderr": "", "exitCode": 0}}`, by command line).
//!
//! **Commands in containers**: what `exec` of the annotation tells; command lines of the tool; `echo`, `cat`, `env`,
//! `printenv`, `hostname`, `sleep`, `true`, `false`, `exit`, and `sh` with these, by `-c` or line by line from its
//! input. Every other command fails and says so. **Ports**: those that `serve` of the tool or the annotation `http`
//! answer on; every other refuses.
//!
//! State is in memory: pods of a former process are started anew. One task and one heap serve all timers.

mod exec;
mod host;
mod http;
mod images;
mod log;
mod script;
mod world;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Probe};
use parking_lot::{Mutex, RwLock};
use streams::{Duplex, RemoteCommand, Streams};
use tokio::sync::Notify;

use crate::pod::facts;
use crate::runtime::{
    Image, ImageError, Launch, Listener, LogQuery, LogStream, PodObservation, PodRuntime, ProbeOutcome,
    ProbeTarget, PullPolicy, RuntimeError, SandboxObservation, Version,
};
use script::Script;
use world::World;

/// How the simulation is set up.
#[derive(Clone, Debug)]
pub struct SimulatedOptions {
    /// Pods get the addresses after this one. Give each node its own block.
    pub first_address: Ipv4Addr,
}

impl SimulatedOptions {
    /// The block of 65536 addresses of the node with this number, so that no two pods of a cluster share one; numbers
    /// from 200 on begin anew.
    #[must_use]
    pub fn of_node(number: usize) -> Self {
        let block = u8::try_from(number % 200).unwrap_or_default();
        Self { first_address: Ipv4Addr::new(10, 32 + block, 0, 0) }
    }
}

impl Default for SimulatedOptions {
    fn default() -> Self {
        Self { first_address: Ipv4Addr::new(10, 244, 0, 0) }
    }
}

/// The simulated runtime of one node.
pub struct Simulated {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    world: Mutex<World>,
    listener: RwLock<Option<Listener>>,
    timers: Notify,
}

impl Inner {
    fn tell(&self, uid: &str) {
        if let Some(listener) = self.listener.read().clone() {
            listener(uid);
        }
    }
}

impl Simulated {
    /// A node without pods. Must be called in a tokio runtime: timers run there until this is dropped.
    #[must_use]
    pub fn new(options: SimulatedOptions) -> Self {
        let inner = Arc::new(Inner {
            world: Mutex::new(World::new(options.first_address)),
            listener: RwLock::new(None),
            timers: Notify::new(),
        });
        tokio::spawn(run_timers(Arc::downgrade(&inner)));
        Self { inner }
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.inner.timers.notify_one();
    }
}

/// Fires what is due, in order, until the runtime is dropped.
async fn run_timers(inner: std::sync::Weak<Inner>) {
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let (changed, next) = strong.world.lock().fire(Timestamp::now());
        for uid in &changed {
            strong.tell(uid);
        }
        let wait = next.map_or(Duration::from_secs(60), |at| {
            at.duration_since(Timestamp::now()).max(jiff::SignedDuration::ZERO).unsigned_abs()
        });
        tokio::select! {
            () = strong.timers.notified() => {}
            () = tokio::time::sleep(wait.min(Duration::from_secs(60))) => {}
        }
        // Without this the task would keep alive what it waits to see dropped.
        if Arc::strong_count(&strong) == 1 {
            return;
        }
    }
}

#[async_trait]
impl PodRuntime for Simulated {
    async fn version(&self) -> Result<Version, RuntimeError> {
        Ok(Version { name: "simulated".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
    }

    async fn network_problem(&self) -> Option<String> {
        None
    }

    fn mounts_volumes(&self) -> bool {
        false
    }

    fn models_probes(&self) -> bool {
        true
    }

    fn listen(&self, listener: Listener) {
        *self.inner.listener.write() = Some(listener);
    }

    async fn list(&self) -> Result<Vec<PodObservation>, RuntimeError> {
        Ok(self.inner.world.lock().list())
    }

    async fn observe(&self, uid: &str) -> Result<PodObservation, RuntimeError> {
        Ok(self.inner.world.lock().observe(uid))
    }

    async fn ensure_image(&self, pod: &Pod, image: &str, policy: PullPolicy) -> Result<Image, ImageError> {
        if image.is_empty() || image.chars().any(char::is_whitespace) {
            let why = "invalid reference format".to_owned();
            return Err(ImageError::InvalidName { image: image.to_owned(), why });
        }
        let failing = facts::containers(pod)
            .filter(|(_, container)| container.image.as_deref() == Some(image))
            .find_map(|(_, container)| Script::of(pod, &container.name).pull_error);
        match failing {
            Some(_) if policy == PullPolicy::Never => Err(ImageError::NeverPull(image.to_owned())),
            Some(why) => Err(ImageError::Pull { image: image.to_owned(), why }),
            None if images::is_absent(image) => {
                let why = format!("failed to resolve reference \"{image}\": not found");
                Err(ImageError::Pull { image: image.to_owned(), why })
            }
            None => Ok(Image { reference: image.to_owned(), pulled: policy == PullPolicy::Always }),
        }
    }

    async fn start_sandbox(&self, pod: &Pod, attempt: u32) -> Result<(), RuntimeError> {
        let mut world = self.inner.world.lock();
        let ips =
            if facts::spec(pod).host_network == Some(true) { Vec::new() } else { vec![world.address()] };
        let held = world.pod(pod);
        let id = format!("{}-{attempt}", facts::uid(pod));
        held.sandbox = Some(SandboxObservation { id, ready: true, ips, attempt });
        Ok(())
    }

    async fn start_container(&self, launch: &Launch) -> Result<(), RuntimeError> {
        let script = Script::of(&launch.pod, &launch.container.name);
        if !script.start_delay.is_zero() {
            tokio::time::sleep(script.start_delay).await;
        }
        self.inner.world.lock().start(launch, &script, Timestamp::now());
        self.inner.timers.notify_one();
        self.inner.tell(facts::uid(&launch.pod));
        Ok(())
    }

    async fn stop_container(&self, uid: &str, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let ignores = self.inner.world.lock().stop(uid, id, false, Timestamp::now());
        if ignores {
            tokio::time::sleep(grace).await;
            self.inner.world.lock().stop(uid, id, true, Timestamp::now());
        }
        self.inner.tell(uid);
        Ok(())
    }

    async fn remove_container(&self, uid: &str, id: &str) -> Result<(), RuntimeError> {
        self.inner.world.lock().remove_container(uid, id);
        Ok(())
    }

    async fn stop_sandbox(&self, uid: &str) -> Result<(), RuntimeError> {
        self.inner.world.lock().stop_sandbox(uid);
        self.inner.tell(uid);
        Ok(())
    }

    async fn remove_pod(&self, uid: &str) -> Result<(), RuntimeError> {
        self.inner.world.lock().remove_pod(uid, Timestamp::now());
        Ok(())
    }

    async fn probe(&self, target: &ProbeTarget, _probe: &Probe) -> ProbeOutcome {
        let observed = self.inner.world.lock().observe(&target.uid);
        let found = observed.containers.iter().find(|container| container.id == target.container_id);
        match found.and_then(|container| container.modelled_ready) {
            Some(true) => ProbeOutcome::Success,
            _ => ProbeOutcome::Failure("the simulation says it is not ready".to_owned()),
        }
    }

    async fn exec(
        &self,
        uid: &str,
        id: &str,
        command: &[String],
        streams: Streams,
    ) -> Result<RemoteCommand, RuntimeError> {
        if self.inner.world.lock().running(uid, id).is_none() {
            return Err(RuntimeError::NotFound(format!("container {id}")));
        }
        let (inner, uid, id) = (Arc::clone(&self.inner), uid.to_owned(), id.to_owned());
        let command = command.to_vec();
        Ok(RemoteCommand::new(streams, move |side| exec::run(inner, uid, id, command, side)))
    }

    async fn attach(&self, uid: &str, id: &str, streams: Streams) -> Result<RemoteCommand, RuntimeError> {
        let query = LogQuery { follow: true, tail_lines: Some(0), ..LogQuery::default() };
        let log = self.logs(uid, id, query).await?;
        Ok(RemoteCommand::new(streams, move |side| exec::attach(log, side)))
    }

    async fn port_forward(&self, uid: &str, port: u16) -> Result<Duplex, RuntimeError> {
        let Some(text) = self.inner.world.lock().serving(uid, port) else {
            let message = format!("dial tcp4 127.0.0.1:{port}: connect: connection refused");
            return Err(RuntimeError::Refused { operation: "connect to the simulated pod", message });
        };
        Ok(http::serve(text))
    }

    async fn connect(&self, uid: &str, port: u16) -> Result<Duplex, RuntimeError> {
        self.port_forward(uid, port).await
    }

    async fn logs(&self, uid: &str, id: &str, query: LogQuery) -> Result<LogStream, RuntimeError> {
        let log = self.inner.world.lock().log(uid, id);
        log.map(|log| log::stream(log, query))
            .ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))
    }
}
