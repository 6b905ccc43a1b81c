//! What each cluster may be given now.

use std::collections::BTreeMap;

use fleet_objects::rollout::{ClusterDebt, ClusterUpdate, RolloutPhase};

use super::waves::{catch_up, max_concurrency};
use super::{MAX_DEBTS, Member, Release, Run};

impl Run<'_> {
    pub(super) fn release(&mut self) -> BTreeMap<String, Release> {
        let total = self.input.members.len();
        // A strategy that cannot be read releases nobody.
        let max = max_concurrency(&self.input.spec.strategy, total).unwrap_or(0);
        let mut releases = BTreeMap::new();
        let waves = self.waves().unwrap_or_default();
        let mut debts = Vec::new();
        let passed = if self.status.phase == RolloutPhase::Completed {
            waves.len()
        } else {
            self.status.wave as usize
        };
        let order = waves
            .iter()
            .enumerate()
            .flat_map(|(index, wave)| wave.members.iter().map(move |member| (index, *member)));
        for (index, member) in order {
            let turn = match index.cmp(&passed) {
                std::cmp::Ordering::Less => Turn::Missed,
                std::cmp::Ordering::Equal if self.status.wave_open => Turn::Now,
                _ => Turn::Later,
            };
            let release = self.release_one(member, turn, max, total, &mut debts);
            releases.insert(member.view.name.clone(), release);
        }
        for member in self.input.members {
            releases.entry(member.view.name.clone()).or_insert(Release::Keep);
        }
        self.status.debt_count = u32::try_from(debts.len()).unwrap_or(u32::MAX);
        debts.truncate(MAX_DEBTS);
        self.status.debts = debts;
        releases
    }

    fn release_one(
        &mut self,
        member: &Member,
        turn: Turn,
        max: usize,
        total: usize,
        debts: &mut Vec<ClusterDebt>,
    ) -> Release {
        let name = member.view.name.as_str();
        if self.status.target.is_none() {
            return Release::Keep;
        }
        if self.retracted.contains(name) {
            let reason = format!("{}, before it took the change over", away(member));
            debts.push(ClusterDebt { cluster: name.to_owned(), reason });
            return Release::Stable;
        }
        if self.at_target.contains(name) {
            let unknown = member.unavailable.is_some()
                && !self.healthy.contains(name)
                && !self.status.failed.iter().any(|failed| failed.cluster == name);
            if unknown && turn != Turn::Later {
                let reason = format!("{}, while it was changed", away(member));
                debts.push(ClusterDebt { cluster: name.to_owned(), reason });
            }
            return Release::Target;
        }
        if self.is_rolling_back() {
            return self.release_back(member, max);
        }
        if member.holds.is_none() && self.status.stable.is_some() {
            return Release::Stable;
        }
        if self.update_of(name).is_some() {
            if self.status.phase.is_active() || self.status.phase == RolloutPhase::Completed {
                return Release::Target;
            }
            // Stopped before it was given out.
            self.drop_update(name);
        }
        self.release_forward(member, turn, max, total, debts)
    }

    /// What is returned to is proven: also clusters that are away get it, and those do not count as under change.
    fn release_back(&mut self, member: &Member, max: usize) -> Release {
        let name = member.view.name.as_str();
        if member.unavailable.is_some() {
            return Release::Target;
        }
        if self.update_of(name).is_none() {
            if self.input.spec.paused || self.under_change() >= max {
                return Release::Keep;
            }
            self.begin_update(name, false);
        }
        Release::Target
    }

    fn release_forward(
        &mut self,
        member: &Member,
        turn: Turn,
        max: usize,
        total: usize,
        debts: &mut Vec<ClusterDebt>,
    ) -> Release {
        use RolloutPhase::{Completed, Progressing, Soaking, Waiting};
        let name = member.view.name.as_str();
        if turn == Turn::Later {
            return Release::Keep;
        }
        if turn == Turn::Missed || member.unavailable.is_some() {
            debts.push(ClusterDebt { cluster: name.to_owned(), reason: away(member) });
        }
        let moves = match turn {
            Turn::Now => self.status.phase == Progressing,
            _ => matches!(self.status.phase, Completed | Progressing | Soaking | Waiting),
        };
        let catching_up = self.status.updating.iter().filter(|update| update.debt).count();
        let limit = catch_up(&self.input.spec.strategy, total);
        let room = self.under_change() < max && (turn == Turn::Now || catching_up < limit);
        if !moves || !room || self.input.spec.paused || member.unavailable.is_some() {
            return Release::Keep;
        }
        self.begin_update(name, turn == Turn::Missed);
        Release::Target
    }

    fn begin_update(&mut self, name: &str, debt: bool) {
        let since = Some(self.now());
        let cluster = name.to_owned();
        self.status.updating.push(ClusterUpdate { cluster, since, debt, healthy_since: None });
    }
}

/// Whether it is a cluster's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Its wave has passed without it.
    Missed,
    /// Its wave is under way.
    Now,
    /// Its wave has not begun.
    Later,
}

fn away(member: &Member) -> String {
    member.unavailable.clone().unwrap_or_else(|| "it was away when it was its turn; it catches up".to_owned())
}
