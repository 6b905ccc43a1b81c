//! Watches: one JSON document a line, or length-delimited protobuf, from a shared history.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api_machinery::protobuf;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube_objects::{Reason, Status};
use serde_json::{Value, json};
use storage::Revision;
use tokio::time::Instant;

use self::alarms::{Marks, end};
use super::list_options::{self, Start, WatchOptions};
use super::view::{self, Include};
use super::{Call, conversion};
use crate::extension::{Body, BoxError};
use crate::http::negotiation::{Accepted, Format, View};
use crate::http::response;
use crate::selector::Selector;
use crate::watch_cache::{CachedObject, Change, Delivery, Expired, Filter, Scope, Subscription, event};

mod alarms;

/// A watch without a timeout ends after a random time of this and twice this, so that clients do not come back at once.
const SHORTEST_DEFAULT_SECONDS: u64 = 1800;
/// How long before its end a watch sends its last bookmark.
const LAST_BOOKMARK_BEFORE: Duration = Duration::from_secs(2);

/// Objects of the initial state are written into pieces of about this size, one at a time: a watcher that begins with ten
/// thousand objects costs a piece, not a copy of them.
const PIECE_BYTES: usize = 64 << 10;

/// One watch: what it shows and how.
struct Shown {
    call: Call,
    include: Include,
    /// `None`: plain JSON as stored.
    form: Option<u64>,
    /// Only the first Table of a watch names its columns, as upstream writes it.
    columns_told: AtomicBool,
    /// What is wanted of objects that may have to be converted first; the subscription has not asked for it then.
    selector: Option<Arc<Selector>>,
}

impl Shown {
    fn new(call: Call, selector: Option<Arc<Selector>>) -> Result<Self, Status> {
        let include = Include::of(call.query.get("includeObject"))?;
        let plain = call.accepted == Accepted::default()
            && conversion::is_identity(&call.resource)
            && selector.is_none();
        let form = (!plain).then(|| {
            let mut hasher = std::hash::DefaultHasher::new();
            let shape = call.resource.definition.as_ref().map(|definition| definition.shape);
            (call.accepted, include, &call.resource.gvr, shape).hash(&mut hasher);
            hasher.finish()
        });
        Ok(Self { call, include, form, columns_told: AtomicBool::new(false), selector })
    }

    /// The frames of what was delivered, in order and in one piece; empty when nothing of it is to be shown.
    async fn frames(&self, deliveries: Vec<Delivery>, subscription: &Subscription) -> Result<Bytes, Status> {
        match &self.selector {
            None => Ok(self.in_one_piece(&deliveries, subscription)),
            // Boxed: few watches convert, and what they wait for is larger than a watch.
            Some(selector) => Box::pin(self.converted(selector, deliveries)).await,
        }
    }

    /// The same of objects that have to be converted before it is known whether they are wanted.
    async fn converted(&self, selector: &Selector, deliveries: Vec<Delivery>) -> Result<Bytes, Status> {
        let mut frames = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let event = &delivery.event;
            let now = self.view(&event.object).await?;
            let before = match &event.previous {
                Some(previous) => Some(self.view(previous).await?),
                None => None,
            };
            let selected = |object: &Arc<CachedObject>| selector.matches(object);
            let (change, object) = match (before.filter(selected), !event.deleted && selected(&now)) {
                (None, false) => continue,
                (None, true) => (Change::Added, now),
                (Some(_), true) => (Change::Modified, now),
                (Some(_), false) if event.deleted => (Change::Deleted, now),
                (Some(before), false) => (Change::Deleted, Arc::new(before.at(event.revision))),
            };
            frames.push(self.frame(&Delivery { change, object, event: Arc::clone(event) }));
        }
        Ok(joined(frames))
    }

    /// One frame is shared by all watchers, and several by those who are told the same.
    fn in_one_piece(&self, deliveries: &[Delivery], subscription: &Subscription) -> Bytes {
        if deliveries.len() < 2 || self.form.is_some() {
            return joined(deliveries.iter().map(|delivery| self.frame(delivery)).collect());
        }
        subscription.piece(deliveries)
    }

    async fn view(&self, object: &Arc<CachedObject>) -> Result<Arc<CachedObject>, Status> {
        self.call.server.objects.view(&self.call.resource, Arc::clone(object)).await
    }

    fn frame(&self, delivery: &Delivery) -> Bytes {
        match self.form {
            None => delivery.event.json_frame(delivery.change, &delivery.object),
            Some(_) if self.first_table() => self.encode(delivery.change, &delivery.object),
            Some(form) => delivery
                .event
                .frame_in(delivery.change, form, || self.encode(delivery.change, &delivery.object)),
        }
    }

    fn encode(&self, change: Change, object: &CachedObject) -> Bytes {
        if self.call.accepted == (Accepted { view: View::Metadata, format: Format::Json }) {
            let mut out = BytesMut::with_capacity(1024);
            event::write_frame(change, &mut out, |out| object.encoded.write_metadata(out));
            return out.freeze();
        }
        let stored = object.encoded.to_value();
        let resource = &self.call.resource;
        let shown = match self.call.accepted.view {
            View::Object => conversion::served(resource, stored),
            View::Metadata => view::metadata(&stored),
            View::Table => {
                let list = json!({"resourceVersion": stored["metadata"]["resourceVersion"]});
                self.table(std::iter::once(stored), list)
            }
        };
        self.line(change.name(), &shown)
    }

    fn initial(&self, object: &CachedObject, out: &mut BytesMut) {
        if self.form.is_some() {
            out.put_slice(&self.encode(Change::Added, object));
            return;
        }
        event::write_json_frame(Change::Added, object, out);
    }

    fn bookmark(&self, revision: Revision, initial_end: bool) -> Bytes {
        let resource = &self.call.resource;
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.call.accepted.view {
            View::Object => {
                json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata})
            }
            View::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            View::Table => self.table(std::iter::empty(), metadata),
        };
        self.line("BOOKMARK", &object)
    }

    /// Whether the next frame is a Table that names its columns, which no other watcher may be given.
    fn first_table(&self) -> bool {
        self.call.accepted.view == View::Table && !self.columns_told.load(Ordering::Relaxed)
    }

    fn table(&self, objects: impl Iterator<Item = Value>, list: Value) -> Value {
        let mut table = view::table(&self.call.resource, objects, list, self.include, self.call.now);
        if self.columns_told.swap(true, Ordering::Relaxed) {
            table["columnDefinitions"] = Value::Null;
        }
        table
    }

    /// What ends a watch whose place in history is gone.
    fn expired(&self, from: Revision, floor: Revision) -> Bytes {
        let message = format!("too old resource version: {from} ({floor})");
        self.error(&Status::new(Reason::Expired, message))
    }

    fn error(&self, status: &Status) -> Bytes {
        self.line("ERROR", &status.to_json())
    }

    /// One event in the format of this watch.
    fn line(&self, kind: &str, object: &Value) -> Bytes {
        if self.call.accepted.format == Format::Protobuf {
            return match protobuf::encode_watch_event(kind, object) {
                Ok(frame) => frame.into(),
                // The object does not fit its own schema (written by another server, say): the client is told, as it
                // would miss an event otherwise.
                Err(error) => {
                    let status =
                        Status::internal(format!("event of {}: {error}", self.call.resource.gvr.resource));
                    let told = protobuf::encode_watch_event("ERROR", &status.to_json());
                    told.unwrap_or_default().into()
                }
            };
        }
        Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n"))
    }
}

fn joined(frames: Vec<Bytes>) -> Bytes {
    match <[Bytes; 1]>::try_from(frames) {
        Ok([only]) => only,
        Err(frames) => frames.concat().into(),
    }
}

/// A running watch as a stream of chunks.
struct Running {
    shown: Shown,
    /// The state that is sent first, as far as it has not been.
    initial: std::vec::IntoIter<Arc<CachedObject>>,
    /// What is sent after it, before the subscription is asked.
    first: Option<Bytes>,
    subscription: Option<Subscription>,
    /// When the watch has to end; waited for once, so that an event costs no timer.
    end: BoxFuture<'static, ()>,
    deadline: Instant,
    /// When the next bookmark is due; `None`: none is wanted.
    marks: Option<Marks>,
}

/// What a running watch has to do next.
enum Step {
    End,
    Deliver(Vec<Delivery>),
    Expire,
    Bookmark,
}

impl Running {
    /// The next piece of the initial state.
    fn piece(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while out.len() < PIECE_BYTES {
            let Some(object) = self.initial.next() else { break };
            self.shown.initial(&object, &mut out);
        }
        (!out.is_empty()).then(|| out.freeze())
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.piece() {
            return Some(piece);
        }
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        // Selections that only look otherwise in another version let events through that say nothing here.
        loop {
            let step = self.step().await?;
            let subscription = self.subscription.as_mut()?;
            let server = &self.shown.call.server;
            match step {
                Step::End => return None,
                Step::Expire => {
                    let ended = self.shown.expired(subscription.cursor(), subscription.floor());
                    self.subscription = None;
                    return Some(ended);
                }
                Step::Bookmark => {
                    let revision = subscription.bookmark(server.objects.cache.revision());
                    return Some(self.shown.bookmark(revision, false));
                }
                // Converting may wait for a webhook; what was delivered is not lost by that, for nothing else runs.
                Step::Deliver(deliveries) => match self.shown.frames(deliveries, subscription).await {
                    Ok(frames) if frames.is_empty() => {}
                    Ok(frames) => return Some(frames),
                    Err(status) => {
                        self.subscription = None;
                        return Some(self.shown.error(&status));
                    }
                },
            }
        }
    }

    async fn step(&mut self) -> Option<Step> {
        let subscription = self.subscription.as_mut()?;
        if self.shown.call.server.shutdown.is_cancelled() || Instant::now() >= self.deadline {
            return Some(Step::End);
        }
        // What is there already is told without waiting for anything.
        match subscription.ready() {
            Ok(ready) if ready.is_empty() => {}
            Ok(ready) => return Some(Step::Deliver(ready)),
            Err(Expired) => return Some(Step::Expire),
        }
        let marks = &mut self.marks;
        let due = async move {
            match marks {
                Some(marks) => marks.due().await,
                None => std::future::pending().await,
            }
        };
        Some(tokio::select! {
            biased;
            () = &mut self.end => Step::End,
            delivered = subscription.next() => delivered.map_or(Step::Expire, Step::Deliver),
            () = due => Step::Bookmark,
        })
    }
}

/// Why a watch ends before it began.
enum Gone {
    /// History from behind the first revision is not there any more; it begins behind the second.
    Expired(Revision, Revision),
    Failed(Status),
}

/// Serves a watch. What goes wrong once it is known what is watched is told in the stream, as upstream does.
pub(crate) async fn serve(call: Call) -> Result<Response<Body>, Status> {
    if call.server.shutdown.is_cancelled() {
        // It would end before it began, and a client of this process that begins anew at once would never wait.
        let message = "The apiserver is shutting down, please try again later.";
        return Err(Status::new(Reason::TooManyRequests, message));
    }
    let WatchOptions { start, bookmarks, timeout_seconds } = list_options::watch(&call.query)?;
    let mut selector = call.query.get("fieldSelector").unwrap_or_default().to_owned();
    if !call.path.name.is_empty() {
        selector = format!("metadata.name={}", call.path.name);
    }
    let selector =
        Selector::parse(&call.resource, call.query.get("labelSelector").unwrap_or_default(), &selector)?;
    let namespace = call.namespace().to_owned();
    let selector = Arc::new(selector);
    // Objects stored in another version show their labels and fields only when they are converted.
    let foreign = call.resource.definition.as_ref().is_some_and(|definition| definition.versions.len() > 1);
    let wanted = Arc::clone(&selector);
    let filter: Filter = Arc::new(move |object: &CachedObject| {
        let selected = if foreign { wanted.matches_name(object) } else { wanted.matches(object) };
        selected && (namespace.is_empty() || object.namespace() == namespace)
    });
    let seconds = timeout_seconds
        .unwrap_or_else(|| rand::random_range(SHORTEST_DEFAULT_SECONDS..SHORTEST_DEFAULT_SECONDS * 2));
    let cache = call.server.objects.cache_of(&call.resource)?;
    let begun = begin(&call, start).await;
    // Only the binary stream has a type of its own (upstream's `serveWatchHandler`).
    let content_type = match call.accepted.format {
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Format::Json | Format::Yaml => "application/json",
    };
    let foreign = foreign.then(|| Arc::clone(&selector));
    let mut initial = Vec::new();
    let begun = match begun {
        // What passes is worth another try at once: the stream says so, as upstream's does.
        Err(status) if status.reason != Some(Reason::Timeout) => return Err(status),
        Err(status) => Err(Gone::Failed(status)),
        Ok((cursor, state)) => match cache.subscribe(cursor, Arc::clone(&filter)) {
            None => Err(Gone::Expired(cursor, cache.floor())),
            Some(subscription) => {
                let state: Vec<_> = state.into_iter().flatten().filter(|object| filter(object)).collect();
                initial = call.server.objects.views(&call.resource, state).await?;
                initial.retain(|object| foreign.as_ref().is_none_or(|selector| selector.matches(object)));
                Ok((subscription, cursor))
            }
        },
    };
    // A watch may last for an hour, and asks nothing more of its headers.
    let shown = Shown::new(Call { headers: HeaderMap::new(), ..call }, foreign)?;
    let (subscription, first) = match begun {
        Ok((subscription, cursor)) => {
            let marked = bookmarks && matches!(start, Start::List { .. });
            (Some(subscription), marked.then(|| shown.bookmark(cursor, true)))
        }
        Err(Gone::Expired(cursor, floor)) => (None, Some(shown.expired(cursor, floor))),
        Err(Gone::Failed(status)) => (None, Some(shown.error(&status))),
    };
    let now = Instant::now();
    let deadline = now + Duration::from_secs(seconds.min(24 * 3600));
    let last = (seconds > 4).then_some(deadline - LAST_BOOKMARK_BEFORE);
    let marks = bookmarks.then(|| Marks::new(now, last));
    // Boxed, so that the stream has one place for it and not one for each of its own states: watches are the most
    // numerous thing that a server holds.
    let running = Box::new(Running {
        end: end(&shown.call, deadline),
        shown,
        initial: initial.into_iter(),
        first,
        subscription,
        deadline,
        marks,
    });
    let stream = futures::stream::unfold(running, |mut running| async move {
        let chunk = running.next().await?;
        Some((chunk, running))
    });
    let body = StreamBody::new(stream.map(|chunk| Ok::<_, BoxError>(Frame::data(chunk)))).boxed_unsync();
    let mut answer = response::plain(200, content_type, Bytes::new());
    *answer.body_mut() = body;
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(answer)
}

/// Where the events begin, and the state that goes before them.
async fn begin(call: &Call, start: Start) -> Result<(Revision, Option<Vec<Arc<CachedObject>>>), Status> {
    let objects = &call.server.objects;
    match start {
        Start::After(revision) => return Ok((revision, None)),
        Start::Now => return Ok((objects.catch_up().await?, None)),
        Start::State { consistent: true } | Start::List { at_least: None } => drop(objects.catch_up().await?),
        Start::State { consistent: false } => {}
        Start::List { at_least: Some(revision) } => objects.reach(revision).await?,
    }
    let applied = objects.cache.revision();
    let scope = Scope { namespace: call.namespace(), start: "", limit: None, wanted: None };
    let state = objects.cache_of(&call.resource)?.page(&scope);
    Ok((applied.max(state.newest), Some(state.objects)))
}
