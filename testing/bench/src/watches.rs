//! Many watches of one storm: what a server delivers in a second, and how late an event is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::Barrier;

use crate::figures::Figure;

/// Writes in flight at the same time: enough that the server's watches, not this client, are what is measured.
const IN_FLIGHT: usize = 16;
/// Objects that are written in turn.
const OBJECTS: usize = 64;
/// Two kilobytes, as the other measurements' pods.
const FILLER_BYTES: usize = 1800;
/// The whole storm may not take longer.
const PATIENCE: Duration = Duration::from_secs(300);
/// Before the time of a write, in nanoseconds of this process's clock, in the event's text.
const STAMP: &str = "\"stamp\":\"";

/// `watchers` watches are told of `events` changes each. Every event of every watch is counted; none may be missing.
///
/// # Errors
/// When a watch ends early, an event is missing, or a write fails.
pub async fn storm(
    client: &Client,
    namespace: &str,
    watchers: usize,
    events: usize,
) -> anyhow::Result<Vec<Figure>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    for n in 0..OBJECTS {
        maps.create(&PostParams::default(), &map(n)?).await.context("cannot create a config map")?;
    }
    let from = maps.list_metadata(&ListParams::default()).await?;
    let from = from.metadata.resource_version.context("a list without a resource version")?;
    let epoch = Instant::now();
    let all_open = Arc::new(Barrier::new(watchers + 1));
    let path = format!(
        "/api/v1/namespaces/{namespace}/configmaps?watch=1&resourceVersion={from}&timeoutSeconds={}",
        PATIENCE.as_secs()
    );
    let tasks: Vec<_> = (0..watchers)
        .map(|_| {
            let (client, path, all_open) = (client.clone(), path.clone(), Arc::clone(&all_open));
            tokio::spawn(async move { follow(client, path, events, epoch, all_open).await })
        })
        .collect();
    tokio::time::timeout(PATIENCE, all_open.wait()).await.context("the watches do not open")?;
    let began = Instant::now();
    write(&maps, events, epoch).await?;
    let written = began.elapsed();
    let mut delays = Vec::with_capacity(watchers * events);
    for task in tasks {
        let told = tokio::time::timeout(PATIENCE, task).await.context("a watch misses events")?;
        delays.extend(told.context("a watch's task ended")??);
    }
    let taken = began.elapsed();
    maps.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let rate = (watchers * events) as f64 / taken.as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let writes = events as f64 / written.as_secs_f64();
    let mut figures = vec![
        Figure::one(format!("events delivered to {watchers} watchers"), rate, "/s"),
        Figure::one("writes behind them", writes, "/s"),
    ];
    figures.extend(Figure::times("from a write's begin to its event", delays));
    Ok(figures)
}

fn map(n: usize) -> anyhow::Result<ConfigMap> {
    let data = json!({"filler": "x".repeat(FILLER_BYTES)});
    Ok(serde_json::from_value(json!({"metadata": {"name": format!("storm-{n:02}")}, "data": data}))?)
}

async fn write(maps: &Api<ConfigMap>, events: usize, epoch: Instant) -> anyhow::Result<()> {
    stream::iter(0..events)
        .map(|n| async move {
            let stamp = epoch.elapsed().as_nanos().to_string();
            let patch = json!({"data": {"stamp": stamp}});
            let name = format!("storm-{:02}", n % OBJECTS);
            maps.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await
        .map(drop)
}

/// Reads lines without decoding them: a thousand decoders would be what is measured.
async fn follow(
    client: Client,
    path: String,
    events: usize,
    epoch: Instant,
    all_open: Arc<Barrier>,
) -> anyhow::Result<Vec<Duration>> {
    let request = http::Request::get(path).body(Vec::new())?;
    let reader = client.request_stream(request).await.context("cannot watch")?;
    all_open.wait().await;
    let mut lines = std::pin::pin!(reader.lines());
    let mut delays = Vec::with_capacity(events);
    while delays.len() < events {
        let line = lines.next().await.context("a watch ended early")??;
        let now = epoch.elapsed();
        ensure!(line.starts_with("{\"type\":\"MODIFIED\""), "an unexpected event: {:.200}", line);
        let (_, behind) = line.split_once(STAMP).context("an event without a stamp")?;
        let stamp: u64 = behind.split('"').next().unwrap_or_default().parse()?;
        delays.push(now.saturating_sub(Duration::from_nanos(stamp)));
    }
    Ok(delays)
}
