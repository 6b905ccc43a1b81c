//! Watches: one JSON document a line, or length-delimited protobuf, from a shared history.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use api_machinery::protobuf;
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube_objects::{Reason, Status};
use serde_json::{Value, json};
use storage::Revision;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::view::{self, Include};
use super::{Call, conversion};
use crate::extension::{Body, BoxError};
use crate::http::negotiation::{Accepted, Format, View};
use crate::http::response;
use crate::selector::Selector;
use crate::watch_cache::{CachedObject, Change, Delivery, Filter, Subscription};

/// Between two bookmarks (upstream: about a minute).
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without a timeout ends after a random time of this and twice this, so that clients do not come back at once.
const SHORTEST_DEFAULT_SECONDS: u64 = 1800;
/// How long before its end a watch sends its last bookmark.
const LAST_BOOKMARK_BEFORE: Duration = Duration::from_secs(2);

/// How a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// With the state (as old as the cache has it, or consistent), then what changes.
    State { consistent: bool },
    /// With what changes from now on.
    Now,
    /// With what changed after a revision.
    After(Revision),
    /// WatchList: with the state at least as new as this, then a marked bookmark.
    List { at_least: Option<Revision> },
}

fn start(call: &Call) -> Result<Start, Status> {
    let query = &call.query;
    let version = query.text("resourceVersion");
    let revision: Option<u64> = query.number("resourceVersion")?;
    let initial = query.optional_flag("sendInitialEvents");
    let matching = query.text("resourceVersionMatch");
    let refuse = |message: &str| {
        Err(Status::new(Reason::Invalid, format!("ListOptions.meta.k8s.io \"\" is invalid: {message}")))
    };
    if query.text("continue").is_some() {
        return Err(Status::new(Reason::BadRequest, "continue is not supported by watches"));
    }
    match (initial, matching) {
        (None, Some(_)) => {
            return refuse(
                "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            );
        }
        (Some(_), Some("NotOlderThan")) | (None, None) => {}
        (Some(_), None) => {
            return refuse(
                "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            );
        }
        (Some(_), Some(_)) => {
            return refuse("resourceVersionMatch: Unsupported value: supported values: \"NotOlderThan\"");
        }
    }
    Ok(match (initial, version, revision) {
        (Some(true), None, _) => Start::List { at_least: None },
        (Some(true), _, revision) => Start::List { at_least: Some(Revision(revision.unwrap_or(0))) },
        (Some(false), None | Some("0"), _) => Start::Now,
        (_, None, _) => Start::State { consistent: true },
        (_, _, Some(0) | None) => Start::State { consistent: false },
        (_, _, Some(revision)) => Start::After(Revision(revision)),
    })
}

/// One watch: what it shows and how.
struct Shown {
    call: Call,
    include: Include,
    /// `None`: plain JSON as stored.
    form: Option<u64>,
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
        Ok(Self { call, include, form, selector })
    }

    /// The frames of what was delivered, in order.
    async fn frames(&self, deliveries: Vec<Delivery>) -> Result<Vec<Bytes>, Status> {
        let Some(selector) = &self.selector else {
            return Ok(deliveries.iter().map(|delivery| self.frame(delivery)).collect());
        };
        let mut frames = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let event = &delivery.event;
            let now = self.view(&event.object).await?;
            let before = match &event.previous {
                Some(previous) => Some(self.view(previous).await?),
                None => None,
            };
            let selected = |object: &Arc<CachedObject>| selector.matches(object);
            let told = match (before.filter(selected), !event.deleted && selected(&now)) {
                (None, false) => continue,
                (None, true) => (Change::Added, now),
                (Some(_), true) => (Change::Modified, now),
                (Some(_), false) if event.deleted => (Change::Deleted, now),
                (Some(before), false) => (Change::Deleted, Arc::new(before.at(event.revision))),
            };
            frames.push(self.frame(&Delivery { change: told.0, object: told.1, event: Arc::clone(event) }));
        }
        Ok(frames)
    }

    async fn view(&self, object: &Arc<CachedObject>) -> Result<Arc<CachedObject>, Status> {
        self.call.server.objects.view(&self.call.resource, Arc::clone(object)).await
    }

    fn frame(&self, delivery: &Delivery) -> Bytes {
        match self.form {
            None => delivery.event.json_frame(delivery.change, &delivery.object),
            Some(form) => delivery
                .event
                .frame_in(delivery.change, form, || self.encode(delivery.change, &delivery.object)),
        }
    }

    fn encode(&self, change: Change, object: &CachedObject) -> Bytes {
        let stored = object.encoded.to_value();
        let resource = &self.call.resource;
        let shown = match self.call.accepted.view {
            View::Object => conversion::served(resource, stored),
            View::Metadata => view::metadata(&stored),
            View::Table => {
                let list = json!({"resourceVersion": stored["metadata"]["resourceVersion"]});
                view::table(resource, std::iter::once(stored), list, self.include, self.call.now)
            }
        };
        self.line(change.name(), &shown)
    }

    fn initial(&self, object: &CachedObject, out: &mut BytesMut) {
        if self.form.is_some() {
            out.put_slice(&self.encode(Change::Added, object));
            return;
        }
        out.put_slice(b"{\"type\":\"ADDED\",\"object\":");
        object.encoded.write_to(out);
        out.put_slice(b"}\n");
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
            View::Table => view::table(resource, std::iter::empty(), metadata, self.include, self.call.now),
        };
        self.line("BOOKMARK", &object)
    }

    /// What ends a watch that fell behind the history.
    fn expired(&self) -> Bytes {
        let status = Status::new(Reason::Expired, "The resourceVersion for the provided watch is too old.");
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

/// A running watch as a stream of chunks.
struct Running {
    shown: Shown,
    /// What is sent before the subscription is asked.
    first: Option<Bytes>,
    subscription: Option<Subscription>,
    bookmarks: Option<Interval>,
    last_bookmark: Instant,
    deadline: Instant,
}

/// What a running watch has to do next.
enum Step {
    End,
    Deliver(Vec<Delivery>),
    Expire,
    Bookmark,
    LastBookmark,
}

impl Running {
    async fn next(&mut self) -> Option<Bytes> {
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
                    self.subscription = None;
                    return Some(self.shown.expired());
                }
                Step::Bookmark => {
                    let revision = subscription.bookmark(server.objects.cache.revision());
                    return Some(self.shown.bookmark(revision, false));
                }
                Step::LastBookmark => {
                    let revision = subscription.bookmark(server.objects.cache.revision());
                    self.last_bookmark = self.deadline + BOOKMARK_EVERY;
                    return Some(self.shown.bookmark(revision, false));
                }
                // Converting may wait for a webhook; what was delivered is not lost by that, for nothing else runs.
                Step::Deliver(deliveries) => match self.shown.frames(deliveries).await {
                    Ok(frames) if frames.is_empty() => {}
                    Ok(frames) => {
                        return Some(match <[Bytes; 1]>::try_from(frames) {
                            Ok([only]) => only,
                            Err(frames) => frames.concat().into(),
                        });
                    }
                    Err(status) => {
                        self.subscription = None;
                        return Some(self.shown.line("ERROR", &status.to_json()));
                    }
                },
            }
        }
    }

    async fn step(&mut self) -> Option<Step> {
        let subscription = self.subscription.as_mut()?;
        let server = &self.shown.call.server;
        let bookmarking = self.bookmarks.is_some();
        let bookmarks = &mut self.bookmarks;
        let tick = async move {
            match bookmarks {
                Some(bookmarks) => drop(bookmarks.tick().await),
                None => std::future::pending().await,
            }
        };
        // A custom kind that has changed its form: the client comes back and sees the new one.
        let definition = self.shown.call.resource.definition.as_ref();
        let retired = async move {
            match definition {
                Some(definition) => definition.retired.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let last = self.last_bookmark;
        Some(tokio::select! {
            biased;
            () = server.shutdown.cancelled() => Step::End,
            () = tokio::time::sleep_until(self.deadline) => Step::End,
            delivered = subscription.next() => delivered.map_or(Step::Expire, Step::Deliver),
            () = retired => Step::End,
            () = tick => Step::Bookmark,
            () = tokio::time::sleep_until(last), if bookmarking => Step::LastBookmark,
        })
    }
}

/// Serves a watch.
pub(crate) async fn serve(call: Call) -> Result<Response<Body>, Status> {
    let start = start(&call)?;
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
        selected && (namespace.is_empty() || object.namespace == namespace)
    });
    let bookmarks = call.query.flag("allowWatchBookmarks");
    let timeout: Option<u64> = call.query.number("timeoutSeconds")?;
    let seconds = timeout
        .filter(|seconds| *seconds > 0)
        .unwrap_or_else(|| rand::random_range(SHORTEST_DEFAULT_SECONDS..SHORTEST_DEFAULT_SECONDS * 2));
    let (cursor, state) = begin(&call, start).await?;
    let subscription = call.server.objects.cache_of(&call.resource)?.subscribe(cursor, Arc::clone(&filter));
    // Only the binary stream has a type of its own (upstream's `serveWatchHandler`).
    let content_type = match call.accepted.format {
        Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Format::Json | Format::Yaml => "application/json",
    };
    let state: Vec<_> = state.into_iter().flatten().filter(|object| filter(object)).collect();
    let state = call.server.objects.views(&call.resource, state).await?;
    let shown = Shown::new(call, foreign.then(|| Arc::clone(&selector)))?;
    let mut first = BytesMut::new();
    for object in state.iter().filter(|object| !foreign || selector.matches(object)) {
        shown.initial(object, &mut first);
    }
    if bookmarks && matches!(start, Start::List { .. }) {
        first.put_slice(&shown.bookmark(cursor, true));
    }
    if subscription.is_none() {
        first.put_slice(&shown.expired());
    }
    let now = Instant::now();
    let deadline = now + Duration::from_secs(seconds.min(24 * 3600));
    let bookmarks = bookmarks.then(|| {
        let mut interval = tokio::time::interval_at(now + BOOKMARK_EVERY, BOOKMARK_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    });
    let running = Running {
        shown,
        first: (!first.is_empty()).then(|| first.freeze()),
        subscription,
        last_bookmark: if seconds > 4 { deadline - LAST_BOOKMARK_BEFORE } else { deadline + BOOKMARK_EVERY },
        bookmarks,
        deadline,
    };
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
        Start::List { at_least: Some(revision) } => objects.cache.wait_for(revision).await?,
    }
    let applied = objects.cache.revision();
    let (newest, state) = objects.cache_of(&call.resource)?.snapshot(call.namespace(), None);
    Ok((applied.max(newest), Some(state)))
}
