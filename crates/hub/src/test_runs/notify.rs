//! Tells others of test runs: webhooks of every event, an OpenTelemetry collector of traces and metrics.
//!
//! What was told stands in the run's status, so that a hub that starts again tells nothing twice but what it had not
//! written down; such a repetition has the same id. One run is told to one webhook in the order of its events.
//!
//! Never: holds up a run, keeps a run's objects in memory, or tells of runs older than the webhook.

mod deliver;
mod history;
mod measures;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use fleet_objects::test_run::TestRun;
use fleet_objects::test_webhook::{TestWebhook, WebhookEvent};
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use workflow::{otlp, webhook};

use super::Notify;
use super::controller::selects;
use crate::outbound::Outbound;
use history::History;
use measures::Measures;

/// Deliveries under way together: each holds one run, some 100 kB at most.
const MAX_UNDER_WAY: usize = 64;
/// And of one webhook, so that one that does not answer leaves room for the others.
const MAX_OF_ONE: usize = 8;
/// Between looks at runs for which there was no room.
const AGAIN: Duration = Duration::from_secs(5);
/// Runs read at once.
const PAGE: u32 = 100;
/// Traces of runs that ended longer ago are not sent, so that a collector that is set up later gets no flood.
const TRACE_WITHIN: Duration = Duration::from_secs(24 * 3600);

/// An OpenTelemetry collector, over OTLP/HTTP with JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// Like `http://collector:4318`.
    pub endpoint: String,
    /// Sent with everything; values may be secret.
    pub headers: Vec<(String, String)>,
    /// Between two sets of metrics.
    pub interval: Duration,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Who is told of which run: the uid of a webhook (empty: the collector), the uid of the run.
type Key = (String, String);

/// One piece of work: events of a run for a webhook, or its trace.
enum Work {
    Webhook { hook: Arc<TestWebhook>, events: Vec<WebhookEvent> },
    Trace,
}

/// Tells others until `shutdown`.
pub(super) async fn run(client: Client, options: Notify, shutdown: CancellationToken) {
    let sender = otlp::Sender { version: options.version.clone(), instance: options.source.clone() };
    let outbound = Outbound::default();
    let measures = Measures::new(client.clone(), outbound.clone(), options.telemetry.clone(), sender.clone());
    let mut notifier = Notifier {
        client: client.clone(),
        outbound,
        options,
        sender,
        hooks: HashMap::new(),
        history: History::default(),
        measures: measures.clone(),
        under_way: HashSet::new(),
        tasks: JoinSet::new(),
        again: false,
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = notifier.run() => {}
        () = measures.run() => {}
    }
    notifier.tasks.shutdown().await;
}

struct Notifier {
    client: Client,
    outbound: Outbound,
    options: Notify,
    sender: otlp::Sender,
    /// By namespace and name.
    hooks: HashMap<(String, String), Arc<TestWebhook>>,
    history: History,
    measures: Measures,
    under_way: HashSet<Key>,
    tasks: JoinSet<(Key, String, String)>,
    /// Some run has found no room.
    again: bool,
}

impl Notifier {
    async fn run(&mut self) {
        let hooks: Api<TestWebhook> = Api::all(self.client.clone());
        let runs: Api<TestRun> = Api::all(self.client.clone());
        let mut hooks = std::pin::pin!(watcher::watcher(hooks, watcher::Config::default()).default_backoff());
        let mut runs = std::pin::pin!(watcher::watcher(runs, watcher::Config::default()).default_backoff());
        let (mut all_hooks, mut all_runs) = (false, false);
        loop {
            let complete = all_hooks && all_runs;
            tokio::select! {
                event = hooks.next() => match event {
                    Some(Ok(event)) => {
                        all_hooks |= matches!(event, Event::InitDone);
                        self.hook(event);
                    }
                    Some(Err(error)) => warn!(%error, "cannot watch webhooks; trying again"),
                    None => return,
                },
                event = runs.next() => match event {
                    Some(Ok(Event::Apply(run))) => {
                        self.seen(&run);
                        if complete {
                            self.consider(run);
                        }
                    }
                    Some(Ok(Event::InitApply(run))) => {
                        self.seen(&run);
                        self.again = true;
                    }
                    Some(Ok(Event::Delete(run))) => {
                        self.history.forget(&run);
                        self.measures.forget(&run);
                    }
                    Some(Ok(Event::Init)) => {}
                    Some(Ok(Event::InitDone)) => all_runs = true,
                    Some(Err(error)) => warn!(%error, "cannot watch test runs for webhooks; trying again"),
                    None => return,
                },
                Some(done) = self.tasks.join_next() => {
                    let Ok((key, namespace, name)) = done else { continue };
                    self.under_way.remove(&key);
                    // What happened meanwhile.
                    let api: Api<TestRun> = Api::namespaced(self.client.clone(), &namespace);
                    match api.get_opt(&name).await {
                        Ok(Some(run)) => self.consider(run),
                        Ok(None) => {}
                        Err(_) => self.again = true,
                    }
                }
                () = tokio::time::sleep(AGAIN), if self.again && complete => self.all().await,
            }
            if self.again && complete && self.tasks.is_empty() {
                self.all().await;
            }
        }
    }

    fn hook(&mut self, event: Event<TestWebhook>) {
        let key = |hook: &TestWebhook| (hook.namespace().unwrap_or_default(), hook.name_any());
        match event {
            Event::Apply(hook) | Event::InitApply(hook) => {
                let before = self.hooks.insert(key(&hook), Arc::new(hook.clone()));
                // A new or changed hook has runs to look at; its own status is no change.
                self.again |= before.is_none_or(|before| before.spec != hook.spec);
            }
            Event::Delete(hook) => {
                self.hooks.remove(&key(&hook));
            }
            Event::Init | Event::InitDone => {}
        }
    }

    fn seen(&mut self, run: &TestRun) {
        self.history.take(run);
        self.measures.take(run);
    }

    /// Looks at every run.
    async fn all(&mut self) {
        self.again = false;
        if self.hooks.is_empty() && self.options.telemetry.is_none() {
            return;
        }
        let api: Api<TestRun> = Api::all(self.client.clone());
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = match api.list(&params).await {
                Ok(page) => page,
                Err(error) => {
                    warn!(%error, "cannot list test runs for webhooks; trying again");
                    self.again = true;
                    return;
                }
            };
            let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
            page.items.into_iter().for_each(|run| self.consider(run));
            match next {
                Some(token) => params = params.continue_token(&token),
                None => return,
            }
        }
    }

    /// Begins to tell what of a run was not told yet.
    fn consider(&mut self, run: TestRun) {
        let (Some(uid), Some(namespace)) = (run.uid(), run.namespace()) else { return };
        if run.metadata.deletion_timestamp.is_some() {
            return;
        }
        let mut work = Vec::new();
        let happened = webhook::happened(&run, self.history.before(&run));
        let hooks = self.hooks.iter().filter(|((own, _), _)| *own == namespace).map(|(_, hook)| hook);
        for hook in hooks.filter(|hook| is_for(hook, &run)) {
            let hook_uid = hook.uid().unwrap_or_default();
            let told = |event: &WebhookEvent| {
                let id = webhook::id(&hook_uid, &uid, *event);
                run.status.as_ref().is_some_and(|status| status.deliveries.contains_key(&id))
            };
            let events: Vec<_> =
                webhook::wanted(&hook.spec, &happened).into_iter().filter(|event| !told(event)).collect();
            if !events.is_empty() {
                work.push((hook_uid.clone(), Work::Webhook { hook: Arc::clone(hook), events }));
            }
        }
        if self.options.telemetry.is_some() && wants_trace(&run) {
            work.push((String::new(), Work::Trace));
        }
        for (receiver, work) in work {
            let key = (receiver, uid.clone());
            if self.under_way.contains(&key) {
                continue;
            }
            let of_one = self.under_way.iter().filter(|(own, _)| *own == key.0).count();
            if of_one >= MAX_OF_ONE || self.under_way.len() >= MAX_UNDER_WAY {
                self.again = true;
                continue;
            }
            self.under_way.insert(key.clone());
            let (namespace, name) = (namespace.clone(), run.name_any());
            let delivery = deliver::Delivery {
                client: self.client.clone(),
                outbound: self.outbound.clone(),
                source: self.options.source.clone(),
                run: run.clone(),
            };
            let (telemetry, sender) = (self.options.telemetry.clone(), self.sender.clone());
            self.tasks.spawn(async move {
                match work {
                    Work::Webhook { hook, events } => delivery.webhook(&hook, &events).await,
                    Work::Trace => {
                        if let Some(telemetry) = telemetry {
                            delivery.trace(&telemetry, &sender).await;
                        }
                    }
                }
                (key, namespace, name)
            });
        }
    }
}

/// Whether a webhook is about a run at all.
fn is_for(hook: &TestWebhook, run: &TestRun) -> bool {
    let spec = &hook.spec;
    let (of_hook, of_run) = (&hook.metadata.creation_timestamp, &run.metadata.creation_timestamp);
    if spec.suspend || of_run.as_ref().map(|time| time.0) < of_hook.as_ref().map(|time| time.0) {
        return false;
    }
    let workflow = workflow::report::history::workflow_of(run);
    let named = spec.workflows.is_empty() || spec.workflows.contains(&workflow);
    // A selector that cannot be read selects nothing; the webhook's condition says so when it is looked at.
    named && spec.selector.as_ref().is_none_or(|selector| selects(selector, run.labels()).unwrap_or(false))
}

fn wants_trace(run: &TestRun) -> bool {
    let Some(status) = &run.status else { return false };
    let ended =
        status.clusters.iter().filter_map(|cluster| cluster.finished_at.as_ref()).map(|time| time.0).max();
    let recent =
        ended.is_some_and(|ended| Timestamp::now().duration_since(ended).unsigned_abs() < TRACE_WITHIN);
    status.traced_at.is_none() && recent && webhook::end(run).is_some()
}

/// Writes to a run's status what was told of it.
async fn note(client: &Client, run: &TestRun, status: serde_json::Value) {
    let api: Api<TestRun> = Api::namespaced(client.clone(), &run.namespace().unwrap_or_default());
    let patch = Patch::Merge(json!({ "metadata": { "uid": run.uid() }, "status": status }));
    for _ in 0..TRIES {
        match api.patch_status(&run.name_any(), &PatchParams::default(), &patch).await {
            Ok(_) => return,
            // It is gone, or another of its name is there.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
            Err(error) => warn!(%error, run = %run.name_any(), "cannot write what was told of a test run"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Tries to write what was told; after that it may be told once more, with the same id.
const TRIES: u32 = 60;
