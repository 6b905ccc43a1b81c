//! Where each agent is: one small entry for each, under a lease of the process that holds its stream.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storage::{
    Compare, CompareTarget, EventKind, KeyRange, LeaseId, Operation, PutRequest, RangeRequest, Store,
    StoreError, Transaction, WatchRequest,
};
use tokio_util::sync::CancellationToken;

use super::{ROOT, Replica};
use crate::presence::Presence;

/// How long entries outlive a process that died.
const HELD: Duration = Duration::from_secs(15);
/// How often the lease is renewed: three chances.
const RENEW: Duration = Duration::from_secs(5);
/// After a failure of the store.
const RETRY: Duration = Duration::from_secs(1);
/// Unread batches: entries are small, and what is missed is read again.
const BUFFER: usize = 1024;

/// Where an agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seat {
    /// The process.
    pub(crate) replica: String,
    /// Where it is reached.
    pub(crate) url: String,
}

fn prefix() -> String {
    format!("{ROOT}presence/")
}

/// Says which agents are here, and learns which are elsewhere, until `shutdown`; then takes back what it said.
pub(crate) async fn run(replica: Replica, presence: Presence, shutdown: CancellationToken) {
    tokio::join!(tell(&replica, &presence, shutdown.clone()), learn(&replica, &presence, shutdown));
}

async fn tell(replica: &Replica, presence: &Presence, shutdown: CancellationToken) {
    let mut lease: Option<LeaseId> = None;
    let mut told = Told::new();
    let seat = Seat { replica: replica.identity.clone(), url: replica.url.clone() };
    let mut changes = presence.here_changes();
    loop {
        if lease.is_none() {
            told.clear();
        }
        if let Err(error) = publish(&replica.store, &seat, presence, &mut lease, &mut told).await {
            tracing::debug!(%error, "which agents are here is not said yet");
            if matches!(error, StoreError::LeaseNotFound(_)) {
                lease = None;
            }
            tokio::time::sleep(RETRY.min(RENEW)).await;
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            // The registry lives as long as this task.
            _ = changes.changed() => {}
            () = tokio::time::sleep(RENEW) => {}
        }
    }
    if let Some(lease) = lease {
        // Else they end with the lease.
        let _ = tokio::time::timeout(RENEW, replica.store.lease_revoke(lease)).await;
    }
}

/// Which agents are said to be here, by the number of their coming: one that was elsewhere in between is said anew, for the other
/// process has said that it is there, and then that it is not.
type Told = BTreeMap<String, u64>;

async fn publish(
    store: &Arc<dyn Store>,
    seat: &Seat,
    presence: &Presence,
    lease: &mut Option<LeaseId>,
    told: &mut Told,
) -> Result<(), StoreError> {
    let id = match *lease {
        Some(id) => {
            store.lease_renew(id).await?;
            id
        }
        None => *lease.insert(store.lease_grant(HELD).await?),
    };
    let value = serde_json::to_vec(seat).map_err(|error| StoreError::InvalidRequest(error.to_string()))?;
    let here = presence.here();
    for (cluster, number) in &here {
        if told.get(cluster) == Some(number) {
            continue;
        }
        let key = format!("{}{cluster}", prefix());
        let put = PutRequest { key: key.into(), value: value.clone().into(), lease: Some(id) };
        let success = vec![Operation::Put(put)];
        store.transact(Transaction { success, ..Transaction::default() }).await?;
        told.insert(cluster.clone(), *number);
    }
    let gone: Vec<String> = told.keys().filter(|cluster| !here.contains_key(*cluster)).cloned().collect();
    for cluster in gone {
        let key = format!("{}{cluster}", prefix());
        // Another process may have said meanwhile that it is there.
        let mine = Compare { key: key.clone().into(), target: CompareTarget::Value(value.clone().into()) };
        let gone =
            Transaction { compare: vec![mine], success: vec![Operation::delete(key)], failure: Vec::new() };
        store.transact(gone).await?;
        told.remove(&cluster);
    }
    Ok(())
}

async fn learn(replica: &Replica, presence: &Presence, shutdown: CancellationToken) {
    let follow = async {
        loop {
            if let Err(error) = follow(&replica.store, &replica.identity, presence).await {
                tracing::debug!(%error, "where agents are is read anew");
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    shutdown.run_until_cancelled(follow).await;
}

/// Reads everything, then follows. `Ok` when the store has shut down.
async fn follow(store: &Arc<dyn Store>, own: &str, presence: &Presence) -> Result<(), StoreError> {
    let start = prefix().len();
    let seat = |value: &[u8]| serde_json::from_slice::<Seat>(value).ok().filter(|seat| seat.replica != own);
    let name = |key: &[u8]| String::from_utf8_lossy(&key[start..]).into_owned();
    let read = store.range(RangeRequest::all(KeyRange::prefix(prefix()))).await?;
    let all = read.kvs.iter().filter_map(|kv| Some((name(&kv.key), seat(&kv.value)?))).collect();
    presence.set_elsewhere(all);
    let request =
        WatchRequest { range: KeyRange::prefix(prefix()), start: Some(read.revision.next()), buffer: BUFFER };
    let mut stream = store.watch(request).await?;
    while let Some(batch) = stream.next().await {
        for event in batch?.events {
            let cluster = name(&event.kv.key);
            let found = if event.kind == EventKind::Put { seat(&event.kv.value) } else { None };
            presence.set_seat(&cluster, found);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use storage::model::MemoryStore;

    use super::*;

    /// A process, without its loops.
    struct Process {
        seat: Seat,
        presence: Presence,
        lease: Option<LeaseId>,
        told: Told,
    }

    impl Process {
        fn new(name: &str) -> Self {
            let seat = Seat { replica: name.to_owned(), url: format!("https://{name}") };
            let presence = Presence::new(Duration::from_secs(60));
            Self { seat, presence, lease: None, told: Told::new() }
        }

        async fn publish(&mut self, store: &Arc<dyn Store>) {
            publish(store, &self.seat, &self.presence, &mut self.lease, &mut self.told).await.unwrap();
        }
    }

    async fn seat_of(store: &Arc<dyn Store>, cluster: &str) -> Option<String> {
        let key = format!("{}{cluster}", prefix());
        let found = store.range(RangeRequest::all(KeyRange::single(key))).await.unwrap();
        let seat: Seat = serde_json::from_slice(&found.kvs.first()?.value).unwrap();
        Some(seat.replica)
    }

    #[tokio::test]
    async fn an_agent_that_went_and_came_back_between_two_looks_is_said_anew() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let (mut one, mut two) = (Process::new("one"), Process::new("two"));
        let stream = one.presence.open("dev");
        one.publish(&store).await;
        assert_eq!(seat_of(&store, "dev").await.as_deref(), Some("one"));
        drop(stream);
        let elsewhere = two.presence.open("dev");
        two.publish(&store).await;
        drop(elsewhere);
        let _back = one.presence.open("dev");
        one.publish(&store).await;
        two.publish(&store).await;
        assert_eq!(seat_of(&store, "dev").await.as_deref(), Some("one"));
        let before = store.status().await.unwrap().revision;
        one.publish(&store).await;
        two.publish(&store).await;
        assert_eq!(store.status().await.unwrap().revision, before, "who stays is not said again");
    }
}
