//! Follows the log of a step's container into the outbox, in small pieces that say where they belong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet_objects::test_record::TestNews;
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio_util::sync::CancellationToken;

use super::SinkError;
use super::run::Execution;

/// Bytes of one piece: half of what a record may hold, since replacement characters are longer than what they replace.
const PIECE: usize = 10 * 1024;
/// How long output is gathered before it is sent.
const GATHER: Duration = Duration::from_millis(150);
/// Bytes of one attempt's log that are kept. 64 steps in 8 executions at once stay below the outbox's usual 1 GiB.
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
    /// The step and its container.
    pub(super) step: String,
    pub(super) progress: Arc<Progress>,
    /// Its container has ended.
    pub(super) stop: CancellationToken,
}

/// All attempts at a step share its container and its log; it is told under the first.
const ATTEMPT: u32 = 1;

impl Followed {
    /// Follows until the log ends after `stop`; the caller bounds how long that may take.
    pub(super) async fn follow(self) {
        let params = LogParams { container: Some(self.step.clone()), follow: true, ..LogParams::default() };
        loop {
            let last_try = self.stop.is_cancelled();
            if let Ok(log) = self.pods.log_stream(&self.pod, &params).await {
                let whole = copy(&self.execution, log, &self.step, &self.progress).await;
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

/// Copies a log that begins at byte 0, leaving out what was sent before. True when it reached the end.
async fn copy(execution: &Execution, log: impl futures::AsyncRead, step: &str, progress: &Progress) -> bool {
    let mut log = std::pin::pin!(log);
    let (mut position, mut pending, mut buffer) = (0u64, Vec::new(), vec![0u8; PIECE]);
    loop {
        let room = PIECE - pending.len();
        let read = if pending.is_empty() {
            log.read(&mut buffer[..room]).await
        } else {
            match tokio::time::timeout(GATHER, log.read(&mut buffer[..room])).await {
                Ok(read) => read,
                Err(_) => {
                    send(execution, step, progress, &mut pending, false).await;
                    continue;
                }
            }
        };
        let count = match read {
            Ok(0) => {
                send(execution, step, progress, &mut pending, true).await;
                return true;
            }
            Ok(count) => count,
            Err(_) => return false,
        };
        // What an earlier connection or start already sent.
        let sent = progress.get() + pending.len() as u64;
        let skip = usize::try_from(sent.saturating_sub(position)).unwrap_or(usize::MAX).min(count);
        pending.extend_from_slice(&buffer[skip..count]);
        position += count as u64;
        if pending.len() >= PIECE {
            send(execution, step, progress, &mut pending, true).await;
        }
        if progress.get() >= MAX_LOG {
            return true;
        }
    }
}

/// Sends what is pending: whole lines when there are any, so that lines of several clusters do not mix on a terminal.
async fn send(execution: &Execution, step: &str, progress: &Progress, pending: &mut Vec<u8>, all: bool) {
    let lines = pending.iter().rposition(|byte| *byte == b'\n').map(|index| index + 1);
    let end = if all {
        lines.filter(|end| *end > 0 && pending.len() >= PIECE).unwrap_or(pending.len())
    } else {
        lines.unwrap_or(pending.len())
    };
    if end == 0 {
        return;
    }
    let rest = pending.split_off(end);
    let piece = std::mem::replace(pending, rest);
    let offset = progress.get();
    let mut text = execution.masked(&String::from_utf8_lossy(&piece));
    let length = piece.len() as u64;
    if offset + length >= MAX_LOG {
        text.push_str("\n[the rest of this log is not kept: it is longer than 2 MiB]\n");
    }
    let news = TestNews::Log { step: step.to_owned(), attempt: ATTEMPT, offset, length, text };
    let record = execution.record(news);
    loop {
        match execution.shared.records.append(record.clone()).await {
            // A full outbox keeps results and lets logs go: the hub sees the gap by the offsets.
            Ok(()) | Err(SinkError::Full) => break,
            Err(SinkError::Unavailable(_)) => tokio::time::sleep(RETRY).await,
        }
    }
    progress.0.store(offset + length, Ordering::Release);
}
