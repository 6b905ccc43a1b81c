//! Lists: consistent, paged, at a revision; from memory unless the past is asked for.

use std::sync::Arc;

use api_machinery::protobuf;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, BytesMut};
use http::Response;
use kube_objects::{Reason, Status};
use serde_json::{Value, json};
use storage::{KeyRange, RangeRequest, Revision, StoreError};

use super::view::{self, Include};
use super::{Call, conversion};
use crate::catalogue::Resource;
use crate::extension::Body;
use crate::http::negotiation::{Format, View};
use crate::http::response;
use crate::registry::objects::{ObjectAccess, store_failure};
use crate::selector::Selector;
use crate::watch_cache::CachedObject;

/// Which state a list shows (the decision table of upstream's `cacher/delegator`).
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Everything acknowledged before the request.
    Newest,
    /// Whatever is at hand.
    Any,
    /// At least this.
    NotOlderThan(Revision),
    /// Exactly this, from behind a key.
    Exact(Revision, Option<String>),
    /// The newest, from behind a key: after an expired token the client goes on inconsistently.
    NewestFrom(String),
}

/// A page and where it ends.
pub(crate) struct Page {
    pub(crate) revision: Revision,
    pub(crate) objects: Vec<Arc<CachedObject>>,
    /// The token for the next page.
    next: Option<String>,
    remaining: Option<usize>,
}

fn bad(message: impl Into<String>) -> Status {
    Status::new(Reason::BadRequest, message)
}

fn state(call: &Call, limit: usize) -> Result<State, Status> {
    let query = &call.query;
    let matching = query.text("resourceVersionMatch");
    let version = query.text("resourceVersion");
    if let Some(token) = query.text("continue") {
        if matching.is_some() {
            return Err(bad("resourceVersionMatch is forbidden for continue"));
        }
        if version.is_some_and(|version| version != "0") {
            return Err(bad("specifying resource version is not allowed when using continue"));
        }
        return from_token(token);
    }
    let Some(version) = version else {
        if matching.is_some() {
            return Err(bad("resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        return Ok(State::Newest);
    };
    let number = version.parse::<u64>().map_err(|_| bad(format!("invalid resource version {version:?}")))?;
    match (matching, number) {
        (Some("Exact"), 0) => {
            Err(bad("resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\""))
        }
        (Some("Exact"), _) => Ok(State::Exact(Revision(number), None)),
        (None | Some("NotOlderThan"), 0) => Ok(State::Any),
        (Some("NotOlderThan"), _) => Ok(State::NotOlderThan(Revision(number))),
        (None, _) if limit > 0 => Ok(State::Exact(Revision(number), None)),
        (None, _) => Ok(State::NotOlderThan(Revision(number))),
        (Some(other), _) => Err(bad(format!("resourceVersionMatch: unsupported value {other:?}"))),
    }
}

fn token(revision: Option<Revision>, after: &str) -> String {
    let rv = revision.map_or(-1, |revision| i64::try_from(revision.0).unwrap_or(i64::MAX));
    let text = json!({"v": "meta.k8s.io/v1", "rv": rv, "start": format!("{after}\0")});
    URL_SAFE_NO_PAD.encode(text.to_string())
}

fn from_token(token: &str) -> Result<State, Status> {
    let invalid = || bad("continue key is not valid: the token was not issued by this server");
    let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|_| invalid())?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    if value["v"] != "meta.k8s.io/v1" {
        return Err(invalid());
    }
    let start = value["start"].as_str().and_then(|start| start.strip_suffix('\0')).ok_or_else(invalid)?;
    match value["rv"].as_i64().ok_or_else(invalid)? {
        -1 => Ok(State::NewestFrom(start.to_owned())),
        revision => {
            let revision = u64::try_from(revision).map_err(|_| invalid())?;
            Ok(State::Exact(Revision(revision), Some(start.to_owned())))
        }
    }
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
    let limit: usize = call.query.number("limit")?.unwrap_or(0);
    let selector = Selector::parse(
        &call.resource,
        call.query.get("labelSelector").unwrap_or_default(),
        call.query.get("fieldSelector").unwrap_or_default(),
    )?;
    let objects = &call.server.objects;
    match state(call, limit)? {
        State::Newest => drop(objects.catch_up().await?),
        State::Any => {}
        State::NotOlderThan(revision) => objects.cache.wait_for(revision).await?,
        State::NewestFrom(after) => {
            objects.catch_up().await?;
            return Ok(from_memory(call, &selector, limit, Some(&after)).await?);
        }
        State::Exact(revision, after) => return past(call, &selector, limit, revision, after).await,
    }
    Ok(from_memory(call, &selector, limit, None).await?)
}

async fn from_memory(
    call: &Call,
    selector: &Selector,
    limit: usize,
    after: Option<&str>,
) -> Result<Page, Status> {
    let objects = &call.server.objects;
    let cache = objects.cache_of(&call.resource)?;
    let applied = objects.cache.revision();
    // A single name needs no walk over the whole storage.
    let (newest, found) = match selector.name() {
        Some(name) if call.resource.namespaced && call.namespace().is_empty() || name.is_empty() => {
            cache.snapshot(call.namespace(), after)
        }
        Some(name) => {
            let found: Vec<_> = cache.get(call.namespace(), name).into_iter().collect();
            let newest = found.iter().map(|object| object.encoded.revision()).max().unwrap_or_default();
            (newest, found)
        }
        None => cache.snapshot(call.namespace(), after),
    };
    let found = objects.views(&call.resource, found).await?;
    Ok(cut(found, selector, limit, applied.max(newest)))
}

fn cut(found: Vec<Arc<CachedObject>>, selector: &Selector, limit: usize, revision: Revision) -> Page {
    let mut objects: Vec<_> = found.into_iter().filter(|object| selector.matches(object)).collect();
    let (mut next, mut remaining) = (None, None);
    if limit > 0 && objects.len() > limit {
        remaining = selector.is_empty().then_some(objects.len() - limit);
        objects.truncate(limit);
        next = objects.last().map(|last| token(Some(revision), &relative_key(last)));
    }
    Page { revision, objects, next, remaining }
}

/// An object's key behind its storage's prefix.
fn relative_key(object: &CachedObject) -> String {
    if object.namespace.is_empty() {
        object.name.clone()
    } else {
        format!("{}/{}", object.namespace, object.name)
    }
}

async fn past(
    call: &Call,
    selector: &Selector,
    limit: usize,
    revision: Revision,
    after: Option<String>,
) -> Result<Page, ListError> {
    let objects = &call.server.objects;
    let cache = objects.cache_of(&call.resource)?;
    let mut range = ObjectAccess::range(&call.resource, call.namespace());
    if let Some(after) = &after {
        let start = format!("{}{after}\0", cache.prefix()).into_bytes();
        if start.as_slice() > range.start.as_ref() {
            range = KeyRange { start: start.into(), end: range.end };
        }
    }
    let request = RangeRequest { range, revision: Some(revision), limit: None, count_only: false };
    let found = match (objects.store.range(request).await, after) {
        (Ok(found), _) => found,
        (Err(StoreError::Compacted { .. }), Some(after)) => {
            let message = "The provided continue parameter is too old to display a consistent list result. You can \
                           start a new list without the continue parameter, or use the continue token in this \
                           response to retrieve the remainder of the results. Continuing with the provided token \
                           results in an inconsistent list - objects that were created, modified, or deleted between \
                           the time the first chunk was returned and now may show up in the list.";
            let status = Status::new(Reason::Expired, message);
            return Err(ListError::Expired { status, token: token(None, &after) });
        }
        (Err(error), _) => return Err(store_failure(&error).into()),
    };
    let versions = found.kvs.iter().filter_map(|kv| cache.version(kv)).collect();
    let versions = objects.views(&call.resource, versions).await?;
    Ok(cut(versions, selector, limit, revision))
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
    let values = page.objects.iter().map(|object| object.encoded.to_value());
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
        View::Object
            if conversion::is_identity(resource)
                && call.style.format == Format::Json
                && !call.style.pretty =>
        {
            return Ok(response::encoded(200, spliced(call, &page, &metadata).freeze(), call.style));
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

/// A list put together from the kept bytes: no object is decoded.
fn spliced(call: &Call, page: &Page, metadata: &Value) -> BytesMut {
    let size: usize = page.objects.iter().map(|object| object.encoded.len() + 1).sum();
    let mut list = JsonList::begin(&call.resource, metadata, size);
    for object in &page.objects {
        list.item(|out| object.encoded.write_to(out));
    }
    list.end()
}

/// A list written item by item as JSON, so that no item outlives its turn.
pub(crate) struct JsonList {
    out: BytesMut,
    first: bool,
}

impl JsonList {
    /// With room for items of `size` bytes in all.
    pub(crate) fn begin(resource: &Resource, metadata: &Value, size: usize) -> Self {
        let mut out = BytesMut::with_capacity(size + 256);
        let head = format!(
            "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
            resource.kind,
            resource.api_version()
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_carry_their_place() {
        let exact = from_token(&token(Some(Revision(7)), "ns/a")).expect("own token");
        assert_eq!(exact, State::Exact(Revision(7), Some("ns/a".to_owned())));
        let newest = from_token(&token(None, "a")).expect("own token");
        assert_eq!(newest, State::NewestFrom("a".to_owned()));
        assert!(from_token("rubbish").is_err());
    }
}
