//! The API server with its store in this process: no sockets, no TLS. What the same figures over the network are more is
//! the network's.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use apiserver::{Catalogue, Options, Service};
use kube_objects::UserInfo;
use storage::Store;
use storage::model::MemoryStore;
use storage_embedded::EmbeddedStore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::figures::Figure;
use crate::objects;

/// A running server, which stops when this is dropped.
pub struct Running {
    /// Acts as a cluster's administrator.
    pub client: kube::Client,
    /// How long the start took.
    pub figures: Vec<Figure>,
    _stop: DropGuard,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("figures", &self.figures).finish_non_exhaustive()
    }
}

/// Starts a server on an embedded store in `dir` or, without one, on one in memory, and makes a first namespace.
///
/// # Errors
/// When it does not start.
pub async fn start(dir: Option<&Path>) -> anyhow::Result<Running> {
    let began = Instant::now();
    let store: Arc<dyn Store> = match dir {
        Some(dir) => Arc::new(EmbeddedStore::open(dir, storage_embedded::Options::default())?),
        None => Arc::new(MemoryStore::default()),
    };
    let service = Service::new(Options::new(store, Catalogue::cluster())).await?;
    let handle = service.handle();
    let stop = CancellationToken::new();
    let running = tokio::spawn(Box::pin(service.run(stop.clone())));
    if !handle.ready().await {
        running.await??;
        anyhow::bail!("the server ended before it was ready");
    }
    let ready = began.elapsed();
    let client = handle.client(UserInfo::new("bench", &["system:masters"]));
    let first = objects::namespace(&client).await?;
    let created = began.elapsed();
    ensure!(!first.is_empty(), "a namespace without a name");
    let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
    let kind = if dir.is_some() { "durable" } else { "ephemeral" };
    let figures = vec![
        Figure::one(format!("{kind} server in process: start to ready"), milliseconds(ready), "ms"),
        Figure::one(
            format!("{kind} server in process: start to first namespace"),
            milliseconds(created),
            "ms",
        ),
    ];
    Ok(Running { client, figures, _stop: stop.drop_guard() })
}
