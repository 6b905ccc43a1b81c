//! What is seen of the clusters that have the target: healthy, under change, failed.

use fleet_objects::rollout::{ClusterUpdate, FailedCluster, FailureAction, RolloutPhase};

use super::waves::failure_budget;
use super::{Member, MemberHealth, Run};

impl<'a> Run<'a> {
    /// Judges every member.
    pub(super) fn observe(&mut self) {
        self.at_target.clear();
        self.healthy.clear();
        self.retracted.clear();
        let input = self.input;
        let names = |cluster: &str| input.members.iter().any(|member| member.view.name == cluster);
        // One that is no longer chosen is nobody's business here.
        self.status.updating.retain(|update| names(&update.cluster));
        let Some(target) = self.status.target.clone() else { return };
        for member in input.members {
            if self.is_told(member, &target) {
                self.at_target.insert(&member.view.name);
                self.judge(member);
            } else if member.unavailable.is_some() {
                // Counted before it was given anything, and gone since: not under change.
                self.drop_update(&member.view.name);
            }
        }
        let at_target = &self.at_target;
        self.status.failed.retain(|failed| at_target.contains(failed.cluster.as_str()));
    }

    fn judge(&mut self, member: &'a Member) {
        let name = member.view.name.as_str();
        match &member.health {
            MemberHealth::Healthy if member.observed => self.healthy(name),
            _ if member.unavailable.is_some() => {
                self.drop_update(name);
                // Only while the target is not proven: a roll-back, too, reaches those that are away.
                if !member.observed && self.status.stable.is_some() && self.status.phase.is_active() {
                    self.retracted.insert(name);
                }
            }
            MemberHealth::Waiting(_) => {
                if let Some(update) = self.update_of(name) {
                    update.since = None;
                }
            }
            _ if !self.is_watching() && self.update_of(name).is_none() => {}
            MemberHealth::Failed(message) => self.fail(name, message.clone()),
            MemberHealth::Unhealthy(message) => self.unhealthy(name, message.clone()),
            MemberHealth::Healthy => self.unhealthy(name, "the agent has not answered yet".to_owned()),
        }
    }

    fn healthy(&mut self, name: &'a str) {
        self.healthy.insert(name);
        self.status.failed.retain(|failed| failed.cluster != name);
        let now = self.now();
        let Some(update) = self.update_of(name) else { return };
        if !update.debt {
            self.drop_update(name);
            return;
        }
        // One that caught up soaks as a canary does before the next may.
        let since = update.healthy_since.get_or_insert(now).clone();
        let soak = self.input.spec.strategy.canary.as_ref().map_or(0, |canary| canary.soak_seconds);
        if self.passed(&since, soak) {
            self.drop_update(name);
        }
    }

    fn unhealthy(&mut self, name: &str, message: String) {
        if self.status.failed.iter().any(|failed| failed.cluster == name) {
            return;
        }
        let now = self.now();
        if self.update_of(name).is_none() {
            // It was healthy before: the deadline runs anew.
            self.status.updating.push(ClusterUpdate {
                cluster: name.to_owned(),
                since: Some(now.clone()),
                debt: false,
                healthy_since: None,
            });
        }
        let Some(update) = self.update_of(name) else { return };
        update.healthy_since = None;
        let since = update.since.get_or_insert(now).clone();
        let deadline = self.deadline_seconds();
        if self.passed(&since, deadline) {
            self.fail(name, format!("not healthy after {deadline} s: {message}"));
        }
    }

    fn fail(&mut self, name: &str, message: String) {
        self.drop_update(name);
        if self.status.failed.iter().any(|failed| failed.cluster == name) {
            return;
        }
        self.status.failed.push(FailedCluster { cluster: name.to_owned(), message, accepted: false });
    }

    /// Whether what becomes of a cluster that is not under change matters to the run. Once the run is over it is seen in
    /// the figures and stops nothing.
    fn is_watching(&self) -> bool {
        self.status.phase.is_active() || self.status.phase == RolloutPhase::RollingBack
    }

    pub(super) fn is_rolling_back(&self) -> bool {
        matches!(self.status.phase, RolloutPhase::RollingBack | RolloutPhase::RolledBack)
    }

    pub(super) fn update_of(&mut self, name: &str) -> Option<&mut ClusterUpdate> {
        self.status.updating.iter_mut().find(|update| update.cluster == name)
    }

    pub(super) fn drop_update(&mut self, name: &str) {
        self.status.updating.retain(|update| update.cluster != name);
    }

    /// Failures that nobody accepted.
    pub(super) fn open_failures(&self) -> usize {
        self.status.failed.iter().filter(|failed| !failed.accepted).count()
    }

    /// Stops the run when more failed than may. Checked at every look, so before every release.
    pub(super) fn check_budget(&mut self) {
        use RolloutPhase::{Aborted, Halted, Pending, RolledBack, RollingBack};
        if matches!(self.status.phase, Pending | Halted | Aborted | RollingBack | RolledBack) {
            return;
        }
        let budget = failure_budget(&self.input.spec.strategy, self.input.members.len()).unwrap_or(0);
        if self.open_failures() > budget {
            self.stop_for_failures(budget);
        }
    }

    fn stop_for_failures(&mut self, budget: usize) {
        let count = self.open_failures();
        let first = self.status.failed.iter().find(|failed| !failed.accepted);
        let first =
            first.map_or_else(String::new, |failed| format!(": {}: {}", failed.cluster, failed.message));
        let why = format!("{count} failed where {budget} may{first}");
        self.stop(why);
    }

    /// Goes no further: back by itself where the strategy says so, else a person decides.
    pub(super) fn stop(&mut self, why: String) {
        // What went through is not taken back for one that catches up.
        let back = self.input.spec.strategy.on_failure == FailureAction::RollBack
            && self.status.phase != RolloutPhase::Completed;
        if back && self.roll_back(None, &why) {
            // Against another target everything looks different.
            return self.observe();
        }
        self.enter(RolloutPhase::Halted, why);
    }
}
