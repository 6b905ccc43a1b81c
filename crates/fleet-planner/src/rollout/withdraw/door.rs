//! The gates of a wave, asked of the clusters that are empty by then.

use fleet_objects::rollout::{Gate, GateTestState, GateType, Withdrawal};

use crate::expressions::facts;
use crate::rollout::gates::{Door, asked, short_name, tested};
use crate::rollout::{MAX_CONCURRENCY, Run, Touched};

impl Run<'_> {
    /// Asks the gates of a wave in their order.
    pub(super) fn withdrawal_door(&self, state: &mut Withdrawal, gates: &[Gate]) -> Door {
        let promoted = self.withdrawal_is_promoted();
        if promoted {
            for test in state.tests.iter_mut().filter(|test| test.state == GateTestState::Failed) {
                test.state = GateTestState::Accepted;
            }
        }
        for (index, gate) in gates.iter().enumerate() {
            let door = match gate.kind {
                GateType::Approval | GateType::TestRun if promoted => Door::Open,
                GateType::Approval => Door::Closed("waits for an approval".to_owned()),
                GateType::Expression => self.emptied_expression(state, gate),
                GateType::TestRun => self.emptied_test(state, u32::try_from(index).unwrap_or(u32::MAX), gate),
            };
            if !matches!(door, Door::Open) {
                return door;
            }
        }
        Door::Open
    }

    /// Clusters that are empty, with what is seen of them, and whether the wave before emptied them.
    fn emptied<'s>(&'s self, state: &'s Withdrawal) -> impl Iterator<Item = (&'s Touched, bool)> {
        let before = state.wave.checked_sub(1);
        state.emptied.iter().filter_map(move |one| {
            let seen = self.input.touched.iter().find(|seen| seen.view.name == one.cluster)?;
            Some((seen, Some(one.wave) == before))
        })
    }

    fn emptied_expression(&self, state: &Withdrawal, gate: &Gate) -> Door {
        let expression = gate.expression.as_deref().unwrap_or_default();
        let refused = self.emptied(state).find_map(|(seen, _)| {
            let name = &seen.view.name;
            match self.input.expressions.holds(expression, &facts(&seen.view)) {
                Ok(true) => None,
                Ok(false) => Some(format!("{expression} does not hold for cluster {name}")),
                Err(problem) => Some(format!("{expression}: cluster {name}: {problem}")),
            }
        });
        refused.map_or(Door::Open, Door::Closed)
    }

    /// The test runs in the clusters that the wave before emptied; in all that are empty where that emptied none.
    fn emptied_test(&self, state: &mut Withdrawal, index: u32, gate: &Gate) -> Door {
        let Some(workflow) = gate.workflow.as_deref().filter(|workflow| !workflow.is_empty()) else {
            return Door::Closed("a gate of type TestRun names no workflow".to_owned());
        };
        if let Some(test) = state.tests.iter_mut().find(|test| test.gate == index) {
            return tested(test, self.input.tests);
        }
        if state.emptied.is_empty() {
            // Nobody is empty yet, so there is nothing to be tested.
            return Door::Open;
        }
        let clusters = self.testable_emptied(state);
        if clusters.is_empty() {
            return Door::Closed(format!("no cluster is there to run {workflow} in"));
        }
        let run = format!("{}-w{}-g{index}", short_name(self.input.name), self.status.withdrawal_step);
        state.tests.push(asked((index, gate), workflow, clusters, &run));
        Door::Closed(format!("test run {run} is asked for"))
    }

    fn testable_emptied(&self, state: &Withdrawal) -> Vec<String> {
        let there = || self.emptied(state).filter(|(seen, _)| seen.unavailable.is_none());
        let name = |seen: &Touched| seen.view.name.clone();
        let of_wave = there().filter(|(_, of_wave)| *of_wave);
        let mut clusters: Vec<String> = of_wave.map(|(seen, _)| name(seen)).collect();
        if clusters.is_empty() {
            clusters = there().map(|(seen, _)| name(seen)).collect();
        }
        clusters.sort();
        clusters.truncate(MAX_CONCURRENCY);
        clusters
    }
}
