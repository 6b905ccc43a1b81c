//! Logs of simulated containers: lines that know when they are printed, some of them later.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::runtime::{LogQuery, LogStream};

/// Lines of one container, at most; the oldest go first.
const MAX_LINES: usize = 10_000;

/// One container's log.
pub(super) struct Log {
    lines: Mutex<Vec<(Timestamp, String)>>,
    /// Whether the container has ended; every change wakes followers.
    ended: watch::Sender<bool>,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { lines: Mutex::default(), ended: watch::Sender::new(false) }
    }

    pub(super) fn add(&self, lines: impl IntoIterator<Item = (Timestamp, String)>) {
        let mut held = self.lines.lock();
        held.extend(lines);
        let excess = held.len().saturating_sub(MAX_LINES);
        held.drain(..excess);
        drop(held);
        self.ended.send_modify(|_| {});
    }

    /// Ends the log: lines that were to come after `at` never will.
    pub(super) fn end(&self, at: Timestamp, last: Vec<String>) {
        let mut held = self.lines.lock();
        held.retain(|(time, _)| *time <= at);
        held.extend(last.into_iter().map(|line| (at, line)));
        drop(held);
        self.ended.send_replace(true);
    }
}

struct Follow {
    log: Arc<Log>,
    ended: watch::Receiver<bool>,
    next: usize,
    query: LogQuery,
    left: u64,
    done: bool,
}

/// The part of a log that is asked for.
pub(super) fn stream(log: Arc<Log>, query: LogQuery) -> LogStream {
    let now = Timestamp::now();
    let next = {
        let lines = log.lines.lock();
        let printed = lines.iter().take_while(|(time, _)| *time <= now).count();
        let tail = query
            .tail_lines
            .map_or(0, |tail| printed.saturating_sub(usize::try_from(tail).unwrap_or(usize::MAX)));
        let since = query.since.map_or(0, |since| lines.iter().take_while(|(time, _)| *time < since).count());
        tail.max(since)
    };
    let ended = log.ended.subscribe();
    let left = query.limit_bytes.unwrap_or(u64::MAX);
    let follow = Follow { log, ended, next, query, left, done: false };
    futures::stream::unfold(follow, |mut follow| async move {
        let bytes = follow.next().await?;
        Some((Ok(bytes), follow))
    })
    .boxed()
}

impl Follow {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.done && self.left > 0 {
            let ended = *self.ended.borrow_and_update();
            let now = Timestamp::now();
            let (text, later) = self.take(now);
            if !text.is_empty() {
                return Some(self.limit(text));
            }
            // Of an ended container every line has been printed, whatever the clock says.
            if !self.query.follow || (ended && later.is_none()) {
                self.done = true;
                break;
            }
            let wait = later.map(|at| at.duration_since(now).max(jiff::SignedDuration::ZERO).unsigned_abs());
            tokio::select! {
                changed = self.ended.changed() => self.done |= changed.is_err(),
                () = async { match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                } } => {}
            }
        }
        None
    }

    /// What is printed by now, and when the next line will be.
    fn take(&mut self, now: Timestamp) -> (String, Option<Timestamp>) {
        let lines = self.log.lines.lock();
        let mut text = String::new();
        while let Some((time, line)) = lines.get(self.next) {
            if *time > now {
                return (text, Some(*time));
            }
            if self.query.timestamps {
                text.push_str(&format!("{time:.9} "));
            }
            text.push_str(line);
            text.push('\n');
            self.next += 1;
        }
        (text, None)
    }

    fn limit(&mut self, text: String) -> Bytes {
        let mut bytes = Bytes::from(text);
        bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= bytes.len() as u64;
        bytes
    }
}
