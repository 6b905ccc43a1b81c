//! Watches pods and nodes, decides, binds.

use std::{fmt, sync::Arc, time::Duration};

use api_client::{
    CacheOptions, ObjectCache, ObjectKey, apply,
    error::{is_conflict, is_not_found, retry_after},
    events::{Recorder, Severity},
};
use foundation::clock::{SharedClock, SystemClock};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Binding, Namespace, Node, ObjectReference, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{PostParams, PropagationPolicy},
    core::Status,
};
use parking_lot::Mutex;
use reconcile::{Action, Driver, DriverOptions, Queue, Reconciler, StatusHandle, TaskStatus};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    decide::Unfit,
    picture::{Picture, Verdict},
    preempt::Victims,
};

/// Bindings under way at the same time.
const CONCURRENCY: usize = 32;

/// What the scheduler needs.
pub struct Options {
    /// Reaches the cluster, with the rights of the scheduler.
    pub client: Client,
    /// A cache of all pods that other components use too; `None`: one of its own is started. It may lack what deciding does
    /// not look at (environment, probes, volumes).
    pub pods: Option<ObjectCache<Pod>>,
    /// Which pods are ours: those whose `spec.schedulerName` is this.
    pub scheduler_name: String,
    /// The time of day.
    pub clock: SharedClock,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("scheduler_name", &self.scheduler_name).finish_non_exhaustive()
    }
}

impl Options {
    /// The default scheduler with the machine's clock.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            pods: None,
            scheduler_name: "default-scheduler".to_owned(),
            clock: SystemClock::shared(),
        }
    }
}

/// A request failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {pod}: {source}")]
pub struct Error {
    operation: &'static str,
    pod: String,
    source: Box<kube::Error>,
}

impl Error {
    fn of(operation: &'static str, key: &ObjectKey) -> impl FnOnce(kube::Error) -> Self {
        let pod = key.to_string();
        move |source| Self { operation, pod, source: Box::new(source) }
    }
}

/// Reads what the scheduler is doing. Clones read the same.
#[derive(Clone, Debug, Default)]
pub struct Handle {
    status: Arc<Mutex<Option<StatusHandle<ObjectKey>>>>,
}

impl Handle {
    /// The present status; none before it has started.
    #[must_use]
    pub fn status(&self) -> Option<TaskStatus> {
        self.status.lock().as_ref().map(StatusHandle::get)
    }
}

/// The scheduler.
#[derive(Debug)]
pub struct Service {
    options: Options,
    handle: Handle,
}

impl Service {
    /// Nothing happens until [`Service::run`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, handle: Handle::default() }
    }

    /// Reads its status.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `shutdown`.
    ///
    /// # Errors
    /// None today: failed requests are retried for as long as it takes.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let client = self.options.client.clone();
        let pods = self.options.pods.unwrap_or_else(|| {
            let running = "status.phase!=Succeeded,status.phase!=Failed";
            let options = CacheOptions::<Pod>::new("pods to schedule").fields(running);
            ObjectCache::start(Api::all(client.clone()), options)
        });
        let nodes = ObjectCache::<Node>::start(Api::all(client.clone()), CacheOptions::new("nodes"));
        let namespaces =
            ObjectCache::<Namespace>::start(Api::all(client.clone()), CacheOptions::new("namespaces"));
        // Deciding on half a picture would overcommit nodes.
        tokio::select! {
            () = async { tokio::join!(pods.has_synced(), nodes.has_synced(), namespaces.has_synced()); } => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        let queue = Queue::new();
        let picture = Arc::new(Mutex::new(Picture::default()));
        follow_namespaces(&namespaces, &queue, &picture);
        follow(&pods, &nodes, &queue, &picture, &self.options.scheduler_name);
        let scheduler = Scheduler {
            recorder: Recorder::start(client.clone(), self.options.scheduler_name.clone()),
            client,
            pods,
            picture,
            clock: self.options.clock,
            name: self.options.scheduler_name,
        };
        let options = DriverOptions::new("scheduler").concurrency(CONCURRENCY);
        let driver = Driver::new(Arc::new(scheduler), queue, options);
        *self.handle.status.lock() = Some(driver.status());
        driver.run(shutdown).await;
        Ok(())
    }
}

/// Affinity may select namespaces by their labels.
fn follow_namespaces(
    namespaces: &ObjectCache<Namespace>,
    queue: &Queue<ObjectKey>,
    picture: &Arc<Mutex<Picture>>,
) {
    let (all, own, shared) = (namespaces.clone(), queue.clone(), Arc::clone(picture));
    namespaces.on_change(move |change| {
        let labels = |namespace: &Namespace| namespace.metadata.labels.clone().unwrap_or_default();
        if change.old.zip(change.new).is_some_and(|(old, new)| labels(old) == labels(new)) {
            return;
        }
        let known = all.list().into_iter();
        let known = known.map(|own| (own.metadata.name.clone().unwrap_or_default(), labels(&own))).collect();
        let mut picture = shared.lock();
        picture.set_namespaces(known);
        for key in picture.wake() {
            own.add(key);
        }
    });
}

fn follow(
    pods: &ObjectCache<Pod>,
    nodes: &ObjectCache<Node>,
    queue: &Queue<ObjectKey>,
    picture: &Arc<Mutex<Picture>>,
    scheduler_name: &str,
) {
    let (own, shared) = (queue.clone(), Arc::clone(picture));
    nodes.on_change(move |change| {
        let mut picture = shared.lock();
        match change.new {
            // Heartbeats change nothing that a decision looks at.
            Some(node) if change.old.is_some_and(|old| same_for_decisions(old, node)) => return,
            Some(node) => picture.set_node(node),
            None => {
                picture.remove_node(&change.key.name);
            }
        }
        for key in picture.wake() {
            own.add(key);
        }
    });
    let (own, shared, name) = (queue.clone(), Arc::clone(picture), scheduler_name.to_owned());
    pods.on_change(move |change| {
        let mut picture = shared.lock();
        let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
        // A pod whose containers have ended takes no room: it is as good as gone.
        let (old, new) = (change.old.filter(|pod| !is_over(pod)), change.new.filter(|pod| !is_over(pod)));
        if let Some(old) = old.filter(|old| new.is_none_or(|new| uid(new) != uid(old))) {
            picture.forget_waiting(change.key);
            if picture.take_off(&uid(old)) {
                for key in picture.wake() {
                    own.add(key);
                }
            }
        }
        let Some(pod) = new else { return };
        match assigned_node(pod) {
            Some(node) => picture.place(&uid(pod), node, pod),
            None if is_ours(pod, &name) && needs_decision(old.map(|old| &**old), pod) => {
                own.add(change.key.clone());
            }
            None => {}
        }
    });
}

fn same_for_decisions(old: &Node, new: &Node) -> bool {
    let allocatable = |node: &Node| node.status.as_ref().and_then(|status| status.allocatable.clone());
    old.spec == new.spec && old.metadata.labels == new.metadata.labels && allocatable(old) == allocatable(new)
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn assigned_node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

fn is_ours(pod: &Pod, name: &str) -> bool {
    let spec = pod.spec.as_ref();
    let gated = spec.and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
    let own = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or("default-scheduler") == name;
    own && !gated && pod.metadata.deletion_timestamp.is_none()
}

/// Our own notes in a waiting pod's status are no reason to decide again.
fn needs_decision(old: Option<&Pod>, new: &Pod) -> bool {
    old.is_none_or(|old| old.spec != new.spec || old.metadata.uid != new.metadata.uid)
}

struct Scheduler {
    client: Client,
    recorder: Recorder,
    pods: ObjectCache<Pod>,
    picture: Arc<Mutex<Picture>>,
    clock: SharedClock,
    name: String,
}

impl Reconciler for Scheduler {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let Some(pod) = self.pods.get(&key) else { return Ok(Action::Done) };
        if assigned_node(&pod).is_some() || is_over(&pod) || pod.metadata.deletion_timestamp.is_some() {
            return Ok(Action::Done);
        }
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let verdict = self.picture.lock().decide(&key, &uid, &pod);
        match verdict {
            Verdict::Bind(node) => self.bind(&key, &pod, &uid, &node).await,
            Verdict::Wait(unfit, None) => self.explain(&key, &pod, &unfit, None).await,
            Verdict::Wait(unfit, Some(victims)) => {
                self.explain(&key, &pod, &unfit, Some(&victims.node)).await?;
                self.make_room(&pod, &victims).await
            }
        }
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        retry_after(&error.source)
    }
}

impl Scheduler {
    async fn bind(&self, key: &ObjectKey, pod: &Pod, uid: &str, node: &str) -> Result<Action, Error> {
        let mut binding = Binding {
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
            ..Binding::default()
        };
        binding.metadata.name = Some(key.name.clone());
        binding.metadata.namespace = Some(key.namespace.clone());
        binding.metadata.uid = Some(uid.to_owned());
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let answer: kube::Result<Status> =
            api.create_subresource("binding", &key.name, &PostParams::default(), &binding).await;
        match answer {
            Ok(_) => {
                let message = format!("Successfully assigned {key} to {node}");
                self.recorder.record(pod, Severity::Normal, "Scheduled", message);
                Ok(Action::Done)
            }
            Err(error) => {
                self.picture.lock().take_off(uid);
                // Gone, or bound by somebody else: the watch tells.
                if is_not_found(&error) || is_conflict(&error) {
                    return Ok(Action::Done);
                }
                Err(Error::of("binding pod", key)(error))
            }
        }
    }

    /// Lets less important pods go; when they have gone the pod is tried again.
    async fn make_room(&self, pod: &Pod, victims: &Victims) -> Result<Action, Error> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        for victim in victims.pods.iter().filter(|victim| victim.metadata.deletion_timestamp.is_none()) {
            let key = ObjectKey::of(&**victim);
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
            let message = format!("{}: preempting to accommodate a higher priority pod", self.name);
            let condition = json!({"type": "DisruptionTarget", "status": "True",
                "reason": "PreemptionByScheduler", "message": message, "lastTransitionTime": Time(self.clock.now())});
            let patch =
                json!({"metadata": {"uid": victim.metadata.uid}, "status": {"conditions": [condition]}});
            match apply::strategic_status(&api, &key.name, "scheduler", &patch).await {
                Err(error) if is_not_found(&error) || is_conflict(&error) => continue,
                answer => drop(answer.map_err(Error::of("telling why it must go to pod", &key))?),
            }
            let own = victim.metadata.uid.as_deref().unwrap_or_default();
            match apply::delete_exactly(&api, &key.name, own, PropagationPolicy::Background).await {
                Err(error) if is_not_found(&error) || is_conflict(&error) => continue,
                answer => drop(answer.map_err(Error::of("preempting pod", &key))?),
            }
            let message = format!("Preempted by pod {uid} on node {}", victims.node);
            self.recorder.record(&**victim, Severity::Normal, "Preempted", message);
        }
        Ok(Action::Done)
    }

    /// Says why the pod waits, and for which node when some are leaving one for it.
    async fn explain(
        &self,
        key: &ObjectKey,
        pod: &Pod,
        unfit: &Unfit,
        nominated: Option<&str>,
    ) -> Result<Action, Error> {
        let message = unfit.to_string();
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let said = conditions.into_iter().flatten().find(|condition| condition.type_ == "PodScheduled");
        let same = said.is_some_and(|condition| {
            condition.status == "False" && condition.message.as_deref() == Some(message.as_str())
        });
        if same && nominated.is_none() {
            return Ok(Action::Done);
        }
        if !same {
            self.recorder.record(pod, Severity::Warning, "FailedScheduling", message.clone());
        }
        let since: Timestamp = said
            .filter(|condition| condition.status == "False")
            .and_then(|condition| condition.last_transition_time.as_ref())
            .map_or_else(|| self.clock.now(), |time| time.0);
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": message, "lastTransitionTime": Time(since)});
        let mut patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
        if let Some(node) = nominated {
            patch["status"]["nominatedNodeName"] = node.into();
        }
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        match apply::strategic_status(&api, &key.name, "scheduler", &patch).await {
            Ok(pod) => self.pods.observe(&pod),
            Err(error) if is_not_found(&error) || is_conflict(&error) => {}
            Err(error) => return Err(Error::of("explaining why it waits to pod", key)(error)),
        }
        Ok(Action::Done)
    }
}
