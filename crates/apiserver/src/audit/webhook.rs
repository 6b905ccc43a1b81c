//! The webhook: EventLists, posted to what a kubeconfig names.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::sink::{Item, Queue};
use super::{AuditError, WebhookOptions};

/// Requests at once: one slow answer must not hold up the next batch, and four batches bound the memory.
const IN_FLIGHT: usize = 4;

/// Attempts for one batch before it is dropped (upstream's webhook backoff has as many steps).
const ATTEMPTS: u32 = 5;

/// How long one attempt may take (upstream's webhook clients wait as long).
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);

/// How long what is queued may take to go out when the server stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Poster {
    client: kube::Client,
    path: Arc<str>,
    backoff: Duration,
}

/// Posts until `shutdown`, then what is queued.
pub(super) async fn start(
    options: WebhookOptions,
    mut queue: Queue,
    shutdown: CancellationToken,
) -> Result<(), AuditError> {
    let path = options.kubeconfig.clone();
    let poster = Poster::new(&options).await.map_err(|source| AuditError::Webhook { path, source })?;
    tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(IN_FLIGHT));
        let tracker = TaskTracker::new();
        loop {
            let batch = tokio::select! {
                batch = queue.batch() => batch,
                () = shutdown.cancelled() => break,
            };
            let Some(batch) = batch else { break };
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let (poster, counts, stop) = (poster.clone(), Arc::clone(&queue.counts), shutdown.clone());
            tracker.spawn(async move {
                counts.drop_many(poster.deliver(batch, &stop).await);
                drop(place);
            });
        }
        queue.receiver.close();
        let last = async {
            while let Some(batch) = queue.batch().await {
                queue.counts.drop_many(poster.deliver(batch, &shutdown).await);
            }
        };
        let _ = tokio::time::timeout(DRAIN_LIMIT, last).await;
        tracker.close();
        let _ = tokio::time::timeout(DRAIN_LIMIT, tracker.wait()).await;
    });
    Ok(())
}

impl Poster {
    async fn new(options: &WebhookOptions) -> Result<Self, crate::BoxError> {
        let path = options.kubeconfig.clone();
        let kubeconfig = tokio::task::spawn_blocking(move || Kubeconfig::read_from(path)).await??;
        let mut config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // The client puts its server's path before that of a request, which would add a slash at the end.
        let mut parts = config.cluster_url.clone().into_parts();
        let path = parts.path_and_query.take().map_or_else(|| "/".to_owned(), |path| path.path().to_owned());
        parts.path_and_query = Some("/".parse()?);
        config.cluster_url = http::Uri::from_parts(parts)?;
        config.read_timeout = Some(ATTEMPT_LIMIT);
        let client = kube::Client::try_from(config)?;
        Ok(Self { client, path: path.into(), backoff: options.initial_backoff })
    }

    /// Tries until it is taken or the attempts are used up; tells those who wait. Answers how many were lost that nobody
    /// waited for.
    async fn deliver(&self, items: Vec<Item>, stop: &CancellationToken) -> usize {
        let body = list(&items);
        let mut pause = self.backoff;
        let mut delivered = false;
        for attempt in 1..=ATTEMPTS {
            match tokio::time::timeout(ATTEMPT_LIMIT, self.post(body.clone())).await {
                Ok(Ok(())) => {
                    delivered = true;
                    break;
                }
                Ok(Err(error)) => tracing::warn!(error, attempt, "failed to post audit events"),
                Err(_) => tracing::warn!(attempt, "posting audit events took too long"),
            }
            if attempt < ATTEMPTS && stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                break;
            }
            pause = pause.mul_f64(1.5);
        }
        let mut lost = 0;
        for item in items {
            match item.done {
                Some(done) => drop(done.send(delivered)),
                None => lost += usize::from(!delivered),
            }
        }
        lost
    }

    async fn post(&self, body: Bytes) -> Result<(), String> {
        let request = http::Request::post(&*self.path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(kube::client::Body::from(body))
            .map_err(|error| error.to_string())?;
        let answer = self.client.send(request).await.map_err(|error| error.to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("answered {}", answer.status())) }
    }
}

fn list(items: &[Item]) -> Bytes {
    let mut text = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&item.line);
    }
    text.extend_from_slice(b"]}");
    text.into()
}
