//! ServiceAccount: every pod runs as an account of its namespace, with its token, pull secrets and restrictions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kube_objects::Status;
use rand::Rng as _;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use kind_rules::json::{default_text, existing, list, present, set, text};
use kind_rules::references;

mod token;

const MIRROR: &str = "kubernetes.io/config.mirror";
const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";
const DEFAULT_ACCOUNT: &str = "default";
/// How often the account `default` is looked for: the controller makes it a moment after its namespace (upstream's
/// numbers: ten times, 100 to 200 ms apart).
const DEFAULT_ACCOUNT_ATTEMPTS: usize = 10;

/// The plug-in.
pub(super) struct ServiceAccount;

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.is("", "pods", None),
            Operation::Update => attributes.is("", "pods", Some("ephemeralcontainers")),
            _ => false,
        }
    }

    async fn mutate(&self, attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
        // A static pod's mirror says what already runs.
        if attributes.operation != Operation::Create || is_mirror(pod) {
            return Ok(());
        }
        let Some(spec) = existing(pod, "spec") else { return Ok(()) };
        default_text(spec, "serviceAccountName", DEFAULT_ACCOUNT);
        let name = text(spec, "serviceAccountName").to_owned();
        // The field's old name, which v1 goes on showing.
        set(spec, "serviceAccount", name.as_str());
        let account = account(attributes, pod, &name).await?;
        let Some(spec) = existing(pod, "spec") else { return Ok(()) };
        // The pod's word counts before its account's.
        let wanted = spec["automountServiceAccountToken"]
            .as_bool()
            .or_else(|| account["automountServiceAccountToken"].as_bool())
            .unwrap_or(true);
        if wanted {
            token::mount(spec);
        }
        if list(spec, "imagePullSecrets").is_empty() && !list(&account, "imagePullSecrets").is_empty() {
            set(spec, "imagePullSecrets", account["imagePullSecrets"].clone());
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
        if attributes.operation == Operation::Create && is_mirror(pod) {
            return match mirror_problem(&pod["spec"]) {
                Some(why) => Err(attributes.forbidden(pod, why)),
                None => Ok(()),
            };
        }
        let name = text(&pod["spec"], "serviceAccountName");
        if name.is_empty() {
            let why = format!(
                "no service account specified for pod {}/{}",
                attributes.cx.namespace,
                text(&pod["metadata"], "name")
            );
            return Err(attributes.forbidden(pod, &why));
        }
        let account = account(attributes, pod, name).await?;
        let enforced = text(&account["metadata"]["annotations"], ENFORCE_SECRETS);
        if !matches!(enforced, "1" | "t" | "T" | "TRUE" | "true" | "True") {
            return Ok(());
        }
        match secret_problem(&account, &pod["spec"], attributes.operation) {
            Some(why) => Err(attributes.forbidden(pod, &why)),
            None => Ok(()),
        }
    }
}

fn is_mirror(pod: &Value) -> bool {
    present(&pod["metadata"]["annotations"], MIRROR)
}

async fn account(attributes: &Attributes<'_>, pod: &Value, name: &str) -> Result<Arc<Value>, Status> {
    let cx = &attributes.cx;
    let attempts = if name == DEFAULT_ACCOUNT { DEFAULT_ACCOUNT_ATTEMPTS } else { 1 };
    for attempt in 0..attempts {
        if attempt > 0 {
            let pause = rand::rng().random_range(100..200);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        if let Some(account) = cx.objects.get("", "serviceaccounts", cx.namespace, name).await? {
            return Ok(account);
        }
    }
    let why = format!(
        "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
        cx.namespace
    );
    Err(attributes.forbidden(pod, &why))
}

fn mirror_problem(spec: &Value) -> Option<&'static str> {
    if !text(spec, "serviceAccountName").is_empty() {
        return Some("a mirror pod may not reference service accounts");
    }
    if references::secrets(spec).next().is_some() {
        return Some("a mirror pod may not reference secrets");
    }
    let token = |volume: &Value| {
        list(&volume["projected"], "sources").iter().any(|source| present(source, "serviceAccountToken"))
    };
    list(spec, "volumes")
        .iter()
        .any(token)
        .then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

fn names<'a>(object: &'a Value, key: &str) -> HashSet<&'a str> {
    list(object, key).iter().map(|entry| text(entry, "name")).collect()
}

/// The first secret that the account does not name.
fn secret_problem(account: &Value, spec: &Value, operation: Operation) -> Option<String> {
    let allowed = names(account, "secrets");
    let owner = text(&account["metadata"], "name");
    let behind = format!("is not allowed because service account {owner} does not reference that");
    let kinds: &[(&str, &str)] = if operation == Operation::Create {
        &[("init container", "initContainers"), ("container", "containers")]
    } else {
        &[("ephemeral container", "ephemeralContainers")]
    };
    if operation == Operation::Create {
        for volume in list(spec, "volumes").iter().filter(|volume| present(volume, "secret")) {
            let secret = text(&volume["secret"], "secretName");
            if !allowed.contains(secret) {
                return Some(format!("volume with secret.secretName=\"{secret}\" {behind} secret"));
            }
        }
    }
    for (what, key) in kinds {
        for container in list(spec, key) {
            let name = text(container, "name");
            let foreign =
                references::of_environment(container, "secret").find(|(_, secret)| !allowed.contains(secret));
            if let Some((variable, secret)) = foreign {
                let how =
                    if variable.is_empty() { "envFrom".to_owned() } else { format!("envVar {variable}") };
                return Some(format!(
                    "{what} {name} with {how} referencing secret.secretName=\"{secret}\" {behind} secret"
                ));
            }
        }
    }
    if operation != Operation::Create {
        return None;
    }
    let pull = names(account, "imagePullSecrets");
    let mut own = list(spec, "imagePullSecrets").iter().map(|entry| text(entry, "name")).enumerate();
    let (index, secret) = own.find(|(_, name)| !pull.contains(name))?;
    Some(format!("imagePullSecrets[{index}].name=\"{secret}\" {behind} imagePullSecret"))
}

#[cfg(test)]
mod tests;
