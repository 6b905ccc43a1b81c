//! Requests: how many, how long, how many are running, by what was asked for.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::RwLock;

use super::REQUEST_BUCKETS;
use super::histogram::Histogram;
use super::text::Text;
use crate::extension::Body;
use crate::request_info::RequestInfo;

/// Spreads the locks: requests of different kinds seldom meet.
const SHARDS: usize = 16;
/// Kinds of requests told apart in each shard. A thousand served kinds with a dozen verbs would fill them; what comes after is
/// counted together.
const MAXIMUM_SERIES: usize = 1024;

/// What was asked for, without who and which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Key {
    verb: &'static str,
    scope: &'static str,
    dry_run: bool,
    group: String,
    version: String,
    resource: String,
    /// For paths: the path.
    subresource: String,
}

/// What is counted of one kind of requests.
#[derive(Debug)]
struct Series {
    /// By status code; few of them occur.
    codes: RwLock<Vec<(u16, AtomicU64)>>,
    durations: Histogram<23>,
    running: AtomicI64,
}

impl Series {
    fn new() -> Self {
        Self {
            codes: RwLock::default(),
            durations: Histogram::new(&REQUEST_BUCKETS),
            running: AtomicI64::new(0),
        }
    }

    fn count(&self, code: u16) {
        if let Some((_, count)) = self.codes.read().iter().find(|(own, _)| *own == code) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut codes = self.codes.write();
        match codes.iter().find(|(own, _)| *own == code) {
            Some((_, count)) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            None => codes.push((code, AtomicU64::new(1))),
        }
    }
}

type Shard = RwLock<HashMap<Key, Arc<Series>>>;

/// All requests of a server.
#[derive(Debug)]
pub(crate) struct Requests {
    shards: [Shard; SHARDS],
    hasher: RandomState,
}

impl Default for Requests {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()), hasher: RandomState::new() }
    }
}

impl Requests {
    /// Counts a request that was answered with `code`. Long-running ones have no duration; `body` tells when they end.
    /// `served`: what it asks for exists.
    pub(crate) fn answered(
        &self,
        info: &RequestInfo,
        served: bool,
        since: Instant,
        response: http::Response<Body>,
    ) -> http::Response<Body> {
        let series = self.series(key(info, served));
        series.count(response.status().as_u16());
        if !info.is_long_running() {
            series.durations.observe(since.elapsed());
            return response;
        }
        if !response.status().is_success() && response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            return response;
        }
        series.running.fetch_add(1, Ordering::Relaxed);
        response.map(|inner| Running { inner, series }.boxed_unsync())
    }

    fn series(&self, key: Key) -> Arc<Series> {
        let shard = self.hasher.hash_one(&key) as usize % SHARDS;
        if let Some(series) = self.shards[shard].read().get(&key) {
            return Arc::clone(series);
        }
        let mut shard = self.shards[shard].write();
        let key = if shard.len() < MAXIMUM_SERIES { key } else { Key { verb: "other", ..Key::default() } };
        Arc::clone(shard.entry(key).or_insert_with(|| Arc::new(Series::new())))
    }

    pub(super) fn write(&self, text: &mut Text) {
        let mut all: Vec<(Key, Arc<Series>)> = Vec::new();
        for shard in &self.shards {
            all.extend(shard.read().iter().map(|(key, series)| (key.clone(), Arc::clone(series))));
        }
        text.family("apiserver_request_total", "counter", "Requests answered.");
        for (key, series) in &all {
            for (code, count) in series.codes.read().iter() {
                let code = code.to_string();
                let mut labels = labels(key);
                labels.push(("code", &code));
                text.number("apiserver_request_total", &labels, count.load(Ordering::Relaxed) as f64);
            }
        }
        let name = "apiserver_request_duration_seconds";
        text.family(name, "histogram", "From a request's head to its answer, in seconds.");
        for (key, series) in &all {
            series.durations.write(text, name, &labels(key));
        }
        let name = "apiserver_longrunning_requests";
        text.family(name, "gauge", "Long-running requests that are under way.");
        for (key, series) in &all {
            let running = series.running.load(Ordering::Relaxed);
            if running > 0 {
                let mut labels = labels(key);
                labels.retain(|(name, _)| *name != "dry_run");
                text.number(name, &labels, running as f64);
            }
        }
    }
}

fn labels(key: &Key) -> Vec<(&'static str, &str)> {
    vec![
        ("verb", key.verb),
        ("dry_run", if key.dry_run { "All" } else { "" }),
        ("group", &key.group),
        ("version", &key.version),
        ("resource", &key.resource),
        ("subresource", &key.subresource),
        ("scope", key.scope),
        ("component", "apiserver"),
    ]
}

/// Upstream reports HTTP methods where a verb is one, and its own words for the rest.
fn verb(info: &RequestInfo) -> &'static str {
    match &*info.verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" | "post" => "POST",
        "update" | "put" => "PUT",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        "head" => "HEAD",
        "options" => "OPTIONS",
        _ => "other",
    }
}

fn key(info: &RequestInfo, served: bool) -> Key {
    let verb = verb(info);
    let Some(path) = info.resource.as_ref().filter(|_| served) else {
        // Only paths that are known: clients may ask for any.
        let known = served && info.resource.is_none();
        let subresource = if known { info.path.clone() } else { String::new() };
        return Key { verb, subresource, ..Key::default() };
    };
    let connects = matches!(path.subresource.as_str(), "attach" | "exec" | "portforward" | "proxy");
    Key {
        verb: if connects { "CONNECT" } else { verb },
        scope: match (path.name.is_empty(), path.namespace.is_empty()) {
            (false, _) => "resource",
            (true, false) => "namespace",
            (true, true) => "cluster",
        },
        dry_run: info.query.get("dryRun").is_some_and(|value| value == "All"),
        group: path.group.clone(),
        version: path.version.clone(),
        resource: path.resource.clone(),
        subresource: path.subresource.clone(),
    }
}

/// The body of a long-running answer: it runs as long as this is read.
struct Running {
    inner: Body,
    series: Arc<Series>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.series.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl http_body::Body for Running {
    type Data = Bytes;
    type Error = crate::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, crate::BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
