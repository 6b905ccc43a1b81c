//! The stores alone, in this process: what the API server's figures can at best be.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use storage::model::MemoryStore;
use storage::{KeyRange, Operation, RangeRequest, Store, Transaction, WatchRequest};
use storage_embedded::{EmbeddedStore, Options};

use crate::figures::Figure;

/// Measures the in-memory store, and the embedded one in `dir` (its disk matters).
///
/// # Errors
/// When a store fails.
pub async fn measure(dir: &Path, writes: usize, in_flight: usize) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let began = Instant::now();
    let embedded = EmbeddedStore::open(dir.join("store"), Options::default())?;
    figures.push(Figure::one("embedded: opening a new store", milliseconds(began), "ms"));
    figures.extend(one_store("embedded", Arc::new(embedded), writes, in_flight).await?);
    let began = Instant::now();
    let embedded = EmbeddedStore::open(dir.join("store"), Options::default())?;
    figures.push(Figure::one(format!("embedded: opening it with {writes} keys"), milliseconds(began), "ms"));
    drop(embedded);
    figures.extend(one_store("in memory", Arc::new(MemoryStore::default()), writes, in_flight).await?);
    Ok(figures)
}

async fn one_store(
    name: &str,
    store: Arc<dyn Store>,
    writes: usize,
    in_flight: usize,
) -> anyhow::Result<Vec<Figure>> {
    let began = Instant::now();
    let times: Vec<Duration> = stream::iter(0..writes)
        .map(|n| put(store.clone(), format!("pods/{n:07}")))
        .buffer_unordered(in_flight)
        .try_collect()
        .await?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let rate = writes as f64 / began.elapsed().as_secs_f64();
    let mut figures = vec![Figure::one(format!("{name}: puts of 2 kB, {in_flight} in flight"), rate, "/s")];
    figures.extend(Figure::times(format!("{name}: one of these puts"), times));
    let mut ranges = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let read = store.range(RangeRequest::all(KeyRange::prefix("pods/"))).await?;
        ranges.push(began.elapsed());
        anyhow::ensure!(read.kvs.len() == writes, "{} keys of {writes}", read.kvs.len());
    }
    figures.extend(Figure::times(format!("{name}: range over {writes} keys"), ranges));
    figures.extend(delivery(name, &store, 100).await?);
    Ok(figures)
}

async fn put(store: Arc<dyn Store>, key: String) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let success = vec![Operation::put(key, vec![b'x'; 2048])];
    store.transact(Transaction { success, ..Transaction::default() }).await?;
    Ok(began.elapsed())
}

async fn delivery(name: &str, store: &Arc<dyn Store>, watchers: usize) -> anyhow::Result<Option<Figure>> {
    let mut streams = Vec::new();
    for _ in 0..watchers {
        let request = WatchRequest { range: KeyRange::prefix("watched/"), start: None, buffer: 16 };
        streams.push(store.watch(request).await?);
    }
    let mut times = Vec::new();
    for n in 0..100 {
        let began = Instant::now();
        put(store.clone(), format!("watched/{n}")).await?;
        for stream in &mut streams {
            while stream.next().await.context("the watch ended")??.events.is_empty() {}
            times.push(began.elapsed());
        }
    }
    Ok(Figure::times(format!("{name}: put to event at {watchers} watchers"), times))
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1000.0
}
