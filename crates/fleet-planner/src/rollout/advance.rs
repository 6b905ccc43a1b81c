//! From wave to wave.

use fleet_objects::rollout::{GateTestState, RolloutPhase, RolloutStep};

use super::gates::Door;
use super::waves::{Planned, waves};
use super::{MAX_HISTORY, Member, Run};

/// What a wave waits for.
enum Progress {
    /// Nothing: the next may begin.
    Done,
    /// Stay, and say so.
    Stay(RolloutPhase, String),
    /// It cannot go on.
    Stop(String),
}

impl<'a> Run<'a> {
    /// Whether a person lets the rollout go past what it waits for at this very step.
    fn is_promoted(&self) -> bool {
        let here = RolloutStep { revision: self.status.revision, step: self.input.status.step };
        self.status.step == here.step && self.input.spec.promote == Some(here)
    }

    pub(super) fn advance(&mut self) {
        match self.status.phase {
            RolloutPhase::RollingBack => return self.finish_roll_back(),
            RolloutPhase::Halted if self.is_promoted() => self.accept_failures(),
            RolloutPhase::Pending
            | RolloutPhase::Halted
            | RolloutPhase::Aborted
            | RolloutPhase::RolledBack
            | RolloutPhase::Completed => return,
            _ => {}
        }
        let promoted = self.is_promoted();
        if self.input.spec.paused {
            self.say(RolloutPhase::Paused, "paused by a person");
            return;
        }
        if self.nothing_to_do() {
            return self.complete();
        }
        let waves = match self.waves() {
            Ok(waves) => waves,
            Err(problem) => return self.say(RolloutPhase::Waiting, format!("strategy: {problem}")),
        };
        // Each turn passes a wave or ends.
        while let Some(wave) = waves.get(self.status.wave as usize) {
            let before = (self.status.wave as usize).checked_sub(1).and_then(|index| waves.get(index));
            self.status.wave_name = Some(wave.name.clone());
            // A person's word opens one door.
            let promoted = promoted && self.status.step == self.input.status.step;
            match self.wave(before, wave, promoted) {
                Progress::Done => self.next_wave(),
                Progress::Stay(phase, message) => return self.say(phase, message),
                Progress::Stop(why) => return self.stop(why),
            }
        }
        if !self.retracted.is_empty() {
            // First they return to what went through before; then this may take its place.
            return self.say(RolloutPhase::Progressing, "calling back what was not taken over");
        }
        self.complete();
    }

    pub(super) fn waves(&self) -> Result<Vec<Planned<'a>>, String> {
        let began = |name: &str| {
            self.at_target.contains(name) || self.status.updating.iter().any(|update| update.cluster == name)
        };
        waves(&self.input.spec.strategy, self.input.members, self.input.expressions, began)
    }

    /// A run that begins with every cluster at its end: another rollout's work, or a change taken back in time.
    fn nothing_to_do(&self) -> bool {
        let members = self.input.members;
        let begins = self.status.wave == 0 && !self.status.wave_open;
        begins && !members.is_empty() && self.healthy.len() == members.len()
    }

    fn accept_failures(&mut self) {
        for failed in &mut self.status.failed {
            failed.accepted = true;
        }
        for test in self.status.tests.iter_mut().filter(|test| test.state == GateTestState::Failed) {
            test.state = GateTestState::Accepted;
        }
        self.enter(RolloutPhase::Progressing, "a person went on in spite of failures");
    }

    fn next_wave(&mut self) {
        self.status.wave += 1;
        self.status.wave_open = false;
        self.status.soaking_since = None;
        self.status.tests.clear();
        self.status.step += 1;
    }

    fn wave(&mut self, before: Option<&Planned<'_>>, wave: &Planned<'_>, mut promoted: bool) -> Progress {
        if !self.status.wave_open {
            match self.door(before, wave.gates, promoted) {
                Door::Open => {}
                Door::Closed(why) => {
                    return Progress::Stay(RolloutPhase::Waiting, format!("{}: {why}", wave.name));
                }
                Door::Failed(why) => return Progress::Stop(format!("{}: {why}", wave.name)),
            }
            self.status.wave_open = true;
            // What a person let pass is this gate, not also the soak behind it.
            promoted = false;
            if !wave.gates.is_empty() {
                self.status.step += 1;
            }
        }
        let open = wave.members.iter().filter(|member| !self.is_settled(member)).count();
        if open > 0 {
            self.status.soaking_since = None;
            let message = format!("{}: {open} of {} clusters to go", wave.name, wave.members.len());
            return Progress::Stay(RolloutPhase::Progressing, message);
        }
        let healthy = wave.members.iter().any(|member| self.healthy.contains(member.view.name.as_str()));
        // The first wave proves the change; without a proof there is no second.
        if self.status.wave == 0 && !healthy {
            if wave.members.iter().any(|member| self.has_failed(member)) {
                return Progress::Stop(format!("{}: none of its clusters became healthy", wave.name));
            }
            return Progress::Stay(
                RolloutPhase::Waiting,
                format!("{}: no cluster is there for it", wave.name),
            );
        }
        if wave.soak_seconds > 0 && healthy && !promoted {
            let now = self.now();
            let since = self.status.soaking_since.get_or_insert(now).clone();
            if !self.passed(&since, wave.soak_seconds) {
                let message = format!("{}: healthy; soaking for {} s", wave.name, wave.soak_seconds);
                return Progress::Stay(RolloutPhase::Soaking, message);
            }
        }
        Progress::Done
    }

    fn has_failed(&self, member: &Member) -> bool {
        self.status.failed.iter().any(|failed| failed.cluster == member.view.name)
    }

    /// Whether the wave need not wait for this cluster: healthy, failed within the budget, or away (a debt).
    fn is_settled(&self, member: &Member) -> bool {
        let name = member.view.name.as_str();
        let under_change = self.status.updating.iter().any(|update| update.cluster == name);
        !under_change
            && (self.healthy.contains(name) || self.has_failed(member) || member.unavailable.is_some())
    }

    fn complete(&mut self) {
        let Some(target) = self.status.target.clone() else { return };
        if self.healthy.is_empty() {
            return self.say(RolloutPhase::Waiting, "no cluster that has the change is there any more");
        }
        self.status.wave_name = None;
        let message = format!("revision {} went through", target.number);
        self.status.history.retain(|known| known.number != target.number);
        self.status.history.push(target.clone());
        let surplus = self.status.history.len().saturating_sub(MAX_HISTORY);
        self.status.history.drain(..surplus);
        self.status.stable = Some(target);
        self.enter(RolloutPhase::Completed, message);
    }

    fn finish_roll_back(&mut self) {
        let open = self.input.members.iter().filter(|member| {
            let here = self.at_target.contains(member.view.name.as_str());
            !here || !self.is_settled(member)
        });
        let open = open.count();
        let Some(target) = self.status.target.clone() else { return };
        if open > 0 {
            self.status.message = format!("back to revision {}: {open} clusters to go", target.number);
            return;
        }
        self.status.wave_name = None;
        let message = format!("back at revision {}", target.number);
        self.status.stable = Some(target);
        self.enter(RolloutPhase::RolledBack, message);
    }
}
