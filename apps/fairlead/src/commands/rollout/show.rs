//! How rollouts are printed.

use std::fmt::Write as _;

use fleet_objects::rollout::{Rollout, RolloutPhase, RolloutStatus};
use kube::ResourceExt;

use crate::output;

pub(super) const HEADER: [&str; 9] =
    ["NAME", "PLACEMENT", "PHASE", "REVISION", "WAVE", "UPDATED", "FAILED", "DEBTS", "AGE"];

pub(super) fn row(rollout: &Rollout) -> Vec<String> {
    let status = rollout.status.clone().unwrap_or_default();
    vec![
        rollout.name_any(),
        status.placement.unwrap_or_else(|| "<none>".to_owned()),
        phase(rollout, status.phase),
        status.revision.to_string(),
        status.wave_name.unwrap_or_default(),
        format!("{}/{}", status.updated, status.clusters),
        status.failed_count.to_string(),
        status.debt_count.to_string(),
        output::age(rollout.metadata.creation_timestamp.as_ref()),
    ]
}

/// A rollout that went through stays `Completed` while it is paused, and yet does nothing.
fn phase(rollout: &Rollout, phase: RolloutPhase) -> String {
    let paused = rollout.spec.paused && phase != RolloutPhase::Paused;
    format!("{phase:?}{}", if paused { " (paused)" } else { "" })
}

/// One line for a log.
pub(super) fn line(rollout: &Rollout) -> String {
    let status = rollout.status.clone().unwrap_or_default();
    format!(
        "{}: revision {} is {:?}: {} ({} of {} updated, {} failed, {} debts)",
        rollout.name_any(),
        status.revision,
        status.phase,
        status.message,
        status.updated,
        status.clusters,
        status.failed_count,
        status.debt_count
    )
}

/// Everything a person wants to know before the next command.
pub(super) fn status(rollout: &Rollout) -> String {
    let Some(status) = &rollout.status else {
        return format!("rollout {}: no placement names it yet\n", rollout.name_any());
    };
    let mut out = line(rollout);
    out.push('\n');
    if rollout.spec.paused && status.phase != RolloutPhase::Paused {
        out.push_str("it is paused: no further cluster gets anything, and debts do not catch up, until it is resumed\n");
    }
    if let Some(withdrawal) = &status.withdrawal {
        let _ = writeln!(
            out,
            "{} of {} clusters that lose what they hold are not empty yet: {}",
            withdrawal.left, withdrawal.total, withdrawal.message
        );
    }
    let withdrawal = status.withdrawal.as_ref();
    for test in status.tests.iter().chain(withdrawal.iter().flat_map(|withdrawal| &withdrawal.tests)) {
        let said = if test.message.is_empty() { String::new() } else { format!(": {}", test.message) };
        let (run, workflow, state) = (&test.run, &test.workflow, test.state);
        let _ = writeln!(out, "test run {run} of workflow {workflow} is {state:?}{said}");
    }
    let mut rows = vec![["CLUSTER", "STATE", "REASON"].map(str::to_owned).to_vec()];
    let mut add = |cluster: &str, state: &str, reason: &str| {
        rows.push(vec![cluster.to_owned(), state.to_owned(), reason.to_owned()]);
    };
    for update in &status.updating {
        let (state, reason) = match (update.debt, &update.since) {
            (true, _) => ("catching up", "through the canary"),
            (false, None) => ("waiting", "for its maintenance window"),
            (false, Some(_)) => ("updating", ""),
        };
        add(&update.cluster, state, reason);
    }
    for failed in &status.failed {
        let state = if failed.accepted { "failed, accepted" } else { "failed" };
        add(&failed.cluster, state, &failed.message);
    }
    for debt in &status.debts {
        add(&debt.cluster, "debt", &debt.reason);
    }
    for update in withdrawal.iter().flat_map(|withdrawal| &withdrawal.removing) {
        let waits =
            if update.since.is_some() { "" } else { "it is away, or waits for its maintenance window" };
        add(&update.cluster, "emptying", waits);
    }
    for failed in withdrawal.iter().flat_map(|withdrawal| &withdrawal.failed) {
        let state = if failed.accepted { "not emptied, accepted" } else { "not emptied" };
        add(&failed.cluster, state, &failed.message);
    }
    if rows.len() > 1 {
        let _ = write!(out, "\n{}", workflow::report::columns(&rows));
    }
    let name = rollout.name_any();
    let resume = rollout.spec.paused.then(|| format!("fairlead rollout resume {name}"));
    if let Some(hint) = resume.or_else(|| hint(&name, status)) {
        let _ = writeln!(out, "\nnext: {hint}");
    }
    out
}

fn hint(name: &str, status: &RolloutStatus) -> Option<String> {
    match status.phase {
        RolloutPhase::Waiting => Some(format!("fairlead rollout promote {name}")),
        RolloutPhase::Paused => Some(format!("fairlead rollout resume {name}")),
        RolloutPhase::Halted => {
            Some(format!("fairlead rollout rollback {name}, or promote it in spite of the failures"))
        }
        _ if status.withdrawal.as_ref().is_some_and(|withdrawal| withdrawal.removing.is_empty()) => {
            Some(format!("fairlead rollout promote {name} --withdrawal, where it waits for a person"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use fleet_objects::rollout::{ClusterDebt, FailedCluster, RolloutSpec};

    use super::*;

    #[test]
    fn a_rollout_that_is_paused_says_so_wherever_it_stands() {
        let mut rollout = Rollout::new("app", RolloutSpec { paused: true, ..RolloutSpec::default() });
        let debts = vec![ClusterDebt { cluster: "edge".into(), reason: "it catches up".into() }];
        rollout.status =
            Some(RolloutStatus { phase: RolloutPhase::Completed, debts, ..RolloutStatus::default() });
        let said = status(&rollout);
        assert!(
            said.contains("it is paused") && said.contains("next: fairlead rollout resume app"),
            "{said}"
        );
        assert_eq!(row(&rollout)[2], "Completed (paused)");
        rollout.spec.paused = false;
        assert!(!status(&rollout).contains("paused"));
    }

    #[test]
    fn a_halted_rollout_says_who_failed_why_and_what_to_do() {
        let mut rollout = Rollout::new("app", RolloutSpec::default());
        rollout.status = Some(RolloutStatus {
            phase: RolloutPhase::Halted,
            message: "1 failed where 0 may: dev: no node fits".into(),
            revision: 2,
            clusters: 3,
            failed: vec![FailedCluster {
                cluster: "dev".into(),
                message: "no node fits".into(),
                accepted: false,
            }],
            failed_count: 1,
            debts: vec![ClusterDebt { cluster: "edge".into(), reason: "its agent is not connected".into() }],
            debt_count: 1,
            ..RolloutStatus::default()
        });
        let said = status(&rollout);
        for part in [
            "app: revision 2 is Halted: 1 failed where 0 may: dev: no node fits (0 of 3 updated, 1 failed, 1 debts)",
            "dev       failed   no node fits",
            "edge      debt     its agent is not connected",
            "next: fairlead rollout rollback app",
        ] {
            assert!(said.contains(part), "{part} is not in:\n{said}");
        }
    }
}
