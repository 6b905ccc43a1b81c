//! Tells one receiver of one run, as often as it takes, and notes what came of it.

use std::time::Duration;

use fleet_objects::test_run::TestRun;
use fleet_objects::test_webhook::{TestWebhook, TestWebhookStatus, WebhookDelivery, WebhookEvent};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tracing::{info, warn};
use workflow::{otlp, webhook};

use super::{Telemetry, note};
use crate::outbound::{Outbound, Refusal, signature};

/// Tries of one event: with the waits between them some six minutes.
const ATTEMPTS: u32 = 10;
/// Between the first two tries; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Between tries, at most.
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Bytes of a document: a run of some thousand clusters.
const MAX_BODY: usize = 4 << 20;

/// What is told of one run.
pub(super) struct Delivery {
    pub(super) client: Client,
    pub(super) outbound: Outbound,
    pub(super) source: String,
    pub(super) run: TestRun,
}

impl Delivery {
    /// Tells a webhook these events, one after the other.
    pub(super) async fn webhook(&self, hook: &TestWebhook, events: &[WebhookEvent]) {
        for event in events {
            let id =
                webhook::id(&hook.uid().unwrap_or_default(), &self.run.uid().unwrap_or_default(), *event);
            let mut attempts = 0;
            let told = loop {
                attempts += 1;
                match self.tell(hook, &id, *event).await {
                    Err(refusal) if refusal.again && attempts < ATTEMPTS => {
                        info!(webhook = %hook.name_any(), %refusal, attempts, "a webhook is tried again");
                        tokio::time::sleep(wait(attempts)).await;
                    }
                    told => break told,
                }
            };
            if let Err(refusal) = &told {
                warn!(webhook = %hook.name_any(), run = %self.run.name_any(), %refusal, attempts, "a webhook was given up");
            }
            let delivered = told.is_ok();
            let message = told.unwrap_or_else(|refusal| refusal.message);
            let time = Time(Timestamp::now());
            let webhook = hook.name_any();
            let delivery = WebhookDelivery { webhook, event: *event, delivered, attempts, time, message };
            note(&self.client, &self.run, json!({ "deliveries": { (id): delivery } })).await;
            self.status(hook, delivery).await;
        }
    }

    async fn tell(&self, hook: &TestWebhook, id: &str, event: WebhookEvent) -> Result<String, Refusal> {
        let spec = &hook.spec;
        webhook::validate(spec).map_err(|error| Refusal::final_(error.to_string()))?;
        let (media, document) = webhook::payload(spec, id, event, &self.run, &self.source)
            .map_err(|error| Refusal::final_(error.to_string()))?;
        let body = document.to_string();
        if body.len() > MAX_BODY {
            return Err(Refusal::final_(format!(
                "the document has {} bytes; at most {MAX_BODY}",
                body.len()
            )));
        }
        let own: Vec<_> = spec.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut headers = headers(&own, media);
        let time = Timestamp::now().as_second().to_string();
        headers.push(("webhook-id".to_owned(), id.to_owned()));
        headers.push(("webhook-timestamp".to_owned(), time.clone()));
        if let Some(secret) = &spec.secret {
            let api: Api<Secret> =
                Api::namespaced(self.client.clone(), &hook.namespace().unwrap_or_default());
            let found =
                api.get_opt(&secret.name).await.map_err(|error| Refusal::passing(error.to_string()))?;
            let value = found.and_then(|found| found.data?.remove(&secret.key)).map(|value| value.0);
            let value = value.filter(|value| !value.is_empty()).ok_or_else(|| {
                Refusal::passing(format!("there is no Secret {} with a key {}", secret.name, secret.key))
            })?;
            headers.push(("webhook-signature".to_owned(), signature(&value, id, &time, &body)?));
        }
        self.outbound.post(&spec.url, spec.ca_bundle.as_deref(), &headers, body.into_bytes()).await
    }

    async fn status(&self, hook: &TestWebhook, delivery: WebhookDelivery) {
        let (status, reason) = if delivery.delivered { ("True", "Delivered") } else { ("False", "GivenUp") };
        let before = hook.status.iter().flat_map(|status| &status.conditions);
        let same = before.into_iter().find(|own| own.type_ == "Delivering" && own.status == status);
        let condition = Condition {
            type_: "Delivering".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: delivery.message.clone(),
            observed_generation: hook.metadata.generation,
            last_transition_time: same
                .map_or_else(|| delivery.time.clone(), |own| own.last_transition_time.clone()),
        };
        let status = TestWebhookStatus { conditions: vec![condition], last: Some(delivery) };
        let api: Api<TestWebhook> =
            Api::namespaced(self.client.clone(), &hook.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({ "status": status }));
        match api.patch_status(&hook.name_any(), &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => warn!(%error, webhook = %hook.name_any(), "cannot write a webhook's status"),
            Ok(_) => {}
        }
    }

    /// Hands the run's trace to the collector.
    pub(super) async fn trace(&self, telemetry: &Telemetry, sender: &otlp::Sender) {
        if let Some(document) = otlp::trace(&self.run, sender) {
            let (url, body) =
                (format!("{}/v1/traces", telemetry.endpoint), document.to_string().into_bytes());
            let headers = headers(&telemetry.headers, "application/json");
            let mut attempts = 0;
            while let Err(refusal) = self.outbound.post(&url, None, &headers, body.clone()).await {
                attempts += 1;
                if !refusal.again || attempts >= ATTEMPTS {
                    warn!(run = %self.run.name_any(), %refusal, "the trace of a test run was given up");
                    break;
                }
                tokio::time::sleep(wait(attempts)).await;
            }
        }
        note(&self.client, &self.run, json!({ "tracedAt": Time(Timestamp::now()) })).await;
    }
}

fn wait(attempts: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << attempts.saturating_sub(1).min(10)).min(LONGEST_WAIT)
}

/// Headers of a document; what people wrote goes before the media type it is sent with anyway.
pub(super) fn headers(own: &[(String, String)], media: &str) -> Vec<(String, String)> {
    let mut out = own.to_vec();
    if !own.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        out.push(("content-type".to_owned(), media.to_owned()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        assert_eq!([1, 2, 5, 10, 40].map(|tries| wait(tries).as_secs()), [1, 2, 16, 120, 120]);
    }
}
