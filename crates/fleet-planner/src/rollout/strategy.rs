//! Whether a strategy can be followed at all, told before any cluster gets anything by it.

use api_machinery::field_path::{FieldError, FieldPath};
use fleet_objects::rollout::{Gate, GateType, RolloutStrategy, Wave};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::MAX_WAVES;
use crate::cluster_view;
use crate::expressions::Expressions;
use crate::maintenance;
use crate::share::{Round, share};
use crate::validation::{compiled, wrong};

/// Checks what needs no cluster and no language to be judged: numbers, shares, times, and what gates must say.
///
/// # Errors
/// The first mistake with its place, `maintenanceWindows[0]: start "25:00" is not a time like 22:30`.
pub fn check(strategy: &RolloutStrategy) -> Result<(), String> {
    let mut found = Vec::new();
    Judge { expressions: None, found: &mut found }.strategy(&FieldPath::root(), strategy);
    match found.first() {
        Some(FieldError { path, detail, .. }) => Err(format!("{path}: {detail}")),
        None => Ok(()),
    }
}

/// Everything that is wrong with the strategy at `at`: what [`check`] finds, selectors and expressions.
#[must_use]
pub fn problems(
    at: &FieldPath,
    strategy: &RolloutStrategy,
    expressions: &dyn Expressions,
) -> Vec<FieldError> {
    let mut found = Vec::new();
    Judge { expressions: Some(expressions), found: &mut found }.strategy(at, strategy);
    found
}

struct Judge<'a> {
    /// What evaluates expressions; `None`: they are not judged.
    expressions: Option<&'a dyn Expressions>,
    found: &'a mut Vec<FieldError>,
}

impl Judge<'_> {
    fn strategy(&mut self, at: &FieldPath, strategy: &RolloutStrategy) {
        if let Some(canary) = &strategy.canary {
            self.wave(&at.child("canary"), canary, 1);
        }
        if strategy.waves.len() > MAX_WAVES {
            let count = strategy.waves.len();
            self.found.push(wrong(&at.child("waves"), format!("{count} waves are more than {MAX_WAVES}")));
        }
        for (index, wave) in strategy.waves.iter().enumerate() {
            // A last wave of no clusters tests what went everywhere.
            self.wave(&at.child("waves").index(index), wave, 0);
        }
        self.at_least(&at.child("maxConcurrency"), strategy.max_concurrency.as_ref(), 1);
        self.at_least(&at.child("failureBudget"), strategy.failure_budget.as_ref(), 0);
        if strategy.progress_deadline_seconds == Some(0) {
            let place = at.child("progressDeadlineSeconds");
            self.found.push(wrong(&place, "0 gives no cluster any time"));
        }
        for (index, window) in strategy.maintenance_windows.iter().enumerate() {
            let place = at.child("maintenanceWindows").index(index);
            self.found.extend(maintenance::problem(window).map(|problem| wrong(&place, problem)));
        }
    }

    fn wave(&mut self, at: &FieldPath, wave: &Wave, least: usize) {
        self.at_least(&at.child("clusters"), wave.clusters.as_ref(), least);
        if let (Some(selector), Some(expressions)) = (&wave.cluster_selector, self.expressions) {
            self.found.extend(cluster_view::problems(&at.child("clusterSelector"), selector, expressions));
        }
        for (index, gate) in wave.gates.iter().enumerate() {
            self.gate(&at.child("gates").index(index), gate);
        }
    }

    fn gate(&mut self, at: &FieldPath, gate: &Gate) {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.trim().is_empty());
        match (gate.kind, given(&gate.expression), given(&gate.workflow)) {
            (GateType::Expression, None, _) => {
                self.found.push(FieldError::required(at, "an Expression needs `expression`"));
            }
            (GateType::TestRun, _, None) => {
                self.found.push(FieldError::required(at, "a TestRun needs `workflow`"));
            }
            (GateType::Expression, Some(expression), _) => {
                let outcome = self.expressions.map_or(Ok(()), |own| own.check_condition(&expression));
                self.found.extend(compiled(&at.child("expression"), &expression, outcome));
            }
            _ => {}
        }
    }

    /// A number or a share that may not come to less of a hundred clusters.
    fn at_least(&mut self, at: &FieldPath, value: Option<&IntOrString>, least: usize) {
        let Some(value) = value else { return };
        match share(value, 100, Round::Up) {
            Err(problem) => self.found.push(wrong(at, problem)),
            Ok(found) if found < least => self.found.push(wrong(at, format!("must be at least {least}"))),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::odd::Odd;

    fn checked(strategy: Value) -> Result<(), String> {
        check(&serde_json::from_value(strategy).unwrap())
    }

    #[test]
    fn what_nobody_could_follow_is_told_with_its_place() {
        let window =
            |start: &str, zone: &str| json!({"start": start, "durationMinutes": 60, "timeZone": zone});
        let gate = |gate: Value| json!({"waves": [{}, {"gates": [{"type": "Approval"}, gate]}]});
        for (strategy, part) in [
            (
                json!({"maintenanceWindows": [window("22:30", "UTC"), window("25:00", "UTC")]}),
                "maintenanceWindows[1]: start \"25:00\"",
            ),
            (json!({"maintenanceWindows": [window("22:30", "Europe/Berln")]}), "maintenanceWindows[0]"),
            (json!({"maintenanceWindows": [{"start": "22:30", "durationMinutes": 0}]}), "durationMinutes"),
            (json!({"waves": [{}, {"clusters": "abc"}]}), "waves[1].clusters: \"abc\""),
            (json!({"waves": [{"clusters": "150%"}]}), "waves[0].clusters: \"150%\""),
            (json!({"canary": {"clusters": -3}}), "canary.clusters: -3"),
            (json!({"canary": {"clusters": 0}}), "canary.clusters: must be at least 1"),
            (json!({"maxConcurrency": 0}), "maxConcurrency: must be at least 1"),
            (json!({"maxConcurrency": "-5%"}), "maxConcurrency: \"-5%\""),
            (json!({"failureBudget": -1}), "failureBudget: -1"),
            (json!({"failureBudget": "200%"}), "failureBudget: \"200%\""),
            (json!({"progressDeadlineSeconds": 0}), "progressDeadlineSeconds"),
            (gate(json!({"type": "Expression"})), "waves[1].gates[1]: an Expression"),
            (gate(json!({"type": "TestRun", "workflow": " "})), "waves[1].gates[1]: a TestRun"),
        ] {
            let problem = checked(strategy.clone()).expect_err(&strategy.to_string());
            assert!(problem.contains(part), "{strategy}: {problem}");
        }
        let good = json!({
            "canary": {"clusters": 1, "soakSeconds": 60}, "maxConcurrency": "10%", "failureBudget": 0,
            "waves": [{"clusters": "25%", "gates": [{"type": "Expression", "expression": "cluster.ready"}]}, {},
                {"clusters": 0, "gates": [{"type": "TestRun", "workflow": "smoke"}]}],
            "maintenanceWindows": [window("22:30", "Europe/Berlin"), {"days": ["Sunday"], "start": "00:00", "durationMinutes": 10080}],
        });
        assert_eq!(checked(good), Ok(()));
        assert_eq!(checked(json!({})), Ok(()));
    }

    #[test]
    fn gates_and_selectors_are_compiled_where_there_is_a_language() {
        let strategy = json!({
            "canary": {"clusterSelector": {"matchFields": [{"key": "nme", "operator": "Exists"}]}},
            "waves": [{"gates": [{"type": "Expression", "expression": "odd"}, {"type": "Expression", "expression": "fine"}]}, {"clusters": "x"}],
        });
        let strategy: RolloutStrategy = serde_json::from_value(strategy).unwrap();
        assert!(check(&strategy).is_err_and(|problem| problem.starts_with("waves[1].clusters: \"x\"")));
        let all = problems(&FieldPath::new("spec").child("strategy"), &strategy, &Odd);
        let all: Vec<String> = all.iter().map(ToString::to_string).collect();
        for (told, wanted) in all.iter().zip([
            "spec.strategy.canary.clusterSelector.matchFields[0]: Invalid value: there is no field \"nme\"",
            "spec.strategy.waves[0].gates[0].expression: Invalid value: \"odd\": no condition",
            "spec.strategy.waves[1].clusters: Invalid value: \"x\" is neither",
        ]) {
            assert!(told.starts_with(wanted), "{told}");
        }
        assert_eq!(all.len(), 3);
    }
}
