//! Takes executions into the notes, lets them wait, starts those that have a place, and hands on what people want of them.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use fleet_objects::test_record::{TestNews, TestRecord};
use fleet_objects::test_run::Outcome;
use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use workflow::plan;

use super::journal::{Note, Queued, Verdict};
use super::queue::{Entry, Offer, Queue};
use super::{Error, Shared, run};

/// News of those that wait, which may wait themselves; more is left out, since a later record says more.
const NEWS: usize = 1024;
/// How many of these are appended at once: the outbox makes them durable together.
const NEWS_AT_ONCE: usize = 32;

/// An execution that ended, and how that was noted.
type Ended = (String, Result<(), Error>);
pub(super) type Joined = Result<Ended, tokio::task::JoinError>;

/// An execution under way.
struct Running {
    cancel: CancellationToken,
    /// Why it was cancelled, where it was not a person.
    why: Arc<OnceLock<String>>,
    /// What the run says about holding and going on.
    pause: watch::Sender<Option<bool>>,
}

/// Everything that waits or runs.
pub(super) struct Dispatch {
    shared: Arc<Shared>,
    queue: Queue,
    running: HashMap<String, Running>,
    tasks: JoinSet<Ended>,
    /// The number of the newest execution.
    number: u64,
    news: mpsc::Sender<TestRecord>,
    /// Hands `news` on; it holds the outbox.
    telling: tokio::task::JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Dispatch {
    pub(super) fn new(shared: Arc<Shared>, shutdown: CancellationToken) -> Self {
        let (news, waiting) = mpsc::channel::<TestRecord>(NEWS);
        let records = Arc::clone(&shared.records);
        let telling = tokio::spawn(async move {
            let waiting = futures::stream::unfold(waiting, |mut waiting| async move {
                waiting.recv().await.map(|record| (record, waiting))
            });
            let told = |record| {
                let records = Arc::clone(&records);
                async move {
                    // What comes later says more; this is for people who look meanwhile.
                    let _ = records.append(record).await;
                }
            };
            waiting.for_each_concurrent(NEWS_AT_ONCE, told).await;
        });
        let queue = Queue::new(shared.options.max_concurrent);
        let (running, tasks) = Default::default();
        Self { shared, queue, running, tasks, number: 0, news, telling, shutdown }
    }

    /// Takes up what the notes hold: what had begun goes on at once, the rest waits in the old order.
    pub(super) async fn load(&mut self) -> Result<(), Error> {
        let (mut begun, mut unknown) = (Vec::new(), Vec::new());
        let mut after = None;
        loop {
            let page = self.shared.journal.page(after.as_deref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.uid.clone());
            for note in page.into_iter().filter(|note| !note.finished) {
                let Some(queued) = &note.queued else {
                    if note.result.started_at.is_some() {
                        begun.push(note)
                    } else {
                        unknown.push(note)
                    }
                    continue;
                };
                self.number = self.number.max(queued.number);
                if note.result.started_at.is_some() {
                    begun.push(note);
                } else {
                    let settle = note.verdict.is_some() || note.spec.cancel;
                    self.queue.insert(entry(&note.uid, queued), settle);
                }
            }
        }
        for note in begun {
            info!(execution = %note.name, "going on with a test execution");
            let queued = note.queued.clone().unwrap_or_else(|| queued(&note, 0));
            self.queue.resume(&entry(&note.uid, &queued));
            self.start(note);
        }
        for (uid, group) in self.queue.superseded() {
            self.end(&uid, Some(newer(&group))).await?;
        }
        self.take(unknown).await?;
        if self.queue.waiting() > 0 {
            info!(waiting = self.queue.waiting(), "test executions wait for a place");
        }
        self.advance().await
    }

    pub(super) fn knows(&self, uid: &str) -> bool {
        self.queue.knows(uid)
    }

    /// Takes new executions on; they are in the notes when this answers, and run when their turn comes.
    pub(super) async fn take(&mut self, mut notes: Vec<Note>) -> Result<(), Error> {
        notes.retain(|note| !self.queue.knows(&note.uid));
        let mut cancel = Vec::new();
        for note in &mut notes {
            self.number += 1;
            let queued = queued(note, self.number);
            let entry = entry(&note.uid, &queued);
            if note.spec.cancel {
                self.queue.insert(entry, true);
            } else {
                match self.queue.offer(entry.clone()) {
                    Offer::Waits { cancel: others } => {
                        let group = entry.group.as_ref().map(|group| group.group.clone()).unwrap_or_default();
                        for uid in others {
                            // Two of one batch may be for the same group.
                            self.queue.settle(&uid);
                            cancel.push((uid, newer(&group)));
                        }
                    }
                    Offer::LeftOut { reason, message } => {
                        let outcome = if reason == "QueueFull" { Outcome::NotRun } else { Outcome::Skipped };
                        note.verdict = Some(Verdict { outcome, reason: reason.to_owned(), message });
                        self.queue.insert(entry, true);
                    }
                }
            }
            note.result.queued_at = Some(queued.at.clone());
            note.queued = Some(queued);
        }
        self.shared.journal.save_all(&notes).await?;
        for (uid, why) in cancel {
            self.end(&uid, Some(why)).await?;
        }
        self.advance().await?;
        for note in notes {
            let Some(message) = self.queue.waits_for(&note.uid).filter(|_| note.verdict.is_none()) else {
                continue;
            };
            let Some(at) = note.result.queued_at.clone() else { continue };
            let news = TestNews::Queued { at, message };
            let _ = self.news.try_send(run::about(&note, news));
        }
        Ok(())
    }

    /// Ends an execution, whether it waits or runs.
    pub(super) async fn cancel(&mut self, uid: &str) -> Result<(), Error> {
        self.end(uid, None).await?;
        self.advance().await
    }

    async fn end(&mut self, uid: &str, why: Option<String>) -> Result<(), Error> {
        self.queue.settle(uid);
        if let Some(known) = self.running.get(uid) {
            if let Some(why) = why {
                let _ = known.why.set(why);
            }
            known.cancel.cancel();
            return Ok(());
        }
        let Some(mut note) = self.shared.journal.get(uid).await?.filter(|note| !note.spec.cancel) else {
            return Ok(());
        };
        note.spec.cancel = true;
        note.why = why.or(note.why);
        self.shared.journal.save(&note).await
    }

    /// Holds an execution or lets it go on.
    pub(super) async fn pause(&self, uid: &str, wanted: Option<bool>) -> Result<(), Error> {
        if let Some(known) = self.running.get(uid) {
            known.pause.send_if_modified(|own| std::mem::replace(own, wanted) != wanted);
        } else if self.queue.waits(uid)
            && let Some(mut note) =
                self.shared.journal.get(uid).await?.filter(|note| note.spec.pause != wanted)
        {
            note.spec.pause = wanted;
            self.shared.journal.save(&note).await?;
        }
        Ok(())
    }

    /// Until an execution under way has ended; never while none is. Nothing is lost when this is not waited for to its end.
    pub(super) async fn joined(&mut self) -> Joined {
        match self.tasks.join_next().await {
            Some(joined) => joined,
            None => std::future::pending().await,
        }
    }

    /// Gives the place of an execution that ended to the next.
    pub(super) async fn ended(&mut self, joined: Joined) -> Result<(), Error> {
        match joined {
            Ok((uid, result)) => {
                self.running.remove(&uid);
                self.queue.ended(&uid);
                result?;
            }
            Err(error) => warn!(%error, "a test execution ended without a word"),
        }
        self.advance().await
    }

    /// Waits for everything under way, after `shutdown`.
    pub(super) async fn finish(mut self) {
        while self.tasks.join_next().await.is_some() {}
        drop(self.news);
        // Whoever starts next opens the outbox that this holds.
        let _ = self.telling.await;
    }

    /// Starts those that have a place.
    async fn advance(&mut self) -> Result<(), Error> {
        if self.shutdown.is_cancelled() {
            return Ok(());
        }
        while let Some(uid) = self.queue.next() {
            match self.shared.journal.get(&uid).await? {
                Some(note) if !note.finished => self.start(note),
                _ => self.queue.ended(&uid),
            }
        }
        Ok(())
    }

    fn start(&mut self, note: Note) {
        let cancel = CancellationToken::new();
        if note.spec.cancel {
            cancel.cancel();
        }
        let why = Arc::new(OnceLock::new());
        if let Some(told) = &note.why {
            let _ = why.set(told.clone());
        }
        let uid = note.uid.clone();
        let (pause, paused) = watch::channel(note.spec.pause);
        self.running.insert(uid.clone(), Running { cancel: cancel.clone(), why: Arc::clone(&why), pause });
        let (shared, shutdown) = (Arc::clone(&self.shared), self.shutdown.clone());
        self.tasks.spawn(async move {
            let control = run::Control { pause: paused, cancel, why, shutdown };
            let result = Box::pin(run::execution(shared, note, control)).await;
            (uid, result)
        });
    }
}

fn entry(uid: &str, queued: &Queued) -> Entry {
    Entry {
        uid: uid.to_owned(),
        number: queued.number,
        priority: queued.priority,
        group: queued.group.clone(),
    }
}

/// What a note says about its place. A workflow that is not valid waits like others; it is told when its turn comes.
fn queued(note: &Note, number: u64) -> Queued {
    let group = plan::execution(&note.spec).ok().and_then(|plan| plan.concurrency);
    let priority = note.spec.workflow.priority.unwrap_or_default();
    Queued { number, priority, group, at: run::now() }
}

fn newer(group: &str) -> String {
    format!("a newer execution of concurrency group {group} took its place")
}
