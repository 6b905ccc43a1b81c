//! A storm of changes before many watches, counted by a client that reads as little of it as it can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use tokio::sync::Barrier;

use super::rows::number;
use super::table::{Better, Cell};
use super::{Cost, Subject};
use crate::wire::{Ask, Connection};

/// Writes in flight: enough that the watches are what is measured.
const IN_FLIGHT: usize = 16;
/// Objects that are written in turn.
const OBJECTS: usize = 64;
/// Two kilobytes, as the pods of the other phases.
const FILLER_BYTES: usize = 1800;
/// The whole storm may not take longer.
const PATIENCE: Duration = Duration::from_secs(600);
/// Every so manieth watch looks when an event was written; the others only count.
const TIMED: usize = 16;
/// Before the time of a write, in nanoseconds of this process's clock, in the event's text.
const STAMP: &[u8] = b"\"stamp\":\"";

pub(super) async fn measure(subject: &Subject, watchers: usize, events: usize) -> anyhow::Result<Vec<Cell>> {
    let path = format!("/api/v1/namespaces/{}/configmaps", subject.namespace);
    let from = prepare(subject, &path).await?;
    let epoch = Instant::now();
    let all_open = Arc::new(Barrier::new(watchers + 1));
    let watch = format!("{path}?watch=1&resourceVersion={from}&timeoutSeconds={}", PATIENCE.as_secs());
    let mut tasks = Vec::new();
    for n in 0..watchers {
        let connection = subject.target.connect().await?;
        let (watch, all_open) = (watch.clone(), Arc::clone(&all_open));
        let timed = (n % TIMED == 0).then_some(epoch);
        tasks.push(tokio::spawn(follow(connection, watch, events, timed, all_open)));
    }
    tokio::time::timeout(PATIENCE, all_open.wait()).await.context("the watches do not open")?;
    let storm = async {
        let make = move |n: usize| {
            let body = format!("{{\"data\":{{\"stamp\":\"{}\"}}}}", epoch.elapsed().as_nanos());
            let path = format!("{path}/storm-{:02}", n % OBJECTS);
            Ask::with(Method::PATCH, path, "application/merge-patch+json", body)
        };
        subject.target.drive(IN_FLIGHT, events, make).await?;
        let mut delays = Vec::new();
        for task in tasks {
            let told = tokio::time::timeout(PATIENCE, task).await.context("a watch misses events")?;
            delays.extend(told.context("a watch's task ended")??);
        }
        Ok(delays)
    };
    let (delays, cost) = subject.cost(storm).await?;
    Ok(cells(watchers, events, delays, cost))
}

fn cells(watchers: usize, events: usize, mut delays: Vec<Duration>, cost: Cost) -> Vec<Cell> {
    delays.sort_unstable();
    let at = |share: usize| {
        let index = (delays.len() * share / 100).min(delays.len().saturating_sub(1));
        delays.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    let count = number(watchers * events);
    vec![
        Cell::new(
            format!("events delivered to {watchers} watchers"),
            "/s",
            Better::More,
            count / cost.taken.as_secs_f64(),
        )
        .aim(10.0),
        Cell::new("write to event: median", "ms", Better::Less, at(50)),
        Cell::new("write to event: p99", "ms", Better::Less, at(99)),
        Cell::new(
            "an event delivered: server's CPU",
            "us",
            Better::Less,
            cost.cpu.as_secs_f64() * 1e6 / count,
        )
        .aim(8.0),
    ]
}

/// Makes the objects; answers the revision to watch from.
async fn prepare(subject: &Subject, path: &str) -> anyhow::Result<String> {
    let filler = "x".repeat(FILLER_BYTES);
    let own = path.to_owned();
    let make = move |n: usize| {
        let body =
            format!("{{\"metadata\":{{\"name\":\"storm-{n:02}\"}},\"data\":{{\"filler\":\"{filler}\"}}}}");
        Ask::with(Method::POST, own.clone(), "application/json", body)
    };
    subject.target.drive(IN_FLIGHT, OBJECTS, make).await?;
    let mut connection = subject.target.connect().await?;
    let (head, _) = connection.head(Ask::get(path), 1024).await?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let (_, behind) =
        head.split_once("\"resourceVersion\":\"").context("a list without a resource version")?;
    Ok(behind.split('"').next().unwrap_or_default().to_owned())
}

/// Counts lines: a thousand decoders would be what is measured.
async fn follow(
    mut connection: Connection,
    watch: String,
    events: usize,
    timed: Option<Instant>,
    all_open: Arc<Barrier>,
) -> anyhow::Result<Vec<Duration>> {
    let mut body = connection.open(Ask::get(watch)).await?;
    all_open.wait().await;
    let (mut seen, mut delays, mut line) = (0, Vec::new(), Vec::new());
    while seen < events {
        let frame = body.frame().await.context("a watch ended early")??;
        let Some(data) = frame.data_ref() else { continue };
        match timed {
            None => seen += count_lines(data),
            Some(epoch) => {
                let now = epoch.elapsed();
                for piece in data.split_inclusive(|byte| *byte == b'\n') {
                    line.extend_from_slice(piece);
                    if piece.last() == Some(&b'\n') {
                        seen += 1;
                        delays.push(now.saturating_sub(stamp(&line)?));
                        line.clear();
                    }
                }
            }
        }
    }
    Ok(delays)
}

fn count_lines(data: &Bytes) -> usize {
    data.iter().map(|byte| usize::from(*byte == b'\n')).sum()
}

fn stamp(line: &[u8]) -> anyhow::Result<Duration> {
    ensure!(
        line.starts_with(b"{\"type\":\"MODIFIED\""),
        "an unexpected event: {:.200}",
        String::from_utf8_lossy(line)
    );
    let at =
        line.windows(STAMP.len()).position(|window| window == STAMP).context("an event without a stamp")?;
    let digits = line[at + STAMP.len()..].iter().take_while(|byte| byte.is_ascii_digit());
    let nanoseconds = digits.fold(0_u64, |sum, byte| sum * 10 + u64::from(byte - b'0'));
    Ok(Duration::from_nanos(nanoseconds))
}
