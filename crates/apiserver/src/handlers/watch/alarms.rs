//! What ends a running watch or makes it send a bookmark. Waited for once and for all, so that an event costs no timer.

use std::pin::Pin;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, Sleep};

use crate::handlers::Call;

/// Between two bookmarks (upstream: about a minute).
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// The times of bookmarks: every minute, and once before the end.
pub(super) struct Marks {
    next: Pin<Box<Sleep>>,
    last: Option<Instant>,
}

impl Marks {
    pub(super) fn new(now: Instant, last: Option<Instant>) -> Self {
        let first = now + BOOKMARK_EVERY;
        let first = last.map_or(first, |last| first.min(last));
        Self { next: Box::pin(tokio::time::sleep_until(first)), last }
    }

    /// Waits for the next; ready once for each. Cancel safe.
    pub(super) async fn due(&mut self) {
        self.next.as_mut().await;
        let now = Instant::now();
        if self.last.is_some_and(|last| last <= now) {
            self.last = None;
        }
        let next = now + BOOKMARK_EVERY;
        self.next.as_mut().reset(self.last.map_or(next, |last| next.min(last)));
    }
}

/// Ready when a watch has to end: its time is over, the server stops, or a custom kind has changed its form (the client
/// comes back and sees the new one).
pub(super) fn end(call: &Call, deadline: Instant) -> BoxFuture<'static, ()> {
    let shutdown = call.server.shutdown.clone();
    let retired = call.resource.definition.as_ref().map(|definition| definition.retired.clone());
    Box::pin(async move {
        let retired = async move {
            match retired {
                Some(retired) => retired.cancelled().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = retired => {}
        }
    })
}
