//! Telling people what happened, as Kubernetes events.
//!
//! An event seen again within [`SERIES_WINDOW`] raises its count instead of making a new object, and each source object
//! has a budget: a component in a loop cannot flood the server. What was held back is counted.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use foundation::clock::{SharedClock, SystemClock};
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
};
use tokio::{sync::mpsc, time::Instant};

/// Events that wait to be written. A burst beyond is dropped and counted: events are for people, and no component may
/// wait for them. One event is about 1 kB, so this is at most 1 MB.
const QUEUE: usize = 1_024;
/// Events told apart for counting, about 500 bytes each.
const REMEMBERED: usize = 4_096;
/// How long an event's series lasts after its last occurrence (upstream's correlator: 10 minutes).
pub const SERIES_WINDOW: Duration = Duration::from_secs(600);
/// Each source object may have this many events at once, and one more every [`REFILL`] (upstream: 25, one in 5 min).
const BURST: u32 = 25;
/// See [`BURST`].
const REFILL: Duration = Duration::from_secs(300);
/// Longest message the API accepts.
const MAX_MESSAGE: usize = 1_024;

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Ordinary progress.
    Normal,
    /// Something a person may have to look at.
    Warning,
}

impl Severity {
    fn text(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Records events for one component. Clones share its queue. Recording never waits.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("dropped", &self.dropped()).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct SeriesKey {
    uid: String,
    name: String,
    field_path: String,
    reason: String,
    message: String,
    severity: &'static str,
}

struct Note {
    about: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
}

impl Recorder {
    /// A recorder that writes as `component` (`deployment-controller`). Must be called within a tokio runtime; its
    /// writer ends when the last clone is dropped.
    #[must_use]
    pub fn start(client: Client, component: impl Into<String>) -> Self {
        Self::start_on(client, component, None)
    }

    /// The same for a component of a node, which its events name (the kubelet's do).
    #[must_use]
    pub fn start_on(client: Client, component: impl Into<String>, node: Option<String>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            client,
            component: component.into(),
            node,
            clock: SystemClock::shared(),
            series: HashMap::new(),
            budgets: HashMap::new(),
            dropped: Arc::clone(&dropped),
            number: 0,
        };
        tokio::spawn(writer.run(receiver));
        Self { sender, dropped }
    }

    /// Records that something happened to `object`.
    pub fn record<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        let about = ObjectReference { resource_version: None, ..object.object_ref(&()) };
        self.record_about(about, severity, reason, message);
    }

    /// The same for any reference.
    pub fn record_about(
        &self,
        about: ObjectReference,
        severity: Severity,
        reason: &str,
        message: impl Into<String>,
    ) {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        let note = Note { about, severity, reason: reason.to_owned(), message };
        if self.sender.try_send(note).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were held back since the start, for want of room or budget, or because the server refused.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

struct Series {
    name: String,
    count: i32,
    last: Instant,
}

struct Budget {
    left: u32,
    since: Instant,
}

struct Writer {
    client: Client,
    component: String,
    node: Option<String>,
    clock: SharedClock,
    series: HashMap<SeriesKey, Series>,
    budgets: HashMap<String, Budget>,
    dropped: Arc<AtomicU64>,
    number: u64,
}

impl Writer {
    async fn run(mut self, mut receiver: mpsc::Receiver<Note>) {
        while let Some(note) = receiver.recv().await {
            if let Err(error) = self.write(note).await {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(component = self.component, %error, "an event was not written");
            }
        }
    }

    async fn write(&mut self, note: Note) -> kube::Result<()> {
        let key = SeriesKey {
            uid: note.about.uid.clone().unwrap_or_default(),
            name: note.about.name.clone().unwrap_or_default(),
            field_path: note.about.field_path.clone().unwrap_or_default(),
            reason: note.reason.clone(),
            message: note.message.clone(),
            severity: note.severity.text(),
        };
        if !self.within_budget(&key.uid) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        // Events about objects without a namespace live in `default`, as upstream's do.
        let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        self.forget_old();
        if let Some(series) = self.series.get_mut(&key) {
            series.count = series.count.saturating_add(1);
            series.last = Instant::now();
            let patch = serde_json::json!({
                "count": series.count, "lastTimestamp": Time(self.clock.now())
            });
            let params =
                PatchParams { field_manager: Some(self.component.clone()), ..PatchParams::default() };
            match api.patch(&series.name, &params, &Patch::Merge(patch)).await {
                Ok(_) => return Ok(()),
                // It expired on the server: start anew.
                Err(error) if crate::error::is_not_found(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let name = self.name_for(&note.about);
        let event = self.event(&note, &name, &namespace);
        let params = PostParams { field_manager: Some(self.component.clone()), ..PostParams::default() };
        api.create(&params, &event).await?;
        self.series.insert(key, Series { name, count: 1, last: Instant::now() });
        Ok(())
    }

    /// `<object>.<hexadecimal time>`, as upstream names events; the counter tells those of one instant apart.
    fn name_for(&mut self, about: &ObjectReference) -> String {
        self.number = self.number.wrapping_add(1);
        let nanos = i64::try_from(self.clock.now().as_nanosecond()).unwrap_or(i64::MAX);
        let unique = nanos.unsigned_abs().wrapping_add(self.number);
        let object: String = about.name.as_deref().unwrap_or("unknown").chars().take(230).collect();
        format!("{object}.{unique:x}")
    }

    fn event(&self, note: &Note, name: &str, namespace: &str) -> Event {
        let now = Time(self.clock.now());
        Event {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: note.about.clone(),
            type_: Some(note.severity.text().to_owned()),
            reason: Some(note.reason.clone()),
            message: Some(note.message.clone()),
            source: Some(EventSource { component: Some(self.component.clone()), host: self.node.clone() }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: self.node.clone(),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        }
    }

    fn within_budget(&mut self, uid: &str) -> bool {
        let now = Instant::now();
        if self.budgets.len() >= REMEMBERED {
            self.budgets.retain(|_, budget| now.duration_since(budget.since) < REFILL);
        }
        if self.budgets.len() >= REMEMBERED && !self.budgets.contains_key(uid) {
            return false;
        }
        let budget = self.budgets.entry(uid.to_owned()).or_insert(Budget { left: BURST, since: now });
        let refills = now.duration_since(budget.since).as_secs() / REFILL.as_secs();
        if refills > 0 {
            budget.left = BURST.min(budget.left.saturating_add(u32::try_from(refills).unwrap_or(BURST)));
            budget.since = now;
        }
        if budget.left == 0 {
            return false;
        }
        budget.left -= 1;
        true
    }

    fn forget_old(&mut self) {
        let now = Instant::now();
        self.series.retain(|_, series| now.duration_since(series.last) < SERIES_WINDOW);
        if self.series.len() >= REMEMBERED {
            // Busy enough that all are recent: counting starts anew for all, which costs some extra events.
            self.series.clear();
        }
    }
}
