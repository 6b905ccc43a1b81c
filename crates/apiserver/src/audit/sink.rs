//! The queue between requests and an output. Bounded: what does not fit is dropped and counted.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::event::Event;

/// Events that may wait for an output (upstream's `--audit-*-batch-buffer-size`).
const BUFFER: usize = 10_000;

/// How long a request waits for an output that blocks it. Upstream waits for ever; a full disk must not stop a server.
const BLOCK_LIMIT: Duration = Duration::from_secs(5);

/// Whether requests wait for an output (upstream's `--audit-*-mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// No: events are queued.
    Batch,
    /// Until their events are written, but a few seconds at most.
    Blocking,
    /// The same, and a request whose reception cannot be recorded is refused.
    BlockingStrict,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "batch" => Ok(Self::Batch),
            "blocking" => Ok(Self::Blocking),
            "blocking-strict" => Ok(Self::BlockingStrict),
            _ => Err("allowed modes are batch, blocking, blocking-strict".to_owned()),
        }
    }
}

/// How events are put together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batches {
    pub(super) events: usize,
    pub(super) bytes: usize,
    pub(super) wait: Duration,
}

/// An event on its way, encoded.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) line: Vec<u8>,
    /// Told whether it was written.
    pub(super) done: Option<oneshot::Sender<bool>>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    taken: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    pub(super) fn drop_many(&self, events: usize) {
        self.dropped.fetch_add(u64::try_from(events).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// The sending side.
#[derive(Debug)]
pub(super) struct Sink {
    name: &'static str,
    mode: Mode,
    truncate_bytes: Option<usize>,
    sender: mpsc::Sender<Item>,
    counts: Arc<Counts>,
}

/// The output's side.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) receiver: mpsc::Receiver<Item>,
    pub(super) counts: Arc<Counts>,
    batches: Batches,
}

impl Sink {
    pub(super) fn new(
        name: &'static str,
        mode: Mode,
        truncate_bytes: Option<usize>,
        batches: Batches,
    ) -> (Self, Queue) {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let counts = Arc::new(Counts::default());
        let sink = Self { name, mode, truncate_bytes, sender, counts: Arc::clone(&counts) };
        (sink, Queue { receiver, counts, batches })
    }

    pub(super) fn is_strict(&self) -> bool {
        self.mode == Mode::BlockingStrict
    }

    pub(super) fn counts(&self) -> (&'static str, u64, u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (self.name, read(&self.counts.taken), read(&self.counts.dropped))
    }

    /// Hands an event over; in the blocking modes waits until it is written, within a bound. `false`: it was dropped.
    pub(super) async fn process(&self, event: &Arc<Event>) -> bool {
        if self.mode == Mode::Batch {
            return self.offer(event);
        }
        let Some(line) = self.encode(event) else { return false };
        let (done, written) = oneshot::channel();
        let handing_over = async {
            self.sender.send(Item { line, done: Some(done) }).await.is_ok() && written.await.unwrap_or(false)
        };
        let taken = tokio::time::timeout(BLOCK_LIMIT, handing_over).await.unwrap_or(false);
        self.count(taken)
    }

    /// Hands an event over if there is room now.
    pub(super) fn offer(&self, event: &Arc<Event>) -> bool {
        let Some(line) = self.encode(event) else { return false };
        let taken = self.sender.try_send(Item { line, done: None }).is_ok();
        self.count(taken)
    }

    fn count(&self, taken: bool) -> bool {
        let counter = if taken { &self.counts.taken } else { &self.counts.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
        if !taken {
            tracing::warn!(output = self.name, "an audit event was dropped");
        }
        taken
    }

    fn encode(&self, event: &Event) -> Option<Vec<u8>> {
        let line = event.encode().ok();
        let fits = |line: &Vec<u8>| self.truncate_bytes.is_none_or(|limit| line.len() <= limit);
        let line = match line {
            Some(line) if fits(&line) => Some(line),
            Some(_) if event.has_bodies() => event.truncated().encode().ok().filter(fits),
            _ => None,
        };
        if line.is_none() {
            self.count(false);
        }
        line
    }
}

impl Queue {
    /// The next events together; `None` when there will be none any more.
    pub(super) async fn batch(&mut self) -> Option<Vec<Item>> {
        let first = self.receiver.recv().await?;
        let mut bytes = first.line.len();
        let mut items = vec![first];
        let deadline = tokio::time::Instant::now() + self.batches.wait;
        while items.len() < self.batches.events && bytes < self.batches.bytes {
            match tokio::time::timeout_at(deadline, self.receiver.recv()).await {
                Ok(Some(item)) => {
                    bytes += item.line.len();
                    items.push(item);
                }
                Ok(None) | Err(_) => break,
            }
        }
        Some(items)
    }
}
