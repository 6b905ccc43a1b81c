//! Whether a strategy can be followed at all, told before any cluster gets anything by it.

use fleet_objects::rollout::{Gate, GateType, RolloutStrategy, Wave};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::maintenance;
use crate::share::{Round, share};

/// Checks what needs no cluster to be judged: numbers, shares, times, and what gates must say.
///
/// # Errors
/// The first mistake with its place, `maintenanceWindows[0]: start "25:00" is not a time like 22:30`.
pub fn check(strategy: &RolloutStrategy) -> Result<(), String> {
    let named = |place: String| move |problem: String| format!("{place}: {problem}");
    if let Some(canary) = &strategy.canary {
        check_wave(canary).map_err(named("canary".to_owned()))?;
    }
    for (index, wave) in strategy.waves.iter().enumerate() {
        check_wave(wave).map_err(named(format!("waves[{index}]")))?;
    }
    at_least(strategy.max_concurrency.as_ref(), 1).map_err(named("maxConcurrency".to_owned()))?;
    at_least(strategy.failure_budget.as_ref(), 0).map_err(named("failureBudget".to_owned()))?;
    if strategy.progress_deadline_seconds == Some(0) {
        return Err("progressDeadlineSeconds: 0 gives no cluster any time".to_owned());
    }
    maintenance::check(&strategy.maintenance_windows)
}

fn check_wave(wave: &Wave) -> Result<(), String> {
    at_least(wave.clusters.as_ref(), 1).map_err(|problem| format!("clusters: {problem}"))?;
    for (index, gate) in wave.gates.iter().enumerate() {
        check_gate(gate).map_err(|problem| format!("gates[{index}]: {problem}"))?;
    }
    Ok(())
}

fn check_gate(gate: &Gate) -> Result<(), String> {
    let lacks = |field: &Option<String>| field.as_deref().unwrap_or_default().trim().is_empty();
    match gate.kind {
        GateType::Expression if lacks(&gate.expression) => Err("an Expression needs `expression`".to_owned()),
        GateType::TestRun if lacks(&gate.workflow) => Err("a TestRun needs `workflow`".to_owned()),
        _ => Ok(()),
    }
}

/// A number or a share that may not come to less of a hundred clusters.
fn at_least(value: Option<&IntOrString>, least: usize) -> Result<(), String> {
    let Some(value) = value else { return Ok(()) };
    match share(value, 100, Round::Up)? {
        found if found < least => Err(format!("must be at least {least}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

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
            (json!({"waves": [{}, {"clusters": "abc"}]}), "waves[1]: clusters: \"abc\""),
            (json!({"waves": [{"clusters": "150%"}]}), "waves[0]: clusters: \"150%\""),
            (json!({"canary": {"clusters": -3}}), "canary: clusters: -3"),
            (json!({"canary": {"clusters": 0}}), "canary: clusters: must be at least 1"),
            (json!({"maxConcurrency": 0}), "maxConcurrency: must be at least 1"),
            (json!({"maxConcurrency": "-5%"}), "maxConcurrency: \"-5%\""),
            (json!({"failureBudget": -1}), "failureBudget: -1"),
            (json!({"failureBudget": "200%"}), "failureBudget: \"200%\""),
            (json!({"progressDeadlineSeconds": 0}), "progressDeadlineSeconds"),
            (gate(json!({"type": "Expression"})), "waves[1]: gates[1]: an Expression"),
            (gate(json!({"type": "TestRun", "workflow": " "})), "waves[1]: gates[1]: a TestRun"),
        ] {
            let problem = checked(strategy.clone()).expect_err(&strategy.to_string());
            assert!(problem.contains(part), "{strategy}: {problem}");
        }
        let good = json!({
            "canary": {"clusters": 1, "soakSeconds": 60}, "maxConcurrency": "10%", "failureBudget": 0,
            "waves": [{"clusters": "25%", "gates": [{"type": "Expression", "expression": "cluster.ready"}]}, {}],
            "maintenanceWindows": [window("22:30", "Europe/Berlin"), {"days": ["Sunday"], "start": "00:00", "durationMinutes": 10080}],
        });
        assert_eq!(checked(good), Ok(()));
        assert_eq!(checked(json!({})), Ok(()));
    }
}
