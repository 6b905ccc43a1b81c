//! What policies say of each cluster: the newest state and what changed, as the agents told it.
//!
//! One [`ComplianceReport`] for each cluster that has policies, in its partition, bounded whatever an agent sends; and the
//! condition `Compliant` of the Cluster. Records are taken in order and each once, also when the inbox is read again.

use agent_protocol::Record;
use fleet_objects::compliance::{ComplianceReport, ComplianceReportSpec, ComplianceState, RecordMark};
use fleet_objects::{AgentIdentity, ClusterStatus, ConditionChange, partition_namespace, set_condition};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};

use crate::cluster_status::{self, now};
use crate::error::Error;
use crate::service::Shared;

/// The condition of a cluster that policies judge.
const COMPLIANT: &str = "Compliant";
/// Tries before a conflict is given back.
const TRIES: usize = 10;

/// Takes what an agent told.
pub(crate) async fn take(
    client: &Client,
    from: &AgentIdentity,
    record: &Record,
    state: &ComplianceState,
) -> Result<(), Error> {
    let mark = RecordMark { agent_epoch: record.agent_epoch.to_string(), sequence: record.sequence };
    let api: Api<ComplianceReport> = Api::namespaced(client.clone(), &partition_namespace(&from.name));
    let failed = |operation: &str| Error::api(format!("{operation} the compliance report of {}", from.name));
    let mut tries = 0;
    let state = loop {
        let Some(mut report) = api.get_opt(&from.name).await.map_err(failed("read"))? else {
            if state.policies.is_empty() {
                // A cluster that never had policies has no report of them.
                return Ok(());
            }
            let spec = ComplianceReportSpec { cluster: from.name.clone() };
            let made = api.create(&PostParams::default(), &ComplianceReport::new(&from.name, spec)).await;
            match made {
                Ok(_) => continue,
                Err(error) if api_client::error::is_already_exists(&error) => continue,
                Err(error) => return Err(failed("make")(error)),
            }
        };
        let mut status = report.status.take().unwrap_or_default();
        let old =
            |known: &RecordMark| known.agent_epoch == mark.agent_epoch && known.sequence >= mark.sequence;
        if status.record.as_ref().is_some_and(old) {
            return Ok(());
        }
        let time = jiff::Timestamp::from_second(record.time.as_second()).unwrap_or(record.time);
        status.take(state.clone(), &k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
        status.record = Some(mark.clone());
        let newest = status.state.clone();
        report.status = Some(status);
        match api.replace_status(&from.name, &PostParams::default(), &report).await {
            Ok(_) => break newest,
            Err(error) if api_client::error::is_conflict(&error) && tries < TRIES => tries += 1,
            Err(error) => return Err(failed("write")(error)),
        }
    };
    cluster_status::update(client, &from.name, |status| judge(status, &state)).await.map(drop)
}

fn judge(status: &mut ClusterStatus, state: &ComplianceState) {
    if state.policies.is_empty() {
        status.conditions.retain(|known| known.type_ != COMPLIANT);
        return;
    }
    let policies = state.policies.len();
    let breaks =
        |policy: &&fleet_objects::compliance::PolicyCompliance| policy.counts.fail + policy.counts.error > 0;
    let broken = state.policies.iter().filter(breaks).count();
    let counts = state.counts;
    let (compliant, reason, message) = if state.is_compliant() {
        let told = state.problem.clone();
        (
            told.is_none().then_some(true),
            "Compliant",
            told.unwrap_or(format!("nothing breaks {policies} policies")),
        )
    } else {
        let message = format!(
            "{broken} of {policies} policies: {} objects break them, {} could not be judged",
            counts.fail, counts.error
        );
        (Some(false), "Violations", message)
    };
    let change =
        ConditionChange { kind: COMPLIANT, status: compliant, reason, message, observed_generation: None };
    set_condition(&mut status.conditions, change, &now());
}

/// Removes the reports of clusters that have left.
pub(crate) async fn sweep(shared: &Shared) {
    let all: Api<ComplianceReport> = Api::all(shared.client.clone());
    let Ok(reports) = all.list(&ListParams::default()).await else { return };
    for report in reports {
        let cluster = &report.spec.cluster;
        if shared.clusters.find("", cluster).is_some() {
            continue;
        }
        let namespace = report.metadata.namespace.clone().unwrap_or_default();
        let api: Api<ComplianceReport> = Api::namespaced(shared.client.clone(), &namespace);
        let name = report.metadata.name.clone().unwrap_or_default();
        if let Err(error) = api.delete(&name, &DeleteParams::default()).await {
            tracing::debug!(%cluster, %error, "the compliance report of a cluster that left stays for now");
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_objects::compliance::{PolicyCompliance, ResultCounts};
    use fleet_objects::{condition, condition_is_true};

    use super::*;

    fn state(fail: u64) -> ComplianceState {
        let counts = ResultCounts { pass: 3, fail, error: 0 };
        let policy = PolicyCompliance { policy: "p".to_owned(), profile: None, counts };
        ComplianceState { counts, policies: vec![policy], ..ComplianceState::default() }
    }

    #[test]
    fn a_cluster_says_whether_it_complies_while_it_has_policies() {
        let mut status = ClusterStatus::default();
        judge(&mut status, &ComplianceState::default());
        assert!(condition(&status.conditions, COMPLIANT).is_none());
        judge(&mut status, &state(2));
        let said = condition(&status.conditions, COMPLIANT).unwrap();
        assert_eq!((said.status.as_str(), said.reason.as_str()), ("False", "Violations"));
        assert_eq!(said.message, "1 of 1 policies: 2 objects break them, 0 could not be judged");
        judge(&mut status, &state(0));
        assert!(condition_is_true(&status.conditions, COMPLIANT));
        // What was not looked at is not called compliant.
        judge(&mut status, &ComplianceState { problem: Some("cannot follow pods".to_owned()), ..state(0) });
        assert_eq!(condition(&status.conditions, COMPLIANT).unwrap().status, "Unknown");
        judge(&mut status, &ComplianceState::default());
        assert!(condition(&status.conditions, COMPLIANT).is_none());
    }
}
