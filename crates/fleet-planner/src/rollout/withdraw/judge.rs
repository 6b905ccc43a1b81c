//! What is seen of the clusters that were told to remove the profile, and of those that have.

use fleet_objects::rollout::{ClusterRemoval, EmptiedCluster, FailedCluster, Withdrawal};

use super::{ByName, is_told};
use crate::rollout::waves::failure_budget;
use crate::rollout::{MAX_CONCURRENCY, MAX_FAILED, Run};

impl<'a> Run<'a> {
    pub(super) fn judge_removals(&mut self, state: &mut Withdrawal, by_name: &ByName<'a>) {
        self.note_emptied(state, by_name);
        state.failed.retain(|failed| by_name.contains_key(failed.cluster.as_str()));
        for (name, leaver) in by_name {
            if leaver.told && !is_told(state, name) {
                let cluster = (*name).to_owned();
                let was_healthy = leaver.unhealthy.is_none();
                state.removing.push(ClusterRemoval { cluster, since: None, was_healthy });
            }
        }
        let deadline = self.deadline_seconds();
        let now = self.now();
        let mut late = Vec::new();
        for update in &mut state.removing {
            let Some(leaver) = by_name.get(update.cluster.as_str()) else { continue };
            if leaver.unavailable.is_some() || leaver.waiting {
                update.since = None;
                continue;
            }
            let since = update.since.get_or_insert_with(|| now.clone()).clone();
            if self.passed(&since, deadline) {
                let message = format!("not emptied after {deadline} s: {}", leaver.message);
                late.push(FailedCluster { cluster: update.cluster.clone(), message, accepted: false });
            }
        }
        state.removing.retain(|update| !late.iter().any(|failed| failed.cluster == update.cluster));
        self.status.withdrawal_step += i64::from(!late.is_empty());
        state.failed.extend(late);
        state.failed.truncate(MAX_FAILED);
    }

    /// Those that were being emptied and have nothing more of it; one that is chosen again is nobody's business here.
    fn note_emptied(&self, state: &mut Withdrawal, by_name: &ByName<'a>) {
        let members = self.input.members;
        let is_chosen = |name: &str| members.iter().any(|member| member.view.name == name);
        let gone = |update: &ClusterRemoval| !by_name.contains_key(update.cluster.as_str());
        let (now, wave) = (self.now(), state.wave);
        let emptied = state.removing.extract_if(.., |update| gone(update)).map(|update| EmptiedCluster {
            cluster: update.cluster,
            wave,
            since: now.clone(),
            was_healthy: update.was_healthy,
        });
        let emptied: Vec<EmptiedCluster> = emptied.collect();
        state.emptied.extend(emptied);
        state.emptied.retain(|one| !is_chosen(&one.cluster) && !by_name.contains_key(one.cluster.as_str()));
        let surplus = state.emptied.len().saturating_sub(MAX_CONCURRENCY);
        state.emptied.drain(..surplus);
    }

    /// A cluster in which something else has not been healthy since the profile went, with what that is.
    fn sick(&self, one: &EmptiedCluster) -> Option<String> {
        let seen = self.input.touched.iter().find(|seen| seen.view.name == one.cluster)?;
        let there = one.was_healthy && seen.unavailable.is_none();
        seen.unhealthy.clone().filter(|_| there)
    }

    /// What else is not healthy any more in a cluster that was emptied, if there is one.
    pub(super) fn unhealthy_since_emptied(&self, state: &Withdrawal) -> Option<String> {
        state.emptied.iter().find_map(|one| {
            let what = self.sick(one)?;
            Some(format!("{} is not healthy since it was emptied: {what}", one.cluster))
        })
    }

    /// More failed than may: those that cannot be emptied, those that did not bear it, and those of the run itself.
    pub(super) fn beyond_budget(&mut self, state: &Withdrawal) -> Option<String> {
        let budget = failure_budget(&self.input.spec.strategy, self.fleet(state)).unwrap_or(0);
        let deadline = self.deadline_seconds();
        let mut said = Vec::new();
        for failed in state.failed.iter().filter(|failed| !failed.accepted) {
            said.push(format!("{}: {}", failed.cluster, failed.message));
        }
        for one in &state.emptied {
            if let Some(what) = self.sick(one)
                && self.passed(&one.since, deadline)
            {
                said.push(format!("{}: not healthy since it was emptied: {what}", one.cluster));
            }
        }
        let failures = said.len() + self.open_failures();
        let first = said.first().filter(|_| failures > budget)?;
        Some(format!("{failures} failed where {budget} may: {first}"))
    }

    /// A person goes on in spite of them.
    pub(super) fn accept_removals(&mut self, state: &mut Withdrawal) {
        for failed in &mut state.failed {
            failed.accepted = true;
        }
        let sick: Vec<bool> = state.emptied.iter().map(|one| self.sick(one).is_some()).collect();
        for (one, sick) in state.emptied.iter_mut().zip(sick) {
            one.was_healthy &= !sick;
        }
        self.status.withdrawal_step += 1;
    }
}
