//! Carries out what is held: applies, watches, repairs, prunes, judges health. One task owns all of it, so that what is
//! applied and what is seen never race; requests that do not depend on each other run together.

mod active;
mod apply;
mod cluster;
mod detect;
mod manifest;
mod order;
mod policies;
mod prune;
mod repair;
mod report;
mod secrets;
mod sync;
mod watches;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_protocol::{EventRecord, EventSeverity, RecordBody};
use fleet_objects::ObjectReference;
use fleet_planner::ceiling::{Ceiling, Spent};
use fleet_planner::health::ObjectExpressions;
use kube::Client;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::ceiling::Ceilings;
use crate::error::Error;
use crate::outbox::Outbox;
use crate::vault::{Accepted, Progress, Vault};
use active::Active;
use cluster::Cluster;
pub(crate) use policies::{HeldPolicies, HeldPolicy};
use watches::Watches;

/// How often what is due is looked at, and changed reports are sent.
const TICK: Duration = Duration::from_millis(100);

/// What the enforcer is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// What is held of an assignment changed on disk.
    Changed(String),
    /// An object with the agent's label is there, as it is now.
    Seen(Box<serde_json::Value>),
    /// An object with the agent's label is gone, or has lost the label.
    Gone(ObjectReference),
    /// A watch was (re)started and has listed these objects of a kind.
    Listed {
        /// `group/version` and kind.
        kind: (String, String),
        /// All there are.
        objects: std::collections::HashSet<ObjectReference>,
    },
}

/// What an enforcer is made of.
pub(crate) struct Parts {
    pub(crate) vault: Vault,
    pub(crate) outbox: Outbox,
    pub(crate) cluster: Client,
    pub(crate) ceilings: Ceilings,
    pub(crate) expressions: Arc<dyn ObjectExpressions>,
    pub(crate) inputs: mpsc::Sender<Input>,
    pub(crate) held_changed: Arc<Notify>,
    /// Who judges by policies that the cluster does not know; `None`: they are refused like other unknown kinds.
    pub(crate) policies: Option<watch::Sender<HeldPolicies>>,
}

/// The enforcer.
pub(crate) struct Enforcer {
    vault: Vault,
    outbox: Outbox,
    cluster: Cluster,
    ceiling_changes: watch::Receiver<Arc<Ceiling>>,
    /// Deletions of the last hour.
    spent: Spent,
    held_changed: Arc<Notify>,
    policies: Option<watch::Sender<HeldPolicies>>,
    watches: Watches,
    active: BTreeMap<String, Active>,
    /// Which assignment an object belongs to.
    owners: HashMap<Arc<ObjectReference>, Arc<str>>,
    started: Instant,
}

impl Enforcer {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            vault: parts.vault,
            outbox: parts.outbox,
            watches: Watches::new(parts.cluster.clone(), parts.inputs),
            ceiling_changes: parts.ceilings.changes(),
            cluster: Cluster::new(parts.cluster, parts.ceilings, parts.expressions, parts.policies.is_some()),
            policies: parts.policies,
            spent: Spent::default(),
            held_changed: parts.held_changed,
            active: BTreeMap::new(),
            owners: HashMap::new(),
            started: Instant::now(),
        }
    }

    /// Runs until `shutdown`; begins with what is on disk.
    pub(crate) async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        self.load().await?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                input = inputs.recv() => match input {
                    Some(input) => self.take(input).await?,
                    None => return Ok(()),
                },
                _ = tick.tick() => self.tick().await?,
            }
        }
    }

    async fn load(&mut self) -> Result<(), Error> {
        self.spent = self.vault.spent().await?;
        let mut progress = self.vault.progress().await?;
        for (name, accepted) in self.vault.accepted().await? {
            let progress = progress.remove(&name).unwrap_or_default();
            self.active.insert(name.clone(), Active::new(&name, accepted, progress));
        }
        if !self.active.is_empty() {
            tracing::info!(assignments = self.active.len(), "enforcing what is on disk");
        }
        self.tell_policies();
        Ok(())
    }

    async fn take(&mut self, input: Input) -> Result<(), Error> {
        match input {
            Input::Changed(name) => self.changed(&name).await,
            Input::Seen(object) => {
                self.seen(*object).await;
                Ok(())
            }
            Input::Gone(object) => {
                self.gone(&object).await;
                Ok(())
            }
            Input::Listed { kind, objects } => {
                self.listed(&kind, &objects).await;
                Ok(())
            }
        }
    }

    async fn changed(&mut self, name: &str) -> Result<(), Error> {
        let Some(accepted) = self.vault.accepted().await?.remove(name) else { return Ok(()) };
        match self.active.get_mut(name) {
            Some(active) => {
                let same: bool =
                    active.accepted.spec == accepted.spec && active.accepted.confirmed == accepted.confirmed;
                active.accepted = accepted;
                active.dirty = true;
                if same {
                    return Ok(());
                }
                active.failures = 0;
            }
            None => {
                let active = Active::new(name, accepted, Progress::default());
                self.active.insert(name.to_owned(), active);
            }
        }
        self.sync(name).await
    }

    /// What is due: syncs to be tried again, repairs that had to wait, reports.
    async fn tick(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        // What was refused may be allowed by now, and the other way round.
        if self.ceiling_changes.has_changed().unwrap_or(false) {
            self.ceiling_changes.mark_unchanged();
            self.active.values_mut().for_each(|active| active.due = Some(now));
        }
        let due = |active: &Active| active.due.is_some_and(|due| due <= now);
        let due: Vec<String> =
            self.active.iter().filter(|(_, active)| due(active)).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.sync(&name).await?;
        }
        self.repair_waiting().await;
        self.report().await;
        Ok(())
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn event(
        &self,
        severity: EventSeverity,
        reason: &str,
        message: String,
        assignment: &str,
        object: Option<ObjectReference>,
    ) {
        let event = EventRecord {
            severity,
            reason: reason.to_owned(),
            message,
            assignment: Some(assignment.to_owned()),
            object,
            refusal: None,
        };
        self.outbox.append_or_count(RecordBody::Event(event)).await;
    }
}

/// Whether two accepted assignments are the same desired state.
fn same_state(a: &fleet_objects::AssignmentSpec, accepted: &Accepted) -> bool {
    a.generation == accepted.spec.generation && a.hub_epoch == accepted.spec.hub_epoch
}
