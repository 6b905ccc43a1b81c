//! What a request holds while it goes on, and what ends it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use super::tunnels::Tunnel;

/// How often the right is looked at: a decision in memory, and well within the ten seconds that are promised.
const EVERY: Duration = Duration::from_secs(2);

/// A request under way.
pub(super) struct Holding {
    /// Its places among the cluster's and the hub's.
    pub(super) places: [OwnedSemaphorePermit; 2],
    /// What it goes through.
    pub(super) tunnel: Tunnel,
    /// The hub's end.
    pub(super) stopping: CancellationToken,
    /// The person's right.
    pub(super) holds: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Holding {
    /// Returns when the request must end.
    pub(super) async fn ended(self) {
        let lost = async {
            while (self.holds)() {
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::select! {
            () = lost => {}
            () = self.tunnel.ended.cancelled() => {}
            () = self.stopping.cancelled() => {}
        }
        drop(self.places);
    }
}

/// An answer's body that is cut, not ended, when it must end: half a list must not look like a whole one.
pub(super) struct Held {
    inner: Incoming,
    ended: BoxFuture<'static, ()>,
    cut: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the right to this answer or the way to its cluster has ended")]
struct Cut;

impl Held {
    pub(super) fn new(inner: Incoming, holding: Holding) -> Self {
        Self { inner, ended: holding.ended().boxed(), cut: false }
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // A future that has ended is not polled again.
        self.cut = self.cut || self.ended.as_mut().poll(cx).is_ready();
        if self.cut {
            return Poll::Ready(Some(Err(Box::new(Cut))));
        }
        Pin::new(&mut self.inner).poll_frame(cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
