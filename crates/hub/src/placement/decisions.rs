//! What was decided, for other tools to read: `PlacementDecision` objects beside each placement, 100 clusters a slice.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_objects::multicluster::{
    ClusterProfileReference, LABEL_DECISION_INDEX, LABEL_DECISION_KEY, PlacementDecision, ProfileDecision,
    SLICE_CLUSTERS,
};
use fleet_objects::{Placement, SYSTEM_NAMESPACE, assignment_label_value};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Resource, ResourceExt};

use super::{Caches, Decided};
use crate::error::Error;
use crate::service::Shared;

/// By which our slices are known among those of others.
const SCHEDULER: &str = "fairlead";

/// Brings the slices of every placement up to date, and takes those of gone placements away.
pub(super) async fn publish(shared: &Shared, caches: &Caches, decided: &[Decided]) -> Result<(), Error> {
    let mut wanted = BTreeMap::new();
    for one in decided {
        for slice in slices(shared, one) {
            wanted.insert((slice.namespace().unwrap_or_default(), slice.name_any()), slice);
        }
    }
    let own = |slice: &Arc<PlacementDecision>| slice.scheduler_name == SCHEDULER;
    for existing in caches.published.list().into_iter().filter(own) {
        let key = (existing.namespace().unwrap_or_default(), existing.name_any());
        let api: Api<PlacementDecision> = Api::namespaced(shared.client.clone(), &key.0);
        let failed = |verb: &str| Error::api(format!("{verb} placement decision {}/{}", key.0, key.1));
        match wanted.remove(&key) {
            None => match api.delete(&key.1, &DeleteParams::default()).await {
                Ok(_) => caches.published.observe_deleted(&existing),
                Err(error) if api_client::error::is_not_found(&error) => {}
                Err(error) => return Err(failed("remove")(error)),
            },
            Some(slice) if says_the_same(&existing, &slice) => {}
            Some(mut slice) => {
                slice.metadata.resource_version.clone_from(&existing.metadata.resource_version);
                let written = api.replace(&key.1, &PostParams::default(), &slice).await;
                caches.published.observe(&written.map_err(failed("replace"))?);
            }
        }
    }
    for ((namespace, name), slice) in wanted {
        let api: Api<PlacementDecision> = Api::namespaced(shared.client.clone(), &namespace);
        let written = api.create(&PostParams::default(), &slice).await;
        let written = written.map_err(Error::api(format!("create placement decision {namespace}/{name}")))?;
        caches.published.observe(&written);
    }
    Ok(())
}

fn says_the_same(a: &PlacementDecision, b: &PlacementDecision) -> bool {
    a.decisions == b.decisions
        && a.metadata.labels == b.metadata.labels
        && a.metadata.owner_references == b.metadata.owner_references
}

/// At least one, so that "nobody" can be told from "not decided".
fn slices(shared: &Shared, decided: &Decided) -> Vec<PlacementDecision> {
    let placement: &Placement = &decided.placement;
    let chosen: Vec<ProfileDecision> = decided
        .decisions
        .iter()
        .filter(|decision| decision.selected)
        .map(|decision| ProfileDecision {
            cluster_profile_ref: ClusterProfileReference {
                name: decision.cluster.clone(),
                namespace: inventory(shared, placement, &decision.cluster),
            },
            reason: decision.reason.clone(),
        })
        .collect();
    let slice = |(index, decisions): (usize, &[ProfileDecision])| {
        let labels = [
            (LABEL_DECISION_KEY.to_owned(), assignment_label_value(&placement.name_any())),
            (LABEL_DECISION_INDEX.to_owned(), index.to_string()),
        ];
        let metadata = ObjectMeta {
            name: Some(format!("{}-{index}", placement.name_any())),
            namespace: placement.namespace(),
            labels: Some(labels.into()),
            owner_references: placement.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        PlacementDecision::new(metadata, decisions.to_vec(), SCHEDULER)
    };
    if chosen.is_empty() {
        return vec![slice((0, &[]))];
    }
    chosen.chunks(SLICE_CLUSTERS).enumerate().map(slice).collect()
}

/// Where the profile of a cluster is that the placement's readers see: in their project, if it has the cluster.
fn inventory(shared: &Shared, placement: &Placement, cluster: &str) -> String {
    let namespace = placement.namespace().unwrap_or_default();
    let cluster = shared.clusters.find("", cluster);
    let own = cluster.is_some_and(|cluster| shared.projects.of_cluster(&cluster).contains(&namespace));
    if own { namespace } else { SYSTEM_NAMESPACE.to_owned() }
}
