//! A watch ends when the right to it does, for users a guard watches over: a certificate that was good when the watch
//! began says nothing of now. For anybody else a watch lasts as long as upstream's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use access::authorization::Attributes;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use kube_objects::UserInfo;
use tokio::time::{Interval, MissedTickBehavior};

use super::Server;
use crate::extension::{Body, BoxError};
use crate::request_info::RequestInfo;

/// How often the right is looked at: a decision in memory, and well within the ten seconds that are promised.
const EVERY: Duration = Duration::from_secs(2);

/// A long answer whose right may end.
pub(super) struct Long {
    server: Arc<Server>,
    user: UserInfo,
    attributes: Attributes,
}

impl Long {
    /// `None` for what is answered at once, and for users without a guard.
    pub(super) fn of(
        server: &Arc<Server>,
        info: &RequestInfo,
        user: &UserInfo,
        attributes: &Attributes,
    ) -> Option<Self> {
        let authorizer = server.authorizer.as_ref()?;
        let long = info.verb == "watch" && authorizer.watches_over(user);
        long.then(|| Self { server: Arc::clone(server), user: user.clone(), attributes: attributes.clone() })
    }

    /// The same answer, which ends early when the user may not have it any more.
    pub(super) fn ending_with_its_right(self, response: Response<Body>) -> Response<Body> {
        let mut check = tokio::time::interval(EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        response.map(|inner| Rechecked { inner, check, long: self }.boxed_unsync())
    }
}

struct Rechecked {
    inner: Body,
    check: Interval,
    long: Long,
}

impl http_body::Body for Rechecked {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // Polled until it waits, so that the next look wakes this task.
        while self.check.poll_tick(cx).is_ready() {
            if self.long.server.authorize(&self.long.user, &self.long.attributes).is_err() {
                return Poll::Ready(None);
            }
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
