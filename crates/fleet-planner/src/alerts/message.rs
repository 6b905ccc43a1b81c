//! The words of notices, in the forms that receivers read.

use std::collections::BTreeMap;

use fleet_objects::alert::{Alert, AlertState};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Alerts of one notice; more come in the next.
pub const MAX_TOGETHER: usize = 50;

fn status(state: AlertState) -> &'static str {
    if state == AlertState::Resolved { "resolved" } else { "firing" }
}

fn ends(alert: &Alert) -> Timestamp {
    // As Alertmanager writes that something has no end.
    let never: Timestamp = "0001-01-01T00:00:00Z".parse().unwrap_or(Timestamp::MIN);
    alert.resolved.as_ref().map_or(never, |resolved| resolved.0)
}

fn starts(alert: &Alert) -> Timestamp {
    alert.fired.as_ref().map_or(alert.since.0, |fired| fired.0)
}

/// The id of a notice: the same for the same news, however often it is sent.
#[must_use]
pub fn id(receiver: &str, state: AlertState, alerts: &[&Alert], round: Timestamp) -> String {
    let mut text = format!("{receiver}\u{0}{}\u{0}{}", status(state), round.as_second());
    for alert in alerts {
        text.push_str(&format!("\u{0}{}\u{0}{}", alert.fingerprint, starts(alert).as_second()));
    }
    format!("msg_{}", &crate::digest(text.as_bytes())[..32])
}

/// What is said of one alert from its begin to its end, for ever the same.
#[must_use]
pub fn thread(alert: &Alert) -> String {
    format!("alert_{}_{}", alert.fingerprint, starts(alert).as_second())
}

/// What a webhook is sent: version 4 of Alertmanager's form.
#[must_use]
pub fn webhook(receiver: &str, rule: &str, state: AlertState, alerts: &[&Alert], hub: &str) -> Value {
    let mut common: BTreeMap<&String, &String> = BTreeMap::new();
    if let Some((first, others)) = alerts.split_first() {
        let shared = |(key, value): &(&String, &String)| {
            others.iter().all(|alert| alert.labels.get(*key) == Some(*value))
        };
        common.extend(first.labels.iter().filter(shared));
    }
    let alert = |alert: &&Alert| {
        json!({
            "status": status(state), "labels": alert.labels, "annotations": {"summary": alert.message},
            "startsAt": starts(alert).to_string(), "endsAt": ends(alert).to_string(),
            "generatorURL": hub, "fingerprint": alert.fingerprint,
        })
    };
    json!({
        "version": "4", "groupKey": format!("{{}}:{{alertname=\"{rule}\"}}"), "truncatedAlerts": 0,
        "status": status(state), "receiver": receiver, "groupLabels": {"alertname": rule},
        "commonLabels": common, "commonAnnotations": {}, "externalURL": hub,
        "alerts": alerts.iter().map(alert).collect::<Vec<_>>(),
    })
}

/// What an Alertmanager is sent (`POST /api/v2/alerts`). What fires ends by itself when it is not told again until
/// `forget`.
#[must_use]
pub fn alertmanager(state: AlertState, alerts: &[&Alert], forget: Timestamp, hub: &str) -> Value {
    let alert = |alert: &&Alert| {
        let ends = if state == AlertState::Resolved { ends(alert) } else { forget };
        let mut document = json!({
            "labels": alert.labels, "annotations": {"summary": alert.message},
            "startsAt": starts(alert).to_string(), "endsAt": ends.to_string(),
        });
        if !hub.is_empty() {
            document["generatorURL"] = json!(hub);
        }
        document
    };
    alerts.iter().map(alert).collect()
}

/// Subject and text of a mail.
#[must_use]
pub fn mail(rule: &str, state: AlertState, alerts: &[&Alert]) -> (String, String) {
    let word = if state == AlertState::Resolved { "RESOLVED" } else { "FIRING" };
    let severity = alerts.first().and_then(|alert| alert.labels.get("severity"));
    let severity = severity.map(String::as_str).unwrap_or_default();
    let subject = match alerts {
        [one] => format!("[{word}] {rule} ({severity}): {}", one.message),
        several => format!("[{word}] {rule} ({severity}): {} alerts", several.len()),
    };
    let mut text = String::new();
    for alert in alerts {
        text.push_str(&format!("{}\n  since {}\n", alert.message, starts(alert)));
        if let (AlertState::Resolved, Some(resolved)) = (state, &alert.resolved) {
            text.push_str(&format!("  resolved {}\n", resolved.0));
        }
        for (key, value) in &alert.labels {
            text.push_str(&format!("  {key} = {value}\n"));
        }
        text.push('\n');
    }
    // A header is one line of a bearable length.
    let subject: String = subject.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    (subject, text)
}
