//! Applies what an assignment wants, phase by phase.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleet_objects::{ConflictPolicy, Health, ObjectReference};
use fleet_planner::drift::Mode;
use fleet_planner::render::PHASES;
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::PostParams;

use super::active::Active;
use super::cluster::{Cluster, Force, Outcome, Target, Targets, describe};
use super::{Enforcer, order};
use crate::error::Error;
use crate::vault::InventoryItem;

/// Requests under way at once for one assignment: fast, and far below what an API server allows one client.
const TOGETHER: usize = 8;
/// How long a new kind may take to be served before the rest is tried without it.
const ESTABLISH: Duration = Duration::from_secs(10);

impl Enforcer {
    /// The target namespace: made when missing, never taken over, never deleted.
    pub(super) async fn ensure_namespace(
        &self,
        assignment: &str,
        name: &str,
        targets: &Targets,
    ) -> Result<(), Error> {
        let own = targets.keys().any(|target| target.kind == "Namespace" && target.name == name);
        if own || name == "default" {
            return Ok(());
        }
        let reference = ObjectReference {
            api_version: "v1".to_owned(),
            kind: "Namespace".to_owned(),
            namespace: None,
            name: name.to_owned(),
        };
        let allowed = self.cluster.ceilings().check_apply(&reference, &serde_json::Value::Null);
        let failed = match allowed {
            Err(problem) => Error::Invalid(format!("{}: {problem}", describe(&reference))),
            Ok(()) => {
                let api: Api<Namespace> = Api::all(self.cluster.acting_for(assignment).client().clone());
                let mut namespace = Namespace::default();
                namespace.metadata.name = Some(name.to_owned());
                match api.create(&PostParams::default(), &namespace).await {
                    Ok(_) => return Ok(()),
                    Err(error) if api_client::error::is_already_exists(&error) => return Ok(()),
                    Err(error) => Error::cluster(format!("create namespace {name}"))(error),
                }
            }
        };
        // Without the right to create namespaces it may still be there.
        match Api::<Namespace>::all(self.cluster.client().clone()).get_opt(name).await {
            Ok(Some(_)) => Ok(()),
            _ => Err(failed),
        }
    }

    /// Applies every target, phase by phase. True when all went well.
    pub(super) async fn apply_all(
        &mut self,
        name: &str,
        active: &mut Active,
        older: &Targets,
    ) -> Result<bool, Error> {
        let mut phases: BTreeMap<u16, Vec<Arc<Target>>> = BTreeMap::new();
        for target in active.targets.values() {
            phases.entry(target.phase).or_default().push(target.clone());
        }
        let force = force(active.conflicts);
        let acting = self.cluster.acting_for(name);
        let mut complete = true;
        let mut newly_applied = false;
        for (phase, targets) in phases {
            let layer = phase / PHASES;
            if layer > active.progress.layers_begun {
                if let Err(waits) = order::may_begin(active, layer) {
                    active.waits = Some(waits);
                    complete = false;
                    break;
                }
                active.progress.layers_begun = layer;
                newly_applied = true;
            }
            let plans: Vec<_> = targets.into_iter().map(|target| Plan::of(target, active, older)).collect();
            // What an apply under way takes is there for a few at once, not for all.
            let manager: Arc<str> = active.manager.as_str().into();
            let mut applies = stream::iter(plans)
                .map(|plan| {
                    let (cluster, manager) = (acting.clone(), Arc::clone(&manager));
                    async move {
                        let outcome = plan.carry_out(&cluster, &manager, force).await;
                        (plan.target, outcome)
                    }
                })
                .buffer_unordered(TOGETHER);
            let mut brought = Vec::new();
            while let Some((target, outcome)) = applies.next().await {
                let reference = &target.reference;
                let ok = settle(active, &target, outcome);
                complete &= ok;
                if !ok {
                    continue;
                }
                let item = active.progress.inventory.iter_mut().find(|item| item.object == **reference);
                let digest = (target.drift.mode == Mode::Detect).then(|| target.manifest.digest());
                let changed = |item: &&mut InventoryItem| !item.applied || item.digest != digest;
                // What is only kept is in no cluster, and nothing there is the agent's to delete.
                if let Some(item) = item.filter(|_| !target.kept).filter(changed) {
                    (item.applied, item.digest) = (true, digest);
                    newly_applied = true;
                }
                if reference.kind == "CustomResourceDefinition" {
                    brought.push(target.clone());
                }
            }
            drop(applies);
            if phase % PHASES == 1 && !brought.is_empty() {
                self.await_kinds(&brought).await;
            }
        }
        if newly_applied {
            self.vault.save_progress(name, &active.progress).await?;
        }
        for target in active.targets.values() {
            let unserved =
                active.states.get(&target.reference).is_some_and(|state| state.fingerprint.is_none());
            if !unserved && !target.kept {
                self.watches.ensure(&target.resource);
            }
        }
        Ok(complete)
    }

    /// Waits until new kinds are served, within reason.
    async fn await_kinds(&self, definitions: &[Arc<Target>]) {
        let ends = Instant::now() + ESTABLISH;
        for definition in definitions {
            let api = self.cluster.api(definition);
            while Instant::now() < ends {
                let live = api.get(&definition.reference.name).await.ok();
                let live = live.and_then(|live| serde_json::to_value(live).ok());
                if live.is_some_and(|live| crate::health::judge(&live).0 == Health::Healthy) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        self.cluster.refresh().await;
    }
}

/// How a target is applied.
struct Plan {
    target: Arc<Target>,
    /// Whether it was applied before.
    ours: bool,
    /// What others make of it is compared, and left.
    told_only: bool,
    /// What it was before, if that was something else.
    older: Option<Arc<Target>>,
}

impl Plan {
    fn of(target: Arc<Target>, active: &Active, older: &Targets) -> Self {
        let ours = active.was_applied(&target.reference);
        let told_only = target.drift.mode == Mode::Detect && active.was_applied_as(&target);
        let older = older.get(&target.reference).filter(|older| older.manifest != target.manifest).cloned();
        Self { target, ours, told_only, older }
    }

    async fn carry_out(&self, cluster: &Cluster, manager: &str, force: Force) -> Outcome {
        let target = &self.target;
        match (self.ours, &self.older) {
            _ if self.told_only => cluster.preflight(target, manager, Force::Yes, true).await,
            (true, Some(older)) if force == Force::No => {
                match cluster.apply(target, manager, Force::No).await {
                    Outcome::Rejected(_) => cluster.apply_over(older, target, manager).await,
                    outcome => outcome,
                }
            }
            // The same object as before: whoever changed it since has drifted it.
            (true, _) => cluster.apply(target, manager, Force::Yes).await,
            (false, _) => cluster.apply(target, manager, force).await,
        }
    }
}

/// Notes what came of applying a target. True when it was applied.
fn settle(active: &mut Active, target: &Target, outcome: Outcome) -> bool {
    let state = active.states.entry(Arc::clone(&target.reference)).or_default();
    match outcome {
        Outcome::Applied(object) => {
            state.error = None;
            state.fingerprint = Some(target.fingerprint(&object));
            state.uid = object["metadata"]["uid"].as_str().map(str::to_owned);
            state.observe(target, &object);
            true
        }
        Outcome::Rejected(problem) | Outcome::Forbidden(problem) | Outcome::Later(problem) => {
            state.error = Some(active.secrets.scrub(problem));
            false
        }
    }
}

pub(super) fn force(policy: ConflictPolicy) -> Force {
    match policy {
        ConflictPolicy::Report => Force::No,
        ConflictPolicy::Force => Force::Yes,
    }
}
