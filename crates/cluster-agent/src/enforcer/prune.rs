//! Removal: of a whole assignment by its tombstone, of single objects by a newer generation that no longer has them.
//! Nothing else removes anything. An object is deleted only if the agent applied it and it still carries the agent's
//! label, exactly the object that was looked at.

use agent_protocol::EventSeverity;
use api_client::error::{is_conflict, is_not_found};
use fleet_objects::{AssignmentState, LABEL_ASSIGNMENT, ObjectReference};
use fleet_planner::breaker;
use fleet_planner::render::phase;
use kube::api::PropagationPolicy;

use super::active::Active;
use super::cluster::Cluster;
use super::cluster::{Targets, api, describe};
use super::{Enforcer, same_state};
use crate::error::Error;

/// How soon a budget without room is asked again.
const BUDGET_RETRY: std::time::Duration = std::time::Duration::from_secs(60);

/// What became of a deletion.
enum Deleted {
    /// It is not there, or not ours.
    Gone,
    /// On its way.
    Going,
}

impl Enforcer {
    /// Carries out a tombstone. True when everything is gone.
    pub(super) async fn sync_tombstone(&mut self, name: &str, active: &mut Active) -> Result<bool, Error> {
        let generation = active.accepted.spec.generation;
        if active.progress.pruned == Some(generation) {
            return Ok(true);
        }
        let begun =
            active.progress.enforced.as_ref().is_some_and(|enforced| same_state(enforced, &active.accepted));
        if !begun {
            let problem = self.ask_whether_open(name, active).await?;
            if active.closed.is_some() || problem.is_some() {
                active.problem = problem;
                // What is there stays enforced meanwhile.
                if !active.loaded
                    && let Some(enforced) = active.progress.enforced.clone()
                {
                    self.load_targets(name, active, &enforced).await?;
                }
                return self.apply_all(name, active, &Targets::new()).await;
            }
        }
        let doomed: Vec<ObjectReference> = active
            .progress
            .inventory
            .iter()
            .filter(|item| item.applied)
            .map(|item| item.object.clone())
            .collect();
        if !self.may_delete(name, active, &doomed).await {
            // Held: what is there stays enforced until a person has spoken. The confirmation wakes the sync.
            return Ok(true);
        }
        if !begun {
            active.progress.enforced = Some(active.accepted.spec.clone());
            self.vault.save_progress(name, &active.progress).await?;
        }
        self.release(name);
        active.targets.clear();
        active.states.clear();
        active.loaded = true;
        active.problem = None;
        if !self.delete_all(name, active, doomed).await? {
            return Ok(false);
        }
        active.progress.inventory.clear();
        active.progress.pruned = Some(generation);
        self.vault.save_progress(name, &active.progress).await?;
        self.vault.forget_unused_content().await?;
        self.held_changed.notify_one();
        let message = format!("generation {generation}: everything this profile brought is removed");
        self.event(EventSeverity::Normal, "Pruned", message, name, None).await;
        Ok(true)
    }

    /// Removes what the enforced generation no longer has. True when it is gone or held.
    pub(super) async fn prune_removed(&mut self, name: &str, active: &mut Active) -> Result<bool, Error> {
        debug_assert_eq!(
            active.accepted.spec.state,
            AssignmentState::Present,
            "tombstones have their own way"
        );
        let removed = |active: &Active| -> Vec<ObjectReference> {
            let items =
                active.progress.inventory.iter().filter(|item| !active.targets.contains_key(&item.object));
            items.map(|item| item.object.clone()).collect()
        };
        let doomed: Vec<ObjectReference> =
            removed(active).into_iter().filter(|reference| active.was_applied(reference)).collect();
        let allowed = self.may_delete(name, active, &doomed).await;
        if allowed && !self.delete_all(name, active, doomed.clone()).await? {
            return Ok(false);
        }
        let before = active.progress.inventory.len();
        let targets = &active.targets;
        active
            .progress
            .inventory
            .retain(|item| targets.contains_key(&item.object) || (!allowed && doomed.contains(&item.object)));
        if active.progress.inventory.len() != before {
            self.vault.save_progress(name, &active.progress).await?;
        }
        Ok(true)
    }

    /// Asks the ceiling, its budget and the breaker; says once what is held.
    async fn may_delete(&self, name: &str, active: &mut Active, doomed: &[ObjectReference]) -> bool {
        let others: usize = self.active.values().map(|active| active.progress.inventory.len()).sum();
        let managed = others + active.progress.inventory.len();
        match self.check_deletions(name, active, doomed, managed) {
            Ok(()) => {
                active.held = None;
                true
            }
            Err(reason) => {
                let new = active.held.as_ref().is_none_or(|(held, _)| held.len() != doomed.len());
                if new {
                    let message = format!("generation {}: {reason}", active.accepted.spec.generation);
                    self.event(EventSeverity::Warning, "DeletionsHeld", message, name, None).await;
                }
                active.held = Some((doomed.to_vec(), reason));
                false
            }
        }
    }

    fn check_deletions(
        &self,
        name: &str,
        active: &mut Active,
        doomed: &[ObjectReference],
        managed: usize,
    ) -> Result<(), String> {
        if doomed.is_empty() {
            return Ok(());
        }
        for reference in doomed {
            self.cluster
                .ceilings()
                .check_delete(reference)
                .map_err(|problem| format!("{}: {problem}", describe(reference)))?;
        }
        let deletions = self.cluster.ceilings().current().deletions.clone();
        // Deletions under way are paid for.
        let begun = active.paid.iter().filter(|paid| doomed.contains(paid)).count();
        let asked = u32::try_from(doomed.len() - begun).unwrap_or(u32::MAX);
        let spent = self.spent.within_hour(jiff::Timestamp::now());
        if asked > 0 && spent.saturating_add(asked) > deletions.per_hour {
            active.budget_wait = Some(BUDGET_RETRY);
            return Err(format!(
                "{asked} deletions are more than the {} an hour that this cluster's owner allows, of which {spent} are \
                 used; they wait",
                deletions.per_hour
            ));
        }
        let generation = active.accepted.spec.generation;
        let confirmed = deletions.is_confirmed(name, generation, active.confirmed());
        breaker::check(doomed, managed, deletions.limits(), confirmed)
    }

    /// Deletes in the reverse of the order of applying. True when all are gone.
    async fn delete_all(
        &mut self,
        name: &str,
        active: &mut Active,
        mut doomed: Vec<ObjectReference>,
    ) -> Result<bool, Error> {
        doomed.sort_by_key(|reference| std::cmp::Reverse(phase(reference)));
        let mut going = 0;
        self.pay(active, &doomed).await?;
        let acting = self.cluster.acting_for(name);
        for reference in &doomed {
            match self.delete(&acting, active, reference).await? {
                Deleted::Gone => {}
                Deleted::Going => going += 1,
            }
        }
        if going > 0 {
            tracing::debug!(assignment = name, going, "deletions are under way");
        }
        active.deleting = going;
        Ok(going == 0)
    }

    /// Books deletions, on disk before the first of them, so that a restart does not open the budget anew.
    async fn pay(&mut self, active: &mut Active, doomed: &[ObjectReference]) -> Result<(), Error> {
        let new: Vec<_> = doomed.iter().filter(|one| !active.paid.contains(one)).cloned().collect();
        if !new.is_empty() {
            self.spent.note(jiff::Timestamp::now(), u32::try_from(new.len()).unwrap_or(u32::MAX));
            self.vault.save_spent(&self.spent).await?;
        }
        active.paid = doomed.to_vec();
        Ok(())
    }

    async fn delete(
        &self,
        acting: &Cluster,
        active: &Active,
        reference: &ObjectReference,
    ) -> Result<Deleted, Error> {
        // A kind that is not served has no objects.
        let Some((resource, namespaced)) = self.cluster.served(reference).await? else {
            return Ok(Deleted::Gone);
        };
        let api = api(acting.client(), &resource, namespaced, reference.namespace.as_deref());
        let failed = || Error::cluster(format!("delete {}", describe(reference)));
        let Some(live) = api.get_opt(&reference.name).await.map_err(failed())? else {
            return Ok(Deleted::Gone);
        };
        let label = live.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_ASSIGNMENT));
        if label != Some(&active.label) {
            tracing::info!(
                "{} no longer carries this assignment's label and is left alone",
                describe(reference)
            );
            return Ok(Deleted::Gone);
        }
        if live.metadata.deletion_timestamp.is_some() {
            return Ok(Deleted::Going);
        }
        let uid = live.metadata.uid.unwrap_or_default();
        match api_client::apply::delete_exactly(&api, &reference.name, &uid, PropagationPolicy::Background)
            .await
        {
            // Looked at again: it may have finalizers or a grace period.
            Ok(Some(_)) => Ok(Deleted::Going),
            Ok(None) => Ok(match api.get_opt(&reference.name).await.map_err(failed())? {
                Some(_) => Deleted::Going,
                None => Deleted::Gone,
            }),
            Err(error) if is_not_found(&error) => Ok(Deleted::Gone),
            Err(error) if is_conflict(&error) => Ok(Deleted::Going),
            Err(error) => Err(failed()(error)),
        }
    }
}
