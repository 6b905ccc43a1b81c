//! Judges test triggers in this cluster: schedules by the local clock, resources by watches of the cluster's own API. It
//! works from the agent's disk, so that it goes on while the hub is away; what fires is begun here and told through the
//! outbox, once.
//!
//! Never: forgets a trigger because the hub does not list it (only a withdrawal does), goes back to an older revision, or
//! begins something before the outbox has it that it began.

mod decide;
mod held;
mod resource;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleet_objects::test_run::{RunReference, TestExecutionSpec};
use fleet_objects::test_trigger::{
    HeldTrigger, TestTriggerAssignment, TriggerConcurrency, TriggerNews, fired_run_name,
};
use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::executor::{Error, LocalRuns, SinkError};
use crate::notes::Notes;
use decide::Firing;
use held::{Held, HeldTriggers};

/// The clock is looked at at least this often: it may jump, and the machine may sleep.
const LOOK: Duration = Duration::from_secs(15);
/// Firings of watches that may wait; watches wait beyond that.
const QUEUE: usize = 64;
/// Between tries to append to an outbox that is full.
const OUTBOX_RETRY: Duration = Duration::from_secs(1);

/// Where news goes: the agent's outbox. As [`crate::executor::RecordSink`].
#[async_trait]
pub(crate) trait NewsSink: Send + Sync + 'static {
    /// Appends one piece of news; durable when it answers.
    async fn append_news(&self, news: TriggerNews) -> Result<(), SinkError>;

    /// Appends which triggers are held and not listed by the hub: all of them. As [`Self::append_news`].
    async fn append_orphans(&self, orphans: Vec<HeldTrigger>) -> Result<(), SinkError>;
}

/// What judges triggers.
pub(crate) struct Triggers {
    pub(crate) partition: String,
    pub(crate) hub: Client,
    pub(crate) cluster: Client,
    pub(crate) notes: Notes,
    pub(crate) news: Arc<dyn NewsSink>,
    pub(crate) runs: LocalRuns,
}

/// A firing of a watch, with the trigger's name.
type Seen = (String, Firing);

/// What the hub lists, and what of the rest it was told.
#[derive(Default)]
struct Listing {
    names: BTreeSet<String>,
    /// A list has been read whole; before that nothing is known to be missing in it.
    whole: bool,
    told: Option<Vec<HeldTrigger>>,
}

struct Judge {
    held: HeldTriggers,
    listing: Listing,
    known: HashMap<String, Held>,
    watches: HashMap<String, CancellationToken>,
    seen: mpsc::Sender<Seen>,
    cluster: Client,
    news: Arc<dyn NewsSink>,
    runs: LocalRuns,
}

impl Triggers {
    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// When the agent's own store fails.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let held = HeldTriggers::new(self.notes);
        let (seen, mut firings) = mpsc::channel(QUEUE);
        let mut judge = Judge {
            known: HashMap::new(),
            watches: HashMap::new(),
            listing: Listing::default(),
            held,
            seen,
            cluster: self.cluster,
            news: self.news,
            runs: self.runs,
        };
        for held in judge.held.load().await? {
            judge.watch(&held, &shutdown);
            let (name, pending) = (held.name.clone(), held.pending.clone());
            judge.known.insert(name.clone(), held);
            if let Some(firing) = pending {
                judge.begin(&name, firing, &shutdown).await?;
            }
        }
        let api: Api<TestTriggerAssignment> = Api::namespaced(self.hub, &self.partition);
        let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()).default_backoff());
        loop {
            let now = Timestamp::now();
            judge.clock(now, &shutdown).await?;
            judge.tell_orphans().await;
            let sleep = decide::sleep(judge.known.values(), now).map_or(LOOK, |wait| wait.min(LOOK));
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(sleep) => {}
                Some((name, firing)) = firings.recv() => judge.fire(&name, firing, &shutdown).await?,
                event = events.next() => match event {
                    Some(Ok(event)) => judge.hear(event, &shutdown).await?,
                    Some(Err(error)) => warn!(%error, "cannot watch test triggers at the hub; those held go on"),
                    None => return Ok(()),
                },
            }
        }
    }
}

impl Judge {
    async fn hear(
        &mut self,
        event: Event<TestTriggerAssignment>,
        shutdown: &CancellationToken,
    ) -> Result<(), Error> {
        match event {
            // Another life of the hub may not have been told; that there is nothing to tell need not be said again.
            Event::Init => {
                let told = self.listing.told.take().filter(Vec::is_empty);
                self.listing = Listing { told, ..Listing::default() };
            }
            Event::Apply(part) | Event::InitApply(part) => {
                self.listing.names.insert(part.name_any());
                self.take(part, shutdown).await?;
            }
            Event::InitDone => self.listing.whole = true,
            // What is gone without a withdrawal goes on: it may be the hub that forgot.
            Event::Delete(part) => drop(self.listing.names.remove(&part.name_any())),
        }
        Ok(())
    }

    /// Tells the hub what is held and not listed by it, when that has changed. Where the outbox has no room it is tried again
    /// with the next look.
    async fn tell_orphans(&mut self) {
        if !self.listing.whole {
            return;
        }
        let orphan = |held: &Held| HeldTrigger { name: held.name.clone(), revision: held.spec.revision };
        let unlisted = self.known.values().filter(|held| !self.listing.names.contains(&held.name));
        let mut orphans: Vec<HeldTrigger> = unlisted.map(orphan).collect();
        orphans.sort_by(|a, b| a.name.cmp(&b.name));
        if self.listing.told.as_ref() == Some(&orphans) {
            return;
        }
        match self.news.append_orphans(orphans.clone()).await {
            Ok(()) => self.listing.told = Some(orphans),
            Err(error) => warn!(%error, "that the hub does not know some test triggers waits for the outbox"),
        }
    }

    /// Takes what the hub says about one trigger.
    async fn take(&mut self, part: TestTriggerAssignment, shutdown: &CancellationToken) -> Result<(), Error> {
        let name = part.name_any();
        let known = self.known.get(&name);
        if known.is_some_and(|known| known.spec.revision >= part.spec.revision && !part.spec.withdrawn) {
            return Ok(());
        }
        if part.spec.withdrawn {
            if known.is_some_and(|known| known.spec.revision > part.spec.revision) {
                return Ok(());
            }
            self.stop_watch(&name);
            self.known.remove(&name);
            self.held.remove(&name).await?;
            let news = TriggerNews::Forgotten { assignment: name.clone() };
            self.tell(&news, shutdown).await;
            info!(trigger = %name, "a test trigger was withdrawn");
            return Ok(());
        }
        let held = decide::taken(known, &name, part.spec, Timestamp::now());
        self.held.save(&held).await?;
        self.watch(&held, shutdown);
        self.known.insert(name, held);
        Ok(())
    }

    /// Begins (anew) what watches the cluster for a trigger.
    fn watch(&mut self, held: &Held, shutdown: &CancellationToken) {
        self.stop_watch(&held.name);
        let Some(trigger) = held.spec.when.resource.clone().filter(|_| !held.spec.suspend) else { return };
        let stop = shutdown.child_token();
        self.watches.insert(held.name.clone(), stop.clone());
        let watch = resource::Watch {
            name: held.name.clone(),
            trigger,
            cluster: self.cluster.clone(),
            seen: self.seen.clone(),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = watch.run() => {}
            }
        });
    }

    fn stop_watch(&mut self, name: &str) {
        if let Some(stop) = self.watches.remove(name) {
            stop.cancel();
        }
    }

    /// Fires what is due by the clock.
    async fn clock(&mut self, now: Timestamp, shutdown: &CancellationToken) -> Result<(), Error> {
        let rewound: Vec<_> = self.known.values().filter_map(|held| decide::rewound(held, now)).collect();
        for held in rewound {
            warn!(trigger = held.name, "the clock went back; the schedule goes on from now");
            self.held.save(&held).await?;
            self.known.insert(held.name.clone(), held);
        }
        let due: Vec<(String, Firing)> = self
            .known
            .values()
            .filter_map(|held| Some((held.name.clone(), decide::due(held, now)?)))
            .collect();
        for (name, firing) in due {
            self.fire(&name, firing, shutdown).await?;
        }
        Ok(())
    }

    async fn fire(&mut self, name: &str, firing: Firing, shutdown: &CancellationToken) -> Result<(), Error> {
        let Some(mut held) = self.known.get(name).cloned() else { return Ok(()) };
        let uid = decide::execution_uid(&held.spec, &firing.key);
        let before = held.last_execution.clone().filter(|before| *before != uid);
        let busy = match &before {
            Some(before) => self.runs.is_under_way(before).await?,
            None => false,
        };
        decide::judged(&mut held, &firing);
        if held.spec.suspend || (busy && held.spec.concurrency == TriggerConcurrency::Forbid) {
            info!(trigger = name, cause = %firing.cause, suspended = held.spec.suspend, "a test trigger starts nothing");
        } else {
            if let Some(before) =
                before.filter(|_| busy && held.spec.concurrency == TriggerConcurrency::Replace)
            {
                self.runs.cancel(&before).await;
            }
            held.pending = Some(firing.clone());
            self.held.save(&held).await?;
            self.known.insert(name.to_owned(), held);
            return self.begin(name, firing, shutdown).await;
        }
        self.held.save(&held).await?;
        self.known.insert(name.to_owned(), held);
        Ok(())
    }

    /// Tells of a firing, then begins it. Doing so again after a crash in between changes nothing.
    async fn begin(&mut self, name: &str, firing: Firing, shutdown: &CancellationToken) -> Result<(), Error> {
        let Some(mut held) = self.known.get(name).cloned() else { return Ok(()) };
        let uid = decide::execution_uid(&held.spec, &firing.key);
        let news = TriggerNews::Fired {
            assignment: name.to_owned(),
            key: firing.key.clone(),
            execution_uid: uid.clone(),
            time: Time(firing.time),
            cause: firing.cause.clone(),
        };
        if !self.tell(&news, shutdown).await {
            return Ok(());
        }
        let run = fired_run_name(&held.spec.trigger, &firing.key);
        info!(trigger = name, %run, cause = %firing.cause, "a test trigger fired");
        self.runs.start(&uid, &run, execution(&held, &run)).await?;
        (held.last_execution, held.pending) = (Some(uid), None);
        self.held.save(&held).await?;
        self.known.insert(name.to_owned(), held);
        Ok(())
    }

    /// False: the agent stops first.
    async fn tell(&self, news: &TriggerNews, shutdown: &CancellationToken) -> bool {
        loop {
            match self.news.append_news(news.clone()).await {
                Ok(()) => return true,
                Err(error) => warn!(%error, "news of a test trigger waits for the outbox"),
            }
            tokio::select! {
                () = tokio::time::sleep(OUTBOX_RETRY) => {}
                () = shutdown.cancelled() => return false,
            }
        }
    }
}

fn execution(held: &Held, run: &str) -> TestExecutionSpec {
    let spec = &held.spec;
    TestExecutionSpec {
        // The hub has not given the run a uid yet.
        run: RunReference {
            namespace: spec.trigger.namespace.clone(),
            name: run.to_owned(),
            uid: String::new(),
        },
        cluster: spec.cluster.clone(),
        workflow: spec.workflow.clone(),
        variables: spec.variables.clone(),
        config: spec.config.clone(),
        cancel: false,
        pause: None,
    }
}
