//! How many requests run at once, and whose turn it is.
//!
//! A request is put in a class by who sends it (the names are those of upstream's default FlowSchemas), and each class
//! runs in a pool of seats of its own: what a cluster needs in order to live (leases, leader election, nodes,
//! controllers) never waits behind people and their scripts. Within a pool the users take turns, and one user alone
//! never holds every seat, so that another is served at once. Who waits too long, or behind too many, is answered 429.
//! Requests of `system:masters` and health probes are exempt, as upstream. Long-running requests hold a seat only until
//! they are answered.

mod class;
mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kube_objects::UserInfo;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::request_info::RequestInfo;
pub(crate) use class::Class;
use class::{PoolName, classify};
use queue::{Arrival, Queue};

/// How much may run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Reading requests at once, over all classes (upstream `--max-requests-inflight`); at least 8.
    pub reads: usize,
    /// Writing requests at once, over all classes (upstream `--max-mutating-requests-inflight`); at least 8.
    pub writes: usize,
    /// How long a request may wait for its turn (upstream: a quarter of the request timeout).
    pub wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { reads: 400, writes: 200, wait: Duration::from_secs(15) }
    }
}

/// The pools of a server.
pub(crate) struct Limiter {
    /// By [`PoolName`], reads before writes.
    pools: [[Arc<Pool>; 2]; 3],
    wait: Duration,
    refused: AtomicU64,
}

struct Pool {
    queue: Mutex<Queue<oneshot::Sender<Seat>>>,
}

/// The right to run; given back when dropped.
pub(crate) struct Seat {
    pool: Arc<Pool>,
    flow: Arc<str>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let next = self.pool.queue.lock().leave(&self.flow);
        self.pool.start(next);
    }
}

impl Pool {
    fn new(seats: usize) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(Queue::new(seats)) })
    }

    /// Hands seats to those whose turn it is. A waiter that has gone meanwhile gives its seat back by dropping it.
    fn start(self: &Arc<Self>, next: Vec<(Arc<str>, oneshot::Sender<Seat>)>) {
        for (flow, waiter) in next {
            let _ = waiter.send(Seat { pool: Arc::clone(self), flow });
        }
    }
}

/// Forgets a waiter whose request ended while it waited.
struct Waiting<'a> {
    pool: &'a Arc<Pool>,
    flow: &'a str,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.pool.queue.lock().forget(self.flow, self.ticket);
    }
}

/// Too many requests: answer 429.
#[derive(Debug)]
pub(crate) struct Refused;

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Self {
        let pools =
            |share: fn(usize) -> usize| [Pool::new(share(limits.reads)), Pool::new(share(limits.writes))];
        // An eighth for leases and leader election, a quarter for the system, the rest for everybody else: upstream's
        // default shares, rounded. At least two seats each.
        Self {
            pools: [
                pools(|seats| (seats / 8).max(2)),
                pools(|seats| (seats / 4).max(2)),
                pools(|seats| (seats - seats / 8 - seats / 4).max(2)),
            ],
            wait: limits.wait,
            refused: AtomicU64::new(0),
        }
    }

    /// Waits for a request's turn. `None` in place of a seat: it is exempt.
    pub(crate) async fn admit(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
    ) -> (Class, Result<Option<Seat>, Refused>) {
        let class = classify(user, info);
        let Some(pool) = class.pool else { return (class, Ok(None)) };
        let pool = &self.pools[match pool {
            PoolName::Reserved => 0,
            PoolName::System => 1,
            PoolName::Workload => 2,
        }][usize::from(!info.is_read())];
        let seat = self.seat(pool, &user.username).await;
        if seat.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        (class, seat.map(Some))
    }

    async fn seat(&self, pool: &Arc<Pool>, flow: &str) -> Result<Seat, Refused> {
        let (sender, receiver) = oneshot::channel();
        let ticket = match pool.queue.lock().arrive(flow, sender) {
            Arrival::Run(flow) => return Ok(Seat { pool: Arc::clone(pool), flow }),
            Arrival::Full => return Err(Refused),
            Arrival::Wait(ticket) => ticket,
        };
        let _waiting = Waiting { pool, flow, ticket };
        match tokio::time::timeout(self.wait, receiver).await {
            Ok(Ok(seat)) => Ok(seat),
            Ok(Err(_)) | Err(_) => Err(Refused),
        }
    }

    /// How many requests were refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Requests running now: reads, writes.
    pub(crate) fn running(&self) -> [usize; 2] {
        [0, 1].map(|kind| self.pools.iter().map(|pool| pool[kind].queue.lock().running()).sum())
    }

    /// Requests waiting now: reads, writes.
    pub(crate) fn waiting(&self) -> [usize; 2] {
        [0, 1].map(|kind| self.pools.iter().map(|pool| pool[kind].queue.lock().waiting()).sum())
    }
}

#[cfg(test)]
mod tests;
