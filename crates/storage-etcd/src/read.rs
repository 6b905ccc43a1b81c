//! Reads: the newest revision, shared between all who ask for it at a time, and ranges, page by page.

use std::sync::Arc;

use storage::{KeyValue, RangeRequest, RangeResponse, StoreError};
use tokio::sync::{mpsc, oneshot};

use crate::connection::Fault;
use crate::store::{Refused, Shared};
use crate::wire::etcdserverpb::RangeRequest as EtcdRange;

/// Keys of a range's first page; what follows is reckoned from their size.
const FIRST_PAGE: usize = 500;
/// The most keys of a page.
const LARGEST_PAGE: usize = 10_000;
/// What a page should hold: large enough that its round trip does not count, small beside the memory of a server.
const PAGE_BYTES: usize = 4 << 20;

/// One who waits for the newest revision.
pub(crate) type Waiting = oneshot::Sender<Result<i64, StoreError>>;

/// Asks etcd for its newest revision, once for all who wait.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    waiting: mpsc::Receiver<Waiting>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, waiting: mpsc::Receiver<Waiting>) -> Self {
        Self { shared, waiting }
    }

    pub(crate) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        let _ = stop.run_until_cancelled(self.serve()).await;
    }

    async fn serve(&mut self) {
        let mut group = Vec::new();
        // Who comes while a call is on its way waits for the next: its answer might be older than the question.
        while self.waiting.recv_many(&mut group, usize::MAX).await > 0 {
            let request =
                EtcdRange { key: self.shared.layout.life(), count_only: true, ..EtcdRange::default() };
            let answer = self.shared.fenced_range(request).await.map_err(Refused::store_error);
            let answer = answer.map(|(revision, _)| revision);
            for waiting in group.drain(..) {
                // Who has gone away needs no answer.
                let _ = waiting.send(answer.clone());
            }
        }
    }
}

impl Shared {
    pub(crate) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse, StoreError> {
        let numbering = self.life.numbering;
        if let Some(requested) = request.revision
            && requested < numbering.floor
        {
            return Err(StoreError::Compacted { requested, oldest: numbering.floor });
        }
        let at = request.revision.map_or(0, |revision| numbering.etcd(revision));
        match self.pages(request, at).await {
            Ok(read) => Ok(read),
            Err(Refused::Fault(Fault::Compacted)) => {
                Err(self.compacted_error(request.revision.unwrap_or_default()).await)
            }
            Err(Refused::Fault(Fault::Future)) => {
                Err(self.future_error(request.revision.unwrap_or_default()).await)
            }
            Err(refused) => Err(refused.store_error()),
        }
    }

    async fn pages(&self, request: &RangeRequest, mut at: i64) -> Result<RangeResponse, Refused> {
        let numbering = self.life.numbering;
        let Some((mut start, end)) = self.layout.range(&request.range) else {
            self.check_revision(at).await?;
            let head = self.head().await?;
            return Ok(RangeResponse { revision: numbering.own(head), kvs: Vec::new(), count: 0 });
        };
        let limit = if request.count_only { 0 } else { request.limit.unwrap_or(usize::MAX) };
        let mut kvs: Vec<KeyValue> = Vec::new();
        let (mut page, mut first) = (FIRST_PAGE, None);
        loop {
            let keys = page.min(limit - kvs.len());
            let asked = EtcdRange {
                key: start.clone(),
                range_end: end.clone(),
                limit: i64::try_from(keys).unwrap_or(i64::MAX),
                revision: at,
                count_only: keys == 0,
            };
            let (revision, read) = match self.fenced_range(asked).await {
                Err(Refused::Fault(Fault::TooLarge)) if page > 1 => {
                    page = (page / 8).max(1);
                    continue;
                }
                other => other?,
            };
            // All pages are of the revision of the first; a count on top of it is the whole range's.
            let count = usize::try_from(read.count).unwrap_or(0);
            let (known, count) = *first.get_or_insert((revision, count));
            at = if at == 0 { known } else { at };
            let bytes: usize = read.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
            let got = read.kvs.len();
            for kv in read.kvs {
                start.clone_from(&kv.key);
                if let Some(key) = self.layout.own(&kv.key) {
                    kvs.push(numbering.key_value(key, kv));
                }
            }
            start.push(0);
            if !read.more || keys == 0 || got == 0 || kvs.len() >= limit {
                return Ok(RangeResponse { revision: numbering.own(known), kvs, count });
            }
            page = (PAGE_BYTES * got / bytes.max(1)).clamp(1, LARGEST_PAGE);
        }
    }

    /// That a range without keys was asked for at a revision that can be read.
    async fn check_revision(&self, at: i64) -> Result<(), Refused> {
        if at == 0 {
            return Ok(());
        }
        self.readable(at).await
    }
}
