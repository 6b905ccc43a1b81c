//! The fleet as the hub knows it, with what documents would change of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use fleet_objects::project::{LABEL_PROJECT, project_sets, within_project};
use fleet_objects::{
    Assignment, AssignmentState, Cluster, Placement, Profile, ProfileReference, partition_cluster,
};
use fleet_planner::bundle::{self, Bundle};
use fleet_planner::cluster_view::ClusterView;
use fleet_planner::expressions::Expressions;
use fleet_planner::placement::Asked;
use fleet_planner::preview::{Held, Input};
use futures::AsyncReadExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde::de::DeserializeOwned;

use crate::arguments::Global;
use crate::commands::profile;
use crate::documents::Document;
use crate::failure::{Code, Failure, api};

/// Bytes of one content at most: what the hub takes.
const MAX_CONTENT: u64 = 64 << 20;

/// Everything that decides what clusters hold.
pub(super) struct Fleet {
    clusters: BTreeMap<String, Cluster>,
    profiles: BTreeMap<ProfileReference, Profile>,
    placements: BTreeMap<(String, String), Placement>,
    assignments: Vec<Assignment>,
    /// Cluster sets of the namespaces that are projects.
    projects: BTreeMap<String, Vec<String>>,
    /// Profiles that something is said about.
    affected: BTreeSet<ProfileReference>,
}

/// The same, ready to be looked at.
pub(super) struct Prepared {
    pub(super) clusters: Vec<ClusterView>,
    pub(super) affected: BTreeSet<ProfileReference>,
    placements: Vec<Placement>,
    bundles: BTreeMap<ProfileReference, Result<Arc<Bundle>, String>>,
    held: BTreeMap<String, BTreeMap<String, Held>>,
    assignments: Vec<Assignment>,
}

impl Fleet {
    pub(super) async fn read(client: &Client) -> Result<Self, Failure> {
        let clusters = list::<Cluster>(client, "clusters").await?;
        let profiles = list::<Profile>(client, "profiles").await?;
        let placements = list::<Placement>(client, "placements").await?;
        let sets = |namespace: Namespace| Some((namespace.name_any(), project_sets(&namespace.metadata)?));
        let of_projects = ListParams::default().labels(LABEL_PROJECT);
        let namespaces = Api::<Namespace>::all(client.clone()).list(&of_projects).await;
        let namespaces = namespaces.map_err(api("cannot list projects"))?;
        let projects = namespaces.items.into_iter().filter_map(sets).collect();
        Ok(Self {
            clusters: clusters.into_iter().map(|cluster| (cluster.name_any(), cluster)).collect(),
            profiles: profiles.into_iter().map(|profile| (reference(&profile), profile)).collect(),
            placements: placements.into_iter().map(|placement| (key(&placement), placement)).collect(),
            assignments: list::<Assignment>(client, "assignments").await?,
            projects,
            affected: BTreeSet::new(),
        })
    }

    pub(super) fn has_cluster(&self, name: &str) -> bool {
        self.clusters.contains_key(name)
    }

    /// What the hub would make of a document: checked, defaulted and merged with what is there, and not kept.
    pub(super) async fn overlay(
        &mut self,
        client: &Client,
        global: &Global,
        document: &Document,
    ) -> Result<(), Failure> {
        let applied = profile::apply_one(client, global, document, true).await?;
        let value = serde_json::to_value(&applied.object).map_err(anyhow::Error::new)?;
        match document.kind() {
            "Profile" => {
                let profile: Profile = read(value, document)?;
                self.affected.insert(reference(&profile));
                self.profiles.insert(reference(&profile), profile);
            }
            "Placement" => {
                let placement: Placement = read(value, document)?;
                self.affected.insert(brings(&placement));
                if let Some(before) = self.placements.insert(key(&placement), placement) {
                    self.affected.insert(brings(&before));
                }
            }
            "Cluster" => {
                let cluster: Cluster = read(value, document)?;
                // What the hub found out is not in the document.
                self.clusters.insert(cluster.name_any(), cluster);
                self.affected.extend(self.placements.values().map(brings));
            }
            kind => crate::output::progress(&format!(
                "{}: a {kind} says when clusters change, not what; it is not looked at",
                document.origin
            )),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, what: &str, namespace: &str) -> Result<(), Failure> {
        let missing = || Failure::usage(format!("there is no {what} in namespace {namespace}"));
        match what.split_once('/') {
            Some(("placement", name)) => {
                let key = (namespace.to_owned(), name.to_owned());
                let placement = self.placements.remove(&key).ok_or_else(missing)?;
                self.affected.insert(brings(&placement));
            }
            Some(("profile", name)) => {
                let reference = ProfileReference { namespace: namespace.to_owned(), name: name.to_owned() };
                self.profiles.remove(&reference).ok_or_else(missing)?;
                self.affected.insert(reference);
            }
            _ => return Err(Failure::usage(format!("{what} is neither placement/NAME nor profile/NAME"))),
        }
        Ok(())
    }

    /// Fetches what clusters hold now and reads what profiles would say.
    pub(super) async fn prepare(self, client: &Client) -> Result<Prepared, Failure> {
        let mut contents: BTreeMap<String, Arc<Bundle>> = BTreeMap::new();
        let mut held: BTreeMap<String, BTreeMap<String, Held>> = BTreeMap::new();
        let of_affected = |assignment: &&Assignment| self.affected.contains(&assignment.spec.profile);
        for assignment in self.assignments.iter().filter(of_affected).filter(is_present) {
            let namespace = assignment.namespace().unwrap_or_default();
            let (Some(cluster), Some(content)) = (partition_cluster(&namespace), &assignment.spec.content)
            else {
                continue;
            };
            let bundle = match contents.get(&content.digest) {
                Some(bundle) => bundle.clone(),
                None => {
                    let bytes = fetch(client, &content.digest).await?;
                    let bundle = Bundle::decode(&bytes)
                        .with_context(|| format!("content {} of the hub", content.digest))?;
                    let bundle = Arc::new(bundle);
                    contents.insert(content.digest.clone(), bundle.clone());
                    bundle
                }
            };
            let variables = assignment.spec.variables.clone();
            let of_cluster = held.entry(cluster.to_owned()).or_default();
            of_cluster.insert(assignment.name_any(), Held { bundle, variables });
        }
        let mut bundles = BTreeMap::new();
        for reference in &self.affected {
            let Some(profile) = self.profiles.get(reference) else { continue };
            let bundle = bundle_of(client, profile).await?;
            // The same content is the same in memory, so that nothing is compared in vain.
            let bundle = bundle.map(|bundle| {
                let digest = fleet_planner::digest(&bundle.encode());
                contents.entry(digest).or_insert_with(|| Arc::new(bundle)).clone()
            });
            bundles.insert(reference.clone(), bundle);
        }
        let mut placements: Vec<Placement> = self.placements.into_values().collect();
        placements.retain(|placement| placement.metadata.deletion_timestamp.is_none());
        for placement in &mut placements {
            let project = placement.namespace().and_then(|name| self.projects.get(&name).cloned());
            placement.spec = within_project(project, std::mem::take(&mut placement.spec));
        }
        let age = |placement: &Placement| placement.metadata.creation_timestamp.as_ref().map(|time| time.0);
        placements.sort_by_key(|placement| (age(placement), key(placement)));
        Ok(Prepared {
            clusters: self.clusters.values().map(ClusterView::from).collect(),
            affected: self.affected,
            placements,
            bundles,
            held,
            assignments: self.assignments,
        })
    }
}

impl Prepared {
    pub(super) fn asked(&self) -> Vec<Asked<'_>> {
        let asked = |placement: &'_ Placement| {
            let (namespace, name) = key(placement);
            let name = format!("{namespace}/{name}");
            let already = self.assignments.iter().filter(is_present).filter(|assignment| {
                assignment.spec.profile == brings(placement)
                    && assignment.spec.placement.as_deref() == Some(name.as_str())
            });
            let already = already
                .filter_map(|assignment| partition_cluster(&assignment.namespace()?).map(str::to_owned))
                .collect();
            (name, already)
        };
        let of = |placement| {
            let (name, already) = asked(placement);
            let decisions = placement.status.iter().flat_map(|status| &status.decisions);
            let chosen = decisions.filter(|one| one.selected).map(|one| one.cluster.as_str()).collect();
            Asked { name, profile: brings(placement), spec: &placement.spec, already, chosen }
        };
        self.placements.iter().map(of).collect()
    }

    pub(super) fn input<'a>(
        &'a self,
        placements: &'a [Asked<'a>],
        expressions: &'a dyn Expressions,
    ) -> Input<'a> {
        let Self { clusters, bundles, held, .. } = self;
        Input { clusters, placements, bundles, held, expressions }
    }
}

fn is_present(assignment: &&Assignment) -> bool {
    assignment.spec.state == AssignmentState::Present
}

fn reference(profile: &Profile) -> ProfileReference {
    ProfileReference { namespace: profile.namespace().unwrap_or_default(), name: profile.name_any() }
}

fn brings(placement: &Placement) -> ProfileReference {
    let namespace = placement.namespace().unwrap_or_default();
    ProfileReference { namespace, name: placement.spec.profile.clone() }
}

fn key(placement: &Placement) -> (String, String) {
    (placement.namespace().unwrap_or_default(), placement.name_any())
}

fn read<T: DeserializeOwned>(value: serde_json::Value, document: &Document) -> Result<T, Failure> {
    let read = serde_json::from_value(value)
        .with_context(|| format!("{} came back from the hub as something else", document.origin));
    read.map_err(|error| Failure::new(Code::Negative, error))
}

async fn list<K>(client: &Client, what: &str) -> Result<Vec<K>, Failure>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let found = Api::<K>::all(client.clone()).list(&ListParams::default()).await;
    Ok(found.map_err(api(format!("cannot list {what}")))?.items)
}

/// What a profile would say; the inner error is the profile's.
async fn bundle_of(client: &Client, profile: &Profile) -> Result<Result<Bundle, String>, Failure> {
    let files = match &profile.spec.source {
        None => Vec::new(),
        Some(source) => {
            let bytes = fetch(client, &source.digest).await?;
            match hub::read_source(source.format, &bytes) {
                Ok(files) => files,
                Err(error) => return Ok(Err(error.to_string())),
            }
        }
    };
    Ok(bundle::build(&profile.spec, &profile.namespace().unwrap_or_default(), &files)
        .map_err(|error| error.to_string()))
}

async fn fetch(client: &Client, digest: &str) -> Result<Vec<u8>, Failure> {
    let title = format!("content {digest}");
    let request = http::Request::get(format!("/fleet/v1/content/{digest}")).body(Vec::new());
    let request = request.with_context(|| format!("cannot ask for {title}"))?;
    let content = client.request_stream(request).await.map_err(api(format!("cannot get {title}")))?;
    let mut bytes = Vec::new();
    let content = std::pin::pin!(content);
    content
        .take(MAX_CONTENT)
        .read_to_end(&mut bytes)
        .await
        .with_context(|| format!("cannot read {title}"))?;
    let found = fleet_planner::digest(&bytes);
    if found != digest {
        return Err(Failure::negative(format!("the hub sent content {found} for {digest}")));
    }
    Ok(bytes)
}
