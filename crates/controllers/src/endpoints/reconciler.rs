//! Carries the plan out.

use std::{sync::Arc, time::Duration};

use api_client::{ObjectKey, apply};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::api::{PostParams, PropagationPolicy};
use reconcile::{Action, Queue, Reconciler};

use super::plan::{MANAGED_BY, MANAGER, plan};
use crate::{
    context::{BY_SERVICE, Context},
    error::{Doing, Error, Gone},
    objects::Labels,
};

pub(crate) struct EndpointSlices {
    pub(crate) context: Context,
}

fn selects(service: &Service, labels: Option<&Labels>) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        !selector.is_empty()
            && selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    })
}

/// Fed by changes of Services, of pods they select, and of their slices.
pub(crate) fn queue(context: &Context) -> Queue<ObjectKey> {
    let queue = Queue::new();
    let own = queue.clone();
    context.services.on_change(move |change| own.add(change.key.clone()));
    let (of_pods, services) = (queue.clone(), context.services.clone());
    context.pods.on_change(move |change| {
        if !matters(change.old, change.new) {
            return;
        }
        for service in services.list_in(&change.key.namespace) {
            let mut states = [change.old, change.new].into_iter().flatten();
            if states.any(|pod| selects(&service, pod.metadata.labels.as_ref())) {
                of_pods.add(ObjectKey::of(&*service));
            }
        }
    });
    let of_slices = queue.clone();
    context.slices.on_change(move |change| {
        let labels = change.latest().and_then(|slice| slice.metadata.labels.as_ref());
        if let Some(name) = labels.and_then(|labels| labels.get("kubernetes.io/service-name")) {
            of_slices.add(ObjectKey::new(change.key.namespace.clone(), name.clone()));
        }
    });
    queue
}

/// Most changes of a pod leave its endpoint as it is.
fn matters(old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return true };
    let relevant = |pod: &Pod| {
        let status = pod.status.as_ref();
        (
            pod.metadata.labels.clone(),
            pod.metadata.deletion_timestamp.is_some(),
            pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            status.and_then(|status| status.pod_ips.clone()),
            status.and_then(|status| status.phase.clone()),
            crate::objects::is_ready(pod),
        )
    };
    relevant(old) != relevant(new)
}

impl Reconciler for EndpointSlices {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: ObjectKey) -> Result<Action, Error> {
        let context = &self.context;
        // The slices of a Service that is gone are the garbage collector's.
        let Some(service) = context.services.get(&key) else { return Ok(Action::Done) };
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let external = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
        // Without a selector somebody else writes the endpoints.
        if selector.is_none_or(Labels::is_empty) || external || service.metadata.deletion_timestamp.is_some()
        {
            return Ok(Action::Done);
        }
        let pods: Vec<Arc<Pod>> = context
            .pods
            .list_in(&key.namespace)
            .into_iter()
            .filter(|pod| selects(&service, pod.metadata.labels.as_ref()))
            .collect();
        let slices: Vec<Arc<EndpointSlice>> = context
            .slices
            .by_index(BY_SERVICE, &key.name)
            .into_iter()
            .filter(|slice| slice.metadata.namespace.as_deref() == Some(key.namespace.as_str()))
            .filter(|slice| slice.metadata.deletion_timestamp.is_none())
            .filter(|slice| {
                let labels = slice.metadata.labels.as_ref();
                labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|manager| manager == MANAGER)
            })
            .collect();
        let plan = plan(&service, &pods, &slices);
        let api = context.api::<EndpointSlice>(&key.namespace);
        for slice in &plan.create {
            match api.create(&PostParams::default(), slice).await {
                Ok(slice) => context.slices.observe(&slice),
                Err(error) if api_client::error::is_namespace_terminating(&error) => return Ok(Action::Done),
                Err(error) => return Err(error).doing("creating an EndpointSlice of", &key),
            }
        }
        for slice in &plan.update {
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            let written = api.replace(name, &PostParams::default(), slice).await;
            if let Some(slice) = written.unless_gone().doing("writing an EndpointSlice of", &key)? {
                context.slices.observe(&slice);
            }
        }
        for slice in &plan.delete {
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            let uid = slice.metadata.uid.as_deref().unwrap_or_default();
            apply::delete_exactly(&api, name, uid, PropagationPolicy::Background)
                .await
                .unless_gone()
                .doing("deleting an EndpointSlice of", &key)?;
            context.slices.observe_deleted(slice);
        }
        Ok(Action::Done)
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}
