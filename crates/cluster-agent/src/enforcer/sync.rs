//! Brings one assignment about: checks a new generation whole before touching anything, notes what will be applied, then
//! applies it in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_protocol::EventSeverity;
use fleet_objects::{AssignmentSpec, AssignmentState, ConflictPolicy, HELD_BY_OWNER, OUTSIDE_WINDOW};
use fleet_planner::bundle::Bundle;
use fleet_planner::maintenance::{Opening, opening};
use fleet_planner::render::render;
use foundation::backoff::Backoff;
use foundation::random::SystemRandom;
use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::active::{Active, Closed};
use super::apply::force;
use super::cluster::{Outcome, Targets, describe};
use super::secrets::Secrets;
use super::{Enforcer, policies, same_state, secrets};
use crate::error::Error;
use crate::hold::Holds;
use crate::vault::InventoryItem;

/// Requests under way at once for one assignment: fast, and far below what an API server allows one client.
const TOGETHER: usize = 8;
/// Between tries of what did not work.
const RETRY: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));
/// How often the clock is looked at while no maintenance window is open: it may be set.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(60);
/// How often the cluster's owner is asked again.
const ASK_OWNER: Duration = Duration::from_secs(5);
/// How often a layer or a profile looks whether what it waits for is there.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often secret variables are read again: somebody may have changed what they refer to.
const READ_SECRETS: Duration = Duration::from_secs(60);
/// How often it is looked whether a cluster has begun, or ceased, to run Gatekeeper.
const LOOK_FOR_GATEKEEPER: Duration = Duration::from_secs(60);
/// Problems shown at once.
const SHOWN: usize = 3;

/// Why a generation cannot be carried out.
struct Problem {
    message: String,
    /// The cluster's owner does not allow it.
    forbidden: bool,
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self { message, forbidden: false }
    }
}

/// A generation made ready.
struct Prepared {
    targets: Targets,
    conflicts: ConflictPolicy,
    target_namespace: Option<String>,
    layers: Vec<String>,
    secrets: Secrets,
}

impl Enforcer {
    /// Brings an assignment about as far as possible now. Errors are those of the agent's own store: without it nothing
    /// may be done.
    pub(super) async fn sync(&mut self, name: &str) -> Result<(), Error> {
        let Some(mut active) = self.active.remove(name) else { return Ok(()) };
        active.due = None;
        active.closed = None;
        active.waits = None;
        active.budget_wait = None;
        active.dirty = true;
        let state = active.accepted.spec.state;
        let done = match state {
            AssignmentState::Present => self.sync_present(name, &mut active).await,
            AssignmentState::Tombstone => self.sync_tombstone(name, &mut active).await,
        };
        let complete = match done {
            Ok(complete) => complete,
            Err(error @ (Error::Store { .. } | Error::Outbox(_))) if !is_no_space(&error) => {
                self.active.insert(name.to_owned(), active);
                return Err(error);
            }
            Err(error) => {
                active.problem = Some(error.chain());
                false
            }
        };
        if let Some(closed) = &active.closed {
            active.failures = 0;
            active.due = Some(Instant::now() + closed.wait.min(LOOK_AT_CLOCK));
        } else if active.waits.is_some() {
            active.failures = 0;
            active.due = Some(Instant::now() + LOOK_AGAIN);
        } else if complete {
            active.failures = 0;
            active.due = active.budget_wait.map(|wait| Instant::now() + wait);
        } else {
            active.due = Some(Instant::now() + RETRY.delay(active.failures, &SystemRandom));
            active.failures = active.failures.saturating_add(1);
        }
        if !active.secrets.is_empty() {
            active.due.get_or_insert_with(|| Instant::now() + READ_SECRETS);
        }
        if policies::are_unsettled(&active) {
            active.due.get_or_insert_with(|| Instant::now() + LOOK_FOR_GATEKEEPER);
        }
        self.active.insert(name.to_owned(), active);
        self.narrow_watches();
        self.tell_policies();
        Ok(())
    }

    async fn sync_present(&mut self, name: &str, active: &mut Active) -> Result<bool, Error> {
        let is_new =
            active.progress.enforced.as_ref().is_none_or(|enforced| !same_state(enforced, &active.accepted));
        active.loaded &= active.secrets.is_empty() && !policies::are_unsettled(active);
        // What was enforced before must be known first: it stays until the new generation has passed its checks.
        if !active.loaded
            && let Some(enforced) = active.progress.enforced.clone()
        {
            self.load_targets(name, active, &enforced).await?;
        }
        if is_new {
            if let Some(problem) = self.ask_whether_open(name, active).await? {
                active.problem = Some(problem);
                let _ = self.apply_all(name, active, &Targets::new()).await?;
                return Ok(false);
            }
            if active.closed.is_some() {
                // The older generation is enforced on.
                return self.apply_all(name, active, &Targets::new()).await;
            }
        }
        let mut older = Targets::new();
        if is_new {
            let accepted = active.accepted.spec.clone();
            if let Some(waits) = self.waits_for(&accepted).await? {
                (active.problem, active.forbidden) = (None, false);
                let _ = self.apply_all(name, active, &Targets::new()).await?;
                active.waits = Some(waits);
                return Ok(false);
            }
            match self.prepare(name, active, &accepted).await? {
                Ok(prepared) => {
                    older = self.begin(name, active, accepted, prepared).await?;
                }
                Err(Problem { message: problem, forbidden }) => {
                    if active.problem.as_ref() != Some(&problem) {
                        let message =
                            format!("generation {}: {problem}; nothing was changed", accepted.generation);
                        let reason = if forbidden { "RefusedForbidden" } else { "NotApplied" };
                        self.event(EventSeverity::Warning, reason, message, name, None).await;
                    }
                    (active.problem, active.forbidden) = (Some(problem), forbidden);
                    // The older generation is enforced on.
                    let _ = self.apply_all(name, active, &Targets::new()).await?;
                    return Ok(false);
                }
            }
        }
        (active.problem, active.forbidden) = (None, false);
        // Somebody may have deleted the namespace meanwhile, and all that was in it.
        let failing = active.states.values().any(|state| state.error.is_some());
        if let Some(namespace) = active.target_namespace.clone().filter(|_| failing) {
            let made = self.ensure_namespace(name, &namespace, &active.targets).await;
            if let Err(error) = made {
                tracing::debug!(assignment = name, error = %error.chain(), "the target namespace is not there yet");
            }
        }
        let applied = self.apply_all(name, active, &older).await?;
        let removed = self.prune_removed(name, active).await?;
        if is_new && applied {
            self.vault.forget_unused_content().await?;
        }
        Ok(applied && removed)
    }

    /// Asks whether a change may begin now: the cluster's owner, and the maintenance windows. Answers what is wrong with these.
    pub(super) async fn ask_whether_open(
        &self,
        name: &str,
        active: &mut Active,
    ) -> Result<Option<String>, Error> {
        self.ask_owner(name, active).await?;
        if active.closed.is_some() {
            return Ok(None);
        }
        match opening(&active.accepted.spec.maintenance_windows, Timestamp::now()) {
            Ok(Opening::Open) => Ok(None),
            Ok(Opening::At(at)) => {
                let wait = at.duration_since(Timestamp::now());
                let message = format!("waits for its maintenance window, which opens at {at}");
                (active.problem, active.forbidden) = (None, false);
                let wait = Duration::try_from(wait).unwrap_or_default();
                active.closed = Some(Closed { reason: OUTSIDE_WINDOW, message, wait });
                Ok(None)
            }
            Err(problem) => Ok(Some(problem)),
        }
    }

    /// Asks whether the cluster's owner lets a change begin. Not known is no: without the cluster nothing could begin either.
    async fn ask_owner(&self, name: &str, active: &mut Active) -> Result<(), Error> {
        let holds = Holds::read(self.cluster.client()).await?;
        if let Some(why) = holds.of_assignment(name) {
            (active.problem, active.forbidden) = (None, false);
            let message = format!("held by the cluster's owner: {why}");
            active.closed = Some(Closed { reason: HELD_BY_OWNER, message, wait: ASK_OWNER });
        }
        Ok(())
    }

    /// Loads what is enforced, from disk alone.
    pub(super) async fn load_targets(
        &mut self,
        name: &str,
        active: &mut Active,
        enforced: &AssignmentSpec,
    ) -> Result<(), Error> {
        if enforced.state == AssignmentState::Tombstone {
            active.loaded = true;
            return Ok(());
        }
        match self.build(name, enforced).await? {
            Ok(prepared) => {
                self.adopt_targets(name, active, prepared);
                active.loaded = true;
                Ok(())
            }
            Err(problem) => Err(Error::Invalid(problem)),
        }
    }

    /// Content and variables to targets. The inner error is the content's fault.
    async fn build(&self, name: &str, spec: &AssignmentSpec) -> Result<Result<Prepared, String>, Error> {
        let Some(content) = &spec.content else { return Ok(Err("it names no content".to_owned())) };
        let Some(bytes) = self.vault.content(&content.digest).await? else {
            return Ok(Err(format!("content {} is not in the agent's store", content.digest)));
        };
        let bundle = match Bundle::decode(&bytes) {
            Ok(bundle) => bundle,
            Err(problem) => return Ok(Err(problem.to_string())),
        };
        let target_namespace = bundle.target_namespace.clone();
        // With the rights of the profile: else a hub could have any secret of the cluster copied to where it reads.
        let acting = self.cluster.acting_for(name);
        let read = secrets::resolve(acting.client(), &self.vault, spec, target_namespace.as_deref()).await?;
        let (variables, secrets) = match read {
            Ok(read) => read,
            Err(problem) => return Ok(Err(problem)),
        };
        let objects = match render(&bundle, &variables, name) {
            Ok(objects) => objects,
            Err(problem) => return Ok(Err(secrets.scrub(problem.to_string()))),
        };
        let resolved = match self.cluster.resolve(objects, target_namespace.as_deref()).await? {
            Ok(resolved) => resolved,
            Err(problem) => return Ok(Err(problem)),
        };
        let mut targets = Targets::new();
        for target in resolved {
            let reference = target.reference.clone();
            if targets.insert(reference.clone(), Arc::new(target)).is_some() {
                return Ok(Err(format!("{} is there twice", describe(&reference))));
            }
        }
        let layers = bundle.layers.into_iter().map(|layer| layer.name).collect();
        Ok(Ok(Prepared { targets, conflicts: bundle.conflicts, target_namespace, layers, secrets }))
    }

    /// Makes a new generation ready and checks all of it against the cluster without changing anything.
    async fn prepare(
        &self,
        name: &str,
        active: &Active,
        spec: &AssignmentSpec,
    ) -> Result<Result<Prepared, Problem>, Error> {
        let prepared = match self.build(name, spec).await? {
            Ok(prepared) => prepared,
            Err(problem) => return Ok(Err(problem.into())),
        };
        let acting = self.cluster.acting_for(name);
        for reference in prepared.targets.keys() {
            if let Some(owner) = self.owners.get(reference).filter(|owner| ***owner != *name) {
                let problem = format!("{} belongs to assignment {owner} already", describe(reference));
                return Ok(Err(problem.into()));
            }
        }
        let force = force(prepared.conflicts);
        let checks = prepared.targets.values();
        let checks = checks.map(|target| (Arc::clone(target), active.was_applied(&target.reference)));
        let checks: Vec<_> = checks.collect();
        // What a check under way and its answer take is there for a few at once, not for all.
        let mut answers = stream::iter(checks)
            .map(|(target, ours)| {
                let (cluster, manager) = (acting.clone(), active.manager.clone());
                async move {
                    let outcome = cluster.preflight(&target, &manager, force, ours).await;
                    (target, outcome)
                }
            })
            .buffered(TOGETHER);
        let (mut problems, mut forbidden) = (Vec::new(), false);
        while let Some((target, outcome)) = answers.next().await {
            let reference = &*target.reference;
            forbidden |= matches!(outcome, Outcome::Forbidden(_));
            match outcome {
                Outcome::Applied(_) => {}
                Outcome::Forbidden(problem) => problems.push(format!("{}: {problem}", describe(reference))),
                Outcome::Rejected(problem) => problems.push(format!("{}: {problem}", describe(reference))),
                Outcome::Later(problem) => {
                    return Err(Error::Invalid(format!("{}: {problem}", describe(reference))));
                }
            }
        }
        if problems.is_empty() {
            return Ok(Ok(prepared));
        }
        let more = problems.len().saturating_sub(SHOWN);
        problems.truncate(SHOWN);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let message = prepared.secrets.scrub(format!("{}{more}", problems.join("; ")));
        Ok(Err(Problem { message, forbidden }))
    }

    /// Notes on disk what is about to be applied, then takes the new targets over. Answers the older ones.
    async fn begin(
        &mut self,
        name: &str,
        active: &mut Active,
        spec: AssignmentSpec,
        prepared: Prepared,
    ) -> Result<Targets, Error> {
        let mut progress = active.progress.clone();
        progress.enforced = Some(spec);
        progress.pruned = None;
        progress.layers_begun = 0;
        for reference in prepared.targets.keys() {
            if !progress.inventory.iter().any(|item| item.object == **reference) {
                progress.inventory.push(InventoryItem {
                    object: (**reference).clone(),
                    applied: false,
                    digest: None,
                });
            }
        }
        self.vault.save_progress(name, &progress).await?;
        active.progress = progress;
        if let Some(namespace) = prepared.target_namespace.as_deref() {
            self.ensure_namespace(name, namespace, &prepared.targets).await?;
        }
        let older = active.targets.clone();
        self.adopt_targets(name, active, prepared);
        active.loaded = true;
        active.held = None;
        Ok(older)
    }

    fn adopt_targets(&mut self, name: &str, active: &mut Active, prepared: Prepared) {
        self.release(name);
        let owner: Arc<str> = name.into();
        active.states.retain(|reference, _| prepared.targets.contains_key(reference));
        for reference in prepared.targets.keys() {
            self.owners.insert(Arc::clone(reference), Arc::clone(&owner));
            active.states.entry(Arc::clone(reference)).or_default();
        }
        active.targets = prepared.targets;
        active.target_namespace = prepared.target_namespace;
        active.layers = prepared.layers;
        active.secrets = prepared.secrets;
        active.conflicts = prepared.conflicts;
    }

    /// Objects of an assignment are nobody's any more.
    pub(super) fn release(&mut self, name: &str) {
        self.owners.retain(|_, owner| **owner != *name);
    }

    fn narrow_watches(&mut self) {
        let targets = self.active.values().flat_map(|active| active.targets.values());
        let needed = targets
            .filter(|target| !target.kept)
            .map(|target| (target.resource.api_version.clone(), target.resource.kind.clone()))
            .collect();
        self.watches.retain(&needed);
    }
}

fn is_no_space(error: &Error) -> bool {
    matches!(error, Error::Store { source: storage::StoreError::NoSpace { .. }, .. })
}
