//! Carries the plan out.

use std::{sync::Arc, time::Duration};

use api_client::{ObjectKey, apply};
use k8s_openapi::api::{
    core::v1::{Endpoints, Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::api::{PostParams, PropagationPolicy};
use reconcile::{Action, Queue, Reconciler};

use super::{
    mirror, object,
    plan::{MANAGED_BY, MANAGER, Plan, changes, plan},
};
use crate::{
    context::{BY_SERVICE, Context},
    error::{Doing, Error, Gone},
    objects::Labels,
};

/// One loop does the work of three upstream controllers; each of its writes is that controller's.
pub(crate) struct EndpointSlices {
    /// `endpointslice-controller`.
    pub(crate) context: Context,
    /// `endpoint-controller`: writes the Endpoints of Services that select pods.
    pub(crate) endpoints: Context,
    /// `endpointslicemirroring-controller`: writes slices after Endpoints that somebody else writes.
    pub(crate) mirroring: Context,
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
    // Without its Service nobody's slices or Endpoints are ours: only the Service's own end is told without it.
    let (of_slices, services) = (queue.clone(), context.services.clone());
    context.slices.on_change(move |change| {
        let labels = change.latest().and_then(|slice| slice.metadata.labels.as_ref());
        let name = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        let key = name.map(|name| ObjectKey::new(change.key.namespace.clone(), name.clone()));
        if let Some(key) = key.filter(|key| services.get(key).is_some()) {
            of_slices.add(key);
        }
    });
    let (of_endpoints, services) = (queue.clone(), context.services.clone());
    context.endpoints.on_change(move |change| {
        if services.get(change.key).is_some() {
            of_endpoints.add(change.key.clone());
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
        // The slices of a Service that is gone are the garbage collector's; its Endpoints have no owner.
        let Some(service) = context.services.get(&key) else { return self.remove_endpoints(&key).await };
        let external = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
        if external || service.metadata.deletion_timestamp.is_some() {
            return Ok(Action::Done);
        }
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let endpoints = context.endpoints.get(&key);
        if selector.is_none_or(Labels::is_empty) {
            // Somebody else writes the endpoints.
            let wanted = endpoints.map(|endpoints| mirror::wanted(&endpoints)).unwrap_or_default();
            let plan = changes(wanted, &self.slices(&key, mirror::MANAGER));
            return carry_out(&self.mirroring, &key, plan).await;
        }
        let pods: Vec<Arc<Pod>> = context
            .pods
            .list_in(&key.namespace)
            .into_iter()
            .filter(|pod| selects(&service, pod.metadata.labels.as_ref()))
            .collect();
        if let Some(wanted) = object::wanted(&service, &pods, endpoints.as_deref()) {
            self.write_endpoints(&key, &wanted).await?;
        }
        carry_out(context, &key, plan(&service, &pods, &self.slices(&key, MANAGER))).await
    }

    fn retry_after(&self, error: &Error) -> Option<Duration> {
        error.retry_after()
    }
}

impl EndpointSlices {
    /// The Service's slices that `manager` keeps.
    fn slices(&self, key: &ObjectKey, manager: &str) -> Vec<Arc<EndpointSlice>> {
        let all = self.context.slices.by_index(BY_SERVICE, &key.name).into_iter();
        all.filter(|slice| slice.metadata.namespace.as_deref() == Some(key.namespace.as_str()))
            .filter(|slice| slice.metadata.deletion_timestamp.is_none())
            .filter(|slice| {
                let labels = slice.metadata.labels.as_ref();
                labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|own| own == manager)
            })
            .collect()
    }

    async fn write_endpoints(&self, key: &ObjectKey, wanted: &Endpoints) -> Result<(), Error> {
        let api = self.endpoints.api::<Endpoints>(&key.namespace);
        let written = if wanted.metadata.resource_version.is_some() {
            api.replace(&key.name, &PostParams::default(), wanted).await
        } else {
            api.create(&PostParams::default(), wanted).await
        };
        match written {
            Ok(endpoints) => self.endpoints.endpoints.observe(&endpoints),
            Err(error) if api_client::error::is_namespace_terminating(&error) => {}
            Err(error) => return Err(error).doing("writing the Endpoints of", key),
        }
        Ok(())
    }

    async fn remove_endpoints(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(endpoints) = self.endpoints.endpoints.get(key) else { return Ok(Action::Done) };
        let api = self.endpoints.api::<Endpoints>(&key.namespace);
        let uid = endpoints.metadata.uid.as_deref().unwrap_or_default();
        match apply::delete_exactly(&api, &key.name, uid, PropagationPolicy::Background).await.unless_gone() {
            // Others bear the name by now.
            Err(error) if api_client::error::is_conflict(&error) => {}
            answer => drop(answer.doing("deleting the Endpoints of", key)?),
        }
        Ok(Action::Done)
    }
}

async fn carry_out(context: &Context, key: &ObjectKey, plan: Plan) -> Result<Action, Error> {
    let api = context.api::<EndpointSlice>(&key.namespace);
    for slice in &plan.create {
        match api.create(&PostParams::default(), slice).await {
            Ok(slice) => context.slices.observe(&slice),
            Err(error) if api_client::error::is_namespace_terminating(&error) => return Ok(Action::Done),
            Err(error) => return Err(error).doing("creating an EndpointSlice of", key),
        }
    }
    for slice in &plan.update {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let written = api.replace(name, &PostParams::default(), slice).await;
        if let Some(slice) = written.unless_gone().doing("writing an EndpointSlice of", key)? {
            context.slices.observe(&slice);
        }
    }
    for slice in &plan.delete {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let uid = slice.metadata.uid.as_deref().unwrap_or_default();
        apply::delete_exactly(&api, name, uid, PropagationPolicy::Background)
            .await
            .unless_gone()
            .doing("deleting an EndpointSlice of", key)?;
        context.slices.observe_deleted(slice);
    }
    Ok(Action::Done)
}
