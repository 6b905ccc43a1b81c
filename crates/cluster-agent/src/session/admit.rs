//! Follows the partition and takes over what may be taken over. What is gone from the hub is kept, and said.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use agent_protocol::{AssignmentReport, EventRecord, EventSeverity, RecordBody};
use fleet_objects::{
    ANNOTATION_CONFIRM_DELETIONS, ANNOTATION_SIGNATURES, Assignment, AssignmentSpec, AssignmentState,
    AssignmentStatus, ProfileReference, Refusal, RefusalReason, assignment_name, partition_namespace,
    set_condition,
};
use fleet_planner::admission::{Verdict, judge};
use fleet_planner::bundle::Bundle;
use fleet_planner::release::SignedRelease;
use fleet_planner::render::render;
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::Session;
use crate::enforcer::Input;
use crate::error::Error;
use crate::hub_client::HubClient;
use crate::vault::Accepted;

/// How often content that the hub could not give is asked for again.
const CONTENT_RETRY: Duration = Duration::from_secs(5);

/// What is held is told when nothing more was taken for a while, and after a longer while in any case: what comes together is
/// told once, and costs the hub one version of the Cluster.
const TELL_QUIET: Duration = Duration::from_millis(250);
const TELL_LATEST: Duration = Duration::from_secs(2);

/// How often an outbox without room is tried again for what the hub has to know.
const ROOM_RETRY: Duration = Duration::from_secs(1);

/// What a conversation knows of the partition.
struct Partition {
    accepted: BTreeMap<String, Accepted>,
    /// Names in the list under way.
    listed: BTreeSet<String>,
    /// Held, and gone from the hub without a tombstone.
    absent: BTreeSet<String>,
    /// Assignments whose content was not to be had.
    waiting: BTreeMap<String, Assignment>,
    /// Refusals already told, so that each is told once.
    told: BTreeMap<String, Refusal>,
}

/// What became of content.
enum Content {
    /// Already on disk, or none is needed.
    Known,
    /// Fetched and checked.
    Fetched(String, Vec<u8>),
    /// Not usable.
    Unusable(String),
    /// The keys that the cluster's owner pinned do not vouch for it.
    Unsigned(String),
    /// Not to be had now.
    Later(String),
}

impl Session {
    pub(super) async fn follow_assignments(&self, hub: &HubClient, name: &str, hub_epoch: &str) -> Error {
        match self.follow(hub, name, hub_epoch).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn follow(&self, hub: &HubClient, name: &str, hub_epoch: &str) -> Result<Infallible, Error> {
        let mut partition = Partition {
            accepted: self.vault.accepted().await?,
            listed: BTreeSet::new(),
            absent: BTreeSet::new(),
            waiting: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        let api: Api<Assignment> = Api::namespaced(hub.client().clone(), &partition_namespace(name));
        let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
        // When the first change was taken that was not told yet, and when it will be.
        let mut untold: Option<(Instant, Instant)> = None;
        // When what waits for its content is tried again, whatever else happens until then.
        let mut retry: Option<Instant> = None;
        loop {
            let waits = !partition.waiting.is_empty();
            retry = waits.then(|| retry.unwrap_or_else(|| Instant::now() + CONTENT_RETRY));
            let due = untold.map(|(_, due)| due);
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.take_event(hub, &mut partition, event).await?,
                    // Also an answer like "not found" or "forbidden" changes nothing here.
                    Some(Err(error)) => tracing::warn!(%error, "cannot follow the partition; trying again"),
                    None => return Err(Error::Invalid("hub: the watch of the partition ended".to_owned())),
                },
                () = tokio::time::sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                    retry = None;
                    for assignment in std::mem::take(&mut partition.waiting).into_values() {
                        self.take(hub, &mut partition, assignment).await?;
                    }
                }
                () = self.held_changed.notified() => {}
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let absent = partition.absent.iter().cloned().collect();
                    let told = self.report_held(hub_epoch, absent).await?;
                    untold = (!told).then(|| (Instant::now(), Instant::now() + ROOM_RETRY));
                    continue;
                }
            }
            let now = Instant::now();
            let first = untold.map_or(now, |(first, _)| first);
            untold = Some((first, (now + TELL_QUIET).min(first + TELL_LATEST)));
        }
    }

    async fn take_event(
        &self,
        hub: &HubClient,
        partition: &mut Partition,
        event: Event<Assignment>,
    ) -> Result<(), Error> {
        match event {
            Event::Init => partition.listed.clear(),
            Event::InitApply(assignment) => {
                partition.listed.insert(assignment.name_any());
                self.take(hub, partition, assignment).await?;
            }
            Event::Apply(assignment) => self.take(hub, partition, assignment).await?,
            Event::InitDone => {
                let held: Vec<String> = partition.accepted.keys().cloned().collect();
                for name in held {
                    if !partition.listed.contains(&name) {
                        self.missing(partition, &name).await?;
                    }
                }
            }
            Event::Delete(assignment) => {
                partition.waiting.remove(&assignment.name_any());
                self.missing(partition, &assignment.name_any()).await?;
            }
        }
        Ok(())
    }

    /// The hub does not list what is held. Nothing is deleted for that.
    async fn missing(&self, partition: &mut Partition, name: &str) -> Result<(), Error> {
        let pruned = self.vault.held().await?.iter().any(|held| held.name == name && held.pruned);
        if pruned || !partition.accepted.contains_key(name) {
            return Ok(());
        }
        partition.absent.insert(name.to_owned());
        let refusal = Refusal {
            reason: RefusalReason::Absent,
            message: "the hub no longer lists this assignment and sent no tombstone; what is held stays"
                .to_owned(),
            generation: 0,
        };
        self.refuse(partition, name, refusal).await
    }

    async fn take(
        &self,
        hub: &HubClient,
        partition: &mut Partition,
        assignment: Assignment,
    ) -> Result<(), Error> {
        let name = assignment.name_any();
        partition.absent.remove(&name);
        let confirmed =
            assignment.annotations().get(ANNOTATION_CONFIRM_DELETIONS).and_then(|text| text.parse().ok());
        let held = partition.accepted.get(&name);
        match judge(&assignment.spec, held.map(Accepted::held).as_ref()) {
            Verdict::Unchanged => {
                let Some(held) = held else { return Ok(()) };
                if held.refusal.is_none() && held.confirmed == confirmed {
                    return Ok(());
                }
                let accepted = Accepted { spec: held.spec.clone(), confirmed, refusal: None };
                self.accept(partition, name, accepted, None, None).await
            }
            Verdict::Refuse(refusal) => self.refuse(partition, &name, refusal).await,
            Verdict::Accept => match self.content(hub, &name, &assignment).await? {
                (Content::Known, release) => {
                    let accepted = Accepted { spec: assignment.spec, confirmed, refusal: None };
                    self.accept(partition, name, accepted, None, release).await
                }
                (Content::Fetched(digest, bytes), release) => {
                    let accepted = Accepted { spec: assignment.spec, confirmed, refusal: None };
                    self.accept(partition, name, accepted, Some((digest, bytes)), release).await
                }
                (Content::Unsigned(message), _) => {
                    let generation = assignment.spec.generation;
                    // The signature may come, or the owner may pin another key.
                    partition.waiting.insert(name.clone(), assignment);
                    let refusal = Refusal { reason: RefusalReason::Forbidden, message, generation };
                    self.refuse(partition, &name, refusal).await
                }
                (Content::Unusable(message), _) => {
                    let generation = assignment.spec.generation;
                    self.refuse(
                        partition,
                        &name,
                        Refusal { reason: RefusalReason::ContentInvalid, message, generation },
                    )
                    .await
                }
                (Content::Later(message), _) => {
                    let generation = assignment.spec.generation;
                    partition.waiting.insert(name.clone(), assignment);
                    self.refuse(
                        partition,
                        &name,
                        Refusal { reason: RefusalReason::ContentInvalid, message, generation },
                    )
                    .await
                }
            },
        }
    }

    /// The content of an assignment, fetched once, checked against its digest and read before anything is accepted; with
    /// the version it is signed as.
    async fn content(
        &self,
        hub: &HubClient,
        name: &str,
        assignment: &Assignment,
    ) -> Result<(Content, Option<u64>), Error> {
        let spec = &assignment.spec;
        let Some(wanted) = spec.content.as_ref().filter(|_| spec.state == AssignmentState::Present) else {
            return Ok((Content::Known, None));
        };
        let release = match self.signed_as(name, assignment, &wanted.digest).await? {
            Ok(release) => release,
            Err(message) => return Ok((Content::Unsigned(message), None)),
        };
        let stored = self.vault.content(&wanted.digest).await.ok().flatten();
        let known = stored.is_some();
        let bytes = match stored {
            Some(bytes) => bytes.to_vec(),
            None => match hub.content(&wanted.digest).await {
                Ok(bytes) => bytes,
                Err(Error::Refused { code: code @ (403 | 404), message, .. }) => {
                    let message = format!("the hub does not give its content ({code}): {message}");
                    return Ok((Content::Later(message), None));
                }
                Err(Error::Invalid(message)) => return Ok((Content::Later(message), None)),
                Err(error) => return Err(error),
            },
        };
        if let Err(message) = self.fetch_values(hub, spec).await? {
            return Ok((Content::Later(message), None));
        }
        let checked = Bundle::decode(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|bundle| render(&bundle, &spec.variables, name).map_err(|error| error.to_string()));
        let content = match checked {
            Err(message) => Content::Unusable(message),
            Ok(_) if known => Content::Known,
            Ok(_) => Content::Fetched(wanted.digest.clone(), bytes),
        };
        Ok((content, release))
    }

    /// Values of secret variables that the hub keeps: fetched before anything that needs them is accepted, so that the
    /// agent can do without the hub from then on. The inner error is what the hub says, which is never the value.
    async fn fetch_values(
        &self,
        hub: &HubClient,
        spec: &AssignmentSpec,
    ) -> Result<Result<(), String>, Error> {
        for place in crate::vault::hub_values(spec) {
            if self.vault.value(&place).await.ok().flatten().is_some() {
                continue;
            }
            match hub.value(&place).await {
                Ok(value) => self.vault.put_value(&place, &value).await?,
                Err(Error::Refused { code: code @ (403 | 404 | 422), message, .. }) => {
                    return Ok(Err(format!("the hub does not give secret {place} ({code}): {message}")));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ok(()))
    }

    /// Whether the keys that the cluster's owner pinned vouch for the content. The inner error says why not.
    async fn signed_as(
        &self,
        name: &str,
        assignment: &Assignment,
        digest: &str,
    ) -> Result<Result<Option<u64>, String>, Error> {
        let ceiling = self.ceilings.current();
        if ceiling.releases.is_empty() {
            return Ok(Ok(None));
        }
        let text = assignment.annotations().get(ANNOTATION_SIGNATURES);
        let signatures: Vec<SignedRelease> = match text.map(|text| serde_json::from_str(text)) {
            None => Vec::new(),
            Some(Ok(signatures)) => signatures,
            Some(Err(error)) => return Ok(Err(format!("its signatures cannot be read: {error}"))),
        };
        // By the name under which it is held here: a hub that says another profile gains nothing.
        let ProfileReference { namespace, name: profile } = &assignment.spec.profile;
        if assignment_name(namespace, profile) != name {
            return Ok(Err(format!("assignment {name} is not that of profile {namespace}/{profile}")));
        }
        let floor = self.vault.release(name).await?;
        let profile = format!("{namespace}/{profile}");
        Ok(ceiling.releases.verify(&profile, digest, &signatures, floor, Timestamp::now()))
    }

    /// Writes to disk, then wakes the enforcer.
    async fn accept(
        &self,
        partition: &mut Partition,
        name: String,
        accepted: Accepted,
        content: Option<(String, Vec<u8>)>,
        release: Option<u64>,
    ) -> Result<(), Error> {
        let content = content.as_ref().map(|(digest, bytes)| (digest.as_str(), bytes.clone()));
        self.vault.accept(&name, &accepted, content, release).await?;
        partition.told.remove(&name);
        partition.accepted.insert(name.clone(), accepted);
        self.wake(name).await
    }

    /// Keeps what is held and says why, once.
    async fn refuse(&self, partition: &mut Partition, name: &str, refusal: Refusal) -> Result<(), Error> {
        if partition.told.get(name) == Some(&refusal) {
            return Ok(());
        }
        tracing::warn!(assignment = name, reason = ?refusal.reason, "refused: {}", refusal.message);
        match partition.accepted.get_mut(name) {
            Some(held) => {
                held.refusal = Some(refusal.clone());
                let held = held.clone();
                self.vault.accept(name, &held, None, None).await?;
                self.wake(name.to_owned()).await?;
            }
            None => {
                let mut status =
                    AssignmentStatus { refusal: Some(refusal.clone()), ..AssignmentStatus::default() };
                if let Some(change) = refusal.not_ready(None) {
                    let now = Timestamp::now();
                    // Whole seconds: what the API server keeps.
                    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
                    set_condition(&mut status.conditions, change, &now);
                }
                let report = AssignmentReport { name: name.to_owned(), status };
                self.outbox.append_or_count(RecordBody::Assignment(Box::new(report))).await;
            }
        }
        let event = EventRecord {
            severity: EventSeverity::Warning,
            reason: format!("Refused{:?}", refusal.reason),
            message: refusal.message.clone(),
            assignment: Some(name.to_owned()),
            object: None,
            refusal: Some(refusal.clone()),
        };
        self.outbox.append_or_count(RecordBody::Event(event)).await;
        partition.told.insert(name.to_owned(), refusal);
        Ok(())
    }

    async fn wake(&self, name: String) -> Result<(), Error> {
        let sent = self.enforcer.send(Input::Changed(name)).await;
        sent.map_err(|_| Error::Invalid("the enforcer has stopped".to_owned()))
    }
}
