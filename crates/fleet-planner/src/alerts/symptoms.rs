//! What of the fleet is so, by what the hub holds of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_objects::alert::{AlertCondition, AlertRuleSpec};
use fleet_objects::compliance::ComplianceReport;
use fleet_objects::rollout::{Rollout, RolloutPhase};
use fleet_objects::{Assignment, Cluster, condition, condition_is_true, partition_cluster};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::cluster_view::{ClusterView, selects};
use crate::expressions::Expressions;

/// Bytes of a message.
const MAX_MESSAGE: usize = 512;
/// After an outbox takes records again, that it dropped some is still worth telling.
const DROPPED_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// What the hub holds.
#[derive(Debug, Default)]
pub struct Fleet {
    /// Its clusters.
    pub clusters: Vec<Arc<Cluster>>,
    /// What policies found.
    pub reports: Vec<Arc<ComplianceReport>>,
    /// Its rollouts.
    pub rollouts: Vec<Arc<Rollout>>,
    /// What clusters should hold.
    pub assignments: Vec<Arc<Assignment>>,
}

/// Something that is so.
#[derive(Clone, Debug, PartialEq)]
pub struct Symptom {
    /// Which cluster, and what of it.
    pub labels: BTreeMap<String, String>,
    /// For people.
    pub message: String,
    /// Since when, if that is known.
    pub since: Option<Timestamp>,
}

/// All that is so.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// One per subject.
    pub symptoms: Vec<Symptom>,
    /// When something more becomes so by time alone.
    pub due: Option<Timestamp>,
}

/// Collects.
struct Seen<'a> {
    found: Found,
    now: Timestamp,
    rule: &'a AlertRuleSpec,
}

impl Seen<'_> {
    fn add(&mut self, labels: &[(&str, &str)], message: String, since: Option<Timestamp>) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let mut message = message;
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        self.found.symptoms.push(Symptom { labels: labels.collect(), message, since });
    }

    fn soon(&mut self, at: Timestamp) {
        if at > self.now {
            self.found.due = Some(self.found.due.map_or(at, |known| known.min(at)));
        }
    }
}

/// What of the fleet is so that the rule is about. A cluster that is revoked or waits for approval is nobody's concern.
#[must_use]
pub fn symptoms(rule: &AlertRuleSpec, fleet: &Fleet, expressions: &dyn Expressions, now: Timestamp) -> Found {
    let mut seen = Seen { found: Found::default(), now, rule };
    let wanted = |cluster: &&Arc<Cluster>| {
        let chosen = |selector| selects(selector, &ClusterView::from(&***cluster), expressions).is_ok();
        !cluster.spec.revoked && !cluster.spec.pending && rule.clusters.as_ref().is_none_or(chosen)
    };
    if rule.on == AlertCondition::RolloutFailed {
        fleet.rollouts.iter().for_each(|rollout| of_rollout(&mut seen, rollout));
        return seen.found;
    }
    let clusters: BTreeMap<&str, &Arc<Cluster>> = fleet
        .clusters
        .iter()
        .filter(wanted)
        .map(|cluster| (cluster.metadata.name.as_deref().unwrap_or_default(), cluster))
        .collect();
    match rule.on {
        AlertCondition::PolicyViolation => {
            let own = fleet.reports.iter().filter(|report| clusters.contains_key(&*report.spec.cluster));
            own.for_each(|report| of_report(&mut seen, report));
        }
        AlertCondition::AssignmentFailed | AlertCondition::DriftFight | AlertCondition::DeletionsHeld => {
            for assignment in &fleet.assignments {
                let namespace = assignment.metadata.namespace.as_deref().unwrap_or_default();
                if let Some(cluster) = partition_cluster(namespace).filter(|name| clusters.contains_key(name))
                {
                    of_assignment(&mut seen, cluster, assignment);
                }
            }
        }
        _ => clusters.iter().for_each(|(name, cluster)| of_cluster(&mut seen, name, cluster)),
    }
    seen.found
}

fn is_false(conditions: &[Condition], kind: &str) -> bool {
    condition(conditions, kind).is_some_and(|known| known.status == "False")
}

fn of_cluster(seen: &mut Seen<'_>, name: &str, cluster: &Cluster) {
    let Some(status) = &cluster.status else { return };
    let conditions = &status.conditions;
    let label = [("cluster", name)];
    match seen.rule.on {
        AlertCondition::ClusterOffline if is_false(conditions, "Connected") => {
            let since = condition(conditions, "Connected").map(|known| known.last_transition_time.0);
            let message = "the agent is not connected; what it enforces goes on".to_owned();
            seen.add(&label, format!("cluster {name}: {message}"), since);
        }
        AlertCondition::ClusterNotReady
            if condition_is_true(conditions, "Connected") && is_false(conditions, "Ready") =>
        {
            let ready = condition(conditions, "Ready");
            let message = ready.map(|ready| ready.message.as_str()).unwrap_or_default();
            let since = ready.map(|known| known.last_transition_time.0);
            seen.add(&label, format!("cluster {name}: {message}"), since);
        }
        AlertCondition::CertificateExpiring => {
            let ends =
                status.registration.as_ref().and_then(|known| known.not_after.parse::<Timestamp>().ok());
            let Some(ends) = ends else { return };
            let within = SignedDuration::from_secs(i64::from(seen.rule.within_seconds));
            let begins = ends.saturating_sub(within).unwrap_or(Timestamp::MIN);
            if begins <= seen.now {
                let verb = if ends <= seen.now { "ended" } else { "ends" };
                let message =
                    format!("cluster {name}: the agent's certificate {verb} at {ends} and was not renewed");
                seen.add(&label, message, Some(begins));
            } else {
                seen.soon(begins);
            }
        }
        AlertCondition::RecordsDropped => {
            let Some(outbox) = condition(conditions, "OutboxBlocked") else { return };
            let since = outbox.last_transition_time.0;
            let until = since.saturating_add(DROPPED_WITHIN).unwrap_or(Timestamp::MAX);
            let blocked = outbox.status == "True";
            if blocked || (status.dropped_records > 0 && seen.now < until) {
                seen.add(&label, format!("cluster {name}: {}", outbox.message), Some(since));
            }
            if !blocked {
                seen.soon(until);
            }
        }
        _ => {}
    }
}

fn of_report(seen: &mut Seen<'_>, report: &ComplianceReport) {
    let (cluster, Some(status)) = (&report.spec.cluster, &report.status) else { return };
    for policy in &status.state.policies {
        let name = &policy.policy;
        let wrong = policy.counts.fail;
        let asked = &seen.rule.policies;
        if wrong == 0 || !(asked.is_empty() || asked.contains(name)) {
            continue;
        }
        let example = status.state.violations.iter().find(|violation| violation.policy == *name);
        let example = example.map(|violation| {
            let object = &violation.object;
            let place = object.namespace.iter().map(|namespace| format!("{namespace}/")).collect::<String>();
            format!(", like {} {place}{}: {}", object.kind, object.name, violation.message)
        });
        let message =
            format!("cluster {cluster}: {wrong} objects break policy {name}{}", example.unwrap_or_default());
        // Since it was last well: the change that ended that.
        let changes = status.history.iter().rev().filter(|change| change.policy == *name);
        let broken = changes.take_while(|change| change.after.is_some_and(|after| after.fail > 0)).last();
        let since = broken.map(|change| change.time.0);
        seen.add(&[("cluster", cluster), ("policy", name)], message, since);
    }
}

fn of_assignment(seen: &mut Seen<'_>, cluster: &str, assignment: &Assignment) {
    let name = assignment.metadata.name.as_deref().unwrap_or_default();
    let Some(status) = &assignment.status else { return };
    let labels = [("cluster", cluster), ("assignment", name)];
    let of = |kind: &str| condition(&status.conditions, kind);
    let told = match seen.rule.on {
        AlertCondition::DriftFight => of("Contested").filter(|known| known.status == "True"),
        AlertCondition::AssignmentFailed => {
            // What only takes its time is no failure.
            let failed = |known: &&Condition| {
                known.status == "False"
                    && matches!(known.reason.as_str(), "ApplyFailed" | "NotApplied" | "Forbidden" | "Failed")
            };
            of("Applied").filter(failed).or_else(|| of("Healthy").filter(failed))
        }
        AlertCondition::DeletionsHeld if status.held_deletion_count > 0 => {
            let count = status.held_deletion_count;
            let message = format!("cluster {cluster}: {count} deletions of {name} wait for a person");
            seen.add(&labels, message, None);
            None
        }
        _ => None,
    };
    if let Some(told) = told {
        let since = told.last_transition_time.0;
        seen.add(&labels, format!("cluster {cluster}: {name}: {}", told.message), Some(since));
    }
}

fn of_rollout(seen: &mut Seen<'_>, rollout: &Rollout) {
    let Some(status) = &rollout.status else { return };
    if !matches!(status.phase, RolloutPhase::Halted | RolloutPhase::RollingBack | RolloutPhase::RolledBack) {
        return;
    }
    let name = rollout.metadata.name.as_deref().unwrap_or_default();
    let namespace = rollout.metadata.namespace.as_deref().unwrap_or_default();
    let message = format!("rollout {namespace}/{name} is {:?}: {}", status.phase, status.message);
    let progressing = condition(&status.conditions, "Progressing");
    let since = progressing.map(|known| known.last_transition_time.0);
    let revision = status.revision.to_string();
    // Another revision is another failure.
    let labels = [("rollout", name), ("namespace", namespace), ("revision", revision.as_str())];
    seen.add(&labels, message, since);
}
