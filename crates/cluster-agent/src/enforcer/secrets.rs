//! Values of secret variables, read where they are: in this cluster, or in the vault when the hub keeps them. They are never
//! told.

use fleet_objects::AssignmentSpec;
use fleet_planner::variables::{SecretReference, Values};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde_json::Value;

use crate::error::Error;
use crate::vault::Vault;

/// Shorter values are not looked for in messages: they would be found everywhere.
const MIN_SCRUBBED: usize = 4;

/// The values that were read. They never show.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Secrets({} values)", self.0.len())
    }
}

impl Secrets {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A message of the API server without the values that it may repeat.
    pub(super) fn scrub(&self, mut message: String) -> String {
        for value in self.0.iter().filter(|value| value.len() >= MIN_SCRUBBED) {
            if message.contains(value.as_str()) {
                message = message.replace(value.as_str(), "***");
            }
        }
        message
    }
}

/// Puts values in place of references. The inner error is what the cluster lacks.
pub(super) async fn resolve(
    client: &Client,
    vault: &Vault,
    spec: &AssignmentSpec,
    target_namespace: Option<&str>,
) -> Result<Result<(Values, Secrets), String>, Error> {
    let (mut resolved, mut secrets) = (spec.variables.clone(), Secrets::default());
    for (variable, value) in &spec.variables {
        let Some(reference) = SecretReference::of(value) else { continue };
        let SecretReference { on_hub, namespace, name, key } = reference;
        if on_hub {
            let place = format!("{}/{name}/{key}", spec.profile.namespace);
            let bytes = vault.value(&place).await?;
            let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()) else {
                let problem = format!("the hub's secret {place} is not in the agent's store");
                return Ok(Err(format!("variable {variable:?}: {problem}")));
            };
            resolved.insert(variable.clone(), Value::from(text.clone()));
            secrets.0.push(text);
            continue;
        }
        let namespace = namespace.as_deref().or(target_namespace).unwrap_or("default").to_owned();
        let found = Api::<Secret>::namespaced(client.clone(), &namespace).get(&name).await;
        let secret = match found {
            Ok(secret) => secret,
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                return Ok(Err(format!("variable {variable:?}: {}", status.message)));
            }
            Err(error) => return Err(Error::cluster(format!("read secret {namespace}/{name}"))(error)),
        };
        let bytes = secret.data.and_then(|mut data| data.remove(&key)).map(|bytes| bytes.0);
        let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            let problem = format!("secret {namespace}/{name} has no text under key {key:?}");
            return Ok(Err(format!("variable {variable:?}: {problem}")));
        };
        resolved.insert(variable.clone(), Value::from(text.clone()));
        secrets.0.push(text);
    }
    Ok(Ok((resolved, secrets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_show() {
        let secrets = Secrets(vec!["hunter2".to_owned(), "no".to_owned()]);
        let said = secrets.scrub("Invalid value: \"hunter2\": not now".to_owned());
        assert_eq!(said, "Invalid value: \"***\": not now");
        assert!(!format!("{secrets:?}").contains("hunter"));
    }
}
