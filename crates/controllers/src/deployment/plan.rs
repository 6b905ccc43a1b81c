//! What a Deployment's ReplicaSets should become next, and what its status should say. Pure.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::PodTemplateSpec,
};
use serde_json::Value;

use super::{
    condition,
    rollout::{Limits, Size, proportional, rolling},
};
use crate::objects::{Labels, controller_reference, share, template_hash};

pub(super) const HASH_LABEL: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A change of one ReplicaSet.
#[derive(Debug, PartialEq)]
pub(super) struct Resize {
    pub(super) name: String,
    pub(super) from: i32,
    pub(super) to: i32,
    /// Annotations to set.
    pub(super) annotations: Labels,
}

/// What to do for one Deployment.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Option<Box<ReplicaSet>>,
    pub(super) resize: Vec<Resize>,
    /// Names of ReplicaSets beyond the history limit.
    pub(super) delete: Vec<String>,
    /// The revision annotation to set on the Deployment.
    pub(super) revision: Option<String>,
    pub(super) status: Option<Value>,
    /// When the progress deadline comes.
    pub(super) look_again: Option<SignedDuration>,
}

/// `sets` are the ReplicaSets it controls; `old_pods` tells whether pods of an old template still exist (recreation
/// waits for them).
pub(super) fn plan(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    old_pods: bool,
    now: Timestamp,
) -> Plan {
    let Some(spec) = deployment.spec.as_ref() else { return Plan::default() };
    let mut sets = sets.to_vec();
    sets.sort_by_key(|set| {
        (set.metadata.creation_timestamp.as_ref().map(|time| time.0), set.metadata.name.clone())
    });
    let new = sets.iter().find(|set| is_of_template(set, &spec.template)).cloned();
    let old: Vec<Arc<ReplicaSet>> =
        sets.iter().filter(|set| new.as_ref().is_none_or(|new| !Arc::ptr_eq(new, set))).cloned().collect();
    let mut plan = Plan::default();
    let limits = limits(deployment);
    let paused = spec.paused == Some(true);
    let revision = revision_of(new.as_deref(), &old);
    if deployment.metadata.deletion_timestamp.is_none() {
        match &new {
            None if !paused => {
                let recreating = is_recreate(deployment);
                let wait = recreating && (old_pods || old.iter().any(|set| size(set).replicas > 0));
                if wait {
                    shrink_all(&mut plan, &old);
                } else {
                    let total: i32 = old.iter().map(|set| size(set).replicas).sum();
                    let room = (limits.desired + limits.surge - total).max(0);
                    let replicas = if recreating { limits.desired } else { room.min(limits.desired) };
                    plan.create = Some(Box::new(new_set(deployment, replicas, limits, revision)));
                }
            }
            _ => resize(&mut plan, deployment, new.as_ref(), &old, limits, paused, old_pods, revision),
        }
        clean_up(&mut plan, deployment, &old, limits, new.as_deref());
    }
    if new.is_some() || plan.create.is_some() {
        let revision = revision.to_string();
        let present = deployment.metadata.annotations.as_ref().and_then(|all| all.get(REVISION));
        plan.revision = (present != Some(&revision)).then_some(revision);
    }
    let (status, look_again) =
        condition::status(deployment, new.as_deref(), &old, plan.create.as_deref(), now);
    plan.status = status;
    plan.look_again = look_again;
    plan
}

#[expect(clippy::too_many_arguments, reason = "the facts of one decision, all of different kinds")]
fn resize(
    plan: &mut Plan,
    deployment: &Deployment,
    new: Option<&Arc<ReplicaSet>>,
    old: &[Arc<ReplicaSet>],
    limits: Limits,
    paused: bool,
    old_pods: bool,
    revision: i64,
) {
    let sets: Vec<&Arc<ReplicaSet>> = new.into_iter().chain(old).collect();
    let scaling = sets.iter().any(|set| {
        size(set).replicas > 0 && annotation(set, DESIRED).is_some_and(|desired| desired != limits.desired)
    });
    let mut next: BTreeMap<usize, i32> = BTreeMap::new();
    if scaling || paused {
        let mut active: Vec<usize> =
            (0..sets.len()).filter(|&place| size(sets[place]).replicas > 0).collect();
        active.sort_by_key(|&place| std::cmp::Reverse(size(sets[place]).replicas));
        if active.len() <= 1 {
            let only = active.first().copied().or(new.map(|_| 0)).or(sets.len().checked_sub(1));
            next.extend(only.map(|place| (place, limits.desired)));
        } else if !is_recreate(deployment) {
            let sizes: Vec<Size> = active.iter().map(|&place| size(sets[place])).collect();
            next.extend(active.into_iter().zip(proportional(&sizes, limits)));
        }
    } else if let Some(new) = new {
        if is_recreate(deployment) {
            shrink_all(plan, old);
            if !old_pods && old.iter().all(|set| size(set).replicas == 0) {
                next.insert(0, limits.desired);
            }
        } else {
            let sizes: Vec<Size> = old.iter().map(|set| size(set)).collect();
            let (grown, shrunk) = rolling(size(new), &sizes, limits);
            next.insert(0, grown);
            next.extend(shrunk.into_iter().enumerate().map(|(place, replicas)| (place + 1, replicas)));
        }
    }
    for (place, set) in sets.iter().enumerate() {
        let from = size(set).replicas;
        let to = next.get(&place).copied().unwrap_or(from);
        let is_new = place == 0 && new.is_some();
        let mut annotations = Labels::new();
        if to > 0 || is_new {
            annotations.insert(DESIRED.to_owned(), limits.desired.to_string());
            annotations.insert(MAX.to_owned(), (limits.desired + limits.surge).to_string());
        }
        if is_new {
            annotations.insert(REVISION.to_owned(), revision.to_string());
        }
        let present = set.metadata.annotations.clone().unwrap_or_default();
        annotations.retain(|key, value| present.get(key) != Some(value));
        let name = set.metadata.name.clone().unwrap_or_default();
        let shrinking_already = plan.resize.iter().any(|resize| resize.name == name);
        if !shrinking_already && (from != to || !annotations.is_empty()) {
            plan.resize.push(Resize { name, from, to, annotations });
        }
    }
}

fn shrink_all(plan: &mut Plan, old: &[Arc<ReplicaSet>]) {
    for set in old.iter().filter(|set| size(set).replicas > 0) {
        plan.resize.push(Resize {
            name: set.metadata.name.clone().unwrap_or_default(),
            from: size(set).replicas,
            to: 0,
            annotations: Labels::new(),
        });
    }
}

/// Deletes the oldest empty sets beyond the history limit once the rollout is over.
fn clean_up(
    plan: &mut Plan,
    deployment: &Deployment,
    old: &[Arc<ReplicaSet>],
    limits: Limits,
    new: Option<&ReplicaSet>,
) {
    let done = new.is_some_and(|new| {
        let status = new.status.clone().unwrap_or_default();
        status.available_replicas.unwrap_or(0) >= limits.desired && status.replicas == limits.desired
    });
    let limit = deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
    let Ok(limit) = usize::try_from(limit) else { return };
    if !done || limit >= usize::try_from(i32::MAX).unwrap_or(usize::MAX) {
        return;
    }
    let mut empty: Vec<&Arc<ReplicaSet>> = old
        .iter()
        .filter(|set| {
            size(set).replicas == 0
                && set.metadata.deletion_timestamp.is_none()
                && set.status.as_ref().is_none_or(|status| status.replicas == 0)
        })
        .collect();
    empty.sort_by_key(|set| revision(set));
    let excess = empty.len().saturating_sub(limit);
    plan.delete = empty.into_iter().take(excess).filter_map(|set| set.metadata.name.clone()).collect();
}

pub(super) fn limits(deployment: &Deployment) -> Limits {
    let spec = deployment.spec.as_ref();
    let desired = spec.and_then(|spec| spec.replicas).unwrap_or(1).max(0);
    let rolling =
        spec.and_then(|spec| spec.strategy.as_ref()).and_then(|strategy| strategy.rolling_update.as_ref());
    if is_recreate(deployment) {
        return Limits { desired, surge: 0, unavailable: desired };
    }
    let quarter = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::String("25%".to_owned());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
    let surge = share(Some(surge), desired, true);
    let mut unavailable = share(Some(unavailable), desired, false).min(desired);
    if surge == 0 && unavailable == 0 {
        // Percentages may round to nothing; then no step would ever be possible.
        unavailable = 1.min(desired);
    }
    Limits { desired, surge, unavailable }
}

fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

fn size(set: &ReplicaSet) -> Size {
    let status = set.status.clone().unwrap_or_default();
    Size {
        replicas: set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        available: status.available_replicas.unwrap_or(0),
        max_replicas: annotation(set, MAX).unwrap_or(0),
    }
}

fn annotation(set: &ReplicaSet, key: &str) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(key)?.parse().ok()
}

fn revision(set: &ReplicaSet) -> i64 {
    let annotations = set.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(REVISION)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The revision of the new set: its own while it is the latest, else one more than the latest.
fn revision_of(new: Option<&ReplicaSet>, old: &[Arc<ReplicaSet>]) -> i64 {
    let latest = old.iter().map(|set| revision(set)).max().unwrap_or(0);
    let own = new.map_or(0, revision);
    if own > latest { own } else { latest.saturating_add(1) }
}

/// Whether the set was made from `template`; the hash label doesn't count.
pub(super) fn is_of_template(set: &ReplicaSet, template: &PodTemplateSpec) -> bool {
    let Some(own) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else { return false };
    without_hash(own) == without_hash(template)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(HASH_LABEL);
    }
    template
}

fn new_set(deployment: &Deployment, replicas: i32, limits: Limits, revision: i64) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template;
    template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default()
        .insert(HASH_LABEL.to_owned(), hash.clone());
    let mut selector = spec.selector;
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.to_owned(), hash.clone());
    let mut annotations = deployment.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations.insert(DESIRED.to_owned(), limits.desired.to_string());
    annotations.insert(MAX.to_owned(), (limits.desired + limits.surge).to_string());
    let name = deployment.metadata.name.clone().unwrap_or_default();
    let mut set = ReplicaSet::default();
    set.metadata.name = Some(format!("{name}-{hash}"));
    set.metadata.namespace.clone_from(&deployment.metadata.namespace);
    set.metadata.labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone());
    set.metadata.annotations = Some(annotations);
    set.metadata.owner_references =
        Some(vec![controller_reference("apps/v1", "Deployment", &deployment.metadata)]);
    let set_spec = set.spec.get_or_insert_default();
    set_spec.replicas = Some(replicas);
    set_spec.min_ready_seconds = spec.min_ready_seconds;
    set_spec.selector = selector;
    set_spec.template = Some(template);
    set
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
