//! Clusters that the placement no longer chooses: emptied in the strategy's waves, so that a selector that went wrong is
//! noticed in the canary and not everywhere.

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::rollout::{ClusterUpdate, FailedCluster, RolloutPhase, Wave, Withdrawal};

use super::waves::{failure_budget, max_concurrency};
use super::{Leaver, MAX_FAILED, Run};
use crate::cluster_view::selects;
use crate::share::{Round, share};

/// What is left to be told in a wave, and how.
struct Part<'a> {
    name: String,
    /// How many clusters the wave takes at most.
    limit: usize,
    soak_seconds: u32,
    /// Those of the wave that can be told, in order.
    candidates: Vec<&'a str>,
    last: bool,
}

impl<'a> Run<'a> {
    /// Judges those that are being emptied, and tells the next. Answers all that may be told.
    pub(super) fn withdraw(&mut self) -> BTreeSet<String> {
        let leaving = self.input.leaving;
        if leaving.is_empty() {
            self.status.withdrawal = None;
            return BTreeSet::new();
        }
        let by_name: BTreeMap<&'a str, &'a Leaver> =
            leaving.iter().map(|leaver| (leaver.view.name.as_str(), leaver)).collect();
        let mut state = self.status.withdrawal.take().unwrap_or_default();
        state.left = u32::try_from(leaving.len()).unwrap_or(u32::MAX);
        state.total = state.total.max(state.left);
        self.judge_removals(&mut state, &by_name);
        match self.withheld(&state) {
            Some(why) => state.message = why,
            None => {
                let message = self.tell(&mut state, &by_name);
                state.message = message.unwrap_or_else(|problem| format!("strategy: {problem}"));
            }
        }
        let told = state.removing.iter().map(|update| &update.cluster);
        let told = told.chain(state.failed.iter().map(|failed| &failed.cluster)).cloned().collect();
        self.status.withdrawal = Some(state);
        told
    }

    fn judge_removals(&mut self, state: &mut Withdrawal, by_name: &BTreeMap<&'a str, &'a Leaver>) {
        state.removing.retain(|update| by_name.contains_key(update.cluster.as_str()));
        state.failed.retain(|failed| by_name.contains_key(failed.cluster.as_str()));
        for (name, leaver) in by_name {
            if leaver.told && !is_told(state, name) {
                let cluster = (*name).to_owned();
                state.removing.push(ClusterUpdate { cluster, since: None, debt: false, healthy_since: None });
            }
        }
        let deadline = self.deadline_seconds();
        let now = self.now();
        let mut late = Vec::new();
        for update in &mut state.removing {
            let Some(leaver) = by_name.get(update.cluster.as_str()) else { continue };
            if leaver.unavailable.is_some() {
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
        state.failed.extend(late);
        state.failed.truncate(MAX_FAILED);
    }

    /// Why nobody else is told, if so.
    fn withheld(&self, state: &Withdrawal) -> Option<String> {
        if self.input.spec.paused {
            return Some("paused by a person".to_owned());
        }
        if self.status.phase == RolloutPhase::Halted {
            return Some("the rollout is halted".to_owned());
        }
        let budget = failure_budget(&self.input.spec.strategy, self.fleet(state)).unwrap_or(0);
        let failures = state.failed.len() + self.open_failures();
        let first = state.failed.first().filter(|_| failures > budget)?;
        Some(format!("{failures} failed where {budget} may: {}: {}", first.cluster, first.message))
    }

    /// Of how many clusters shares are reckoned: those chosen and those that were.
    fn fleet(&self, state: &Withdrawal) -> usize {
        self.input.members.len() + usize::try_from(state.total).unwrap_or(usize::MAX)
    }

    /// Tells as many as may be told now. Answers what is waited for.
    fn tell(
        &mut self,
        state: &mut Withdrawal,
        by_name: &BTreeMap<&'a str, &'a Leaver>,
    ) -> Result<String, String> {
        let max = max_concurrency(&self.input.spec.strategy, self.fleet(state))?;
        // Each turn ends a wave or ends.
        loop {
            let part = self.part(state, by_name)?;
            let begun = usize::try_from(state.begun).unwrap_or(usize::MAX);
            let wanted = part.candidates.len().min(part.limit.saturating_sub(begun));
            let room = max.saturating_sub(self.status.updating.len() + state.removing.len());
            for name in part.candidates.iter().take(wanted.min(room)) {
                let since = Some(self.now());
                let cluster = (*name).to_owned();
                state.removing.push(ClusterUpdate { cluster, since, debt: false, healthy_since: None });
                state.begun = state.begun.saturating_add(1);
            }
            let is_there = |update: &ClusterUpdate| {
                by_name.get(update.cluster.as_str()).is_some_and(|leaver| leaver.unavailable.is_none())
            };
            if state.removing.iter().any(is_there) || wanted > room {
                state.soaking_since = None;
                return Ok(format!("{}: {} of {} clusters to go", part.name, state.left, state.total));
            }
            if part.last {
                return Ok(format!("{} clusters are away or failed", state.left));
            }
            if state.begun > 0 && part.soak_seconds > 0 {
                let now = self.now();
                let since = state.soaking_since.get_or_insert(now).clone();
                if !self.passed(&since, part.soak_seconds) {
                    return Ok(format!("{}: empty; soaking for {} s", part.name, part.soak_seconds));
                }
            }
            (state.wave, state.begun, state.soaking_since) = (state.wave + 1, 0, None);
        }
    }

    /// The wave under way.
    fn part(&self, state: &Withdrawal, by_name: &BTreeMap<&'a str, &'a Leaver>) -> Result<Part<'a>, String> {
        let strategy = &self.input.spec.strategy;
        let canary = strategy.canary.iter().map(|wave| (wave, "canary".to_owned(), true));
        let numbered = strategy.waves.iter().enumerate();
        let numbered = numbered.map(|(index, wave)| (wave, format!("wave {}", index + 1), false));
        let index = usize::try_from(state.wave).unwrap_or(usize::MAX);
        let can_be_told =
            by_name.iter().filter(|(name, leaver)| leaver.unavailable.is_none() && !is_told(state, name));
        let Some((wave, name, canary)) = canary.chain(numbered).nth(index) else {
            let candidates = can_be_told.map(|(name, _)| *name).collect();
            let name = "rest".to_owned();
            return Ok(Part { name, limit: usize::MAX, soak_seconds: 0, candidates, last: true });
        };
        let name = wave.name.clone().unwrap_or(name);
        let chosen = |leaver: &Leaver| self.takes(wave, leaver);
        let candidates = can_be_told.filter(|(_, leaver)| chosen(leaver)).map(|(name, _)| *name).collect();
        let limit = match (&wave.clusters, &wave.cluster_selector) {
            (Some(size), _) => share(size, self.fleet(state), Round::Up)
                .map_err(|problem| format!("{name}: clusters: {problem}"))?,
            (None, None) if canary => 1,
            (None, _) => usize::MAX,
        };
        Ok(Part { name, limit, soak_seconds: wave.soak_seconds, candidates, last: false })
    }

    fn takes(&self, wave: &Wave, leaver: &Leaver) -> bool {
        let selector = wave.cluster_selector.as_ref();
        selector.is_none_or(|selector| selects(selector, &leaver.view, self.input.expressions).is_ok())
    }
}

fn is_told(state: &Withdrawal, name: &str) -> bool {
    state.removing.iter().any(|update| update.cluster == name)
        || state.failed.iter().any(|failed| failed.cluster == name)
}
