//! What a request's method, path and query ask for (upstream `endpoints/request.RequestInfo`). Pure.

use std::borrow::Cow;

use access::Attributes;
use access::authorization::FieldRequirement;
use api_machinery::selector::{FieldSelector, FieldTerm};
use kube_objects::{Reason, Status};

/// Subresources whose requests last as long as their work does (upstream `LongRunningFunc` of kube-apiserver).
const LONG_RUNNING: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

/// What a whole request asks for: a resource, or a path that is none.
#[derive(Clone, Debug)]
pub(crate) struct RequestInfo {
    /// As it came, undecoded.
    pub(crate) path: String,
    /// `None` for discovery and everything else outside of resources.
    pub(crate) resource: Option<ResourcePath>,
    /// Kubernetes' verb; for paths the lower-case HTTP method.
    pub(crate) verb: Cow<'static, str>,
    /// The decoded query.
    pub(crate) query: Query,
}

impl RequestInfo {
    /// Reads a request's head.
    pub(crate) fn of(method: &http::Method, uri: &http::Uri) -> Self {
        let query = Query::parse(uri.query().unwrap_or_default());
        let resource = parse_path(uri.path());
        let verb = match &resource {
            Some(path) => Cow::Borrowed(verb(method, path, &query)),
            None => method_verb(method),
        };
        Self { path: uri.path().to_owned(), resource, verb, query }
    }

    /// Whether it may take as long as it wants: watches, logs, everything that is proxied.
    pub(crate) fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || self.resource.as_ref().is_some_and(|path| LONG_RUNNING.contains(&path.subresource.as_str()))
    }

    /// Whether it only reads.
    pub(crate) fn is_read(&self) -> bool {
        matches!(&*self.verb, "get" | "list" | "watch" | "head")
    }

    /// What is authorized and audited.
    pub(crate) fn attributes(&self) -> Attributes {
        let Some(path) = &self.resource else { return Attributes::path(&self.verb, &self.path) };
        let selector = self.query.text("fieldSelector");
        let selector = selector.filter(|_| matches!(&*self.verb, "list" | "watch" | "deletecollection"));
        let field_selector = selector.map(required_fields).unwrap_or_default();
        // A list or watch of one name by field selector is authorized as that name, as upstream does.
        let named = |term: &&FieldRequirement| term.equals && term.field == "metadata.name";
        let selected = field_selector.iter().find(named).filter(|_| path.name.is_empty());
        let selected = selected.map(|term| term.value.clone());
        Attributes {
            version: path.version.clone(),
            field_selector,
            ..Attributes::resource(
                &self.verb,
                &path.group,
                &path.resource,
                &path.namespace,
                selected.as_deref().unwrap_or(&path.name),
            )
            .with_subresource(&path.subresource)
        }
    }
}

/// The terms of a field selector as authorizers see them; none of one that does not parse, which the handler refuses.
pub(crate) fn required_fields(text: &str) -> Vec<FieldRequirement> {
    let parsed: FieldSelector = text.parse().unwrap_or_default();
    let term =
        |term: FieldTerm| FieldRequirement { field: term.field, equals: term.equal, value: term.value };
    parsed.terms.into_iter().map(term).collect()
}

fn method_verb(method: &http::Method) -> Cow<'static, str> {
    Cow::Borrowed(match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        other => return Cow::Owned(other.to_ascii_lowercase()),
    })
}

/// A query string, decoded, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c=d`; undecodable escapes stand for themselves.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(own, _)| own == key).map(|(_, value)| value.as_str())
    }

    /// A value that is there and not empty.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// A flag as upstream reads it: `true`, `1` and a bare key are true.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.optional_flag(key).unwrap_or(false)
    }

    /// The same, telling "absent" apart.
    pub(crate) fn optional_flag(&self, key: &str) -> Option<bool> {
        self.get(key).map(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// A number; 400 for anything else.
    pub(crate) fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Status> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let bad = |_| Status::new(Reason::BadRequest, format!("invalid value {text:?} of parameter {key}"));
        text.parse().map(Some).map_err(bad)
    }
}

/// Undoes percent encoding; in queries a plus is a space.
pub(crate) fn decode(text: &str, plus: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |index: usize| bytes.get(index).and_then(|byte| char::from(*byte).to_digit(16));
        match bytes[at] {
            b'%' => {
                if let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) {
                    out.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                    at += 2;
                } else {
                    out.push(b'%');
                }
            }
            b'+' if plus => out.push(b' '),
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A request about resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    /// "" for the core group.
    pub(crate) group: String,
    /// `v1`.
    pub(crate) version: String,
    /// "" for cluster scope and for all namespaces.
    pub(crate) namespace: String,
    /// `pods`.
    pub(crate) resource: String,
    /// "" for a collection.
    pub(crate) name: String,
    /// `status`; "" for none.
    pub(crate) subresource: String,
    /// What stands behind the subresource, with its slash and as it was sent: for `proxy`; "" for nothing.
    pub(crate) tail: String,
    /// The old `/watch/` form of the path.
    pub(crate) watch_prefix: bool,
}

/// Reads a path below `/api/V` or `/apis/G/V`; `None` when it names no resource (discovery and everything else).
pub(crate) fn parse_path(path: &str) -> Option<ResourcePath> {
    let parts: Vec<String> =
        path.split('/').filter(|part| !part.is_empty()).map(|part| decode(part, false)).collect();
    let mut parts = parts.into_iter();
    let group = match parts.next()?.as_str() {
        "api" => String::new(),
        "apis" => parts.next()?,
        _ => return None,
    };
    let version = parts.next()?;
    let mut rest: Vec<String> = parts.collect();
    let watch_prefix = rest.first().is_some_and(|first| first == "watch") && rest.len() > 1;
    if watch_prefix {
        rest.remove(0);
    }
    let mut found = ResourcePath { group, version, watch_prefix, ..ResourcePath::default() };
    // Segments before the resource.
    let mut parts_before = if found.group.is_empty() { 2 } else { 3 } + usize::from(watch_prefix);
    // `/namespaces/NS` and its own subresources are the namespace itself; anything longer is inside of it.
    let own = |part: Option<&String>| part.is_none_or(|part| part == "status" || part == "finalize");
    if rest.first().is_some_and(|first| first == "namespaces") && rest.len() > 1 {
        found.namespace.clone_from(&rest[1]);
        if !own(rest.get(2)) {
            rest.drain(..2);
            parts_before += 2;
        }
    }
    let mut rest = rest.into_iter();
    found.resource = rest.next()?;
    found.name = rest.next().unwrap_or_default();
    found.subresource = rest.next().unwrap_or_default();
    if !found.subresource.is_empty() {
        found.tail = tail(path, parts_before + 3);
    }
    Some(found)
}

/// What stands behind the first `count` segments.
fn tail(path: &str, count: usize) -> String {
    let mut rest = path;
    for _ in 0..count {
        rest = rest.trim_start_matches('/');
        rest = &rest[rest.find('/').unwrap_or(rest.len())..];
    }
    rest.to_owned()
}

/// The Kubernetes verb of a method on a path.
pub(crate) fn verb(method: &http::Method, path: &ResourcePath, query: &Query) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" if path.name.is_empty() => "deletecollection",
        "DELETE" => "delete",
        "GET" | "HEAD" if path.watch_prefix || query.flag("watch") && path.subresource.is_empty() => "watch",
        "GET" | "HEAD" if path.name.is_empty() => "list",
        _ => "get",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_upstream_reads_them() {
        for (path, want) in [
            ("/api/v1/pods", ("", "v1", "", "pods", "", "")),
            ("/api/v1/namespaces", ("", "v1", "", "namespaces", "", "")),
            ("/api/v1/namespaces/a", ("", "v1", "a", "namespaces", "a", "")),
            ("/api/v1/namespaces/a/status", ("", "v1", "a", "namespaces", "a", "status")),
            ("/api/v1/namespaces/a/pods", ("", "v1", "a", "pods", "", "")),
            (
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                ("apps", "v1", "a", "deployments", "d", "scale"),
            ),
            ("/apis/g/v1/clusterroles/system%3Aa", ("g", "v1", "", "clusterroles", "system:a", "")),
        ] {
            let got = parse_path(path).expect(path);
            let got = (
                got.group.as_str(),
                got.version.as_str(),
                got.namespace.as_str(),
                got.resource.as_str(),
                got.name.as_str(),
                got.subresource.as_str(),
            );
            assert_eq!(got, want, "{path}");
        }
        let tail = |path| parse_path(path).map(|found| (found.subresource, found.tail));
        let proxied = |tail: &str| Some(("proxy".to_owned(), tail.to_owned()));
        assert_eq!(tail("/api/v1/namespaces/a/pods/p:80/proxy/x%2Fy//z/"), proxied("/x%2Fy//z/"));
        assert_eq!(tail("/api/v1/namespaces/a/services/s/proxy/"), proxied("/"));
        assert_eq!(tail("/api/v1/nodes/n/proxy"), proxied(""));
        assert_eq!(parse_path("/api/v1"), None);
        assert_eq!(parse_path("/apis/apps"), None);
    }

    #[test]
    fn queries_decode() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+d&watch&x=0");
        assert_eq!(query.get("labelSelector"), Some("a=b,c d"));
        assert!(query.flag("watch"));
        assert!(!query.flag("x"));
    }
}
