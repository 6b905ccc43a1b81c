//! Endpoints of others under this server's address: the hub's join, content and stream endpoints.

use std::convert::Infallible;
use std::fmt;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use tower::util::BoxCloneSyncService;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of requests and responses, in process and over the network.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What serves an extension's requests. Failures are responses.
pub type ExtensionService = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Infallible>;

/// Everything under a path prefix goes to a service that is not Kubernetes objects.
///
/// The request's extensions carry the authenticated [`kube_objects::UserInfo`]; authorization beyond "may this user
/// use this URL" is the extension's own. Bodies are not bounded here: the extension bounds them.
#[derive(Clone)]
pub struct Extension {
    /// `/fleet/v1/`: matched at the start of the path, whole segments.
    pub prefix: String,
    /// Also serve requests that carry no credentials (the extension authenticates them itself).
    pub anonymous: bool,
    /// Serves them.
    pub service: ExtensionService,
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extension")
            .field("prefix", &self.prefix)
            .field("anonymous", &self.anonymous)
            .finish_non_exhaustive()
    }
}

impl Extension {
    /// Whether `path` belongs to it.
    #[must_use]
    pub fn serves(&self, path: &str) -> bool {
        let prefix = self.prefix.trim_end_matches('/');
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}
