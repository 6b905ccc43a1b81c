//! The next step of a StatefulSet. Pure.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
};
use serde_json::{Value, json};

use crate::objects::{REVISION_HASH, controller_reference, is_ready, phase, pod_of, until_available};

/// What to do for one StatefulSet.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Ordinals of pods to create.
    pub(super) create: Vec<i32>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// The status to write; none when it stands so already.
    pub(super) status: Option<Value>,
    pub(super) look_again: Option<SignedDuration>,
}

/// The two templates of a set that is being updated; one and the same for a set that is not.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    /// Name of the revision that is rolled out.
    pub(super) update: String,
    /// Name of the revision that pods below the partition keep.
    pub(super) current: String,
    /// The template of `current`, when it is another one.
    pub(super) kept: Option<PodTemplateSpec>,
}

impl Versions {
    /// Revision and template of a pod that is to be made.
    fn of<'a>(&'a self, set: &'a StatefulSet, ordinal: i32) -> (&'a str, Option<&'a PodTemplateSpec>) {
        let newest = set.spec.as_ref().map(|spec| &spec.template);
        match &self.kept {
            Some(kept) if ordinal < keeps_below(set) => (&self.current, Some(kept)),
            _ => (&self.update, newest),
        }
    }
}

fn first_ordinal(set: &StatefulSet) -> i32 {
    let ordinals = set.spec.as_ref().and_then(|spec| spec.ordinals.as_ref());
    ordinals.and_then(|own| own.start).unwrap_or(0).max(0)
}

fn rolls(set: &StatefulSet) -> bool {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    strategy.and_then(|own| own.type_.as_deref()) != Some("OnDelete")
}

/// The ordinal below which pods keep the current revision: the partition; without one, as many as still have it.
fn keeps_below(set: &StatefulSet) -> i32 {
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|own| own.rolling_update.as_ref());
    let count = match rolling {
        Some(rolling) => rolling.partition.unwrap_or(0),
        None if rolls(set) => set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0),
        None => 0,
    };
    first_ordinal(set).saturating_add(count)
}

/// Which pod of the set this is by its name; `None` for a name that is none of ours.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let rest =
        pod.metadata.name.as_deref()?.strip_prefix(set.metadata.name.as_deref()?)?.strip_prefix('-')?;
    let number = rest.parse::<i32>().ok()?;
    // `web-01` is not the name of a pod of ours.
    (number.to_string() == rest).then_some(number)
}

/// The pod of one ordinal.
pub(super) fn pod(set: &StatefulSet, ordinal: i32, versions: &Versions) -> Pod {
    let (revision, template) = versions.of(set, ordinal);
    let template = template.cloned().unwrap_or_default();
    let service_name = set.spec.as_ref().and_then(|spec| spec.service_name.clone());
    let set_name = set.metadata.name.clone().unwrap_or_default();
    let name = format!("{set_name}-{ordinal}");
    let namespace = set.metadata.namespace.clone().unwrap_or_default();
    let owner = controller_reference("apps/v1", "StatefulSet", &set.metadata);
    let mut pod = pod_of(&template, &set_name, &namespace, owner);
    pod.metadata.generate_name = Some(format!("{set_name}-"));
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), name.clone());
    labels.insert("apps.kubernetes.io/pod-index".to_owned(), ordinal.to_string());
    labels.insert(REVISION_HASH.to_owned(), revision.to_owned());
    let Some(pod_spec) = pod.spec.as_mut() else { return pod };
    pod_spec.hostname = Some(name);
    pod_spec.subdomain = service_name;
    let volumes = pod_spec.volumes.get_or_insert_default();
    for claim in claims(set, ordinal) {
        let (template, claim) = claim;
        volumes.retain(|volume| volume.name != template);
        volumes.push(Volume {
            name: template,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.metadata.name.unwrap_or_default(),
                read_only: Some(false),
            }),
            ..Volume::default()
        });
    }
    pod
}

/// The volume claims of one ordinal, each with its template's name.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<(String, PersistentVolumeClaim)> {
    let spec = set.spec.as_ref();
    let set_name = set.metadata.name.as_deref().unwrap_or_default();
    let labels = spec.and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    let templates = spec.and_then(|spec| spec.volume_claim_templates.clone()).unwrap_or_default();
    templates
        .into_iter()
        .map(|mut claim| {
            let template = claim.metadata.name.clone().unwrap_or_default();
            claim.metadata.name = Some(format!("{template}-{set_name}-{ordinal}"));
            claim.metadata.namespace.clone_from(&set.metadata.namespace);
            claim.metadata.labels.get_or_insert_default().extend(labels.clone());
            claim.status = None;
            (template, claim)
        })
        .collect()
}

/// `pods` are those it controls.
pub(super) fn plan(set: &StatefulSet, pods: &[Arc<Pod>], versions: &Versions, now: Timestamp) -> Plan {
    let Some(spec) = set.spec.as_ref() else { return Plan::default() };
    let first = first_ordinal(set);
    let end = first.saturating_add(spec.replicas.unwrap_or(1).max(0));
    let by_ordinal: BTreeMap<i32, &Arc<Pod>> =
        pods.iter().filter_map(|pod| Some((ordinal(set, pod)?, pod))).collect();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let mut plan = Plan::default();
    if set.metadata.deletion_timestamp.is_none() {
        let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
        let steady =
            fill(&mut plan, &by_ordinal, first, end, parallel, |pod| is_available(pod, min_ready, now));
        let steady = steady && shrink(&mut plan, &by_ordinal, first, end, parallel);
        if steady {
            update(&mut plan, set, &by_ordinal, end, versions, |pod| is_available(pod, min_ready, now));
        }
    }
    let waits = by_ordinal.values().filter_map(|pod| until_available(pod, min_ready, now));
    plan.look_again = waits.filter(|wait| !wait.is_zero()).min();
    plan.status = status(set, &by_ordinal, versions, |pod| is_available(pod, min_ready, now));
    plan
}

fn is_available(pod: &Pod, min_ready: i32, now: Timestamp) -> bool {
    is_healthy(pod) && until_available(pod, min_ready, now).is_some_and(|wait| wait.is_zero())
}

fn is_healthy(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && phase(pod) == "Running" && is_ready(pod)
}

/// Creates what is missing, lowest first; in order, each waits for the one before. Whether nothing is left to do.
fn fill(
    plan: &mut Plan,
    by_ordinal: &BTreeMap<i32, &Arc<Pod>>,
    first: i32,
    end: i32,
    parallel: bool,
    available: impl Fn(&Pod) -> bool,
) -> bool {
    let mut steady = true;
    for ordinal in first..end {
        match by_ordinal.get(&ordinal) {
            None => {
                plan.create.push(ordinal);
                steady = false;
            }
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => steady = false,
            Some(pod) if matches!(phase(pod), "Failed" | "Succeeded") => {
                plan.delete.push(Arc::clone(pod));
                steady = false;
            }
            Some(pod) if available(pod) => {}
            // Not there yet. An outdated one may never get there: updating must be able to replace it.
            Some(_) if !parallel => return steady,
            Some(_) => {}
        }
        if !steady && !parallel {
            return false;
        }
    }
    steady
}

/// Takes away what is too much, highest first; in order, one at a time.
fn shrink(
    plan: &mut Plan,
    by_ordinal: &BTreeMap<i32, &Arc<Pod>>,
    first: i32,
    end: i32,
    parallel: bool,
) -> bool {
    let mut extra =
        by_ordinal.iter().rev().filter(|(ordinal, _)| **ordinal < first || **ordinal >= end).peekable();
    if extra.peek().is_none() {
        return true;
    }
    for (_, pod) in extra {
        if pod.metadata.deletion_timestamp.is_none() {
            plan.delete.push(Arc::clone(pod));
        }
        if !parallel {
            return false;
        }
    }
    false
}

/// Replaces outdated pods down to the partition, highest first, each after the one before is available again.
fn update(
    plan: &mut Plan,
    set: &StatefulSet,
    by_ordinal: &BTreeMap<i32, &Arc<Pod>>,
    end: i32,
    versions: &Versions,
    available: impl Fn(&Pod) -> bool,
) {
    if !rolls(set) {
        return;
    }
    let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let rolling = strategy.and_then(|own| own.rolling_update.as_ref());
    let partition = rolling.and_then(|own| own.partition).unwrap_or(0).saturating_add(first_ordinal(set));
    for (ordinal, pod) in by_ordinal.iter().rev() {
        if *ordinal >= end {
            continue;
        }
        if *ordinal < partition {
            return;
        }
        if !is_of(pod, &versions.update) && pod.metadata.deletion_timestamp.is_none() {
            plan.delete.push(Arc::clone(pod));
            return;
        }
        if !available(pod) {
            return;
        }
    }
}

fn is_of(pod: &Pod, revision: &str) -> bool {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(REVISION_HASH))
        .is_some_and(|own| own == revision)
}

fn status(
    set: &StatefulSet,
    by_ordinal: &BTreeMap<i32, &Arc<Pod>>,
    versions: &Versions,
    available: impl Fn(&Pod) -> bool,
) -> Option<Value> {
    let present = set.status.clone().unwrap_or_default();
    let update = versions.update.clone();
    let count = |holds: &dyn Fn(&Pod) -> bool| by_ordinal.values().filter(|pod| holds(pod)).count();
    let alive = |pod: &Pod| pod.metadata.deletion_timestamp.is_none();
    let replicas = by_ordinal.len();
    let updated = count(&|pod| alive(pod) && is_of(pod, &update));
    let ready = count(&is_healthy);
    let wanted_replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let done = rolls(set)
        && updated == replicas
        && ready == replicas
        && i32::try_from(replicas) == Ok(wanted_replicas);
    let current = if done { update.clone() } else { versions.current.clone() };
    let currents = count(&|pod| alive(pod) && is_of(pod, &current));
    let wanted = json!({
        "replicas": replicas, "readyReplicas": ready, "availableReplicas": count(&|pod| available(pod)),
        "currentReplicas": currents, "updatedReplicas": updated, "currentRevision": current,
        "updateRevision": update, "observedGeneration": set.metadata.generation.unwrap_or(0),
    });
    let present = json!({
        "replicas": present.replicas, "readyReplicas": present.ready_replicas.unwrap_or(0),
        "availableReplicas": present.available_replicas.unwrap_or(0),
        "currentReplicas": present.current_replicas.unwrap_or(0),
        "updatedReplicas": present.updated_replicas.unwrap_or(0), "currentRevision": present.current_revision,
        "updateRevision": present.update_revision,
        "observedGeneration": present.observed_generation.unwrap_or(0),
    });
    (wanted != present).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn newest(set: &StatefulSet) -> Versions {
        let template = set.spec.as_ref().map(|spec| &spec.template).expect("a template");
        let name = format!("db-{}", crate::objects::template_hash(template, 0));
        Versions { update: name.clone(), current: name, kept: None }
    }

    fn pod(set: &StatefulSet, ordinal: i32) -> Pod {
        super::pod(set, ordinal, &newest(set))
    }

    fn plan(set: &StatefulSet, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
        super::plan(set, pods, &newest(set), now)
    }

    fn set(replicas: i32, image: &str) -> StatefulSet {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "ns", "uid": "s", "generation": 1},
            "spec": {"replicas": replicas, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}},
                    "spec": {"containers": [{"name": "c", "image": image}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]},
        }))
        .expect("a StatefulSet")
    }

    fn running(set: &StatefulSet, ordinal: i32, ready: bool) -> Arc<Pod> {
        let mut pod = pod(set, ordinal);
        let status = if ready { "True" } else { "False" };
        pod.status = serde_json::from_value(
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}),
        )
        .ok();
        Arc::new(pod)
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect()
    }

    #[test]
    fn creates_one_after_the_other_with_claims_of_their_own() {
        let set = set(3, "a");
        assert_eq!(plan(&set, &[], NOW).create, [0]);
        assert!(plan(&set, &[running(&set, 0, false)], NOW).create.is_empty());
        assert_eq!(plan(&set, &[running(&set, 0, true)], NOW).create, [1]);
        let volumes = pod(&set, 1).spec.and_then(|spec| spec.volumes).expect("volumes");
        assert_eq!(
            volumes[0].persistent_volume_claim.as_ref().map(|own| own.claim_name.as_str()),
            Some("data-db-1")
        );
    }

    #[test]
    fn shrinks_from_the_top() {
        let big = set(3, "a");
        let pods: Vec<_> = (0..3).map(|ordinal| running(&big, ordinal, true)).collect();
        assert_eq!(names(&plan(&set(1, "a"), &pods, NOW).delete), ["db-2"]);
    }

    #[test]
    fn updates_from_the_top_one_at_a_time_down_to_the_partition() {
        let old = set(3, "a");
        let mut new = set(3, "b");
        let pods: Vec<_> = (0..3).map(|ordinal| running(&old, ordinal, true)).collect();
        assert_eq!(names(&plan(&new, &pods, NOW).delete), ["db-2"]);
        let mixed = [Arc::clone(&pods[0]), Arc::clone(&pods[1]), running(&new, 2, false)];
        assert!(plan(&new, &mixed, NOW).delete.is_empty(), "the first must be ready before the next goes");
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 3}});
        new.spec.as_mut().expect("spec").update_strategy = serde_json::from_value(strategy).ok();
        assert!(plan(&new, &pods, NOW).delete.is_empty());
    }

    #[test]
    fn pods_below_the_partition_are_made_anew_from_the_old_template() {
        let old = set(3, "a");
        let mut new = set(3, "b");
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        new.spec.as_mut().expect("spec").update_strategy = serde_json::from_value(strategy).ok();
        let kept = old.spec.as_ref().map(|spec| spec.template.clone());
        let versions = Versions { update: newest(&new).update, current: newest(&old).update, kept };
        let image = |ordinal| {
            let pod = super::pod(&new, ordinal, &versions);
            let label = pod.metadata.labels.expect("labels")[REVISION_HASH].clone();
            (pod.spec.expect("spec").containers[0].image.clone(), label)
        };
        assert_eq!(image(1), (Some("a".to_owned()), versions.current.clone()));
        assert_eq!(image(2), (Some("b".to_owned()), versions.update.clone()));
    }

    #[test]
    fn a_broken_pod_can_be_updated_away() {
        let (old, new) = (set(2, "bad"), set(2, "good"));
        assert_eq!(names(&plan(&new, &[running(&old, 0, false)], NOW).delete), ["db-0"]);
    }
}
