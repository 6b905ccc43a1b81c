//! Subresources that lead elsewhere: what is behind `clusters/NAME/proxy` of a hub. The request is authenticated,
//! impersonated, counted, authorized and audited like any other; then its connector has it.

use std::fmt;
use std::sync::Arc;

use http::header;
use http::request::Parts;
use kube_objects::{Status, UserInfo};

use super::Server;
use crate::extension::ExtensionService;
use crate::request_info::{RequestInfo, ResourcePath};

/// A subresource and who serves it.
///
/// The request's extensions carry the [`UserInfo`] that was authorized and [`Connected`]. An upgrade, by whatever
/// method, needs the verb `create` besides: who may only read must not run commands over a `GET`.
#[derive(Clone)]
pub struct Connector {
    /// The API group.
    pub group: String,
    /// The resource, plural.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// Serves it.
    pub service: ExtensionService,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("group", &self.group)
            .field("resource", &self.resource)
            .field("subresource", &self.subresource)
            .finish_non_exhaustive()
    }
}

impl Connector {
    fn serves(&self, path: &ResourcePath) -> bool {
        self.group == path.group && self.resource == path.resource && self.subresource == path.subresource
    }
}

/// What a connector is asked for, as it was authorized.
#[derive(Clone)]
pub struct Connected {
    /// The object's name, decoded.
    pub name: String,
    /// What stands behind the subresource, with its slash and as it was sent; "" for nothing.
    pub tail: String,
    /// Whether the user may still have what it was given.
    pub right: Right,
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected")
            .field("name", &self.name)
            .field("tail", &self.tail)
            .finish_non_exhaustive()
    }
}

/// A right that may end while something long goes on. Clones ask the same.
#[derive(Clone)]
pub struct Right(Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Right").finish_non_exhaustive()
    }
}

impl Right {
    /// Asked now; a decision in memory.
    #[must_use]
    pub fn holds(&self) -> bool {
        (self.0)()
    }
}

/// The connector of a request, with the request made ready for it; `None` when nobody has the subresource.
pub(super) fn connected(
    server: &Arc<Server>,
    user: &UserInfo,
    info: &RequestInfo,
    parts: &mut Parts,
) -> Result<Option<ExtensionService>, Status> {
    let Some(path) = &info.resource else { return Ok(None) };
    let Some(connector) = server.connectors.iter().find(|own| own.serves(path)) else { return Ok(None) };
    let mut attributes = info.attributes();
    // By the header alone: what it asks for may be a protocol that only the other end knows.
    if parts.headers.contains_key(header::UPGRADE) {
        attributes.verb = "create".to_owned();
        server.authorize(user, &attributes)?;
    }
    let (asked, who) = (Arc::downgrade(server), user.clone());
    let right = Right(Arc::new(move || {
        asked.upgrade().is_some_and(|server| server.authorize(&who, &attributes).is_ok())
    }));
    parts.extensions.insert(user.clone());
    parts.extensions.insert(Connected { name: path.name.clone(), tail: path.tail.clone(), right });
    Ok(Some(connector.service.clone()))
}
