//! Empties namespaces on their way out, then lets them go.

use std::{sync::Arc, time::Duration};

use api_client::{
    CacheOptions, ObjectCache, ObjectKey, apply,
    dynamic::{Discovery, Kind},
    error::{is_conflict, is_not_found},
};
use foundation::clock::{SharedClock, SystemClock};
use futures::{StreamExt, stream};
use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams},
};
use reconcile::{Action, Driver, DriverOptions, Queue, Reconciler};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    error::{Doing, Error, Gone},
};

const FINALIZER: &str = "kubernetes";
/// Kinds emptied at the same time.
const PARALLEL: usize = 16;
/// While content is on its way out (pods within their grace, finalizers of others) nothing tells of its end, for kinds
/// are watched only where a controller needs them; so it is looked for this often.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Where content may wait for a person's word, for days.
const LOOK_AGAIN_ALONE: Duration = Duration::from_secs(2);

pub(crate) struct Namespaces {
    client: Client,
    namespaces: ObjectCache<Namespace>,
    clock: SharedClock,
    discovery: Discovery,
    look_again: Duration,
}

impl Namespaces {
    pub(crate) fn new(context: &Context, discovery: Discovery) -> Self {
        Self {
            client: context.client.clone(),
            namespaces: context.namespaces.clone(),
            clock: context.clock.clone(),
            discovery,
            look_again: LOOK_AGAIN,
        }
    }
}

/// Empties namespaces until `shutdown` where no other controller runs. Of all namespaces only those on their way out are
/// kept in memory, and nothing of what is in them.
pub async fn run(client: Client, shutdown: CancellationToken) {
    let options = CacheOptions::new("namespaces on their way out").fields("status.phase=Terminating");
    let namespaces = ObjectCache::start(Api::all(client.clone()), options);
    let queue = Queue::new();
    feed(&queue, &namespaces);
    if shutdown.run_until_cancelled(namespaces.has_synced()).await.is_none() {
        return;
    }
    for namespace in namespaces.list() {
        queue.add(ObjectKey::of(&*namespace));
    }
    let discovery = Discovery::new(client.clone());
    let clock = SystemClock::shared();
    let reconciler = Namespaces { client, namespaces, clock, discovery, look_again: LOOK_AGAIN_ALONE };
    Driver::new(Arc::new(reconciler), queue, DriverOptions::new("namespace").concurrency(2))
        .run(shutdown)
        .await;
}

fn feed(queue: &Queue<ObjectKey>, namespaces: &ObjectCache<Namespace>) {
    let own = queue.clone();
    namespaces.on_change(move |change| {
        if change.new.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            own.add(change.key.clone());
        }
    });
}

/// Fed by namespaces on their way out and by pods that went from them.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    feed(&queue, &context.namespaces);
    let (pods, namespaces) = (queue.clone(), context.namespaces.clone());
    context.pods.on_change(move |change| {
        if change.new.is_some() {
            return;
        }
        let key = ObjectKey::new("", change.key.namespace.clone());
        if namespaces.get(&key).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
            pods.add(key);
        }
    });
    queue
}

/// A kind, and the finalizers of each of its objects that are left.
type Outcome = (Kind, kube::Result<Vec<Vec<String>>>);

/// What emptying left.
#[derive(Debug, Default, PartialEq, Eq)]
struct Remains {
    /// `resource.group has N resource instances`, per kind.
    content: Vec<String>,
    /// Finalizers that hold objects back.
    finalizers: Vec<String>,
    /// Kinds that could not be emptied, and why.
    failures: Vec<String>,
}

impl Reconciler for Namespaces {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let Some(namespace) = self.namespaces.get(&key) else { return Ok(Action::Done) };
        let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
        if namespace.metadata.deletion_timestamp.is_none() || !finalizers.iter().any(|own| own == FINALIZER) {
            return Ok(Action::Done);
        }
        let kinds = self.discovery.deletable().await?;
        let name = key.name.as_str();
        let (pods, others): (Vec<_>, Vec<_>) =
            kinds.into_iter().filter(|kind| kind.namespaced).partition(is_pods);
        // What pods still need while they end (their secrets, the policies that fence them in) goes after them (KEP-5080).
        let mut outcomes = self.empty_all(pods, name).await;
        let gone = |outcome: &Outcome| outcome.1.as_ref().map_or(true, Vec::is_empty);
        if outcomes.iter().all(gone) {
            outcomes.extend(self.empty_all(others, name).await);
        }
        let remains = remains(outcomes);
        if remains == Remains::default() {
            self.let_go(&key, &namespace).await?;
            return Ok(Action::Done);
        }
        self.write_conditions(&key, &namespace, &remains).await?;
        Ok(Action::RequeueAfter(self.look_again))
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

/// Whether these are the pods themselves, not another group's view of them.
fn is_pods(kind: &Kind) -> bool {
    kind.resource.group.is_empty() && kind.resource.plural == "pods"
}

impl Namespaces {
    /// Asks for everything of some kinds to be deleted, and says for each what is left.
    async fn empty_all(&self, kinds: Vec<Kind>, namespace: &str) -> Vec<Outcome> {
        let emptied = stream::iter(kinds).map(|kind| async move {
            let left = self.empty(&kind, namespace).await;
            (kind, left)
        });
        emptied.buffer_unordered(PARALLEL).collect().await
    }

    /// Asks for everything of a kind to be deleted; returns the finalizers of each object that is left.
    async fn empty(&self, kind: &Kind, namespace: &str) -> kube::Result<Vec<Vec<String>>> {
        let api = self.discovery.api_of(kind, Some(namespace));
        let objects = match api.list_metadata(&ListParams::default()).await {
            Err(error) if is_not_found(&error) => return Ok(Vec::new()),
            objects => objects?.items,
        };
        let unasked = objects.iter().filter(|object| object.metadata.deletion_timestamp.is_none());
        if unasked.clone().next().is_none() {
            return Ok(objects
                .into_iter()
                .map(|object| object.metadata.finalizers.unwrap_or_default())
                .collect());
        }
        if kind.supports("deletecollection") {
            api.delete_collection(&DeleteParams::background(), &ListParams::default()).await?;
        } else {
            for object in unasked {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                api.delete(name, &DeleteParams::background()).await.unless_gone()?;
            }
        }
        let left = api.list_metadata(&ListParams::default()).await?.items;
        Ok(left.into_iter().map(|object| object.metadata.finalizers.unwrap_or_default()).collect())
    }

    async fn let_go(&self, key: &ObjectKey, namespace: &Namespace) -> Result<(), Error> {
        let mut freed = namespace.clone();
        if let Some(finalizers) = freed.spec.as_mut().and_then(|spec| spec.finalizers.as_mut()) {
            finalizers.retain(|finalizer| finalizer != FINALIZER);
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let answer = api.replace_subresource("finalize", &key.name, &PostParams::default(), &freed).await;
        match answer {
            // Somebody changed it meanwhile: the change brings the key back.
            Err(error) if is_conflict(&error) => Ok(()),
            answer => answer.unless_gone().doing("letting go of namespace", key).map(drop),
        }
    }

    async fn write_conditions(
        &self,
        key: &ObjectKey,
        namespace: &Namespace,
        remains: &Remains,
    ) -> Result<(), Error> {
        let conditions = conditions(namespace, remains, self.clock.now());
        let present = namespace.status.as_ref().and_then(|status| status.conditions.clone());
        if json!(present) == json!(conditions) {
            return Ok(());
        }
        let api: Api<Namespace> = Api::all(self.client.clone());
        let patch =
            json!({"metadata": {"uid": namespace.metadata.uid}, "status": {"conditions": conditions}});
        let written = apply::merge_status(&api, &key.name, "namespace-controller", &patch).await;
        if let Some(namespace) = written.unless_gone().doing("writing the status of namespace", key)? {
            self.namespaces.observe(&namespace);
        }
        Ok(())
    }
}

fn remains(outcomes: Vec<Outcome>) -> Remains {
    let mut remains = Remains::default();
    let mut held: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for (kind, left) in outcomes {
        let group = &kind.resource.group;
        let dot = if group.is_empty() { "" } else { "." };
        let resource = format!("{}{dot}{group}", kind.resource.plural);
        match left {
            Ok(left) if left.is_empty() => {}
            Ok(left) => {
                remains.content.push(format!("{resource} has {} resource instances", left.len()));
                for finalizer in left.into_iter().flatten() {
                    *held.entry(finalizer).or_default() += 1;
                }
            }
            Err(error) => remains.failures.push(format!("{resource}: {error}")),
        }
    }
    remains.finalizers =
        held.into_iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
    remains.content.sort();
    remains.failures.sort();
    remains
}

/// The conditions upstream sets while a namespace is emptied.
fn conditions(namespace: &Namespace, remains: &Remains, now: jiff::Timestamp) -> Vec<NamespaceCondition> {
    let before = namespace.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let make = |kind: &str, texts: &[String], bad: (&str, &str), good: (&str, &str)| {
        let (status, reason, message) = if texts.is_empty() {
            ("False", good.0, good.1.to_owned())
        } else {
            ("True", bad.0, format!("{}{}", bad.1, texts.join(", ")))
        };
        let since = before.iter().find(|before| before.type_ == kind && before.status == status);
        NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: since
                .and_then(|before| before.last_transition_time.clone())
                .or(Some(Time(now))),
        }
    };
    let removed = ("ContentRemoved", "All content successfully removed");
    vec![
        make(
            "NamespaceDeletionDiscoveryFailure",
            &[],
            ("", ""),
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        make(
            "NamespaceDeletionContentFailure",
            &remains.failures,
            ("ContentDeletionFailed", "Failed to delete all resource types: "),
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        make(
            "NamespaceContentRemaining",
            &remains.content,
            ("SomeResourcesRemain", "Some resources are remaining: "),
            removed,
        ),
        make(
            "NamespaceFinalizersRemaining",
            &remains.finalizers,
            ("SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: "),
            removed,
        ),
    ]
}
