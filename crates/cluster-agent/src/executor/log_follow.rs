//! Follows the log of a step's container into the outbox, in small pieces that say where they belong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fleet_objects::test_record::TestNews;
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio_util::sync::CancellationToken;
use workflow::mask::Mask;

use super::SinkError;
use super::run::Execution;

/// Bytes of one piece: half of what a record may hold, since replacement characters are longer than what they replace.
const PIECE: usize = 10 * 1024;
/// How long output is gathered before it is sent.
const GATHER: Duration = Duration::from_millis(150);
/// Bytes of one step's log that are kept. A full outbox lets logs go before results.
const MAX_LOG: u64 = 2 * 1024 * 1024;
/// Between tries to open a log.
const RETRY: Duration = Duration::from_millis(200);

/// How far the log is in the outbox.
pub(super) struct Progress(AtomicU64);

impl Progress {
    pub(super) fn from(offset: u64) -> Self {
        Self(AtomicU64::new(offset))
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// The log of one step.
pub(super) struct Followed {
    pub(super) execution: Arc<Execution>,
    pub(super) pods: Api<Pod>,
    pub(super) pod: String,
    /// The step, or what else the log is of.
    pub(super) step: String,
    pub(super) container: String,
    pub(super) progress: Arc<Progress>,
    /// Its container has ended.
    pub(super) stop: CancellationToken,
}

/// All attempts at a step share its container and its log; it is told under the first.
const ATTEMPT: u32 = 1;

impl Followed {
    /// Follows until the log ends after `stop`; the caller bounds how long that may take.
    pub(super) async fn follow(self) {
        let params =
            LogParams { container: Some(self.container.clone()), follow: true, ..LogParams::default() };
        loop {
            let last_try = self.stop.is_cancelled();
            if let Ok(log) = self.pods.log_stream(&self.pod, &params).await {
                let mask = self.execution.secrets.mask();
                let whole = copy(log, mask, &self.progress, &self).await;
                if whole && (self.stop.is_cancelled() || self.progress.get() >= MAX_LOG) {
                    return;
                }
            }
            if last_try {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }
}

impl Followed {
    /// Takes what there is of the log now, of a container that goes on.
    pub(super) async fn take(self) {
        let params = LogParams { container: Some(self.container.clone()), ..LogParams::default() };
        match self.pods.log_stream(&self.pod, &params).await {
            Ok(log) => {
                copy(log, self.execution.secrets.mask(), &self.progress, &self).await;
            }
            Err(error) => tracing::warn!(%error, pod = %self.pod, "cannot read the log of a service"),
        }
    }
}

/// Where pieces go.
#[async_trait]
trait Pieces: Send + Sync {
    /// Takes `text`, which stands for `length` bytes of the log from `offset` on.
    async fn take(&self, offset: u64, length: u64, text: String);
}

#[async_trait]
impl Pieces for Followed {
    async fn take(&self, offset: u64, length: u64, text: String) {
        let news = TestNews::Log { step: self.step.clone(), attempt: ATTEMPT, offset, length, text };
        let record = self.execution.record(news);
        loop {
            match self.execution.shared.records.append(record.clone()).await {
                // A full outbox keeps results and lets logs go: the hub sees the gap by the offsets.
                Ok(()) | Err(SinkError::Full | SinkError::Refused(_)) => return,
                Err(SinkError::Unavailable(_) | SinkError::Unknown) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

/// What was read and not sent, after what the mask must know of what was.
struct Held {
    mask: Arc<Mask>,
    bytes: Vec<u8>,
    /// How many of them were sent.
    context: usize,
}

impl Held {
    fn pending(&self) -> usize {
        self.bytes.len() - self.context
    }

    /// Takes in what was read; the first `sent` of it were sent by an earlier connection or start.
    fn push(&mut self, read: &[u8], sent: usize) {
        self.bytes.extend_from_slice(read);
        if sent > 0 {
            // Nothing is pending while what was sent is read again.
            self.forget(self.context + sent);
        }
    }

    /// Everything before `end` was sent.
    fn forget(&mut self, end: usize) {
        let gone = end.saturating_sub(self.mask.context());
        self.bytes.drain(..gone);
        self.context = end - gone;
    }
}

/// Copies a log that begins at byte 0, leaving out what was sent before. True when it reached the end.
async fn copy(
    log: impl futures::AsyncRead,
    mask: Arc<Mask>,
    progress: &Progress,
    pieces: &dyn Pieces,
) -> bool {
    let mut log = std::pin::pin!(log);
    let mut held = Held { mask, bytes: Vec::new(), context: 0 };
    let (mut position, mut buffer) = (0u64, vec![0u8; PIECE]);
    loop {
        let read = if held.pending() == 0 {
            log.read(&mut buffer).await
        } else {
            match tokio::time::timeout(GATHER, log.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_) => {
                    send(pieces, progress, &mut held, Upto::Lines).await;
                    continue;
                }
            }
        };
        let count = match read {
            Ok(0) => {
                while held.pending() > 0 && progress.get() < MAX_LOG {
                    send(pieces, progress, &mut held, Upto::End).await;
                }
                return true;
            }
            Ok(count) => count,
            Err(_) => return false,
        };
        // What an earlier connection or start already sent.
        let known = progress.get() + held.pending() as u64;
        let sent = usize::try_from(known.saturating_sub(position)).unwrap_or(usize::MAX).min(count);
        held.push(&buffer[..count], sent);
        position += count as u64;
        while held.pending() >= PIECE + held.mask.context() && progress.get() < MAX_LOG {
            send(pieces, progress, &mut held, Upto::Piece).await;
        }
        if progress.get() >= MAX_LOG {
            return true;
        }
    }
}

/// How much of what is held is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upto {
    /// Whole lines when there are any, so that lines of several clusters do not mix on a terminal.
    Lines,
    /// A full piece.
    Piece,
    /// Everything: no more follows.
    End,
}

/// Sends a piece of what is held, without what may become a secret when more follows.
async fn send(pieces: &dyn Pieces, progress: &Progress, held: &mut Held, upto: Upto) {
    let from = held.context;
    let most = held.bytes.len().min(from + PIECE);
    let line = held.bytes[from..most].iter().rposition(|byte| *byte == b'\n').map(|index| from + index + 1);
    let wanted = if upto == Upto::End && most == held.bytes.len() { most } else { line.unwrap_or(most) };
    let (text, end) = held.mask.release(&held.bytes, from, wanted, upto != Upto::End);
    let length = (end - from) as u64;
    if length == 0 {
        return;
    }
    held.forget(end);
    let offset = progress.get();
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if offset + length >= MAX_LOG {
        text.push_str("\n[the rest of this log is not kept: it is longer than 2 MiB]\n");
    }
    pieces.take(offset, length, text).await;
    progress.0.store(offset + length, Ordering::Release);
}

#[cfg(test)]
mod tests;
