//! Alerts: what of the fleet a rule is about, since when, and who is still to be told.
//!
//! * [`symptoms`]: what is so, read from what the hub holds.
//! * [`advance`]: the rule's alerts after that: pending, firing, resolved, silenced.
//! * [`owed`]: what a receiver is still to be told of an alert.
//! * [`message`]: the words of notices.

pub mod message;
mod symptoms;

use std::collections::BTreeMap;

use fleet_objects::alert::{Alert, AlertRuleSpec, AlertSilenceSpec, AlertState, MAX_ALERTS, Told};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use symptoms::{Fleet, Found, Symptom, symptoms};

/// How often an Alertmanager is told of what fires: well within the five minutes after which it forgets.
pub const REFRESH: SignedDuration = SignedDuration::from_secs(60);

/// Seconds after which a receiver that could not be reached is tried anew while the alert fires.
const TRY_AGAIN: u32 = 600;

/// A receiver as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// Its name.
    pub name: String,
    /// Another one whenever people change it, or make it anew.
    pub version: String,
}

/// A rule's alerts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Firing ones first, each by its fingerprint.
    pub alerts: Vec<Alert>,
    /// Beyond the bound.
    pub omitted: u32,
    /// When something changes by time alone.
    pub due: Option<Timestamp>,
}

fn time(at: Timestamp) -> Time {
    // Whole seconds: what the API server keeps.
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

fn after(at: Timestamp, seconds: u32) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}

/// Sixteen hexadecimal digits of the digest of all labels.
fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let text: String = labels.iter().map(|(key, value)| format!("{key}\u{0}{value}\u{0}")).collect();
    crate::digest(text.as_bytes())[..16].to_owned()
}

/// Whether a silence is about an alert.
#[must_use]
pub fn silences(silence: &AlertSilenceSpec, labels: &BTreeMap<String, String>) -> bool {
    let holds = |(key, wanted): (&String, &String)| {
        labels.get(key).is_some_and(|value| wanted == "*" || wanted == value)
    };
    !silence.match_labels.is_empty() && silence.match_labels.iter().all(holds)
}

/// The alerts of a rule. `before`: as they were; `silences` by name. What is so no more is resolved and stays until it was
/// told to all that were told of it ([`is_done`]).
#[must_use]
pub fn advance(
    name: &str,
    rule: &AlertRuleSpec,
    before: &[Alert],
    found: Found,
    silences: &[(String, AlertSilenceSpec)],
    now: Timestamp,
) -> Judged {
    let mut due = found.due;
    let mut soon = |at: Timestamp| {
        if at > now {
            due = Some(due.map_or(at, |known: Timestamp| known.min(at)));
        }
    };
    let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
    for symptom in found.symptoms {
        let mut labels = rule.labels.clone();
        labels.extend(symptom.labels);
        labels.insert("alertname".to_owned(), name.to_owned());
        labels.insert("condition".to_owned(), format!("{:?}", rule.on));
        labels.insert("severity".to_owned(), rule.severity.word().to_owned());
        let fingerprint = fingerprint(&labels);
        let known = before.iter().find(|alert| alert.fingerprint == fingerprint);
        let lasting = known.filter(|alert| alert.state != AlertState::Resolved);
        let since =
            lasting.map_or_else(|| time(symptom.since.unwrap_or(now).min(now)), |alert| alert.since.clone());
        let fires = after(since.0, rule.for_seconds);
        let firing = fires <= now || lasting.is_some_and(|alert| alert.state == AlertState::Firing);
        if !firing {
            soon(fires);
        }
        let fired = lasting.and_then(|alert| alert.fired.clone());
        let alert = Alert {
            state: if firing { AlertState::Firing } else { AlertState::Pending },
            message: symptom.message,
            fired: if firing { fired.or_else(|| Some(time(now))) } else { None },
            resolved: None,
            silenced_by: None,
            // Who was told that it fires and not yet that it does not any more hears nothing of the gap.
            told: known.map(|alert| alert.told.clone()).unwrap_or_default(),
            fingerprint: fingerprint.clone(),
            labels,
            since,
        };
        alerts.insert(fingerprint, alert);
    }
    for alert in before {
        if alert.state == AlertState::Pending || alerts.contains_key(&alert.fingerprint) {
            continue;
        }
        let mut alert = alert.clone();
        alert.state = AlertState::Resolved;
        alert.resolved.get_or_insert_with(|| time(now));
        alerts.insert(alert.fingerprint.clone(), alert);
    }
    let mut alerts: Vec<Alert> = alerts.into_values().collect();
    for alert in &mut alerts {
        let silence = silences.iter().filter(|(_, silence)| self::silences(silence, &alert.labels));
        for (name, silence) in silence {
            let starts = silence.starts_at.as_ref().map_or(Timestamp::MIN, |starts| starts.0);
            soon(starts);
            soon(silence.ends_at.0);
            if starts <= now && now < silence.ends_at.0 {
                alert.silenced_by = Some(name.clone());
            }
        }
        if alert.state == AlertState::Firing {
            alert.told.values().filter_map(|told| again(rule, told)).for_each(&mut soon);
        }
    }
    let rank = |alert: &Alert| match alert.state {
        AlertState::Firing => 0,
        AlertState::Resolved => 1,
        AlertState::Pending => 2,
    };
    alerts.sort_by(|a, b| (rank(a), &a.fingerprint).cmp(&(rank(b), &b.fingerprint)));
    let omitted = alerts.len().saturating_sub(MAX_ALERTS);
    alerts.truncate(MAX_ALERTS);
    Judged { alerts, omitted: u32::try_from(omitted).unwrap_or(u32::MAX), due }
}

/// When a receiver is told once more that an alert fires: what it was not reached with, or a repetition.
fn again(rule: &AlertRuleSpec, told: &Told) -> Option<Timestamp> {
    let repeat = (rule.repeat_seconds > 0).then_some(rule.repeat_seconds);
    let seconds = if told.delivered { repeat } else { Some(repeat.unwrap_or(TRY_AGAIN).min(TRY_AGAIN)) };
    seconds.map(|seconds| after(told.time.0, seconds))
}

/// Whether a receiver is another one than that which could not be reached. What an earlier hub wrote down names none.
fn put_right(told: &Told, receiver: &Receiver) -> bool {
    !told.delivered && told.tried.as_ref().is_some_and(|tried| *tried != receiver.version)
}

/// What a receiver is still to be told of an alert. One that was changed since it could not be reached is told at once. Silenced alerts are owed to nobody, but that one is resolved is told to
/// whom it was told, or may have been told, before.
#[must_use]
pub fn owed(rule: &AlertRuleSpec, alert: &Alert, receiver: &Receiver, now: Timestamp) -> Option<AlertState> {
    let told = alert.told.get(&receiver.name);
    match alert.state {
        AlertState::Pending => None,
        AlertState::Firing if alert.silenced_by.is_some() => None,
        AlertState::Firing => match told.filter(|told| told.state == AlertState::Firing) {
            None => Some(AlertState::Firing),
            Some(told) => {
                let due = put_right(told, receiver) || again(rule, told).is_some_and(|at| at <= now);
                due.then_some(AlertState::Firing)
            }
        },
        AlertState::Resolved => {
            let owed = match told {
                Some(told) => told.state == AlertState::Firing && told.delivered,
                // A notice may have gone out of which nothing was written down.
                None => alert.silenced_by.is_none(),
            };
            owed.then_some(AlertState::Resolved)
        }
    }
}

/// Whether an alert is resolved and none of these receivers is to be told of it any more.
#[must_use]
pub fn is_done(rule: &AlertRuleSpec, alert: &Alert, receivers: &[Receiver], now: Timestamp) -> bool {
    let waits = |receiver: &Receiver| owed(rule, alert, receiver, now).is_some();
    alert.state == AlertState::Resolved && !receivers.iter().any(waits)
}

#[cfg(test)]
mod tests;
