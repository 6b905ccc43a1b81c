//! What a container is given from the API: its environment and its volumes.
//!
//! Objects are read when they are needed and named in errors, so that a person sees which one is missing. Service
//! variables other than the API server's own are not made: DNS names are what workloads use.

pub mod environment;
pub mod expand;
pub mod fields;
pub mod payload;
pub mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use kube::api::{Api, PostParams};

/// Reads what pods refer to.
#[derive(Clone)]
pub struct Inputs {
    pub(crate) client: kube::Client,
    pub(crate) api_server: Option<(String, String)>,
    pub(crate) host_ip: String,
    pub(crate) node_name: String,
}

/// Why a container or its volumes cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// An object that must be there is not.
    #[error("{kind} \"{name}\" not found")]
    Missing {
        /// `configmap`, `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// An object lacks a key.
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    MissingKey {
        /// `ConfigMap`, `Secret`.
        kind: &'static str,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A reference to a field that there is no way to give.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// A kind of volume this agent cannot provide.
    #[error("volume \"{volume}\": {what} volumes are not supported by this node")]
    UnsupportedVolume {
        /// Its name.
        volume: String,
        /// Its kind.
        what: String,
    },
    /// A mount that names no volume, or leaves it.
    #[error("{0}")]
    Mount(String),
    /// The API did not answer as hoped.
    #[error("cannot read {what}: {source}")]
    Api {
        /// What was asked for.
        what: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// A file could not be written.
    #[error("cannot {operation} {path}: {source}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// The keys of a config map or secret. Secret values are among them: never print one.
pub(crate) type Data = BTreeMap<String, Vec<u8>>;

impl Inputs {
    /// Reads for pods of the node at `host_ip`; `api_server` is host and port as pods reach it.
    #[must_use]
    pub fn new(client: kube::Client, node_name: &str, host_ip: &str, api_server: Option<&str>) -> Self {
        let api_server = api_server.and_then(|url| {
            let address = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
            let (host, port) = address.rsplit_once(':').unwrap_or((address, "443"));
            Some((host.trim_matches(['[', ']']).to_owned(), port.to_owned()))
                .filter(|(host, _)| !host.is_empty())
        });
        Self { client, api_server, host_ip: host_ip.to_owned(), node_name: node_name.to_owned() }
    }

    pub(crate) async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<Data>, InputError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|source| InputError::Api {
            what: format!("configmap {namespace}/{name}"),
            source: Box::new(source),
        })?;
        Ok(found.map(|map| {
            let text = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
            text.chain(map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0))).collect()
        }))
    }

    pub(crate) async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Data>, InputError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(|source| InputError::Api {
            what: format!("secret {namespace}/{name}"),
            source: Box::new(source),
        })?;
        Ok(found.map(|secret| secret.data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect()))
    }

    /// A token of the pod's service account, bound to the pod, so that it dies with it.
    pub(crate) async fn token(
        &self,
        pod: &Pod,
        audience: Option<&str>,
        seconds: Option<i64>,
    ) -> Result<String, InputError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let account = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.service_account_name.as_deref())
            .filter(|name| !name.is_empty())
            .unwrap_or("default");
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: audience.map(|audience| vec![audience.to_owned()]),
                expiration_seconds: seconds.or(Some(3600)),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            }),
            ..TokenRequest::default()
        };
        let what = || format!("a token of service account {namespace}/{account}");
        let made = api
            .create_token_request(account, &PostParams::default(), &request)
            .await
            .map_err(|source| InputError::Api { what: what(), source: Box::new(source) })?;
        Ok(made.status.and_then(|status| status.token).unwrap_or_default())
    }
}
