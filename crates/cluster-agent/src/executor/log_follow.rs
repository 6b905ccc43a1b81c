//! Follows the log of a step's container into the outbox, in small pieces that say where they belong.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet_objects::test_record::TestNews;
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;
use tokio_util::sync::CancellationToken;
use workflow::plan::PlannedStep;
use workflow::pod::STEP;

use super::journal::Note;
use super::{Shared, SinkError, run};

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
    pub(super) fn of(note: &Note) -> Self {
        Self(AtomicU64::new(note.current.as_ref().map_or(0, |current| current.log_offset)))
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Follows until the log ends after `stop`; the caller bounds how long that may take.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one attempt; a struct of borrows would say the same"
)]
pub(super) async fn follow(
    shared: &Shared,
    note: &Note,
    pods: &Api<Pod>,
    pod: &str,
    step: &PlannedStep,
    attempt: u32,
    progress: &Progress,
    stop: &CancellationToken,
) {
    let params = LogParams { container: Some(STEP.to_owned()), follow: true, ..LogParams::default() };
    loop {
        let last_try = stop.is_cancelled();
        if let Ok(log) = pods.log_stream(pod, &params).await {
            let whole = copy(shared, note, log, step, attempt, progress).await;
            if whole && (stop.is_cancelled() || progress.get() >= MAX_LOG) {
                return;
            }
        }
        if last_try {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Copies a log that begins at byte 0, leaving out what was sent before. True when it reached the end.
async fn copy(
    shared: &Shared,
    note: &Note,
    log: impl futures::AsyncRead,
    step: &PlannedStep,
    attempt: u32,
    progress: &Progress,
) -> bool {
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
                    send(shared, note, step, attempt, progress, &mut pending, false).await;
                    continue;
                }
            }
        };
        let count = match read {
            Ok(0) => {
                send(shared, note, step, attempt, progress, &mut pending, true).await;
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
            send(shared, note, step, attempt, progress, &mut pending, true).await;
        }
        if progress.get() >= MAX_LOG {
            return true;
        }
    }
}

/// Sends what is pending: whole lines when there are any, so that lines of several clusters do not mix on a terminal.
async fn send(
    shared: &Shared,
    note: &Note,
    step: &PlannedStep,
    attempt: u32,
    progress: &Progress,
    pending: &mut Vec<u8>,
    all: bool,
) {
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
    let mut text = String::from_utf8_lossy(&piece).into_owned();
    let length = piece.len() as u64;
    if offset + length >= MAX_LOG {
        text.push_str("\n[the rest of this log is not kept: it is longer than 2 MiB]\n");
    }
    let news = TestNews::Log { step: step.name.clone(), attempt, offset, length, text };
    let record = run::record(note, news);
    loop {
        match shared.records.append(record.clone()).await {
            // A full outbox keeps results and lets logs go: the hub sees the gap by the offsets.
            Ok(()) | Err(SinkError::Full) => break,
            Err(SinkError::Unavailable(_)) => tokio::time::sleep(RETRY).await,
        }
    }
    progress.0.store(offset + length, Ordering::Release);
}
