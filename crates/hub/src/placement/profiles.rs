//! Profiles as the controller knows them: read once per generation, their bundles in the content store.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use fleet_objects::{
    ConditionChange, ContentReference, Profile, ProfileReference, ProfileStatus, ValueRule, assignment_name,
    set_condition,
};
use fleet_planner::bundle::{self, Bundle};
use fleet_planner::cluster_view::ClusterView;
use fleet_planner::expressions::Expressions;
use fleet_planner::variables::{self, Values};
use fleet_planner::{health, render, values};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use parking_lot::Mutex;

use super::{ByPartition, Caches};
use crate::cluster_status;
use crate::error::Error;
use crate::service::Shared;
use crate::source;

/// Bundles of earlier revisions kept in memory; beyond that all are forgotten and read again. A bundle is of the size of
/// its profile.
const MAX_EARLIER: usize = 50;
/// Verdicts on (profile, values) remembered; beyond that all are forgotten and judged again.
const MAX_VERDICTS: usize = 10_000;

/// A profile's content.
pub(super) enum ProfileState {
    /// Readable and stored.
    Good {
        /// Where.
        content: ContentReference,
        /// What it says.
        bundle: Bundle,
    },
    /// Not usable.
    Bad {
        /// Why.
        problem: String,
        /// Whether it may be different next time without a change of the profile.
        transient: bool,
    },
}

struct Known {
    uid: Option<String>,
    generation: Option<i64>,
    state: ProfileState,
}

/// All profiles.
#[derive(Default)]
pub(super) struct Profiles {
    known: BTreeMap<ProfileReference, Known>,
    verdicts: Mutex<BTreeMap<(String, String), Option<String>>>,
    /// Bundles of revisions that no profile says any more, read back from the content store.
    earlier: BTreeMap<String, Bundle>,
    /// The uids of Secrets, by namespace and name. One that is gone stays: what refers to it is not changed by that.
    secrets: BTreeMap<String, BTreeMap<String, String>>,
}

impl Profiles {
    /// Reads those that changed.
    pub(super) async fn refresh(&mut self, shared: &Shared, all: &[Arc<Profile>]) {
        let mut next = BTreeMap::new();
        for profile in all.iter().filter(|profile| profile.metadata.deletion_timestamp.is_none()) {
            let reference = reference(profile);
            let known = self.known.remove(&reference).filter(|known| {
                known.uid == profile.metadata.uid
                    && known.generation == profile.metadata.generation
                    && !matches!(known.state, ProfileState::Bad { transient: true, .. })
            });
            let known = match known {
                Some(known) => known,
                None => Known {
                    uid: profile.metadata.uid.clone(),
                    generation: profile.metadata.generation,
                    state: read(shared, profile).await,
                },
            };
            next.insert(reference, known);
        }
        self.known = next;
    }

    /// Takes over which Secrets there are.
    pub(super) fn know_secrets(&mut self, all: &[Arc<PartialObjectMeta<Secret>>]) {
        for secret in all {
            let of_namespace = self.secrets.entry(secret.namespace().unwrap_or_default()).or_default();
            of_namespace.insert(secret.name_any(), secret.uid().unwrap_or_default());
        }
    }

    pub(super) fn get(&self, reference: &ProfileReference) -> Option<&ProfileState> {
        self.known.get(reference).map(|known| &known.state)
    }

    /// What keeps every placement from using the profile, whatever it gives its variables.
    pub(super) fn problem(&self, reference: &ProfileReference) -> Option<String> {
        let ProfileReference { namespace, name } = reference;
        match self.get(reference) {
            None => Some(format!("there is no profile {name} in namespace {namespace}")),
            Some(ProfileState::Bad { problem, .. }) => Some(problem.clone()),
            Some(ProfileState::Good { .. }) => None,
        }
    }

    /// What a profile says now.
    pub(super) fn content(&self, reference: &ProfileReference) -> Option<&ContentReference> {
        match self.get(reference)? {
            ProfileState::Good { content, .. } => Some(content),
            ProfileState::Bad { .. } => None,
        }
    }

    /// Every variable's value of a content in one cluster, if it can be rendered with them.
    pub(super) fn variables(
        &self,
        reference: &ProfileReference,
        content: &ContentReference,
        given: (&Values, &[ValueRule]),
        cluster: &ClusterView,
        expressions: &dyn Expressions,
    ) -> Result<Values, String> {
        let bundle = match self.get(reference) {
            Some(ProfileState::Good { content: own, bundle }) if own == content => bundle,
            _ => self.earlier.get(&content.digest).ok_or("its content is not on this hub any more")?,
        };
        let values = values::of_cluster(&bundle.variables, given.0, given.1, cluster, expressions)?;
        let key = (content.digest.clone(), serde_json::to_string(&values).unwrap_or_default());
        let mut verdicts = self.verdicts.lock();
        if verdicts.len() > MAX_VERDICTS {
            verdicts.clear();
        }
        let judge = || {
            render::render(bundle, &values, &assignment_name(&reference.namespace, &reference.name))
                .err()
                .map(|error| error.to_string())
        };
        if let Some(problem) = verdicts.entry(key).or_insert_with(judge) {
            return Err(problem.clone());
        }
        let mut values = values;
        let secrets = self.secrets.get(&reference.namespace);
        variables::pin_incarnations(&mut values, |name| Some(secrets?.get(name)?.as_str()));
        Ok(values)
    }

    /// Reads back what earlier revisions said. What cannot be read stays unknown, and so unused.
    pub(super) async fn remember(&mut self, shared: &Shared, contents: Vec<ContentReference>) {
        if self.earlier.len() > MAX_EARLIER {
            self.earlier.clear();
        }
        for content in contents {
            if self.earlier.contains_key(&content.digest) {
                continue;
            }
            match shared.content.get(&content.digest).await {
                Ok(Some(bytes)) => match Bundle::decode(&bytes) {
                    Ok(bundle) => drop(self.earlier.insert(content.digest, bundle)),
                    Err(error) => {
                        tracing::warn!(%error, digest = content.digest, "a revision cannot be read")
                    }
                },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a revision cannot be read");
                }
            }
        }
    }

    /// Writes the statuses that differ.
    pub(super) async fn write_statuses(
        &self,
        shared: &Shared,
        caches: &Caches,
        assignments: &ByPartition,
    ) -> Result<(), Error> {
        let mut counts: BTreeMap<&ProfileReference, (u32, u32, u32)> = BTreeMap::new();
        for assignment in assignments.values().flatten().filter(|assignment| assignment.is_present()) {
            let (clusters, applied, healthy) = counts.entry(&assignment.spec.profile).or_default();
            *clusters += 1;
            *applied += u32::from(assignment.is_applied());
            *healthy += u32::from(assignment.is_healthy());
        }
        for profile in caches.profiles.list() {
            let reference = reference(&profile);
            let Some(known) = self.known.get(&reference) else { continue };
            let counts = counts.get(&reference).copied().unwrap_or_default();
            write_status(shared, caches, &profile, known, counts).await?;
        }
        Ok(())
    }
}

fn reference(profile: &Profile) -> ProfileReference {
    ProfileReference { namespace: profile.namespace().unwrap_or_default(), name: profile.name_any() }
}

async fn read(shared: &Shared, profile: &Profile) -> ProfileState {
    let bad = |problem: String, transient| ProfileState::Bad { problem, transient };
    let files = match &profile.spec.source {
        None => Vec::new(),
        Some(wanted) => match shared.content.get(&wanted.digest).await {
            Ok(Some(bytes)) => match source::read_source(wanted.format, &bytes) {
                Ok(files) => files,
                Err(error) => return bad(error.to_string(), false),
            },
            Ok(None) => return bad(format!("source: content {} has not been uploaded", wanted.digest), true),
            Err(error) => return bad(format!("source: {error}"), true),
        },
    };
    if let Err(problem) = health::check(&profile.spec, &*shared.object_expressions) {
        return bad(problem, false);
    }
    let bundle = match bundle::build(&profile.spec, &profile.namespace().unwrap_or_default(), &files) {
        Ok(bundle) => bundle,
        Err(error) => return bad(error.to_string(), false),
    };
    // With defaults where there are any: a profile whose required variables lack a value is judged per placement.
    let optional = bundle.variables.iter().all(|variable| !variable.required || variable.default.is_some());
    if optional && let Err(error) = check(&bundle, profile) {
        return bad(error, false);
    }
    let bytes = Bytes::from(bundle.encode());
    let size = bytes.len() as u64;
    match shared.content.put(bytes).await {
        Ok(digest) => ProfileState::Good { content: ContentReference { digest, size }, bundle },
        Err(error) => bad(error.to_string(), true),
    }
}

fn check(bundle: &Bundle, profile: &Profile) -> Result<(), String> {
    let values = variables::resolve(&bundle.variables, &Values::new()).map_err(|error| error.to_string())?;
    let name = assignment_name(&profile.namespace().unwrap_or_default(), &profile.name_any());
    render::render(bundle, &values, &name).map(drop).map_err(|error| error.to_string())
}

async fn write_status(
    shared: &Shared,
    caches: &Caches,
    profile: &Profile,
    known: &Known,
    (clusters, applied, healthy): (u32, u32, u32),
) -> Result<(), Error> {
    let before = profile.status.clone().unwrap_or_default();
    let generation = profile.metadata.generation.unwrap_or_default();
    let mut after =
        ProfileStatus { observed_generation: generation, clusters, applied, healthy, ..before.clone() };
    let (status, reason, message) = match &known.state {
        ProfileState::Good { content, bundle } => {
            after.digest = Some(content.digest.clone());
            after.size = content.size;
            after.objects = u32::try_from(bundle.objects.len()).unwrap_or(u32::MAX);
            (true, "Readable", format!("{} objects", bundle.objects.len()))
        }
        ProfileState::Bad { problem, .. } => (false, "NotReadable", problem.clone()),
    };
    let change = ConditionChange {
        kind: "Ready",
        status: Some(status),
        reason,
        message,
        observed_generation: Some(generation),
    };
    set_condition(&mut after.conditions, change, &cluster_status::now());
    if after == before {
        return Ok(());
    }
    let mut object = profile.clone();
    object.status = Some(after);
    let namespace = profile.namespace().unwrap_or_default();
    let api: Api<Profile> = Api::namespaced(shared.client.clone(), &namespace);
    let written = api.replace_status(&profile.name_any(), &PostParams::default(), &object).await;
    let written = written
        .map_err(Error::api(format!("write the status of profile {namespace}/{}", profile.name_any())))?;
    caches.profiles.observe(&written);
    Ok(())
}
