//! Drift repair and the way of a profile's change, seen from the clusters: both only look at objects, so they measure
//! whatever repairs and delivers.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::connect;
use crate::figures::Figure;

/// Nothing measured here may take longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often an object is looked at while waiting: bounds the error of the figure.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// An object in a namespace: `group/version/plural/Kind/namespace/name`, the group empty for the core one.
#[derive(Clone, Debug)]
pub struct Target {
    resource: ApiResource,
    namespace: String,
    name: String,
}

impl std::str::FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let [group, version, plural, kind, namespace, name] = text.split('/').collect::<Vec<_>>()[..] else {
            bail!("`{text}` is not group/version/plural/Kind/namespace/name");
        };
        let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        Ok(Self { resource, namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl Target {
    fn api(&self, client: &Client) -> Api<DynamicObject> {
        Api::namespaced_with(client.clone(), &self.namespace, &self.resource)
    }
}

/// Sets what the JSON pointer names to something else, `rounds` times, and waits until it is back.
///
/// # Errors
/// When there is nothing at the pointer, or it is not repaired.
pub async fn drift_repair(
    client: &Client,
    target: &Target,
    pointer: &str,
    wrong: &Value,
    rounds: usize,
) -> anyhow::Result<Option<Figure>> {
    let api = target.api(client);
    let right =
        value_at(&api, target, pointer).await?.with_context(|| format!("there is nothing at {pointer}"))?;
    anyhow::ensure!(right != *wrong, "the wrong value is the right one");
    let mut times = Vec::new();
    for _ in 0..rounds {
        let patch = serde_json::from_value(json!([{"op": "replace", "path": pointer, "value": wrong}]))?;
        api.patch(&target.name, &PatchParams::default(), &Patch::Json::<()>(patch)).await?;
        let began = Instant::now();
        wait_for(&api, target, pointer, &right).await?;
        times.push(began.elapsed());
    }
    Ok(Figure::times("drift to repaired", times))
}

/// Applies a merge patch to an object of the hub, and waits until every cluster shows `expected` at the pointer.
///
/// # Errors
/// When a cluster does not show it in time.
pub async fn change_to_applied(
    hub: &Client,
    changed: &Target,
    patch: &Value,
    clusters: &[PathBuf],
    target: &Target,
    pointer: &str,
    expected: &Value,
) -> anyhow::Result<Figure> {
    let mut apis = Vec::new();
    for kubeconfig in clusters {
        apis.push(target.api(&connect(Some(kubeconfig)).await?));
    }
    let began = Instant::now();
    changed.api(hub).patch(&changed.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    futures::future::try_join_all(apis.iter().map(|api| wait_for(api, target, pointer, expected))).await?;
    let name = format!("change at the hub to applied on {} clusters", clusters.len());
    Ok(Figure::one(name, began.elapsed().as_secs_f64() * 1000.0, "ms"))
}

async fn value_at(api: &Api<DynamicObject>, target: &Target, pointer: &str) -> anyhow::Result<Option<Value>> {
    let object = api.get_opt(&target.name).await?;
    Ok(object.map(serde_json::to_value).transpose()?.and_then(|object| object.pointer(pointer).cloned()))
}

async fn wait_for(
    api: &Api<DynamicObject>,
    target: &Target,
    pointer: &str,
    expected: &Value,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while value_at(api, target, pointer).await?.as_ref() != Some(expected) {
        anyhow::ensure!(Instant::now() < deadline, "{} is not {expected} in {PATIENCE:?}", target.name);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
