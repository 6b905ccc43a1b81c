//! What must hold before a wave begins.

use std::collections::BTreeMap;

use fleet_objects::rollout::{Gate, GateTest, GateTestState, GateType};

use super::waves::Planned;
use super::{MAX_CONCURRENCY, Member, Run, TestState};
use crate::expressions::facts;

/// Bytes of a rollout's name in the names of its test runs, so that these stay within what names may have.
const NAME_PART: usize = 200;

/// Whether a wave may begin.
pub(super) enum Door {
    Open,
    Closed(String),
    /// It never will by itself.
    Failed(String),
}

impl Run<'_> {
    /// Asks the gates of a wave in their order; `before` is the wave before it.
    pub(super) fn door(&mut self, before: Option<&Planned<'_>>, gates: &[Gate], promoted: bool) -> Door {
        for (index, gate) in gates.iter().enumerate() {
            let door = match gate.kind {
                GateType::Approval | GateType::TestRun if promoted => Door::Open,
                GateType::Approval => Door::Closed("waits for an approval".to_owned()),
                GateType::Expression => self.expression(gate),
                GateType::TestRun => self.test(u32::try_from(index).unwrap_or(u32::MAX), gate, before),
            };
            if !matches!(door, Door::Open) {
                return door;
            }
        }
        Door::Open
    }

    fn expression(&self, gate: &Gate) -> Door {
        let expression = gate.expression.as_deref().unwrap_or_default();
        let refused = self.input.members.iter().find_map(|member| self.refuses(expression, member));
        refused.map_or(Door::Open, Door::Closed)
    }

    fn refuses(&self, expression: &str, member: &Member) -> Option<String> {
        let name = member.view.name.as_str();
        if !self.at_target.contains(name) {
            return None;
        }
        match self.input.expressions.holds(expression, &facts(&member.view)) {
            Ok(true) => None,
            Ok(false) => Some(format!("{expression} does not hold for cluster {name}")),
            Err(problem) => Some(format!("{expression}: cluster {name}: {problem}")),
        }
    }

    /// A test is asked for once; the caller makes the run when the status that names it is written.
    fn test(&mut self, index: u32, gate: &Gate, before: Option<&Planned<'_>>) -> Door {
        let Some(workflow) = gate.workflow.as_deref().filter(|workflow| !workflow.is_empty()) else {
            return Door::Closed("a gate of type TestRun names no workflow".to_owned());
        };
        if let Some(at) = self.status.tests.iter().position(|test| test.gate == index) {
            return self.tested(at);
        }
        let clusters = self.testable(before);
        if clusters.is_empty() {
            // Nobody has the change yet (the first wave), so there is nothing to be tested.
            return match before {
                None => Door::Open,
                Some(_) => Door::Closed(format!("no cluster is there to run {workflow} in")),
            };
        }
        let asked = asked((index, gate), workflow, clusters, &self.run_name(index));
        let door = Door::Closed(format!("test run {} is asked for", asked.run));
        self.status.tests.push(asked);
        door
    }

    fn tested(&mut self, at: usize) -> Door {
        self.status.tests.get_mut(at).map_or(Door::Open, |test| tested(test, self.input.tests))
    }

    /// Healthy clusters of the wave before; of all that have the change when that has none.
    fn testable(&self, before: Option<&Planned<'_>>) -> Vec<String> {
        let healthy = |member: &&Member| {
            member.unavailable.is_none() && self.healthy.contains(member.view.name.as_str())
        };
        let name = |member: &Member| member.view.name.clone();
        let of_wave = before.iter().flat_map(|wave| wave.members.iter().copied());
        let mut clusters: Vec<String> = of_wave.filter(healthy).map(name).collect();
        if clusters.is_empty() && before.is_some() {
            clusters = self.input.members.iter().filter(healthy).map(name).collect();
        }
        clusters.sort();
        clusters.truncate(MAX_CONCURRENCY);
        clusters
    }

    /// Another moment of the rollout has another name.
    fn run_name(&self, gate: u32) -> String {
        let name = short_name(self.input.name);
        format!("{name}-r{}-s{}-g{gate}", self.status.revision, self.status.step)
    }
}

/// The part of a rollout's name that stands in the names of its test runs.
pub(super) fn short_name(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_PART)]
}

/// A test to be made for a gate.
pub(super) fn asked(
    (index, gate): (u32, &Gate),
    workflow: &str,
    clusters: Vec<String>,
    run: &str,
) -> GateTest {
    GateTest {
        gate: index,
        run: run.to_owned(),
        workflow: workflow.to_owned(),
        variables: gate.variables.clone(),
        clusters,
        state: GateTestState::Running,
        message: String::new(),
    }
}

/// What a test that was asked for says, and says in the status.
pub(super) fn tested(test: &mut GateTest, tests: &BTreeMap<String, TestState>) -> Door {
    if test.state == GateTestState::Running {
        (test.state, test.message) = match tests.get(&test.run) {
            None => (GateTestState::Running, String::new()),
            Some(TestState::Running(message)) => (GateTestState::Running, message.clone()),
            Some(TestState::Passed) => (GateTestState::Passed, String::new()),
            Some(TestState::Failed(message)) => (GateTestState::Failed, message.clone()),
        };
    }
    match test.state {
        GateTestState::Passed | GateTestState::Accepted => Door::Open,
        GateTestState::Running => Door::Closed(format!("test run {} has not ended", test.run)),
        GateTestState::Failed => Door::Failed(format!("test run {} failed: {}", test.run, test.message)),
    }
}
