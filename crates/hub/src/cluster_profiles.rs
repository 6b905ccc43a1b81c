//! Publishes a `ClusterProfile` for every cluster: what other tools of SIG-Multicluster read, with the way through this hub
//! as an access provider. All of them are in the hub's own namespace, and those of a project's cluster sets in the project's
//! namespace too, so that who may look there sees an inventory of his own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api_client::{CacheOptions, Cached, ObjectCache, ObjectKey};
use fleet_objects::multicluster::{
    AccessCluster, AccessProvider, ClusterManager, ClusterProfile, ClusterProfileSpec, ClusterProfileStatus,
    ClusterVersion, LABEL_CLUSTER_MANAGER, properties,
};
use fleet_objects::{Cluster, LABEL_CLUSTER_SET, SYSTEM_NAMESPACE, cluster_proxy_path, condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::service::Shared;

/// By which our profiles are known among those of others.
const MANAGER: &str = "fairlead";
/// How readers' configurations call the way through the hub.
const PROVIDER: &str = "fairlead-hub";
/// The property that names what a cluster serves besides the core group, `group/version` with commas between.
const PROPERTY_API_GROUPS: &str = "api-groups.fleet.fairlead.dev";
/// Changes within this time are written together.
const GATHER: Duration = Duration::from_millis(200);
/// After a pass that could not do everything.
const RETRY: Duration = Duration::from_secs(5);

/// What is kept in memory of a profile that is published: enough to see whether it is another one that is wanted.
#[derive(Clone, Debug)]
struct Published {
    key: ObjectKey,
    uid: Option<String>,
    version: Option<String>,
    is_ours: bool,
    /// Of what it says, labels included, and of its status.
    spec: String,
    status: String,
}

impl From<ClusterProfile> for Published {
    fn from(profile: ClusterProfile) -> Self {
        Self {
            key: ObjectKey::of(&profile),
            is_ours: profile.labels().get(LABEL_CLUSTER_MANAGER).is_some_and(|name| name == MANAGER),
            spec: digest(&(&profile.spec, profile.labels())),
            status: digest(&profile.status),
            uid: profile.metadata.uid,
            version: profile.metadata.resource_version,
        }
    }
}

impl Cached for Published {
    fn object_key(&self) -> ObjectKey {
        self.key.clone()
    }

    fn object_uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    fn object_version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

fn digest(said: &impl Serialize) -> String {
    fleet_planner::digest(&serde_json::to_vec(said).unwrap_or_default())
}

/// Keeps the profiles until `shutdown`.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let all: Api<ClusterProfile> = Api::all(shared.client.clone());
    let published = ObjectCache::of(all, CacheOptions::new("cluster profiles"), Published::from);
    let changed = Arc::new(Notify::new());
    let (by_cluster, by_profile, by_project) =
        (Arc::clone(&changed), Arc::clone(&changed), Arc::clone(&changed));
    shared.clusters.on_change(move |_| by_cluster.notify_one());
    shared.projects.on_change(move || by_project.notify_one());
    published.on_change(move |_| by_profile.notify_one());
    let synced = async {
        tokio::join!(shared.clusters.has_synced(), published.has_synced(), shared.projects.has_synced())
    };
    if shutdown.run_until_cancelled(synced).await.is_none() {
        return;
    }
    loop {
        let passed = pass(&shared, &published).await;
        if let Err(error) = &passed {
            tracing::debug!(
                error = error as &dyn std::error::Error,
                "a cluster profile was not written; trying again"
            );
        }
        let wait = async {
            if passed.is_err() {
                tokio::time::sleep(RETRY).await;
            } else {
                changed.notified().await;
            }
            tokio::time::sleep(GATHER).await;
        };
        if shutdown.run_until_cancelled(wait).await.is_none() {
            return;
        }
    }
}

async fn pass(shared: &Shared, published: &ObjectCache<Published>) -> Result<(), Error> {
    let access = shared.public_url.as_ref().map(|url| (url.as_str(), shared.issuer.ca_bundle()));
    let ours = published.list().into_iter().filter(|own| own.is_ours);
    let mut existing: BTreeMap<ObjectKey, Arc<Published>> = ours.map(|own| (own.key.clone(), own)).collect();
    for cluster in shared.clusters.list() {
        let wanted = profile(&cluster, access.as_ref().map(|(url, ca)| (*url, ca.as_str())));
        let said = Published::from(wanted.clone());
        let projects = shared.projects.of_cluster(&cluster);
        for namespace in projects.into_iter().chain([SYSTEM_NAMESPACE.to_owned()]) {
            let api: Api<ClusterProfile> = Api::namespaced(shared.client.clone(), &namespace);
            let mut wanted = wanted.clone();
            wanted.metadata.namespace = Some(namespace.clone());
            let found = existing.remove(&ObjectKey::of(&wanted));
            write(&api, published, found.as_deref(), (wanted, &said)).await?;
        }
    }
    for (key, gone) in existing {
        let api: Api<ClusterProfile> = Api::namespaced(shared.client.clone(), &key.namespace);
        match api.delete(&key.name, &DeleteParams::default()).await {
            Err(error) if !api_client::error::is_not_found(&error) => {
                return Err(Error::api(format!("remove cluster profile {key}"))(error));
            }
            _ => published.observe_deleted(&gone),
        }
    }
    Ok(())
}

async fn write(
    api: &Api<ClusterProfile>,
    published: &ObjectCache<Published>,
    found: Option<&Published>,
    (mut wanted, said): (ClusterProfile, &Published),
) -> Result<(), Error> {
    let name = wanted.name_any();
    let failed = |verb: &str| Error::api(format!("{verb} cluster profile {name}"));
    let status = wanted.status.clone();
    let params = PostParams::default();
    let same_spec = found.is_some_and(|found| found.spec == said.spec);
    if same_spec && found.is_some_and(|found| found.status == said.status) {
        return Ok(());
    }
    wanted.metadata.resource_version = found.and_then(|found| found.version.clone());
    if found.is_none() {
        wanted = api.create(&params, &wanted).await.map_err(failed("create"))?;
    } else if !same_spec {
        wanted = api.replace(&name, &params, &wanted).await.map_err(failed("replace"))?;
    }
    if same_spec || wanted.status != status {
        wanted.status = status;
        wanted = api.replace_status(&name, &params, &wanted).await.map_err(failed("write the status of"))?;
    }
    published.observe(&wanted.into());
    Ok(())
}

/// The profile of a cluster. Pure.
fn profile(cluster: &Cluster, access: Option<(&str, &str)>) -> ClusterProfile {
    let name = cluster.name_any();
    let status = cluster.status.clone().unwrap_or_default();
    let spec = ClusterProfileSpec {
        display_name: cluster.spec.description.clone().unwrap_or_else(|| name.clone()),
        cluster_manager: ClusterManager { name: MANAGER.to_owned() },
    };
    let mut profile = ClusterProfile::new(&name, spec);
    let labels = profile.metadata.labels.get_or_insert_default();
    labels.insert(LABEL_CLUSTER_MANAGER.to_owned(), MANAGER.to_owned());
    if let Some(set) = cluster.labels().get(LABEL_CLUSTER_SET) {
        labels.insert(LABEL_CLUSTER_SET.to_owned(), set.clone());
    }
    profile.status = Some(ClusterProfileStatus {
        conditions: healthy(&status.conditions).into_iter().collect(),
        version: ClusterVersion { kubernetes: status.kubernetes_version.unwrap_or_default() },
        properties: properties(&said(&status.properties, &status.api_groups)),
        access_providers: access.map(|(url, ca)| provider(&name, url, ca)).into_iter().collect(),
    });
    profile
}

/// A cluster's properties, with what it serves among them.
fn said(properties: &BTreeMap<String, String>, api_groups: &[String]) -> BTreeMap<String, String> {
    let mut said = properties.clone();
    if !api_groups.is_empty() {
        said.insert(PROPERTY_API_GROUPS.to_owned(), api_groups.join(","));
    }
    said
}

/// What the hub knows of the cluster's control plane: that its agent reported, or nothing.
fn healthy(conditions: &[Condition]) -> Option<Condition> {
    let ready = condition(conditions, "Ready")?;
    let mut healthy = ready.clone();
    healthy.type_ = "ControlPlaneHealthy".to_owned();
    healthy.observed_generation = None;
    Some(healthy)
}

fn provider(name: &str, url: &str, ca_pem: &str) -> AccessProvider {
    let encoded =
        serde_json::to_value(k8s_openapi::ByteString(ca_pem.as_bytes().to_vec())).unwrap_or_default();
    AccessProvider {
        name: PROVIDER.to_owned(),
        cluster: AccessCluster {
            server: format!("{}{}", url.trim_end_matches('/'), cluster_proxy_path(name)),
            certificate_authority_data: encoded.as_str().unwrap_or_default().to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_profile_says_what_the_hub_knows_and_how_to_get_there() {
        let cluster: Cluster = serde_json::from_value(json!({
            "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "prod", "labels": {LABEL_CLUSTER_SET: "shop", "stage": "prod"}}, "spec": {},
            "status": {"kubernetesVersion": "v1.36.1", "properties": {"region.fleet.fairlead.dev": "eu"}, "apiGroups": ["apps/v1", "batch/v1"],
                "conditions": [{"type": "Ready", "status": "True", "reason": "Reported", "message": "m",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}))
        .unwrap();
        let made = serde_json::to_value(profile(&cluster, Some(("https://hub:6443/", "PEM")))).unwrap();
        assert_eq!(
            made["metadata"]["labels"],
            json!({LABEL_CLUSTER_MANAGER: "fairlead", LABEL_CLUSTER_SET: "shop"})
        );
        assert_eq!(made["status"]["version"]["kubernetes"], "v1.36.1");
        assert_eq!(
            made["status"]["properties"],
            json!([{"name": "api-groups.fleet.fairlead.dev", "value": "apps/v1,batch/v1"},
                {"name": "region.fleet.fairlead.dev", "value": "eu"}])
        );
        assert_eq!(made["status"]["conditions"][0]["type"], "ControlPlaneHealthy");
        assert_eq!(
            made["status"]["accessProviders"],
            json!([{"name": "fairlead-hub", "cluster": {"certificate-authority-data": "UEVN",
                "server": "https://hub:6443/apis/fleet.fairlead.dev/v1alpha1/clusters/prod/proxy"}}])
        );
        assert!(profile(&cluster, None).status.unwrap().access_providers.is_empty(), "no address is known");
    }
}
