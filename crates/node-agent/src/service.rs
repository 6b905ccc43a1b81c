//! The agent as a whole: registration, the pod watch, and a worker per pod.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::events::Recorder;
use crate::handle::Handle;
use crate::inputs::Inputs;
use crate::node_object::Registration;
use crate::options::Options;
use crate::pod::facts;
use crate::pod::worker::{Document, Shared, Worker};
use crate::runtime::PodRuntime;

/// An agent that has not started yet.
pub struct Service {
    options: Options,
    client: kube::Client,
    runtime: Arc<dyn PodRuntime>,
    running: Arc<AtomicBool>,
}

/// Who to wake for a pod; the runtime's listener reads it.
type Wakers = Arc<Mutex<HashMap<String, Arc<Notify>>>>;

struct Running {
    documents: watch::Sender<Document>,
    seen: u64,
}

/// The pods of this node and their workers.
struct Workers {
    shared: Arc<Shared>,
    wakers: Wakers,
    pods: HashMap<String, Running>,
    tasks: JoinSet<String>,
    /// Raised with every list, so that pods a list no longer has are noticed.
    round: u64,
}

impl Service {
    /// An agent for one node. Several in one process may share a runtime only if it tells their pods apart.
    ///
    /// # Errors
    /// When the options name no node.
    pub fn new(options: Options, client: kube::Client, runtime: Arc<dyn PodRuntime>) -> Result<Self, Error> {
        if options.node_name.is_empty() {
            return Err(Error::NoName);
        }
        Ok(Self { options, client, runtime, running: Arc::new(AtomicBool::new(false)) })
    }

    /// Asks this agent, before and while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            node_name: self.options.node_name.as_str().into(),
            runtime: self.runtime.clone(),
            running: self.running.clone(),
        }
    }

    /// Runs until `stop`. Containers are left as they are.
    ///
    /// # Errors
    /// When the runtime does not answer at the start.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let version = self.runtime.version().await.map_err(Error::Runtime)?;
        let events = Recorder::new(self.client.clone(), &self.options.node_name);
        let inputs = Inputs::new(
            self.client.clone(),
            &self.options.node_name,
            &self.options.address,
            self.options.api_server.as_deref(),
        );
        let shared = Arc::new(Shared {
            options: self.options.clone(),
            runtime: self.runtime.clone(),
            runtime_name: version.name,
            inputs,
            client: self.client.clone(),
            events,
        });
        let wakers = Wakers::default();
        let listening = wakers.clone();
        self.runtime.listen(Arc::new(move |uid| {
            if let Some(wake) = listening.lock().get(uid) {
                wake.notify_one();
            }
        }));
        let (registered, mut is_registered) = watch::channel(false);
        let registration = Registration::new(self.client.clone(), self.options.clone(), self.runtime.clone())
            .run(registered);
        let workers = Workers { shared, wakers, pods: HashMap::new(), tasks: JoinSet::new(), round: 0 };
        let pods = async {
            // A node that isn't registered can be given no pods; its client may also not be allowed to list any yet.
            let _ = is_registered.wait_for(|there| *there).await;
            workers.run(self.client.clone(), &self.options.node_name).await;
        };
        self.running.store(true, Ordering::Release);
        tokio::select! {
            () = stop.cancelled() => {}
            () = registration => {}
            () = pods => {}
        }
        self.running.store(false, Ordering::Release);
        Ok(())
    }
}

impl Workers {
    async fn run(mut self, client: kube::Client, node: &str) {
        let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
        let mut stream = pin!(watcher::watcher(Api::<Pod>::all(client), config).default_backoff());
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(event)) => self.event(event).await,
                    Some(Err(error)) => tracing::warn!(%error, node, "the pod watch failed; it is tried again"),
                    None => return,
                },
                Some(ended) = self.tasks.join_next() => self.ended(ended),
            }
        }
    }

    async fn event(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.round += 1,
            watcher::Event::InitApply(pod) | watcher::Event::Apply(pod) => self.apply(pod),
            watcher::Event::Delete(pod) => {
                if let Some(running) = self.pods.get(facts::uid(&pod)) {
                    running.documents.send_replace(Document::Gone);
                }
            }
            watcher::Event::InitDone => {
                for running in self.pods.values().filter(|running| running.seen < self.round) {
                    running.documents.send_replace(Document::Gone);
                }
                self.remove_orphans().await;
            }
        }
    }

    fn apply(&mut self, pod: Pod) {
        let uid = facts::uid(&pod).to_owned();
        let pod = Arc::new(pod);
        let round = self.round;
        // A closed channel is a worker that ended, perhaps abnormally: the pod gets a new one.
        if let Some(running) = self.pods.get_mut(&uid).filter(|running| !running.documents.is_closed()) {
            running.seen = round;
            running.documents.send_replace(Document::Present(pod));
            return;
        }
        let (documents, receiver) = watch::channel(Document::Present(pod.clone()));
        let wake = Arc::new(Notify::new());
        self.wakers.lock().insert(uid.clone(), wake.clone());
        self.pods.insert(uid.clone(), Running { documents, seen: round });
        let worker = Worker::new(self.shared.clone(), pod, receiver, wake);
        self.tasks.spawn(async move {
            worker.run().await;
            uid
        });
    }

    fn ended(&mut self, ended: Result<String, tokio::task::JoinError>) {
        match ended {
            // Unless a new worker has taken its place meanwhile.
            Ok(uid) if self.pods.get(&uid).is_none_or(|running| running.documents.is_closed()) => {
                self.wakers.lock().remove(&uid);
                self.pods.remove(&uid);
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "a pod worker ended abnormally; its pod's next change gets a new one");
            }
        }
    }

    /// Pods the runtime holds for this node that the API does not have: they were deleted while the agent was away.
    /// Only ever called after a complete list.
    async fn remove_orphans(&self) {
        let held = match self.shared.runtime.list().await {
            Ok(held) => held,
            Err(error) => {
                tracing::warn!(%error, "the runtime's pods could not be listed");
                return;
            }
        };
        for pod in held.into_iter().filter(|pod| !self.pods.contains_key(&pod.uid)) {
            tracing::info!(pod = pod.name, namespace = pod.namespace, "removing a pod the API no longer has");
            if let Err(error) = self.shared.runtime.remove_pod(&pod.uid).await {
                tracing::warn!(%error, pod = pod.name, "it could not be removed");
            }
        }
    }
}
