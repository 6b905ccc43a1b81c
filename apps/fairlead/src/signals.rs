//! SIGTERM, SIGINT and SIGHUP as a request to end in order.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// A token that the first signal cancels. A second one ends the process at once: whoever sends it no longer waits.
pub(crate) fn shutdown() -> Result<CancellationToken, Failure> {
    let install = |kind| signal(kind).context("cannot take signals");
    let mut terminate = install(SignalKind::terminate())?;
    let mut interrupt = install(SignalKind::interrupt())?;
    let mut hangup = install(SignalKind::hangup())?;
    let token = CancellationToken::new();
    let told = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
            if told.is_cancelled() {
                std::process::exit(130);
            }
            told.cancel();
        }
    });
    Ok(token)
}
