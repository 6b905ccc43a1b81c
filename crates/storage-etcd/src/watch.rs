//! Watches: a task per watch that follows etcd, survives its members, and never skips an event.
//!
//! etcd is asked for everything below the prefix and the range is cut out here: so a watch of a quiet range learns of every
//! revision of the store as it happens, and asks etcd for its progress only when another program moved the revision.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foundation::causes;
use storage::{
    Event, EventKind, KeyRange, KeyValue, Revision, StoreError, WatchBatch, WatchRequest, WatchStream,
};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::metadata::MetadataValue;

use crate::connection::Repeat;
use crate::layout::{Layout, Numbering};
use crate::store::{Refused, Shared};
use crate::wire::etcdserverpb::watch_request::RequestUnion;
use crate::wire::etcdserverpb::{
    PutRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest as EtcdWatch, WatchResponse,
    request_op,
};
use crate::wire::mvccpb;

/// An idle watcher is told how far the store is at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// How long a watch may lag behind a revision that somebody waits for before etcd is asked; events mostly come sooner.
const PATIENCE: Duration = Duration::from_millis(10);
/// Before a watch is started again at the next member.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// More batches than this are never kept for one watcher, as in the other engines.
const MAX_BUFFER: usize = 1 << 20;
/// Requests on their way to etcd on one stream: the creation and one question for progress.
const REQUESTS: usize = 4;
/// etcd answers a watch of compacted history within its 100 ms cycle.
const COMPACTION_ANSWER: Duration = Duration::from_secs(5);

pub(crate) async fn start(shared: &Arc<Shared>, request: WatchRequest) -> Result<WatchStream, StoreError> {
    shared.check()?;
    let numbering = shared.life.numbering;
    let start = match request.start {
        Some(start) => {
            let start = start.max(Revision(1));
            check_start(shared, start).await?;
            start
        }
        None => numbering.own(shared.head().await?).next(),
    };
    let buffer = request.buffer.clamp(1, MAX_BUFFER);
    let (sender, receiver) = mpsc::channel(buffer + 1);
    let watcher = Watcher {
        layout: shared.layout.clone(),
        numbering,
        range: request.range,
        start,
        delivered: Revision(start.0 - 1),
        told: Revision(start.0 - 1),
        told_at: Instant::now(),
        sender,
    };
    tokio::spawn(follow(Arc::clone(shared), watcher));
    Ok(WatchStream::new(receiver))
}

async fn check_start(shared: &Shared, start: Revision) -> Result<(), StoreError> {
    let numbering = shared.life.numbering;
    if start <= numbering.floor {
        return Err(StoreError::Compacted { requested: start, oldest: numbering.floor });
    }
    let before = numbering.etcd(start) - 1;
    match shared.readable(before).await {
        Ok(()) => Ok(()),
        Err(Refused::Fault(crate::connection::Fault::Compacted)) => Err(shared.compacted_error(start).await),
        // It has not happened yet, and is waited for.
        Err(Refused::Fault(crate::connection::Fault::Future)) => Ok(()),
        Err(refused) => Err(refused.store_error()),
    }
}

/// What one reader is told.
struct Watcher {
    layout: Layout,
    numbering: Numbering,
    range: KeyRange,
    start: Revision,
    /// Everything up to here has come from etcd.
    delivered: Revision,
    /// The last batch's revision.
    told: Revision,
    told_at: Instant,
    sender: mpsc::Sender<Result<WatchBatch, StoreError>>,
}

/// Why a stream of etcd came to its end.
enum End {
    /// Nobody listens any more.
    Done,
    /// The reader is told why.
    Error(StoreError),
    /// The watch goes on elsewhere.
    Lost(String),
}

async fn follow(shared: Arc<Shared>, mut watcher: Watcher) {
    let (stop, broken) = (shared.stop.clone(), shared.broken.clone());
    let closed = watcher.sender.clone();
    let error = tokio::select! {
        () = stop.cancelled() => return,
        () = closed.closed() => return,
        () = broken.cancelled() => match shared.check() {
            Err(error) => error,
            Ok(()) => return,
        },
        error = follow_on(&shared, &mut watcher) => match error {
            Some(error) => error,
            None => return,
        },
    };
    // The slot kept for errors is free; a closed channel has nobody to tell.
    let _ = watcher.sender.try_send(Err(error));
}

/// Goes from member to member until the watch is over. Cancelled from outside when nobody listens.
async fn follow_on(shared: &Shared, watcher: &mut Watcher) -> Option<StoreError> {
    loop {
        let (client, token) = shared.connection.watch();
        let lost = match stream(shared, watcher, client).await {
            End::Done => return None,
            End::Error(error) => return Some(error),
            End::Lost(reason) => reason,
        };
        tracing::debug!(%lost, delivered = %watcher.delivered, "a watch goes on at the next member");
        shared.connection.broken(token);
        tokio::time::sleep(RETRY_PAUSE).await;
        // An etcd that went back would let the watch wait for a future that repeats the past: the read notices.
        if shared.head().await.is_err() && shared.check().is_err() {
            return shared.check().err();
        }
    }
}

type Client = crate::wire::etcdserverpb::watch_client::WatchClient<tonic::transport::Channel>;

/// One stream of etcd, from behind what was delivered on.
async fn stream(shared: &Shared, watcher: &mut Watcher, mut client: Client) -> End {
    let (requests, outgoing) = mpsc::channel(REQUESTS);
    let (key, range_end) = shared.layout.everything();
    let create = WatchCreateRequest {
        key,
        range_end,
        start_revision: watcher.numbering.etcd(watcher.delivered.next()),
        progress_notify: true,
        prev_kv: true,
        fragment: true,
    };
    if requests.send(union(RequestUnion::CreateRequest(create))).await.is_err() {
        return End::Lost("the stream closed at once".to_owned());
    }
    let mut incoming = match client.watch(with_leader(ReceiverStream::new(outgoing))).await {
        Ok(response) => response.into_inner(),
        Err(status) => return End::Lost(causes::in_line(&status)),
    };
    let mut wanted = shared.wanted.subscribe();
    let mut pieces: Vec<mvccpb::Event> = Vec::new();
    let mut cycle = tokio::time::interval(PROGRESS_INTERVAL);
    cycle.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = Revision(0);
    loop {
        let behind = watcher.numbering.own(*wanted.borrow_and_update());
        let ask = behind > watcher.delivered && behind > asked;
        tokio::select! {
            message = incoming.message() => {
                let response = match message {
                    Ok(Some(response)) => response,
                    Ok(None) => return End::Lost("etcd ended the stream".to_owned()),
                    Err(status) => return End::Lost(causes::in_line(&status)),
                };
                if let Some(end) = watcher.take(shared, response, &mut pieces).await {
                    return end;
                }
            }
            () = tokio::time::sleep(PATIENCE), if ask => {
                asked = behind;
                ask_progress(shared, &requests).await;
            }
            // Only wakes the loop.
            _ = wanted.changed(), if !ask => {}
            _ = cycle.tick(), if watcher.told < watcher.delivered => {
                if let Err(end) = watcher.progress() {
                    return end;
                }
            }
        }
    }
}

/// Makes etcd say how far the watch is. Where its answer cannot be believed, a write of ours does: it comes as an event.
async fn ask_progress(shared: &Shared, requests: &mpsc::Sender<EtcdWatch>) {
    if shared.asks_progress {
        let request = union(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        // A full queue holds a question already; a closed one is noticed by the reader of the stream.
        if let Err(TrySendError::Closed(_)) = requests.try_send(request) {
            tracing::debug!("the stream of a watch is closing");
        }
        return;
    }
    let tick = PutRequest { key: shared.layout.tick(), ..PutRequest::default() };
    let operation = request_op::Request::RequestPut(tick);
    if let Err(refused) = shared.fenced(Repeat::UnlessSent, vec![operation]).await {
        tracing::debug!(error = %refused.store_error(), "a tick was not written");
    }
}

fn union(request: RequestUnion) -> EtcdWatch {
    EtcdWatch { request_union: Some(request) }
}

/// A member that has lost the others ends the stream instead of going silent.
fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    request
}

impl Watcher {
    async fn take(
        &mut self,
        shared: &Shared,
        response: WatchResponse,
        pieces: &mut Vec<mvccpb::Event>,
    ) -> Option<End> {
        if response.canceled {
            if response.compact_revision > 0 {
                let requested = self.delivered.next();
                let oldest = self.numbering.own(response.compact_revision);
                shared.compacted.fetch_max(oldest.0, Ordering::AcqRel);
                return Some(End::Error(StoreError::Compacted { requested, oldest }));
            }
            return Some(End::Lost(response.cancel_reason));
        }
        let header = response.header.unwrap_or_default();
        if header.cluster_id != shared.life.cluster {
            return Some(End::Error(shared.fail("a watch was answered by another etcd cluster")));
        }
        if response.created {
            return None;
        }
        pieces.extend(response.events);
        if response.fragment {
            return None;
        }
        let events = std::mem::take(pieces);
        let through = match events.last().and_then(|event| event.kv.as_ref()) {
            Some(last) => last.mod_revision,
            None => header.revision,
        };
        shared.high.fetch_max(through, Ordering::AcqRel);
        // A notification may be older than what a stream that began later has delivered.
        self.delivered = self.delivered.max(self.numbering.own(through));
        let life = shared.layout.life();
        let mut matching = Vec::new();
        for event in events {
            let Some(kv) = &event.kv else { continue };
            if kv.key == life && kv.mod_revision != shared.life.fence {
                return Some(End::Error(shared.fail("another life of it has begun")));
            }
            matching.extend(self.event(event));
        }
        let told = if matching.is_empty() { self.progress() } else { self.deliver(matching) };
        told.err()
    }

    fn event(&self, event: mvccpb::Event) -> Option<Event> {
        let kind = if event.r#type() == mvccpb::event::EventType::Delete {
            EventKind::Delete
        } else {
            EventKind::Put
        };
        let kv = event.kv?;
        let key = self.layout.own(&kv.key)?;
        let revision = self.numbering.own(kv.mod_revision);
        if !self.range.contains(&key) || revision < self.start {
            return None;
        }
        let previous = event.prev_kv.map(|previous| self.numbering.key_value(key.clone(), previous));
        let kv = match kind {
            EventKind::Put => self.numbering.key_value(key, kv),
            EventKind::Delete => KeyValue {
                key,
                value: bytes::Bytes::new(),
                create_revision: Revision(0),
                mod_revision: revision,
                version: 0,
                lease: None,
            },
        };
        Some(Event { kind, kv, previous })
    }

    fn deliver(&mut self, events: Vec<Event>) -> Result<(), End> {
        if self.sender.capacity() <= 1 {
            let unread = self.sender.max_capacity() - self.sender.capacity();
            return Err(End::Error(StoreError::SlowWatcher { unread }));
        }
        self.told = self.delivered;
        self.told_at = Instant::now();
        let batch = WatchBatch { revision: self.delivered, events };
        self.sender.try_send(Ok(batch)).map_err(|_| End::Done)
    }

    /// Tells a reader that has read everything how far the store is; a busy one learns it with its next batch.
    fn progress(&mut self) -> Result<(), End> {
        let idle = self.sender.capacity() == self.sender.max_capacity();
        let due = self.told_at.elapsed() >= PROGRESS_INTERVAL;
        if idle && due && self.told < self.delivered && self.delivered >= self.start {
            return self.deliver(Vec::new());
        }
        Ok(())
    }
}

/// The point to which etcd has been compacted, given that `compacted` is before it: what it says of a watch from there.
pub(crate) async fn compaction_point(shared: &Shared, compacted: i64) -> Result<Revision, StoreError> {
    let failed = |reason: String| StoreError::Unavailable(format!("etcd's compaction point: {reason}"));
    let (mut client, token) = shared.connection.watch();
    let create = WatchCreateRequest {
        key: shared.layout.tick(),
        start_revision: compacted,
        ..WatchCreateRequest::default()
    };
    // The stream's requests must not end before its answer: etcd would end it.
    let requests = tokio_stream::StreamExt::chain(
        tokio_stream::once(union(RequestUnion::CreateRequest(create))),
        tokio_stream::pending(),
    );
    let asking = async {
        let mut answers = client.watch(with_leader(requests)).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if answer.compact_revision > 0 {
                return Ok(Some(answer.compact_revision));
            }
        }
        Ok::<_, tonic::Status>(None)
    };
    match tokio::time::timeout(COMPACTION_ANSWER, asking).await {
        Ok(Ok(Some(revision))) => Ok(shared.life.numbering.own(revision)),
        Ok(Ok(None)) => Err(failed("the stream ended".to_owned())),
        Ok(Err(status)) => {
            shared.connection.broken(token);
            Err(failed(causes::in_line(&status)))
        }
        Err(_) => Err(failed("no answer".to_owned())),
    }
}
