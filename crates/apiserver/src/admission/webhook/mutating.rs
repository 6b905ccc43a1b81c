//! MutatingAdmissionWebhook: one webhook after the other, and those that ask for it once more when a later one changed
//! the object.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use kube_objects::Status;
use serde_json::{Value, json};

use super::call::{Failure, ask, failed_closed};
use super::hook::{Hook, hooks};
use super::is_exempt;
use super::selection::{Invocation, select};
use crate::admission::compiled::Compiled;
use crate::admission::{Attributes, Plugin};
use crate::registry::objects::ObjectAccess;
use crate::webhook_client::WebhookClient;

const NAME: &str = "MutatingAdmissionWebhook";
const ANNOTATION: &str = "mutation.webhook.admission.k8s.io";

/// The plug-in.
pub(in super::super) struct MutatingWebhooks {
    objects: Arc<ObjectAccess>,
    client: Arc<WebhookClient>,
    hooks: Compiled<Vec<Hook>>,
}

/// What is remembered between the two rounds (upstream `webhookReinvokeContext`).
#[derive(Clone, Default)]
struct Memory {
    last_output: Option<Value>,
    /// Called already, willing to be called again.
    invoked: HashSet<String>,
    /// To be called in the second round.
    due: HashSet<String>,
}

impl Memory {
    fn require_all(&mut self) {
        self.due.extend(std::mem::take(&mut self.invoked));
    }
}

impl MutatingWebhooks {
    pub(in super::super) fn new(objects: &Arc<ObjectAccess>, client: &Arc<WebhookClient>) -> Self {
        let compiled =
            Compiled::new(objects, "admissionregistration.k8s.io", "mutatingwebhookconfigurations", hooks);
        Self { objects: Arc::clone(objects), client: Arc::clone(client), hooks: compiled }
    }

    /// One webhook; whether it changed the object.
    async fn invoke(
        &self,
        invocation: &Invocation<'_>,
        attributes: &Attributes<'_>,
        object: &mut Value,
        place: &str,
    ) -> Result<bool, Status> {
        let hook = invocation.hook;
        let asked = ask(&self.client, &self.objects, invocation, attributes, true).await;
        let changed = match &asked {
            Ok(Some(patched)) => patched.changed,
            _ => false,
        };
        let note = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed});
        attributes.annotate(format!("{ANNOTATION}/{place}"), note.to_string());
        match asked {
            Ok(patched) => {
                if let Some(patched) = patched {
                    *object = patched.object;
                }
                Ok(changed)
            }
            Err(Failure::Calling(why)) if hook.fails_open => {
                tracing::warn!(webhook = hook.name, why, "failed to call a webhook; going on without it");
                attributes.annotate(format!("failed-open.{ANNOTATION}/{place}"), hook.name.as_str());
                Ok(false)
            }
            Err(Failure::Calling(why)) => Err(failed_closed(&hook.name, &why)),
            Err(Failure::Refused(status)) => Err(status),
        }
    }
}

#[async_trait]
impl Plugin for MutatingWebhooks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        !self.hooks.get().is_empty() && !is_exempt(attributes)
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let second = attributes.reinvocation.is_second();
        let mut memory = attributes.reinvocation.with(NAME, |memory: &mut Memory| std::mem::take(memory));
        // Built-in plug-ins may have changed it in this round before any webhook did.
        if second && memory.last_output.as_ref().is_some_and(|last| last != object) {
            memory.require_all();
        }
        for (index, hook) in self.hooks.get().iter().enumerate() {
            if second && !memory.due.contains(&hook.uid) {
                continue;
            }
            let Some(invocation) = select(&self.objects, hook, attributes, object).await? else { continue };
            let place = format!("round_{}_index_{index}", u8::from(second));
            if self.invoke(&invocation, attributes, object, &place).await? {
                memory.require_all();
                attributes.reinvocation.request();
            }
            if hook.reinvoke {
                memory.invoked.insert(hook.uid.clone());
            }
        }
        // Only needed by those who may be called again.
        memory.last_output = (!memory.invoked.is_empty()).then(|| object.clone());
        attributes.reinvocation.with(NAME, |kept: &mut Memory| *kept = memory);
        Ok(())
    }
}
