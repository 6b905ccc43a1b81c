//! One client of the hub for the life of the agent, whatever certificate or connection is behind it at the moment.

use std::sync::Arc;

use kube::Client;
use kube::client::Body;
use parking_lot::RwLock;

/// Where the present client is. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct HubLink {
    current: Arc<RwLock<Option<Client>>>,
}

/// There is no connection yet.
#[derive(Debug, thiserror::Error)]
#[error("the agent has not joined a hub yet")]
struct NotJoined;

impl HubLink {
    /// Requests go through this client from now on.
    pub(crate) fn set(&self, client: Client) {
        *self.current.write() = Some(client);
    }

    /// A client that follows [`HubLink::set`].
    pub(crate) fn client(&self) -> Client {
        let current = self.current.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let client = current.read().clone();
            async move {
                match client {
                    Some(client) => client.send(request).await.map_err(tower::BoxError::from),
                    None => Err(tower::BoxError::from(NotJoined)),
                }
            }
        });
        Client::new(service, "default")
    }
}
