//! From the inbox to what people see: statuses and Events. Everything here may be done again without harm: statuses are
//! whole and the last one wins, Events have names that follow from their record.

mod events;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{AssignmentReport, ClusterFacts, HeldReport, Record, RecordBody};
use async_trait::async_trait;
use fleet_objects::test_trigger::HeldTrigger;
use fleet_objects::{AgentIdentity, Assignment, ClusterStatus, partition_namespace};
use foundation::backoff::Backoff;
use foundation::random::SystemRandom;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use storage::{Compare, KeyRange, Operation, RangeRequest, Store, Transaction};
use tokio_util::sync::CancellationToken;

use crate::cluster_status;
use crate::compliance;
use crate::error::Error;
use crate::inbox::Received;
use crate::replicas::ROOT;
use crate::service::Shared;

/// What the agent may list as held.
const MAX_HELD: usize = 500;
/// Test triggers listed as unknown here.
const MAX_TRIGGERS: usize = 100;
/// Characters of what a cluster's owner says about a hold.
const MAX_HOLD: usize = 512;
/// Clusters whose records are handled at once: writes of one moment share one fsync. More would only hold more in memory.
const TOGETHER: usize = 16;
/// Tries of one record before it is passed over (it stays in the inbox).
const TRIES: u32 = 8;

/// Acts on records. A record may be handled more than once: handling must be idempotent.
#[async_trait]
pub trait RecordHandler: Send + Sync + 'static {
    /// Acts on one record. `from` is the authenticated sender.
    ///
    /// # Errors
    /// When it should be tried again ([`Error::is_transient`]); other errors pass the record over.
    async fn handle(&self, from: &AgentIdentity, record: &Record) -> Result<(), Error>;
}

/// Reads the inbox from where it stopped, until `shutdown`.
pub(crate) async fn run(
    shared: Arc<Shared>,
    handlers: Vec<Arc<dyn RecordHandler>>,
    shutdown: CancellationToken,
) {
    let cursor = Cursor::of(&shared);
    let mut position = cursor.load().await.max(shared.inbox.first());
    let mut appended = shared.inbox.appended();
    loop {
        let next = tokio::select! {
            () = shutdown.cancelled() => return,
            next = pass(&shared, &handlers, position) => next,
        };
        match next {
            Ok(next) if next > position => {
                position = next;
                cursor.save(position).await;
                if let Err(error) = shared.inbox.trim(position, shared.fence.as_ref()).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the inbox could not be trimmed"
                    );
                }
                continue;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "records wait");
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = appended.changed() => if changed.is_err() { return },
        }
    }
}

async fn pass(shared: &Shared, handlers: &[Arc<dyn RecordHandler>], from: u64) -> Result<u64, Error> {
    let (records, next) = shared.inbox.read(from).await?;
    let superseded = superseded(&records);
    let mut of_cluster: BTreeMap<&str, Vec<&Received>> = BTreeMap::new();
    for received in records.iter().filter(|received| !superseded.contains(&received.position)) {
        of_cluster.entry(&received.from.uid).or_default().push(received);
    }
    // In order for each cluster; clusters do not wait for one another.
    let mut clusters: Vec<BoxFuture<'_, ()>> = Vec::with_capacity(of_cluster.len());
    for records in of_cluster.into_values() {
        let handled = async move {
            let Some(first) = records.first() else { return };
            let news = News::of(&records);
            if !news.is_empty() {
                handle(shared, handlers, first, Some(&news)).await;
            }
            for received in records {
                handle(shared, handlers, received, None).await;
            }
        };
        clusters.push(handled.boxed());
    }
    stream::iter(clusters).buffer_unordered(TOGETHER).collect::<()>().await;
    Ok(next)
}

/// What a cluster's records of one page say of the Cluster itself: written at once, for each version of it is some kilobytes
/// that every replica, cache and history holds.
#[derive(Default)]
struct News<'a> {
    facts: Option<&'a ClusterFacts>,
    held: Option<&'a HeldReport>,
    dropped: Option<u64>,
    triggers: Option<&'a [HeldTrigger]>,
}

impl<'a> News<'a> {
    fn of(records: &[&'a Received]) -> Self {
        let mut news = Self::default();
        for received in records {
            match &received.record.body {
                RecordBody::ClusterFacts(facts) => news.facts = Some(facts),
                RecordBody::Held(held) => news.held = Some(held),
                RecordBody::OrphanedTriggers(all) => news.triggers = Some(all),
                RecordBody::Dropped { count } => news.dropped = news.dropped.max(Some(*count)),
                _ => {}
            }
        }
        news
    }

    fn is_empty(&self) -> bool {
        self.facts.is_none() && self.held.is_none() && self.dropped.is_none() && self.triggers.is_none()
    }

    fn write(&self, status: &mut ClusterStatus) {
        if let Some(facts) = self.facts {
            status.kubernetes_version = Some(facts.kubernetes_version.clone());
            status.nodes = Some(facts.nodes);
            status.agent_version = Some(facts.agent_version.clone());
            // An agent is not believed to keep to its own bounds.
            status.properties = bounded_properties(&facts.properties);
            status.api_groups = bounded_groups(&facts.api_groups);
            status.hold = facts.hold.as_ref().map(|why| why.chars().take(MAX_HOLD).collect());
        }
        if let Some(report) = self.held {
            status.held.clone_from(&report.held);
            status.held.truncate(MAX_HELD);
        }
        if let Some(triggers) = self.triggers {
            let fits = |trigger: &&HeldTrigger| is_plain_name(&trigger.name);
            status.orphaned_triggers = triggers.iter().filter(fits).take(MAX_TRIGGERS).cloned().collect();
        }
        status.dropped_records = status.dropped_records.max(self.dropped.unwrap_or_default());
    }
}

/// Reports that a later record of the same page replaces whole.
fn superseded(records: &[Received]) -> BTreeSet<u64> {
    let mut newest: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut old = BTreeSet::new();
    for received in records {
        let subject = match &received.record.body {
            RecordBody::ClusterFacts(_) => "facts".to_owned(),
            RecordBody::Held(_) => "held".to_owned(),
            RecordBody::OrphanedTriggers(_) => "triggers".to_owned(),
            RecordBody::Assignment(report) => format!("assignment {}", report.name),
            // People are told of one.
            RecordBody::Unknown { kind, .. } => format!("unknown {kind}"),
            _ => continue,
        };
        old.extend(newest.insert((received.from.uid.clone(), subject), received.position));
    }
    old
}

/// Takes in one record, or, with `news`, what its page says of its cluster.
async fn handle(
    shared: &Shared,
    handlers: &[Arc<dyn RecordHandler>],
    received: &Received,
    news: Option<&News<'_>>,
) {
    let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    for attempt in 0..TRIES {
        let done = match news {
            Some(news) => take_news(shared, &received.from, news).await,
            None => handle_once(shared, handlers, received).await,
        };
        let error = match done {
            Ok(()) => return,
            Err(error) => error,
        };
        if !error.is_transient() {
            tracing::warn!(
                position = received.position,
                error = &error as &dyn std::error::Error,
                "a record is passed over"
            );
            return;
        }
        tokio::time::sleep(backoff.delay(attempt, &SystemRandom)).await;
    }
    tracing::warn!(position = received.position, "a record is passed over after many tries");
}

async fn take_news(shared: &Shared, from: &AgentIdentity, news: &News<'_>) -> Result<(), Error> {
    // A cluster that has left or was replaced changes nothing any more.
    if shared.check_member(from).await.is_err() {
        return Ok(());
    }
    cluster_status::update(&shared.client, &from.name, |status| news.write(status)).await.map(drop)
}

async fn handle_once(
    shared: &Shared,
    handlers: &[Arc<dyn RecordHandler>],
    received: &Received,
) -> Result<(), Error> {
    // A record of a cluster that has left or was replaced changes nothing any more.
    if shared.check_member(&received.from).await.is_err() {
        return Ok(());
    }
    let (client, from) = (&shared.client, &received.from);
    match &received.record.body {
        RecordBody::Assignment(report) => take_assignment(client, from, report).await?,
        RecordBody::Event(event) => events::take(shared, from, &received.record, event).await?,
        RecordBody::Compliance(state) => compliance::take(client, from, &received.record, state).await?,
        // Those of the cluster itself were taken in together.
        RecordBody::ClusterFacts(_)
        | RecordBody::Held(_)
        | RecordBody::OrphanedTriggers(_)
        | RecordBody::Dropped { .. } => {}
        RecordBody::Test(_) | RecordBody::Trigger(_) => {}
        RecordBody::Unknown { .. } => events::take_unknown(shared, from, &received.record).await?,
    }
    for handler in handlers {
        handler.handle(from, &received.record).await?;
    }
    Ok(())
}

/// Properties within the bounds that agents keep too: 64, of names as Kubernetes' and values of a kilobyte.
fn bounded_properties(given: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let fits = |(name, value): &(&String, &String)| name.len() <= 253 && value.len() <= 1024;
    given.iter().filter(fits).take(64).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Group versions within the bounds that agents keep too: 256, each as long as a DNS name and a version can be.
fn bounded_groups(given: &[String]) -> Vec<String> {
    let fits = |name: &&String| name.len() <= 253 + 1 + 63 && name.contains('/');
    given.iter().filter(fits).take(256).cloned().collect()
}

/// Whether an agent's word may be a name of an object.
fn is_plain_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    !name.is_empty() && !name.starts_with('.') && name.len() <= 253 && name.bytes().all(plain)
}

async fn take_assignment(
    client: &Client,
    from: &AgentIdentity,
    report: &AssignmentReport,
) -> Result<(), Error> {
    // The name becomes part of a path.
    if !is_plain_name(&report.name) {
        tracing::warn!(cluster = %from.name, name = ?bounded(&report.name, 128), "no assignment has such a name");
        return Ok(());
    }
    let api: Api<Assignment> = Api::namespaced(client.clone(), &partition_namespace(&from.name));
    // A merge patch, with what an optional field lost said as null.
    let mut status =
        serde_json::to_value(&report.status).map_err(|error| Error::Invalid(error.to_string()))?;
    for field in ["conditions", "objects", "heldDeletions", "refusal"] {
        if status.get(field).is_none() {
            status[field] = serde_json::Value::Null;
        }
    }
    let patch = json!({"status": status});
    match api.patch_status(&report.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => Ok(()),
        // The agent holds it and this hub does not: shown in the Cluster's status, from the Held report.
        Err(error) if api_client::error::is_not_found(&error) => Ok(()),
        Err(error) => {
            Err(Error::api(format!("write the status of assignment {} of {}", report.name, from.name))(error))
        }
    }
}

fn bounded(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

/// How far the inbox was handled. Only saves work: losing it means handling again.
enum Cursor {
    File(PathBuf),
    /// In the store that several processes share; written while the fence holds.
    Shared(Arc<dyn Store>, Option<Compare>),
}

impl Cursor {
    fn of(shared: &Shared) -> Self {
        match &shared.replica {
            Some(replica) => Self::Shared(Arc::clone(&replica.store), shared.fence.clone()),
            None => Self::File(shared.data_dir.join("inbox.cursor")),
        }
    }

    fn key() -> String {
        format!("{ROOT}inbox-cursor")
    }

    async fn load(&self) -> u64 {
        let text = match self {
            Self::File(path) => tokio::fs::read_to_string(path).await.unwrap_or_default(),
            Self::Shared(store, _) => {
                let read = store.range(RangeRequest::all(KeyRange::single(Self::key()))).await;
                let found = read.ok().and_then(|read| read.kvs.into_iter().next());
                found.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).unwrap_or_default()
            }
        };
        text.trim().parse().unwrap_or(0)
    }

    async fn save(&self, position: u64) {
        let told = position.to_string();
        let written: Result<(), Box<dyn std::error::Error + Send + Sync>> = match self {
            Self::File(path) => {
                let temporary = path.with_extension("tmp");
                let written = async {
                    tokio::fs::write(&temporary, told).await?;
                    tokio::fs::rename(&temporary, path).await
                };
                written.await.map_err(Into::into)
            }
            Self::Shared(store, fence) => {
                let compare = fence.iter().cloned().collect();
                let success = vec![Operation::put(Self::key(), told)];
                let written = store.transact(Transaction { compare, success, failure: Vec::new() }).await;
                written.map(drop).map_err(Into::into)
            }
        };
        if let Err(error) = written {
            tracing::debug!(%error, "the inbox cursor was not saved; records will be handled again");
        }
    }
}

#[async_trait]
impl RecordHandler for crate::test_runs::Handler {
    async fn handle(&self, from: &AgentIdentity, record: &Record) -> Result<(), Error> {
        match &record.body {
            RecordBody::Test(news) => Ok(Self::handle(self, &from.name, (**news).clone()).await?),
            RecordBody::Trigger(news) => Ok(self.trigger(&from.name, news).await?),
            _ => Ok(()),
        }
    }
}
