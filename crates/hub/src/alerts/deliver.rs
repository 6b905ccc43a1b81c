//! One notice to one receiver, as often as it takes.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_objects::alert::{
    Alert, AlertReceiver, AlertState, AlertmanagerReceiver, EmailReceiver, SecretKey, WebhookReceiver,
};
use fleet_objects::{ConditionChange, SYSTEM_NAMESPACE, set_condition};
use fleet_planner::alerts::{REFRESH, message};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use super::mail::{self, Letter};
use crate::cluster_status;
use crate::known_secrets::KnownSecrets;
use crate::outbound::{Outbound, Refusal, signature};

/// Tries of one notice: with the waits between them some two minutes. What fires still is tried anew later.
const ATTEMPTS: u32 = 8;
/// Between the first two tries; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Tries to write how a receiver does.
const TRIES: u32 = 5;

/// Alerts of one rule for one receiver.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) rule: String,
    pub(super) receiver: String,
    /// That they fire, or that they are resolved.
    pub(super) state: AlertState,
    pub(super) alerts: Vec<Alert>,
    /// Nothing is new: an Alertmanager is reminded.
    pub(super) refresh: bool,
    /// The receiver as it was when this began ([`version`]).
    pub(super) tried: String,
}

/// What became of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server took it; its answer.
    Arrived(String),
    /// It was given up, and why.
    GivenUp(String),
    /// Somebody changed the receiver meanwhile: it is told anew as it is now.
    Superseded,
}

/// Another one whenever people change a receiver, or a Secret that it names, or make either anew.
pub(super) fn version(receiver: &AlertReceiver, secrets: &KnownSecrets) -> String {
    let generation = receiver.metadata.generation.unwrap_or_default();
    let mut version = format!("{}/{generation}", receiver.uid().unwrap_or_default());
    for key in secrets_of(receiver) {
        let found = secrets.find(SYSTEM_NAMESPACE, &key.name);
        let of_secret = found.map(|secret| {
            let revision = secret.resource_version().unwrap_or_default();
            format!("{}/{revision}", secret.uid().unwrap_or_default())
        });
        version.push(' ');
        version.push_str(of_secret.as_deref().unwrap_or("none"));
    }
    version
}

/// The Secrets that a receiver takes something from: one of each kind has at most one.
pub(super) fn secrets_of(receiver: &AlertReceiver) -> impl Iterator<Item = &SecretKey> {
    let spec = &receiver.spec;
    let webhook = spec.webhook.as_ref().and_then(|to| to.secret.as_ref());
    let alertmanager = spec.alertmanager.as_ref().and_then(|to| to.token.as_ref());
    let email = spec.email.as_ref().and_then(|to| to.password.as_ref());
    [webhook, alertmanager, email].into_iter().flatten()
}

/// What it takes to deliver.
pub(super) struct Delivery {
    pub(super) client: Client,
    pub(super) outbound: Outbound,
    pub(super) receiver: AlertReceiver,
    /// Where people reach the hub; "" when it does not know.
    pub(super) hub: String,
}

impl Delivery {
    /// Tells the receiver. A reminder is tried once; nothing is tried again once the receiver was superseded.
    pub(super) async fn send(&self, notice: &Notice, superseded: &CancellationToken) -> Outcome {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.once(notice).await {
                Ok(answer) => return Outcome::Arrived(answer),
                Err(refusal) if refusal.again && attempts < ATTEMPTS && !notice.refresh => {
                    let wait = FIRST_WAIT.saturating_mul(1 << (attempts - 1).min(10));
                    if superseded.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                        return Outcome::Superseded;
                    }
                }
                Err(refusal) => return Outcome::GivenUp(format!("{refusal} (after {attempts} tries)")),
            }
        }
    }

    async fn once(&self, notice: &Notice) -> Result<String, Refusal> {
        let spec = &self.receiver.spec;
        match (&spec.webhook, &spec.alertmanager, &spec.email) {
            (Some(webhook), None, None) => self.webhook(webhook, notice).await,
            (None, Some(alertmanager), None) => self.alertmanager(alertmanager, notice).await,
            (None, None, Some(email)) => self.mail(email, notice).await,
            _ => Err(Refusal::final_("a receiver has exactly one of webhook, alertmanager and email")),
        }
    }

    async fn webhook(&self, to: &WebhookReceiver, notice: &Notice) -> Result<String, Refusal> {
        let alerts: Vec<&Alert> = notice.alerts.iter().collect();
        let body = message::webhook(&notice.receiver, &notice.rule, notice.state, &alerts, &self.hub);
        let body = body.to_string();
        let id = message::id(&notice.receiver, notice.state, &alerts, round(notice));
        let time = Timestamp::now().as_second().to_string();
        let mut headers = headers(&to.headers);
        headers.push(("webhook-id".to_owned(), id.clone()));
        headers.push(("webhook-timestamp".to_owned(), time.clone()));
        if let Some(secret) = &to.secret {
            let secret = self.secret(secret).await?;
            headers.push(("webhook-signature".to_owned(), signature(&secret, &id, &time, &body)?));
        }
        self.outbound.post(&to.url, to.ca_bundle.as_deref(), &headers, body.into_bytes()).await
    }

    async fn alertmanager(&self, to: &AlertmanagerReceiver, notice: &Notice) -> Result<String, Refusal> {
        let alerts: Vec<&Alert> = notice.alerts.iter().collect();
        let forget = Timestamp::now().saturating_add(REFRESH * 4).unwrap_or(Timestamp::MAX);
        let body = message::alertmanager(notice.state, &alerts, forget, &self.hub).to_string();
        let mut headers = headers(&to.headers);
        if let Some(token) = &to.token {
            let token = self.secret(token).await?;
            headers.push(("authorization".to_owned(), format!("Bearer {}", text(token)?)));
        }
        let url = format!("{}/api/v2/alerts", to.url.trim_end_matches('/'));
        self.outbound.post(&url, to.ca_bundle.as_deref(), &headers, body.into_bytes()).await
    }

    async fn mail(&self, to: &EmailReceiver, notice: &Notice) -> Result<String, Refusal> {
        let alerts: Vec<&Alert> = notice.alerts.iter().collect();
        let (subject, mut body) = message::mail(&notice.rule, notice.state, &alerts);
        if !self.hub.is_empty() {
            body.push_str(&self.hub);
            body.push('\n');
        }
        let letter = Letter {
            id: message::id(&notice.receiver, notice.state, &alerts, round(notice)),
            threads: alerts.iter().map(|alert| message::thread(alert)).collect(),
            subject,
            text: body,
        };
        let password = match &to.password {
            Some(key) => Some(text(self.secret(key).await?)?),
            None => None,
        };
        mail::send(to, password, letter).await
    }

    async fn secret(&self, key: &SecretKey) -> Result<Vec<u8>, Refusal> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let found = api.get_opt(&key.name).await.map_err(|error| Refusal::passing(error.to_string()))?;
        let value = found.and_then(|found| found.data?.remove(&key.key)).map(|value| value.0);
        value.filter(|value| !value.is_empty()).ok_or_else(|| {
            let message =
                format!("there is no Secret {} with a key {} in {SYSTEM_NAMESPACE}", key.name, key.key);
            Refusal::passing(message)
        })
    }
}

/// A secret that is a text.
fn text(secret: Vec<u8>) -> Result<String, Refusal> {
    let text = String::from_utf8(secret).map_err(|_| Refusal::final_("the secret is no text"))?;
    Ok(text.trim().to_owned())
}

/// What people wrote, and the media type.
fn headers(own: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        own.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    if !own.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
        all.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    all
}

/// Which telling of the same alerts it is: when they were told last.
fn round(notice: &Notice) -> Timestamp {
    let told = notice.alerts.iter().filter_map(|alert| alert.told.get(&notice.receiver));
    told.map(|told| told.time.0).max().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Writes at the receiver what became of a notice.
pub(super) async fn note(client: &Client, receiver: &str, outcome: &Outcome) {
    let api: Api<AlertReceiver> = Api::all(client.clone());
    for _ in 0..TRIES {
        let Ok(Some(mut object)) = api.get_opt(receiver).await else { return };
        let mut status = object.status.take().unwrap_or_default();
        let (delivered, reason, message) = match outcome {
            Outcome::Arrived(answer) => (true, "Delivered", answer.clone()),
            Outcome::GivenUp(problem) => (false, "GivenUp", problem.clone()),
            Outcome::Superseded => return,
        };
        let count = if delivered { &mut status.delivered } else { &mut status.given_up };
        *count = count.saturating_add(1);
        let change = ConditionChange {
            kind: "Delivering",
            status: Some(delivered),
            reason,
            message,
            observed_generation: object.metadata.generation,
        };
        set_condition(&mut status.conditions, change, &cluster_status::now());
        object.status = Some(status);
        match api.replace_status(receiver, &PostParams::default(), &object).await {
            Err(error) if api_client::error::is_conflict(&error) => {}
            Err(error) => {
                tracing::debug!(%receiver, %error, "how a receiver does could not be written");
                return;
            }
            Ok(_) => return,
        }
    }
}
