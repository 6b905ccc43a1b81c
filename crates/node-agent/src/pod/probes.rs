//! Probes of running containers, one task each.
//!
//! A startup probe holds the others back until it succeeds. Results land in a table which the worker copies into its
//! memory before it decides; a change wakes the worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::pod::plan::Probed;
use crate::runtime::{PodRuntime, ProbeOutcome, ProbeTarget};

/// The probing of one pod's containers.
pub struct Probes {
    runtime: Arc<dyn PodRuntime>,
    results: Arc<Mutex<BTreeMap<String, Probed>>>,
    tasks: BTreeMap<String, AbortHandle>,
    wake: Arc<Notify>,
}

/// What a task needs to report.
struct Reporter {
    id: String,
    results: Arc<Mutex<BTreeMap<String, Probed>>>,
    wake: Arc<Notify>,
}

impl Reporter {
    fn change(&self, change: impl FnOnce(&mut Probed)) {
        let mut results = self.results.lock();
        let Some(probed) = results.get_mut(&self.id) else { return };
        let before = probed.clone();
        change(probed);
        if *probed != before {
            self.wake.notify_one();
        }
    }
}

impl Probes {
    /// Probes nothing yet; `wake` is told of changes.
    #[must_use]
    pub fn new(runtime: Arc<dyn PodRuntime>, wake: Arc<Notify>) -> Self {
        Self { runtime, results: Arc::default(), tasks: BTreeMap::new(), wake }
    }

    /// What was found so far.
    #[must_use]
    pub fn results(&self) -> BTreeMap<String, Probed> {
        self.results.lock().clone()
    }

    /// Begins to probe a running container, if it isn't probed yet. `on_failure` is told of failing probes.
    pub fn begin(
        &mut self,
        container: &Container,
        target: &ProbeTarget,
        on_failure: Arc<dyn Fn(&'static str, String) + Send + Sync>,
    ) {
        let id = target.container_id.clone();
        if self.tasks.contains_key(&id) {
            return;
        }
        let probed = Probed {
            started: container.startup_probe.is_none(),
            ready: container.readiness_probe.is_none(),
            unhealthy: None,
        };
        self.results.lock().insert(id.clone(), probed);
        let has_any = [&container.startup_probe, &container.readiness_probe, &container.liveness_probe];
        if has_any.iter().all(|probe| probe.is_none()) {
            return;
        }
        let task = tokio::spawn(run(
            self.runtime.clone(),
            container.clone(),
            target.clone(),
            Reporter { id: id.clone(), results: self.results.clone(), wake: self.wake.clone() },
            on_failure,
        ));
        self.tasks.insert(id, task.abort_handle());
    }

    /// Forgets containers that no longer run.
    pub fn keep(&mut self, running: &dyn Fn(&str) -> bool) {
        self.tasks.retain(|id, task| {
            let keep = running(id);
            if !keep {
                task.abort();
            }
            keep
        });
        self.results.lock().retain(|id, _| running(id));
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

async fn run(
    runtime: Arc<dyn PodRuntime>,
    container: Container,
    target: ProbeTarget,
    reporter: Reporter,
    on_failure: Arc<dyn Fn(&'static str, String) + Send + Sync>,
) {
    let name = &container.name;
    if let Some(probe) = &container.startup_probe {
        let passed = watch(&*runtime, &target, probe, "Startup", &*on_failure, |well, enough| {
            if well {
                reporter.change(|probed| probed.started = true);
                return false;
            }
            if enough {
                let why = format!("Container {name} failed startup probe, will be restarted");
                reporter.change(|probed| probed.unhealthy = Some(why));
            }
            !enough
        });
        passed.await;
    }
    let readiness = async {
        if let Some(probe) = &container.readiness_probe {
            let watching = watch(&*runtime, &target, probe, "Readiness", &*on_failure, |well, enough| {
                if well || enough {
                    reporter.change(|probed| probed.ready = well);
                }
                true
            });
            watching.await;
        }
    };
    let liveness = async {
        if let Some(probe) = &container.liveness_probe {
            let watching = watch(&*runtime, &target, probe, "Liveness", &*on_failure, |well, enough| {
                if !well && enough {
                    let why = format!("Container {name} failed liveness probe, will be restarted");
                    reporter.change(|probed| probed.unhealthy = Some(why));
                    return false;
                }
                true
            });
            watching.await;
        }
    };
    tokio::join!(readiness, liveness);
}

/// Probes until `verdict` says to stop. It is told whether the probe counts as succeeding (its success threshold is
/// reached), and whether it has failed often enough.
async fn watch(
    runtime: &dyn PodRuntime,
    target: &ProbeTarget,
    probe: &Probe,
    kind: &'static str,
    on_failure: &(dyn Fn(&'static str, String) + Send + Sync),
    mut verdict: impl FnMut(bool, bool) -> bool,
) {
    let seconds = |value: Option<i32>, usual: u64| {
        Duration::from_secs(value.and_then(|value| u64::try_from(value).ok()).unwrap_or(usual))
    };
    tokio::time::sleep(seconds(probe.initial_delay_seconds, 0)).await;
    let timeout = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
    let mut ticks = tokio::time::interval(seconds(probe.period_seconds, 10).max(Duration::from_secs(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut good, mut bad) = (0, 0);
    loop {
        ticks.tick().await;
        let outcome = tokio::time::timeout(timeout, runtime.probe(target, probe)).await;
        let outcome = outcome
            .unwrap_or_else(|_| ProbeOutcome::Failure(format!("no answer within {} s", timeout.as_secs())));
        let go_on = match outcome {
            ProbeOutcome::Success => {
                (good, bad) = (good + 1, 0);
                good < probe.success_threshold.unwrap_or(1) || verdict(true, false)
            }
            ProbeOutcome::Failure(why) => {
                (good, bad) = (0, bad + 1);
                on_failure(kind, format!("{kind} probe failed: {why}"));
                verdict(false, bad >= probe.failure_threshold.unwrap_or(3))
            }
        };
        if !go_on {
            return;
        }
    }
}
