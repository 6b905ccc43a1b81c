//! Calls webhooks: admission and conversion. HTTPS only, JSON both ways, bounded in time and size.
//!
//! Connections are kept per client configuration and used again. A configuration names a URL or a Service; a Service is
//! resolved at each new connection, so that endpoints may come and go. Failures read like those of Go's client, which is
//! what people search for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kube_objects::Status;
use parking_lot::Mutex;
use serde_json::Value;

use crate::registry::strategy::Objects;

mod answer;
mod config;
mod endpoint;

pub(crate) use config::ClientConfig;
use endpoint::Endpoint;

/// Client configurations whose connections are kept; more than any cluster has webhooks. Beyond it all are forgotten and
/// made again as they are needed.
const MAX_ENDPOINTS: usize = 512;

/// A webhook could not be asked, or its answer could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebhookError {
    /// The configuration leads nowhere.
    #[error("{0}")]
    Config(String),
    /// No answer in time.
    #[error("Post {url:?}: context deadline exceeded")]
    Timeout {
        /// What was called.
        url: String,
    },
    /// The connection failed, or broke off.
    #[error("Post {url:?}: {why}")]
    Transport {
        /// What was called.
        url: String,
        /// In a sentence.
        why: String,
    },
    /// It answered with an error of HTTP.
    #[error("{0}")]
    Refused(Box<Status>),
    /// It answered something that is no JSON document.
    #[error("{0}")]
    Malformed(String),
}

/// Calls webhooks over connections that it keeps.
pub(crate) struct WebhookClient {
    objects: Arc<dyn Objects>,
    endpoints: Mutex<HashMap<ClientConfig, Arc<Endpoint>>>,
}

impl WebhookClient {
    /// Without connections yet; `objects` resolves Services.
    pub(crate) fn new(objects: Arc<dyn Objects>) -> Self {
        Self { objects, endpoints: Mutex::default() }
    }

    /// Posts a document and answers the document that came back with a status of 2xx.
    ///
    /// # Errors
    /// [`WebhookError`]; after `timeout` at the latest. A connection that was kept and turns out to be closed is
    /// replaced once, so the webhook may see a request twice.
    pub(crate) async fn post(
        &self,
        config: &ClientConfig,
        document: &Value,
        timeout: Duration,
    ) -> Result<Value, WebhookError> {
        let endpoint = self.endpoint(config)?;
        let body = Bytes::from(document.to_string());
        let url = config.url(timeout);
        let called = tokio::time::timeout(timeout, endpoint.call(self.objects.as_ref(), body, &url, timeout));
        match called.await {
            Ok(answered) => answered,
            Err(_) => Err(WebhookError::Timeout { url }),
        }
    }

    fn endpoint(&self, config: &ClientConfig) -> Result<Arc<Endpoint>, WebhookError> {
        if let Some(endpoint) = self.endpoints.lock().get(config) {
            return Ok(Arc::clone(endpoint));
        }
        let made = Arc::new(Endpoint::new(config.clone())?);
        let mut endpoints = self.endpoints.lock();
        if endpoints.len() >= MAX_ENDPOINTS {
            endpoints.clear();
        }
        Ok(Arc::clone(endpoints.entry(config.clone()).or_insert(made)))
    }
}
