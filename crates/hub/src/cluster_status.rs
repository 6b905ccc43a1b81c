//! The one way the hub writes a Cluster's status: read, change, replace with the version read; again on conflict.

use agent_protocol::PingReport;
use fleet_objects::{Cluster, ClusterStatus, ConditionChange, condition, condition_is_true, set_condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::error::Error;

/// The condition of an agent whose outbox has no room.
const OUTBOX_BLOCKED: &str = "OutboxBlocked";

/// Tries before a conflict is given back.
const TRIES: usize = 10;

/// The time now, as Kubernetes writes it.
pub(crate) fn now() -> Time {
    let now = jiff::Timestamp::now();
    // Whole seconds: what the API server keeps.
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Changes a status; writes nothing when `change` changed nothing. Answers `None` when the Cluster is not there.
pub(crate) async fn update(
    client: &Client,
    name: &str,
    mut change: impl FnMut(&mut ClusterStatus),
) -> Result<Option<Cluster>, Error> {
    let api: Api<Cluster> = Api::all(client.clone());
    let mut tries = 0;
    loop {
        let failed = |operation: &str| Error::api(format!("{operation} the status of cluster {name}"));
        let Some(mut cluster) = api.get_opt(name).await.map_err(failed("read"))? else { return Ok(None) };
        let before = cluster.status.clone().unwrap_or_default();
        let mut after = before.clone();
        change(&mut after);
        judge(&mut after);
        if after == before {
            return Ok(Some(cluster));
        }
        cluster.status = Some(after);
        match api.replace_status(name, &PostParams::default(), &cluster).await {
            Ok(written) => return Ok(Some(written)),
            Err(error) if api_client::error::is_conflict(&error) && tries < TRIES => tries += 1,
            Err(error) => return Err(failed("write")(error)),
        }
    }
}

/// `Ready` follows from the rest: connected, reported, and with a ready node.
fn judge(status: &mut ClusterStatus) {
    let verdict = if !condition_is_true(&status.conditions, "Connected") {
        (None, "NotConnected", "the agent is not connected; what it enforces goes on".to_owned())
    } else if let (Some(nodes), Some(_)) = (status.nodes, &status.kubernetes_version) {
        if nodes.ready == 0 {
            (Some(false), "NoReadyNode", format!("none of {} nodes is ready", nodes.total))
        } else {
            (Some(true), "Reported", format!("{} of {} nodes are ready", nodes.ready, nodes.total))
        }
    } else {
        (Some(false), "NotReported", "the agent has not reported yet".to_owned())
    };
    let (status_value, reason, message) = verdict;
    let change =
        ConditionChange { kind: "Ready", status: status_value, reason, message, observed_generation: None };
    set_condition(&mut status.conditions, change, &now());
}

/// Authorities that an agent may say it trusts: during a rotation it is two.
const AUTHORITIES: usize = 8;

/// What an agent's ping says. What is no pin is not kept.
pub(crate) fn take_ping(status: &mut ClusterStatus, report: &PingReport) {
    take_outbox(status, report);
    let is_pin = |text: &&String| {
        let digest = text.strip_prefix("sha256:");
        digest.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let said = report.authorities.iter().flatten().filter(is_pin).take(AUTHORITIES).cloned();
    status.trusted_authorities = said.collect();
}

/// What an agent's ping says of its outbox. A cluster whose outbox never had a problem has no condition of it.
fn take_outbox(status: &mut ClusterStatus, report: &PingReport) {
    status.dropped_records = status.dropped_records.max(report.dropped);
    let (blocked, reason, message) = match &report.outbox_problem {
        Some(problem) => (true, "NoRoom", problem.clone()),
        None if condition(&status.conditions, OUTBOX_BLOCKED).is_none() => return,
        None => (
            false,
            "Accepting",
            format!("the outbox takes records; {} were dropped over its life", status.dropped_records),
        ),
    };
    let change = ConditionChange {
        kind: OUTBOX_BLOCKED,
        status: Some(blocked),
        reason,
        message,
        observed_generation: None,
    };
    set_condition(&mut status.conditions, change, &now());
}

/// A change of the `Connected` condition.
pub(crate) fn connected(now: bool) -> ConditionChange<'static> {
    let (reason, message) = if now {
        ("StreamOpen", "the agent's stream is open")
    } else {
        ("StreamClosed", "no stream from the agent")
    };
    ConditionChange {
        kind: "Connected",
        status: Some(now),
        reason,
        message: message.to_owned(),
        observed_generation: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_believed_whom_it_trusts_as_far_as_that_can_be_and_no_longer_than_it_says_so() {
        let pin = |digit: char| format!("sha256:{}", digit.to_string().repeat(64));
        let said = |authorities| PingReport { authorities, ..PingReport::default() };
        let mut status = ClusterStatus::default();
        take_ping(&mut status, &said(Some(vec![pin('a'), "sha256:short".into(), pin('g'), pin('b')])));
        assert_eq!(status.trusted_authorities, [pin('a'), pin('b')]);
        take_ping(&mut status, &said(Some(vec![pin('c'); 100])));
        assert_eq!(status.trusted_authorities.len(), AUTHORITIES);
        // An earlier release of the agent says nothing of it.
        take_ping(&mut status, &serde_json::from_str(r#"{"dropped": 3}"#).unwrap());
        assert!(status.trusted_authorities.is_empty() && status.dropped_records == 3);
    }
}
