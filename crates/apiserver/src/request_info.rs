//! What a request's method, path and query ask for (upstream `endpoints/request.RequestInfo`). Pure.

use kube_objects::{Reason, Status};

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
    // `/namespaces/NS` and its own subresources are the namespace itself; anything longer is inside of it.
    let own = |part: Option<&String>| part.is_none_or(|part| part == "status" || part == "finalize");
    if rest.first().is_some_and(|first| first == "namespaces") && rest.len() > 1 {
        found.namespace.clone_from(&rest[1]);
        if !own(rest.get(2)) {
            rest.drain(..2);
        }
    }
    let mut rest = rest.into_iter();
    found.resource = rest.next()?;
    found.name = rest.next().unwrap_or_default();
    found.subresource = rest.by_ref().collect::<Vec<_>>().join("/");
    Some(found)
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
