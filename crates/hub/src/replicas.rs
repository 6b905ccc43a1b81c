//! Several processes of one hub on one store: who leads, where each agent is, and the way to an agent that is elsewhere.
//!
//! * Control loops run in the process that leads; each of their writes is checked by the store against the leader's fence, so
//!   that one that was deposed and does not know it yet writes nothing more ([`Term`]).
//! * Which process holds an agent's stream stands in the store under a lease of that process ([`directory`]): no heartbeat of
//!   an agent is written, and a process that dies takes its entries with it.
//! * A person's request for a cluster whose agent is at another process is passed on to it ([`forward`]).
//! * Inbox and content are in the store, too ([`crate::inbox`], [`crate::content`]).

pub(crate) mod directory;
pub(crate) mod forward;

use std::sync::Arc;

use async_trait::async_trait;
use http::{Request, Response};
use kube::Client;
use storage::{Compare, Store};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::endpoints::Body;

/// Everything of the hub's own in a shared store lies below this, beside the objects.
pub(crate) const ROOT: &str = "fairlead/hub/";

/// What a process needs to be one of several.
#[derive(Clone)]
pub struct Replica {
    /// The store that all share.
    pub store: Arc<dyn Store>,
    /// A name that no other process has.
    pub identity: String,
    /// Where the others reach this one, `https://host:port`.
    pub url: String,
    /// Chooses the leader.
    pub election: Arc<dyn Election>,
    /// Reaches the others.
    pub peers: Arc<dyn Peers>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("identity", &self.identity)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Chooses one of several processes.
#[async_trait]
pub trait Election: Send + Sync + 'static {
    /// Waits until this process leads, however long that takes.
    async fn term(&self) -> Term;
}

/// The time in which a process leads. Dropping it gives the lead up.
pub struct Term {
    /// Acts for the leader: the store refuses its writes once another has led.
    pub client: Client,
    /// Holds as long as nobody else has led; for writes that go to the store itself.
    pub fence: Compare,
    /// Cancelled when the lead is lost, or may be.
    pub lost: CancellationToken,
    /// Gives the lead up when it is dropped.
    pub held: DropGuard,
}

impl std::fmt::Debug for Term {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Term").field("lost", &self.lost.is_cancelled()).finish_non_exhaustive()
    }
}

/// Reaches other processes of this hub, as the hub itself.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Sends a request to the process at `url`. What the connection is upgraded to, if it is, is in the answer's extensions.
    ///
    /// # Errors
    /// Why there is no answer, for the log.
    async fn send(&self, url: &str, request: Request<Body>) -> Result<Response<Body>, String>;
}
