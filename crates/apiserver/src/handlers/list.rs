//! Lists: consistent, paged, at a revision; from memory unless the past is asked for. [`stream`] sends them from the kept
//! bytes.

use std::sync::Arc;

use api_machinery::protobuf;
use bytes::{BufMut, BytesMut};
use http::Response;
use kube_objects::{Reason, Status};
use serde_json::{Value, json};
use storage::{KeyRange, RangeRequest, Revision, StoreError};

use self::stream::Part;
use super::list_options::{self, ListOptions, State};
use super::view::{self, Include};
use super::{Call, conversion};
use crate::catalogue::Resource;
use crate::extension::Body;
use crate::http::negotiation::{Format, View};
use crate::http::response;
use crate::registry::objects::{ObjectAccess, store_failure};
use crate::selector::Selector;
use crate::watch_cache::{CachedObject, ResourceCache, Scope, Wanted};

mod stream;

/// Versions read of the past at a time when a selector decides which count.
const CHUNK: usize = 500;

/// A token too old for a consistent list, in upstream's words.
const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start \
                            a new list without the continue parameter, or use the continue token in this response to \
                            retrieve the remainder of the results. Continuing with the provided token results in an \
                            inconsistent list - objects that were created, modified, or deleted between the time the \
                            first chunk was returned and now may show up in the list.";

/// A page and where it ends.
pub(crate) struct Page {
    pub(crate) revision: Revision,
    pub(crate) objects: Vec<Arc<CachedObject>>,
    /// The token for the next page.
    next: Option<String>,
    remaining: Option<usize>,
}

/// A list's failure; an expired continue token carries a fresh one.
pub(crate) enum ListError {
    Status(Status),
    Expired { status: Status, token: String },
}

impl From<Status> for ListError {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// The objects a request selects.
pub(crate) async fn page(call: &Call) -> Result<Page, ListError> {
    let ListOptions { state, limit } = list_options::list(&call.query)?;
    let selector = Selector::parse(
        &call.resource,
        call.query.get("labelSelector").unwrap_or_default(),
        call.query.get("fieldSelector").unwrap_or_default(),
    )?;
    let objects = &call.server.objects;
    let asked = Asked { call, selector: &selector, limit };
    match state {
        State::Newest => drop(objects.catch_up().await?),
        State::Any => {}
        State::NotOlderThan(revision) => objects.reach(revision).await?,
        State::NewestFrom(start) => {
            objects.catch_up().await?;
            return Ok(asked.newest(&start).await?);
        }
        State::Exact(revision) => return asked.at(revision, None).await,
        State::Continued(revision, start) => return asked.at(revision, Some(&start)).await,
    }
    Ok(asked.newest("").await?)
}

/// Why the past could not be listed.
enum Past {
    Store(StoreError),
    Status(Status),
}

/// A list that is being put together.
struct Asked<'a> {
    call: &'a Call,
    selector: &'a Selector,
    limit: Option<usize>,
}

impl Asked<'_> {
    /// The newest state, from a key of the scope on.
    async fn newest(&self, start: &str) -> Result<Page, Status> {
        let objects = &self.call.server.objects;
        let cache = objects.cache_of(&self.call.resource)?;
        let applied = objects.cache.revision();
        // A single name needs no walk over the whole storage.
        let namespaced = self.call.resource.namespaced;
        let single = self.selector.name().filter(|name| {
            start.is_empty() && !name.is_empty() && !(namespaced && self.call.namespace().is_empty())
        });
        let found = match single {
            Some(name) => cache.single(self.call.namespace(), name),
            None => cache.page(&self.scope(start)),
        };
        let matching = self.selected(found.objects).await?;
        Ok(self.cut(matching, found.rest, applied.max(found.newest)))
    }

    /// Whether objects may be stored in another version, and show what selectors look at only when they are converted.
    fn is_foreign(&self) -> bool {
        let definition = self.call.resource.definition.as_ref();
        definition.is_some_and(|definition| definition.versions.len() > 1)
    }

    /// Objects in the version asked for, those that the selector wants.
    async fn selected(&self, found: Vec<Arc<CachedObject>>) -> Result<Vec<Arc<CachedObject>>, Status> {
        let mut views = self.call.server.objects.views(&self.call.resource, found).await?;
        if !self.selector.is_empty() {
            views.retain(|object| self.selector.matches(object));
        }
        Ok(views)
    }

    fn scope<'s>(&'s self, start: &'s str) -> Scope<'s> {
        let namespace = self.call.namespace();
        if self.selector.is_empty() {
            return Scope { namespace, start, limit: self.limit, wanted: None };
        }
        if self.is_foreign() {
            return Scope { namespace, start, limit: None, wanted: None };
        }
        let wanted: Wanted<'s> = Box::new(|object| self.selector.matches(object));
        Scope { namespace, start, limit: self.limit, wanted: Some(wanted) }
    }

    /// The state of a revision, from memory while that is still the newest, else from the store.
    async fn at(&self, revision: Revision, start: Option<&str>) -> Result<Page, ListError> {
        let objects = &self.call.server.objects;
        objects.reach(revision).await?;
        let cache = objects.cache_of(&self.call.resource)?;
        let found = cache.page(&self.scope(start.unwrap_or_default()));
        let status = objects.store.status().await.map_err(|error| store_failure(&error))?;
        // A compacted revision is gone even where nothing has changed since: clients are told the same everywhere.
        if found.newest <= revision && revision >= status.compacted {
            let matching = self.selected(found.objects).await?;
            return Ok(self.cut(matching, found.rest, revision));
        }
        match self.past(&cache, revision, start.unwrap_or_default()).await {
            Err(Past::Store(StoreError::Compacted { .. })) => Err(match start {
                Some(start) => ListError::Expired {
                    status: Status::new(Reason::Expired, INCONSISTENT),
                    token: list_options::token_from(None, start),
                },
                None => {
                    let message = "The resourceVersion for the provided list is too old.";
                    Status::new(Reason::Expired, message).into()
                }
            }),
            Err(Past::Store(error)) => Err(store_failure(&error).into()),
            Err(Past::Status(status)) => Err(status.into()),
            Ok(page) => Ok(page),
        }
    }

    /// The state of a past revision. Reads what the page needs, not the whole range.
    async fn past(&self, cache: &ResourceCache, revision: Revision, start: &str) -> Result<Page, Past> {
        let objects = &self.call.server.objects;
        let mut range = ObjectAccess::range(&self.call.resource, self.call.namespace());
        if !start.is_empty() {
            let start = [range.start.as_ref(), start.as_bytes()].concat();
            range = KeyRange { start: start.into(), end: range.end };
        }
        let everything = self.selector.is_empty();
        let chunk = self.limit.map(|limit| if everything { limit } else { limit.max(CHUNK) });
        let mut matching = Vec::new();
        loop {
            let request = RangeRequest {
                range: range.clone(),
                revision: Some(revision),
                limit: chunk,
                count_only: false,
            };
            let found = objects.store.range(request).await.map_err(Past::Store)?;
            let rest = found.count - found.kvs.len();
            let versions = found.kvs.iter().filter_map(|kv| cache.version(kv)).collect();
            matching.extend(self.selected(versions).await.map_err(Past::Status)?);
            let full = self.limit.is_some_and(|limit| matching.len() > limit);
            let last = found.kvs.last().filter(|_| rest > 0 && !full && !everything);
            let Some(last) = last else { return Ok(self.cut(matching, rest, revision)) };
            let next = [last.key.as_ref(), b"\0"].concat();
            range = KeyRange { start: next.into(), end: range.end };
        }
    }

    /// Cuts a page; `rest` is how many objects lie behind those found, whether they match or not.
    fn cut(&self, mut objects: Vec<Arc<CachedObject>>, rest: usize, revision: Revision) -> Page {
        let (mut next, mut remaining) = (None, None);
        if let Some(limit) = self.limit {
            let behind =
                objects.len().saturating_sub(limit) + if self.selector.is_empty() { rest } else { 0 };
            objects.truncate(limit);
            if behind > 0 {
                remaining = self.selector.is_empty().then_some(behind);
                let scoped = !self.call.namespace().is_empty();
                next = objects.last().map(|last| list_options::token(Some(revision), &key_of(last, scoped)));
            }
        }
        Page { revision, objects, next, remaining }
    }
}

/// An object's key within a list's scope.
fn key_of(object: &CachedObject, scoped: bool) -> String {
    if scoped || object.namespace().is_empty() {
        object.name().to_owned()
    } else {
        format!("{}/{}", object.namespace(), object.name())
    }
}

/// Serves a list.
pub(crate) async fn serve(call: &Call) -> Result<Response<Body>, Status> {
    let include = Include::of(call.query.get("includeObject"))?;
    let page = match page(call).await {
        Ok(page) => page,
        Err(ListError::Status(status)) => return Err(status),
        Err(ListError::Expired { status, token }) => {
            let mut document = status.to_json();
            document["metadata"]["continue"] = Value::String(token);
            return Ok(response::object(status.code, &document, call.style));
        }
    };
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(next) = &page.next {
        metadata["continue"] = json!(next);
    }
    if let Some(remaining) = page.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    let resource = &call.resource;
    let part = match call.accepted.view {
        View::Metadata if call.wants_json() => Some(Part::Metadata),
        View::Object if call.wants_plain() => Some(if resource.custom { Part::Whole } else { Part::Item }),
        _ => None,
    };
    if let Some(part) = part {
        return Ok(stream::response(resource, page.objects, &metadata, call.style, part));
    }
    let values = page.objects.iter().map(|object| object.encoded.to_value());
    answer(call, metadata, values, include)
}

/// A list of objects at hand, as the client wants it.
pub(crate) fn answer(
    call: &Call,
    metadata: Value,
    values: impl Iterator<Item = Value>,
    include: Include,
) -> Result<Response<Body>, Status> {
    let resource = &call.resource;
    if call.style.format == Format::Protobuf {
        return protobuf_list(call, &metadata, values);
    }
    let document = match call.accepted.view {
        View::Table => view::table(resource, values, metadata, include, call.now),
        View::Metadata => {
            let items = Value::Array(values.map(|value| view::metadata(&value)).collect());
            let fields = [("metadata", metadata), ("items", items)];
            view::document("PartialObjectMetadataList", "meta.k8s.io/v1", fields)
        }
        View::Object => {
            view::list(resource, metadata, values.map(|value| conversion::served(resource, value)))
        }
    };
    Ok(response::object(200, &document, call.style))
}

/// A list in protobuf, item by item. Nothing is kept of it: components read a list in protobuf once, then they watch.
fn protobuf_list(
    call: &Call,
    metadata: &Value,
    values: impl Iterator<Item = Value>,
) -> Result<Response<Body>, Status> {
    let resource = &call.resource;
    let written = match call.accepted.view {
        View::Metadata => {
            let items = values.map(|value| view::metadata(&value));
            protobuf::encode_list("meta.k8s.io/v1", "PartialObjectMetadataList", metadata, items)
        }
        View::Object | View::Table => {
            let items = values.map(|value| conversion::served(resource, value));
            let kind = format!("{}List", resource.kind);
            protobuf::encode_list(&resource.api_version(), &kind, metadata, items)
        }
    };
    Ok(response::encoded(200, written.map_err(Status::internal)?.into(), call.style))
}

/// What stands before a list's items.
fn head(kind: &str, version: &str, metadata: &Value) -> String {
    format!("{{\"kind\":\"{kind}List\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[")
}

/// A list written item by item as JSON, so that no item outlives its turn.
pub(crate) struct JsonList {
    out: BytesMut,
    first: bool,
}

impl JsonList {
    /// With room for items of `size` bytes in all.
    pub(crate) fn begin(resource: &Resource, metadata: &Value, size: usize) -> Self {
        let head = head(&resource.kind, &resource.api_version(), metadata);
        let mut out = BytesMut::with_capacity(size + head.len() + 2);
        out.put_slice(head.as_bytes());
        Self { out, first: true }
    }

    /// What `write` appends is the next item.
    pub(crate) fn item(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if !std::mem::take(&mut self.first) {
            self.out.put_u8(b',');
        }
        write(&mut self.out);
    }

    pub(crate) fn end(mut self) -> BytesMut {
        self.out.put_slice(b"]}");
        self.out
    }
}
