//! A container's environment.

use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

use crate::inputs::fields::{self, Own};
use crate::inputs::{Data, InputError, Inputs, expand};

impl Inputs {
    /// The whole environment, in order; later names replace earlier ones, `$(NAME)` refers to what came before.
    ///
    /// # Errors
    /// When an object or key that isn't optional is missing, or the API does not answer.
    pub async fn environment(
        &self,
        pod: &Pod,
        container: &Container,
        pod_ips: &[String],
    ) -> Result<Vec<(String, String)>, InputError> {
        let mut environment = Vec::new();
        if let Some((host, port)) = &self.api_server {
            set(&mut environment, "KUBERNETES_SERVICE_HOST", host.clone());
            set(&mut environment, "KUBERNETES_SERVICE_PORT", port.clone());
            set(&mut environment, "KUBERNETES_SERVICE_PORT_HTTPS", port.clone());
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for source in container.env_from.iter().flatten() {
            let prefix = source.prefix.as_deref().unwrap_or_default();
            let (kind, name, optional, data) = if let Some(map) = &source.config_map_ref {
                ("configmap", &map.name, map.optional, self.config_map(namespace, &map.name).await?)
            } else if let Some(secret) = &source.secret_ref {
                ("secret", &secret.name, secret.optional, self.secret(namespace, &secret.name).await?)
            } else {
                continue;
            };
            match data {
                Some(data) => {
                    for (key, value) in data {
                        set(&mut environment, &format!("{prefix}{key}"), text(&value));
                    }
                }
                None if optional == Some(true) => {}
                None => return Err(InputError::Missing { kind, name: name.clone() }),
            }
        }
        let own = Own { pod_ips, host_ip: &self.host_ip, node_name: &self.node_name };
        for variable in container.env.iter().flatten() {
            if let Some(value) = self.value(pod, container, variable, &own, &environment).await? {
                set(&mut environment, &variable.name, value);
            }
        }
        Ok(environment)
    }

    async fn value(
        &self,
        pod: &Pod,
        container: &Container,
        variable: &EnvVar,
        own: &Own<'_>,
        before: &[(String, String)],
    ) -> Result<Option<String>, InputError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let Some(source) = &variable.value_from else {
            let value = variable.value.as_deref().unwrap_or_default();
            return Ok(Some(expand::expand(value, |name| find(before, name))));
        };
        if let Some(field) = &source.field_ref {
            return fields::field(pod, &field.field_path, own).map(Some);
        }
        if let Some(resource) = &source.resource_field_ref {
            return fields::resource(pod, resource, &container.name).map(Some);
        }
        let (kind, upper, name, key, optional, data) = if let Some(map) = &source.config_map_key_ref {
            let data = self.config_map(namespace, &map.name).await?;
            ("configmap", "ConfigMap", &map.name, &map.key, map.optional, data)
        } else if let Some(secret) = &source.secret_key_ref {
            let data = self.secret(namespace, &secret.name).await?;
            ("secret", "Secret", &secret.name, &secret.key, secret.optional, data)
        } else {
            return Err(InputError::Field(format!("env {}: no known source", variable.name)));
        };
        let found: Option<Data> = data;
        let there = found.is_some();
        match found.and_then(|mut data| data.remove(key)) {
            Some(value) => Ok(Some(text(&value))),
            None if optional == Some(true) => Ok(None),
            None if there => Err(InputError::MissingKey {
                kind: upper,
                namespace: namespace.to_owned(),
                name: name.clone(),
                key: key.clone(),
            }),
            None => Err(InputError::Missing { kind, name: name.clone() }),
        }
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

fn set(environment: &mut Vec<(String, String)>, name: &str, value: String) {
    match environment.iter_mut().find(|(own, _)| own == name) {
        Some((_, old)) => *old = value,
        None => environment.push((name.to_owned(), value)),
    }
}

/// A variable's value.
#[must_use]
pub fn find<'a>(environment: &'a [(String, String)], name: &str) -> Option<&'a str> {
    environment.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}
