//! What tells ReplicaSets from ReplicationControllers: names, caches and the form of the selector. Pure but for the
//! choice of cache.

use std::{borrow::Cow, fmt::Debug};

use api_client::ObjectCache;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
        core::v1::ReplicationController,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};

use crate::context::Context;

/// A kind that keeps a number of pods.
pub(crate) trait Replicated:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    const API_VERSION: &'static str;
    const KIND: &'static str;
    const MANAGER: &'static str;
    /// Whether its status counts pods that are on their way out.
    const COUNTS_TERMINATING: bool;

    fn cache(context: &Context) -> &ObjectCache<Self>;

    /// The same wish as a ReplicaSet.
    fn as_set(&self) -> Cow<'_, ReplicaSet>;
}

impl Replicated for ReplicaSet {
    const API_VERSION: &'static str = "apps/v1";
    const KIND: &'static str = "ReplicaSet";
    const MANAGER: &'static str = "replicaset-controller";
    const COUNTS_TERMINATING: bool = true;

    fn cache(context: &Context) -> &ObjectCache<Self> {
        &context.replica_sets
    }

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }
}

impl Replicated for ReplicationController {
    const API_VERSION: &'static str = "v1";
    const KIND: &'static str = "ReplicationController";
    const MANAGER: &'static str = "replication-controller";
    const COUNTS_TERMINATING: bool = false;

    fn cache(context: &Context) -> &ObjectCache<Self> {
        &context.replication_controllers
    }

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.as_ref().map(|spec| ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: spec.replicas,
            selector: LabelSelector { match_labels: spec.selector.clone(), match_expressions: None },
            template: spec.template.clone(),
        });
        let status = self.status.as_ref().map(|status| ReplicaSetStatus {
            available_replicas: status.available_replicas,
            conditions: status.conditions.as_ref().map(|all| {
                all.iter()
                    .map(|own| ReplicaSetCondition {
                        last_transition_time: own.last_transition_time.clone(),
                        message: own.message.clone(),
                        reason: own.reason.clone(),
                        status: own.status.clone(),
                        type_: own.type_.clone(),
                    })
                    .collect()
            }),
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            ready_replicas: status.ready_replicas,
            replicas: status.replicas,
            terminating_replicas: None,
        });
        Cow::Owned(ReplicaSet { metadata: self.metadata.clone(), spec, status })
    }
}
