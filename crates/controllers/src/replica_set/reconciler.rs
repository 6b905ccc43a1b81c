//! Carries the plan out.

use std::{marker::PhantomData, time::Duration};

use api_client::{ObjectKey, apply, events::Severity};
use k8s_openapi::api::apps::v1::ReplicaSet;
use reconcile::{Action, Queue, Reconciler};
use serde_json::{Value, json};

use super::{
    kinds::Replicated,
    plan::{Failure, Plan, plan, status},
};
use crate::{
    claims::{Claimant, enqueue_claimants},
    context::{BY_CONTROLLER, Context, ORPHANS, enqueue_controller},
    error::{Doing, Error, Gone},
    objects::{controller_reference, pod_of},
};

/// The controller of one kind.
pub(crate) struct Replicas<K> {
    context: Context,
    kind: PhantomData<fn() -> K>,
}

impl<K> Replicas<K> {
    pub(crate) fn new(context: Context) -> Self {
        Self { context, kind: PhantomData }
    }
}

/// Fed by changes of the kind's objects and of pods.
pub(crate) fn queue<K: Replicated>(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let sets = queue.clone();
    K::cache(context).on_change(move |change| sets.add(change.key.clone()));
    let (pods, sets) = (queue.clone(), K::cache(context).clone());
    context.pods.on_change(move |change| {
        enqueue_controller(&pods, K::KIND, change);
        enqueue_claimants(&pods, &sets, change, |set| Some(set.as_set().spec.as_ref()?.selector.clone()));
    });
    queue
}

impl<K: Replicated> Reconciler for Replicas<K> {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let context = &self.context;
        let Some(object) = K::cache(context).get(&key) else { return Ok(Action::Done) };
        let set = object.as_set();
        let uid = set.metadata.uid.clone().unwrap_or_default();
        let owned = context.pods.by_index(BY_CONTROLLER, &uid);
        let orphans = context.pods.by_index(ORPHANS, &key.namespace);
        let plan = plan(&set, &owned, &orphans, context.now());
        self.adopt_and_release(&key, &set, &plan).await?;
        let resized = self.resize(&key, &set, &plan).await;
        let failure = resized.as_ref().err().map(|error| Failure {
            reason: if plan.create > 0 { "FailedCreate" } else { "FailedDelete" },
            message: error.answer(),
        });
        if let Some(failure) = &failure {
            let doing = if plan.create > 0 { "creating" } else { "deleting" };
            let message = format!("Error {doing}: {}", failure.message);
            context.recorder.record(&*object, Severity::Warning, failure.reason, message);
        }
        let (status, look_again) =
            status(&set, &plan.pods, failure.as_ref(), K::COUNTS_TERMINATING, context.now());
        if let Some(status) = &status {
            self.write_status(&key, &set, status).await?;
        }
        resized?;
        Ok(match look_again.map(Duration::try_from) {
            Some(Ok(wait)) => Action::RequeueAfter(wait),
            _ => Action::Done,
        })
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

impl<K: Replicated> Replicas<K> {
    async fn adopt_and_release(&self, key: &ObjectKey, set: &ReplicaSet, plan: &Plan) -> Result<(), Error> {
        let Some(spec) = set.spec.as_ref() else { return Ok(()) };
        let claimant = Claimant {
            key,
            owner: controller_reference(K::API_VERSION, K::KIND, &set.metadata),
            selector: &spec.selector,
            adopts: true,
            manager: K::MANAGER,
            finalizer: None,
        };
        for pod in &plan.adopt {
            claimant.adopt(&self.context, pod).await?;
        }
        for pod in &plan.release {
            claimant.release(&self.context, pod).await?;
        }
        Ok(())
    }

    async fn resize(&self, key: &ObjectKey, set: &ReplicaSet, plan: &Plan) -> Result<(), Error> {
        let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        if let Some(template) = template.filter(|_| plan.create > 0) {
            let owner = controller_reference(K::API_VERSION, K::KIND, &set.metadata);
            let pod = pod_of(template, &key.name, &key.namespace, owner);
            self.context.create_pods(&key.namespace, vec![pod; plan.create], &key.to_string()).await?;
        }
        self.context.delete_pods(&plan.delete).await
    }

    async fn write_status(&self, key: &ObjectKey, set: &ReplicaSet, status: &Value) -> Result<(), Error> {
        let api = self.context.api::<K>(&key.namespace);
        let patch = json!({"metadata": {"uid": set.metadata.uid}, "status": status});
        let written = apply::merge_status(&api, &key.name, K::MANAGER, &patch).await;
        if let Some(object) = written.unless_gone().doing("writing the status of", key)? {
            K::cache(&self.context).observe(&object);
        }
        Ok(())
    }
}
