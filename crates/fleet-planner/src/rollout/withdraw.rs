//! Clusters that the placement no longer chooses: emptied in the strategy's waves and behind its gates, so that a selector
//! that went wrong, or a profile that something else stands on, is noticed in the canary and not everywhere.

mod door;
mod judge;

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::rollout::{ClusterRemoval, Gate, RolloutPhase, Wave, Withdrawal};

use super::gates::Door;
use super::waves::max_concurrency;
use super::{Leaver, Run};
use crate::cluster_view::selects;
use crate::share::{Round, share};

/// What is left to be told in a wave, and how.
struct Part<'a> {
    name: String,
    /// How many clusters the wave takes at most.
    limit: usize,
    soak_seconds: u32,
    gates: &'a [Gate],
    /// Those of the wave that can be told, in order.
    candidates: Vec<&'a str>,
    last: bool,
}

type ByName<'a> = BTreeMap<&'a str, &'a Leaver>;

impl<'a> Run<'a> {
    /// Judges those that are being emptied, and tells the next. Answers all that may be told.
    pub(super) fn withdraw(&mut self) -> BTreeSet<String> {
        let leaving = self.input.leaving;
        if leaving.is_empty() {
            self.status.withdrawal = None;
            return BTreeSet::new();
        }
        let by_name: ByName<'a> = leaving.iter().map(|leaver| (leaver.view.name.as_str(), leaver)).collect();
        let begun = self.status.withdrawal.take();
        if begun.is_none() {
            self.status.withdrawal_step += 1;
        }
        let mut state = begun.unwrap_or_default();
        state.left = u32::try_from(leaving.len()).unwrap_or(u32::MAX);
        state.total = state.total.max(state.left);
        self.judge_removals(&mut state, &by_name);
        state.message = match self.withheld(&mut state) {
            Some(why) => why,
            None => self.tell(&mut state, &by_name).unwrap_or_else(|problem| format!("strategy: {problem}")),
        };
        let told = state.removing.iter().map(|update| &update.cluster);
        let told = told.chain(state.failed.iter().map(|failed| &failed.cluster)).cloned().collect();
        self.status.withdrawal = Some(state);
        told
    }

    /// Whether a person lets the withdrawal go past what it waits for at this very step: one word opens one door.
    fn withdrawal_is_promoted(&self) -> bool {
        let step = self.status.withdrawal_step;
        step == self.input.status.withdrawal_step && self.input.spec.promote_withdrawal == Some(step)
    }

    /// Why nobody else is told, if so.
    fn withheld(&mut self, state: &mut Withdrawal) -> Option<String> {
        if self.input.spec.paused {
            return Some("paused by a person".to_owned());
        }
        if self.status.phase == RolloutPhase::Halted {
            return Some("the rollout is halted".to_owned());
        }
        let why = self.beyond_budget(state)?;
        if !self.withdrawal_is_promoted() {
            return Some(why);
        }
        self.accept_removals(state);
        None
    }

    /// Of how many clusters shares are reckoned: those chosen and those that were.
    fn fleet(&self, state: &Withdrawal) -> usize {
        self.input.members.len() + usize::try_from(state.total).unwrap_or(usize::MAX)
    }

    /// Tells as many as may be told now. Answers what is waited for.
    fn tell(&mut self, state: &mut Withdrawal, by_name: &ByName<'a>) -> Result<String, String> {
        let max = max_concurrency(&self.input.spec.strategy, self.fleet(state))?;
        // Each turn ends a wave or ends.
        loop {
            let part = self.part(state, by_name)?;
            if !part.candidates.is_empty()
                && let Some(why) = self.closed(state, part.gates)
            {
                return Ok(format!("{}: {why}", part.name));
            }
            let begun = usize::try_from(state.begun).unwrap_or(usize::MAX);
            let wanted = part.candidates.len().min(part.limit.saturating_sub(begun));
            let room = max.saturating_sub(self.status.updating.len() + state.removing.len());
            for name in part.candidates.iter().take(wanted.min(room)) {
                let since = Some(self.now());
                let was_healthy = by_name.get(name).is_some_and(|leaver| leaver.unhealthy.is_none());
                state.removing.push(ClusterRemoval { cluster: (*name).to_owned(), since, was_healthy });
                state.begun = state.begun.saturating_add(1);
            }
            let is_there = |update: &ClusterRemoval| {
                by_name.get(update.cluster.as_str()).is_some_and(|leaver| leaver.unavailable.is_none())
            };
            if state.removing.iter().any(is_there) || wanted > room {
                state.soaking_since = None;
                return Ok(format!("{}: {} of {} clusters to go", part.name, state.left, state.total));
            }
            if let Some(why) = self.unhealthy_since_emptied(state) {
                state.soaking_since = None;
                return Ok(format!("{}: {why}", part.name));
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
            self.end_wave(state);
        }
    }

    fn end_wave(&mut self, state: &mut Withdrawal) {
        (state.wave, state.begun, state.soaking_since) = (state.wave + 1, 0, None);
        state.wave_open = false;
        state.tests.clear();
        self.status.withdrawal_step += 1;
    }

    /// What a wave's gates wait for, if they are not passed.
    fn closed(&mut self, state: &mut Withdrawal, gates: &[Gate]) -> Option<String> {
        if state.wave_open {
            return None;
        }
        match self.withdrawal_door(state, gates) {
            Door::Closed(why) | Door::Failed(why) => Some(why),
            Door::Open => {
                state.wave_open = true;
                self.status.withdrawal_step += i64::from(!gates.is_empty());
                None
            }
        }
    }

    /// The wave under way.
    fn part(&self, state: &Withdrawal, by_name: &ByName<'a>) -> Result<Part<'a>, String> {
        let strategy = &self.input.spec.strategy;
        let canary = strategy.canary.iter().map(|wave| (wave, "canary".to_owned(), true));
        let numbered = strategy.waves.iter().enumerate();
        let numbered = numbered.map(|(index, wave)| (wave, format!("wave {}", index + 1), false));
        let index = usize::try_from(state.wave).unwrap_or(usize::MAX);
        let can_be_told =
            by_name.iter().filter(|(name, leaver)| leaver.unavailable.is_none() && !is_told(state, name));
        let Some((wave, name, canary)) = canary.chain(numbered).nth(index) else {
            let candidates = can_be_told.map(|(name, _)| *name).collect();
            let (name, gates) = ("rest".to_owned(), &[][..]);
            return Ok(Part { name, limit: usize::MAX, soak_seconds: 0, gates, candidates, last: true });
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
        let (soak_seconds, gates) = (wave.soak_seconds, wave.gates.as_slice());
        Ok(Part { name, limit, soak_seconds, gates, candidates, last: false })
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
