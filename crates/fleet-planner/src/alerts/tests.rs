//! From what is so to what is told.

use fleet_objects::alert::{AlertCondition, AlertSeverity};
use fleet_objects::compliance::ComplianceReport;
use fleet_objects::rollout::Rollout;
use fleet_objects::{Assignment, Cluster, ClusterSelector};
use serde_json::{Value, json};
use std::sync::Arc;

use super::*;
use crate::expressions::NoExpressions;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, since: i64) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": format!("{kind} is {status}"),
        "lastTransitionTime": at(since).to_string()})
}

fn cluster(name: &str, status: Value) -> Arc<Cluster> {
    let object = json!({"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": name, "labels": {"env": name}}, "spec": {}, "status": status});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn rule(on: AlertCondition) -> AlertRuleSpec {
    AlertRuleSpec {
        on,
        receivers: vec!["r".to_owned()],
        ..serde_json::from_value(json!({"on": "ClusterOffline"})).unwrap()
    }
}

fn offline(names: &[&str]) -> Fleet {
    let gone = |name: &&str| {
        cluster(name, json!({"conditions": [condition("Connected", "False", "StreamClosed", 0)]}))
    };
    Fleet { clusters: names.iter().map(gone).collect(), ..Fleet::default() }
}

fn found(rule: &AlertRuleSpec, fleet: &Fleet, seconds: i64) -> Found {
    symptoms(rule, fleet, &NoExpressions, at(seconds))
}

fn step(rule: &AlertRuleSpec, before: &[Alert], fleet: &Fleet, seconds: i64) -> Judged {
    advance("gone", rule, before, found(rule, fleet, seconds), &[], at(seconds))
}

fn receiver(version: &str) -> Receiver {
    Receiver { name: "r".to_owned(), version: version.to_owned() }
}

/// Ten seconds after the beginning.
fn given_up(tried: Option<&str>) -> Told {
    Told { state: AlertState::Firing, delivered: false, tried: tried.map(str::to_owned), time: time(at(10)) }
}

fn tell(alert: &mut Alert, state: AlertState, seconds: i64) {
    alert.told.insert("r".to_owned(), Told { state, delivered: true, tried: None, time: time(at(seconds)) });
}

#[test]
fn every_condition_finds_what_it_is_about_and_nothing_else() {
    let fleet = Fleet {
        clusters: vec![
            cluster("good", json!({"conditions": [condition("Connected", "True", "x", 0), condition("Ready", "True", "x", 0)],
                "registration": {"publicKeySha256": "", "notAfter": at(90_000).to_string()}})),
            cluster("away", json!({"conditions": [condition("Connected", "False", "x", 5), condition("Ready", "Unknown", "x", 5)],
                "registration": {"publicKeySha256": "", "notAfter": at(100).to_string()}})),
            cluster("sick", json!({"conditions": [condition("Connected", "True", "x", 0), condition("Ready", "False", "x", 7),
                condition("OutboxBlocked", "True", "NoRoom", 9)], "droppedRecords": 3})),
        ],
        reports: vec![Arc::new(serde_json::from_value::<ComplianceReport>(json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "ComplianceReport", "metadata": {"name": "sick"},
            "spec": {"cluster": "sick"}, "status": {
                "policies": [{"policy": "a", "counts": {"pass": 1}}, {"policy": "b", "counts": {"fail": 2}}],
                "violations": [{"policy": "b", "result": "fail", "message": "too many",
                    "object": {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web"}}],
                "history": [{"time": at(3).to_string(), "policy": "b", "after": {"fail": 1}},
                    {"time": at(4).to_string(), "policy": "b", "before": {"fail": 1}, "after": {"fail": 2}}]}})).unwrap())],
        rollouts: vec![Arc::new(serde_json::from_value::<Rollout>(json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Rollout",
            "metadata": {"name": "shop", "namespace": "default"}, "spec": {"placement": "shop"},
            "status": {"phase": "Halted", "message": "2 failed", "revision": 4}})).unwrap())],
        assignments: vec![Arc::new(serde_json::from_value::<Assignment>(json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Assignment",
            "metadata": {"name": "default.shop", "namespace": "cluster-sick"},
            "spec": {"profile": {"name": "shop", "namespace": "default"}, "generation": 1, "hubEpoch": "e", "state": "Present"},
            "status": {"heldDeletionCount": 2, "conditions": [condition("Contested", "True", "TwoWriters", 1),
                condition("Applied", "False", "ApplyFailed", 2)]}})).unwrap())],
    };
    let told = |on| -> Vec<String> {
        found(&rule(on), &fleet, 50).symptoms.into_iter().map(|symptom| symptom.message).collect()
    };
    assert_eq!(
        told(AlertCondition::ClusterOffline),
        ["cluster away: the agent is not connected; what it enforces goes on"]
    );
    assert_eq!(told(AlertCondition::ClusterNotReady), ["cluster sick: Ready is False"]);
    assert_eq!(told(AlertCondition::RecordsDropped), ["cluster sick: OutboxBlocked is True"]);
    assert_eq!(told(AlertCondition::CertificateExpiring).len(), 1);
    assert_eq!(
        told(AlertCondition::PolicyViolation),
        ["cluster sick: 2 objects break policy b, like Pod shop/web: too many"]
    );
    assert_eq!(found(&rule(AlertCondition::PolicyViolation), &fleet, 50).symptoms[0].since, Some(at(3)));
    assert_eq!(told(AlertCondition::DriftFight), ["cluster sick: default.shop: Contested is True"]);
    assert_eq!(told(AlertCondition::AssignmentFailed), ["cluster sick: default.shop: Applied is False"]);
    assert_eq!(
        told(AlertCondition::DeletionsHeld),
        ["cluster sick: 2 deletions of default.shop wait for a person"]
    );
    assert_eq!(told(AlertCondition::RolloutFailed), ["rollout default/shop is Halted: 2 failed"]);
    // Another policy, other clusters.
    let mut other = rule(AlertCondition::PolicyViolation);
    other.policies = vec!["a".to_owned()];
    assert!(found(&other, &fleet, 50).symptoms.is_empty());
    let mut elsewhere = rule(AlertCondition::DriftFight);
    elsewhere.clusters = Some(ClusterSelector {
        match_labels: [("env".to_owned(), "good".to_owned())].into(),
        ..ClusterSelector::default()
    });
    assert!(found(&elsewhere, &fleet, 50).symptoms.is_empty());
}

#[test]
fn a_certificate_is_told_of_when_its_time_comes() {
    let fleet = Fleet {
        clusters: vec![cluster(
            "a",
            json!({"registration": {"publicKeySha256": "", "notAfter": at(10_000).to_string()}}),
        )],
        ..Fleet::default()
    };
    let mut rule = rule(AlertCondition::CertificateExpiring);
    rule.within_seconds = 1000;
    let early = found(&rule, &fleet, 0);
    assert_eq!((early.symptoms.len(), early.due), (0, Some(at(9000))));
    assert_eq!(found(&rule, &fleet, 9000).symptoms.len(), 1);
}

#[test]
fn an_alert_holds_fires_once_and_is_resolved_once() {
    let mut rule = rule(AlertCondition::ClusterOffline);
    rule.for_seconds = 60;
    rule.severity = AlertSeverity::Critical;
    let fleet = offline(&["a"]);
    let waiting = step(&rule, &[], &fleet, 10);
    assert_eq!((waiting.alerts[0].state, waiting.due), (AlertState::Pending, Some(at(60))));
    assert_eq!(owed(&rule, &waiting.alerts[0], &receiver("1"), at(10)), None);
    let mut firing = step(&rule, &waiting.alerts, &fleet, 60).alerts;
    assert_eq!(firing[0].labels["severity"], "critical");
    assert_eq!((firing[0].labels["alertname"].as_str(), firing[0].labels["cluster"].as_str()), ("gone", "a"));
    assert_eq!(owed(&rule, &firing[0], &receiver("1"), at(60)), Some(AlertState::Firing));
    tell(&mut firing[0], AlertState::Firing, 61);
    let same = step(&rule, &firing, &fleet, 600);
    assert_eq!(same.alerts, firing, "nothing is new");
    assert_eq!(owed(&rule, &same.alerts[0], &receiver("1"), at(600)), None, "told once");
    let mut resolved = step(&rule, &firing, &Fleet::default(), 700).alerts;
    assert_eq!(resolved[0].state, AlertState::Resolved);
    assert_eq!(owed(&rule, &resolved[0], &receiver("1"), at(700)), Some(AlertState::Resolved));
    assert!(!is_done(&rule, &resolved[0], &[receiver("1")], at(700)));
    tell(&mut resolved[0], AlertState::Resolved, 701);
    assert!(is_done(&rule, &resolved[0], &[receiver("1")], at(701)));
    // A hub that was stopped before it wrote down whom it had told.
    let unknown =
        step(&rule, &step(&rule, &waiting.alerts, &fleet, 60).alerts, &Fleet::default(), 700).alerts;
    assert_eq!(owed(&rule, &unknown[0], &receiver("1"), at(700)), Some(AlertState::Resolved));
    assert!(is_done(&rule, &unknown[0], &[], at(700)), "there is nobody to tell");
    // What was pending and is so no more never was.
    assert!(step(&rule, &waiting.alerts, &Fleet::default(), 20).alerts.is_empty());
}

#[test]
fn a_gap_that_nobody_was_told_of_is_not_told() {
    let rule = rule(AlertCondition::ClusterOffline);
    let mut firing = step(&rule, &[], &offline(&["a"]), 0).alerts;
    tell(&mut firing[0], AlertState::Firing, 1);
    let resolved = step(&rule, &firing, &Fleet::default(), 2).alerts;
    let again = step(&rule, &resolved, &offline(&["a"]), 3).alerts;
    assert_eq!((again[0].state, again.len()), (AlertState::Firing, 1));
    assert_eq!(owed(&rule, &again[0], &receiver("1"), at(3)), None);
}

#[test]
fn a_receiver_that_was_not_reached_is_tried_again_while_the_alert_fires() {
    let rule = rule(AlertCondition::ClusterOffline);
    let mut firing = step(&rule, &[], &offline(&["a"]), 0).alerts;
    firing[0].told.insert("r".to_owned(), given_up(Some("1")));
    assert_eq!(step(&rule, &firing, &offline(&["a"]), 20).due, Some(at(610)));
    assert_eq!(owed(&rule, &firing[0], &receiver("1"), at(609)), None);
    assert_eq!(owed(&rule, &firing[0], &receiver("1"), at(610)), Some(AlertState::Firing));
    assert_eq!(owed(&rule, &firing[0], &receiver("2"), at(11)), Some(AlertState::Firing), "it was put right");
    firing[0].told.insert("r".to_owned(), given_up(None));
    assert_eq!(owed(&rule, &firing[0], &receiver("2"), at(11)), None, "nobody knows which was tried");
    tell(&mut firing[0], AlertState::Firing, 10);
    assert_eq!(owed(&rule, &firing[0], &receiver("2"), at(11)), None, "it knows already");
    firing[0].told.insert("r".to_owned(), given_up(Some("1")));
    let resolved = step(&rule, &firing, &Fleet::default(), 30).alerts;
    assert!(
        is_done(&rule, &resolved[0], &[receiver("2")], at(30)),
        "who was not told is not told that it is over"
    );
}

#[test]
fn repetitions_and_silences_keep_their_time() {
    let mut rule = rule(AlertCondition::ClusterOffline);
    rule.repeat_seconds = 100;
    let fleet = offline(&["a"]);
    let mut firing = step(&rule, &[], &fleet, 0).alerts;
    tell(&mut firing[0], AlertState::Firing, 0);
    let later = step(&rule, &firing, &fleet, 50);
    assert_eq!((later.due, owed(&rule, &later.alerts[0], &receiver("1"), at(99))), (Some(at(100)), None));
    assert_eq!(owed(&rule, &later.alerts[0], &receiver("1"), at(100)), Some(AlertState::Firing));
    let silence = AlertSilenceSpec {
        match_labels: [("cluster".to_owned(), "a".to_owned()), ("alertname".to_owned(), "*".to_owned())]
            .into(),
        starts_at: Some(time(at(60))),
        ends_at: time(at(80)),
        comment: String::new(),
        created_by: String::new(),
    };
    let all = [("quiet".to_owned(), silence.clone())];
    let under = |seconds| advance("gone", &rule, &[], found(&rule, &fleet, seconds), &all, at(seconds));
    assert_eq!((under(59).alerts[0].silenced_by.clone(), under(59).due), (None, Some(at(60))));
    let quiet = under(60);
    assert_eq!((quiet.alerts[0].silenced_by.as_deref(), quiet.due), (Some("quiet"), Some(at(80))));
    assert_eq!(owed(&rule, &quiet.alerts[0], &receiver("1"), at(60)), None);
    assert_eq!(under(80).alerts[0].silenced_by, None);
    let other =
        AlertSilenceSpec { match_labels: [("cluster".to_owned(), "b".to_owned())].into(), ..silence.clone() };
    assert!(!silences(&other, &quiet.alerts[0].labels));
    let empty = AlertSilenceSpec { match_labels: BTreeMap::new(), ..silence };
    assert!(!silences(&empty, &quiet.alerts[0].labels), "a silence of nothing is not one of everything");
}

#[test]
fn alerts_are_bounded_and_what_fires_comes_first() {
    let rule = rule(AlertCondition::ClusterOffline);
    let names: Vec<String> = (0..MAX_ALERTS + 7).map(|index| format!("c{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let judged = step(&rule, &[], &offline(&names), 0);
    assert_eq!((judged.alerts.len(), judged.omitted), (MAX_ALERTS, 7));
}

#[test]
fn notices_are_in_the_words_of_their_receivers() {
    let rule = rule(AlertCondition::ClusterOffline);
    let alerts = step(&rule, &[], &offline(&["a", "b"]), 0).alerts;
    let all: Vec<&Alert> = alerts.iter().collect();
    let hook = message::webhook("r", "gone", AlertState::Firing, &all, "https://hub");
    assert_eq!(
        (&hook["version"], &hook["status"], &hook["receiver"]),
        (&json!("4"), &json!("firing"), &json!("r"))
    );
    assert_eq!(hook["commonLabels"]["condition"], "ClusterOffline");
    assert!(hook["commonLabels"].get("cluster").is_none(), "the two differ in it");
    assert_eq!(hook["alerts"][0]["endsAt"], "0001-01-01T00:00:00Z");
    let posted = message::alertmanager(AlertState::Firing, &all, at(300), "");
    assert_eq!(posted[1]["endsAt"], at(300).to_string());
    assert_eq!(posted[0]["labels"]["alertname"], "gone");
    let (subject, text) = message::mail("gone", AlertState::Firing, &all);
    assert_eq!(subject, "[FIRING] gone (warning): 2 alerts");
    assert!(text.contains("cluster = a") && text.contains("cluster = b"), "{text}");
    let (one, _) = message::mail("gone", AlertState::Resolved, &all[..1]);
    assert!(one.starts_with("[RESOLVED] gone (warning): cluster ") && !one.contains('\n'));
    let id = message::id("r", AlertState::Firing, &all, at(0));
    assert_eq!(id, message::id("r", AlertState::Firing, &all, at(0)));
    assert_ne!(id, message::id("r", AlertState::Resolved, &all, at(0)));
}
