//! Follows the partition and takes over what may be taken over. What is gone from the hub is kept, and said.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use agent_protocol::{AssignmentReport, EventRecord, EventSeverity, RecordBody};
use fleet_objects::{
    ANNOTATION_CONFIRM_DELETIONS, Assignment, AssignmentSpec, AssignmentState, AssignmentStatus, Refusal,
    RefusalReason, partition_namespace,
};
use fleet_planner::admission::{Verdict, judge};
use fleet_planner::bundle::Bundle;
use fleet_planner::render::render;
use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};

use super::Session;
use crate::enforcer::Input;
use crate::error::Error;
use crate::hub_client::HubClient;
use crate::vault::Accepted;

/// How often content that the hub could not give is asked for again.
const CONTENT_RETRY: Duration = Duration::from_secs(5);

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
        let mut told = true;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.take_event(hub, &mut partition, event).await?,
                    // Also an answer like "not found" or "forbidden" changes nothing here.
                    Some(Err(error)) => tracing::warn!(%error, "cannot follow the partition; trying again"),
                    None => return Err(Error::Invalid("hub: the watch of the partition ended".to_owned())),
                },
                () = tokio::time::sleep(CONTENT_RETRY), if !partition.waiting.is_empty() => {
                    for assignment in std::mem::take(&mut partition.waiting).into_values() {
                        self.take(hub, &mut partition, assignment).await?;
                    }
                }
                () = self.held_changed.notified() => {}
                () = tokio::time::sleep(ROOM_RETRY), if !told => {}
            }
            let absent = partition.absent.iter().cloned().collect();
            told = self.report_held(hub_epoch, absent).await?;
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
                self.accept(partition, name, accepted, None).await
            }
            Verdict::Refuse(refusal) => self.refuse(partition, &name, refusal).await,
            Verdict::Accept => match self.content(hub, &name, &assignment.spec).await? {
                Content::Known => {
                    let accepted = Accepted { spec: assignment.spec, confirmed, refusal: None };
                    self.accept(partition, name, accepted, None).await
                }
                Content::Fetched(digest, bytes) => {
                    let accepted = Accepted { spec: assignment.spec, confirmed, refusal: None };
                    self.accept(partition, name, accepted, Some((digest, bytes))).await
                }
                Content::Unusable(message) => {
                    let generation = assignment.spec.generation;
                    self.refuse(
                        partition,
                        &name,
                        Refusal { reason: RefusalReason::ContentInvalid, message, generation },
                    )
                    .await
                }
                Content::Later(message) => {
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

    /// The content of an assignment, fetched once, checked against its digest and read before anything is accepted.
    async fn content(&self, hub: &HubClient, name: &str, spec: &AssignmentSpec) -> Result<Content, Error> {
        let Some(wanted) = spec.content.as_ref().filter(|_| spec.state == AssignmentState::Present) else {
            return Ok(Content::Known);
        };
        let stored = self.vault.content(&wanted.digest).await.ok().flatten();
        let known = stored.is_some();
        let bytes = match stored {
            Some(bytes) => bytes.to_vec(),
            None => match hub.content(&wanted.digest).await {
                Ok(bytes) => bytes,
                Err(Error::Refused { code: code @ (403 | 404), message, .. }) => {
                    return Ok(Content::Later(format!(
                        "the hub does not give its content ({code}): {message}"
                    )));
                }
                Err(Error::Invalid(message)) => return Ok(Content::Later(message)),
                Err(error) => return Err(error),
            },
        };
        let checked = Bundle::decode(&bytes)
            .map_err(|error| error.to_string())
            .and_then(|bundle| render(&bundle, &spec.variables, name).map_err(|error| error.to_string()));
        Ok(match checked {
            Err(message) => Content::Unusable(message),
            Ok(_) if known => Content::Known,
            Ok(_) => Content::Fetched(wanted.digest.clone(), bytes),
        })
    }

    /// Writes to disk, then wakes the enforcer.
    async fn accept(
        &self,
        partition: &mut Partition,
        name: String,
        accepted: Accepted,
        content: Option<(String, Vec<u8>)>,
    ) -> Result<(), Error> {
        let content = content.as_ref().map(|(digest, bytes)| (digest.as_str(), bytes.clone()));
        self.vault.accept(&name, &accepted, content).await?;
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
                self.vault.accept(name, &held, None).await?;
                self.wake(name.to_owned()).await?;
            }
            None => {
                let status =
                    AssignmentStatus { refusal: Some(refusal.clone()), ..AssignmentStatus::default() };
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
