//! ValidatingAdmissionWebhook: all at once; any of them may refuse.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use kube_objects::Status;
use serde_json::Value;

use super::call::{Failure, ask, failed_closed};
use super::hook::{Hook, hooks};
use super::is_exempt;
use super::selection::{Invocation, select};
use crate::admission::compiled::Compiled;
use crate::admission::{Attributes, Plugin};
use crate::registry::objects::ObjectAccess;
use crate::webhook_client::WebhookClient;

/// The plug-in.
pub(in super::super) struct ValidatingWebhooks {
    objects: Arc<ObjectAccess>,
    client: Arc<WebhookClient>,
    hooks: Compiled<Vec<Hook>>,
}

impl ValidatingWebhooks {
    pub(in super::super) fn new(objects: &Arc<ObjectAccess>, client: &Arc<WebhookClient>) -> Self {
        let compiled =
            Compiled::new(objects, "admissionregistration.k8s.io", "validatingwebhookconfigurations", hooks);
        Self { objects: Arc::clone(objects), client: Arc::clone(client), hooks: compiled }
    }

    async fn invoke(
        &self,
        invocation: &Invocation<'_>,
        attributes: &Attributes<'_>,
        index: usize,
    ) -> Result<(), Status> {
        let hook = invocation.hook;
        match ask(&self.client, &self.objects, invocation, attributes, false).await {
            Ok(_) => Ok(()),
            Err(Failure::Calling(why)) if hook.fails_open => {
                tracing::warn!(webhook = hook.name, why, "failed to call a webhook; going on without it");
                let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                attributes.annotate(key, hook.name.as_str());
                Ok(())
            }
            Err(Failure::Calling(why)) => Err(failed_closed(&hook.name, &why)),
            Err(Failure::Refused(status)) => Err(status),
        }
    }
}

#[async_trait]
impl Plugin for ValidatingWebhooks {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !self.hooks.get().is_empty() && !is_exempt(attributes)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let hooks = self.hooks.get();
        let mut invocations = Vec::new();
        for hook in hooks.iter() {
            invocations.extend(select(&self.objects, hook, attributes, object).await?);
        }
        let calls = invocations.iter().enumerate();
        let calls = calls.map(|(index, invocation)| self.invoke(invocation, attributes, index));
        join_all(calls).await.into_iter().collect()
    }
}
