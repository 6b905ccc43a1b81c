//! APIServices of what this server serves itself: they are there for whoever lists them, and give the order of groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use kube_objects::Status;
use serde_json::{Value, json};

use super::{GROUP, RESOURCE, availability};
use crate::catalogue::Catalogue;
use crate::handlers::create::seconds;
use crate::registry::objects::{ObjectAccess, encode};
use crate::registry::strategy::Objects as _;

/// Says who keeps an APIService: `onstart` for what is compiled in, `true` for custom kinds.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Creates what is missing and removes what is not served any more.
pub(super) fn register(
    objects: Arc<ObjectAccess>,
    catalogue: Arc<Catalogue>,
) -> BoxFuture<'static, Result<(), Status>> {
    Box::pin(async move {
        let Some(resource) = catalogue.stored(GROUP, RESOURCE).cloned() else { return Ok(()) };
        let Some(cache) = objects.cache.storage(GROUP, RESOURCE) else { return Ok(()) };
        let wanted = wanted(&catalogue);
        let stored = cache.objects("", None);
        let present: BTreeMap<&str, Value> =
            stored.iter().map(|object| (object.name(), object.encoded.to_value())).collect();
        let now = seconds(Timestamp::now());
        // At once, so that the store commits them together.
        let mut writes = Vec::new();
        for (name, object) in wanted.iter().filter(|(name, _)| !present.contains_key(name.as_str())) {
            let mut object = object.clone();
            object["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
            object["metadata"]["creationTimestamp"] = json!(now);
            availability::always_available(&mut object, &now);
            let key = ObjectAccess::key(&resource, "", name);
            writes.push(objects.insert(key, encode(&object)).boxed());
        }
        for written in join_all(writes).await {
            written?;
        }
        for object in &stored {
            let value = &present[object.name()];
            if value["spec"]["service"].is_object() {
                continue;
            }
            if value["metadata"]["labels"][MANAGED] == "true" && !wanted.contains_key(object.name()) {
                let key = ObjectAccess::key(&resource, "", object.name());
                objects.remove(key, object.encoded.revision()).await?;
            } else if availability::always_available(&mut value.clone(), &now) {
                let mend = |object: &mut Value| Ok(availability::always_available(object, &now));
                objects.modify(GROUP, RESOURCE, "", object.name(), &mend).await?;
            }
        }
        Ok(())
    })
}

/// An APIService for every group version.
fn wanted(catalogue: &Catalogue) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for resource in catalogue.resources() {
        let (group, version) = (&resource.gvr.group, &resource.gvr.version);
        let name = format!("{version}.{group}");
        let (group_priority, version_priority) = priorities(group, version, resource.custom);
        let managed = if resource.custom { "true" } else { "onstart" };
        all.entry(name.clone()).or_insert_with(|| {
            let mut spec = json!({
                "version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority,
            });
            if !group.is_empty() {
                spec["group"] = json!(group);
            }
            json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": name, "labels": {MANAGED: managed}}, "spec": spec})
        });
    }
    all
}

/// Upstream's order of groups and versions (`pkg/controlplane/apiserver/aggregator.go` and kube-apiserver's).
fn priorities(group: &str, version: &str, custom: bool) -> (i64, i64) {
    if custom {
        return (1000, 100);
    }
    let group_priority = match group {
        "" => return (18_000, 1),
        "apps" => 17_800,
        "events.k8s.io" => 17_750,
        "authentication.k8s.io" => 17_700,
        "authorization.k8s.io" => 17_600,
        "autoscaling" => 17_500,
        "batch" => 17_400,
        "certificates.k8s.io" => 17_300,
        "networking.k8s.io" => 17_200,
        "policy" => 17_100,
        "rbac.authorization.k8s.io" => 17_000,
        "storage.k8s.io" => 16_800,
        "apiextensions.k8s.io" | "admissionregistration.k8s.io" => 16_700,
        "scheduling.k8s.io" => 16_600,
        "coordination.k8s.io" => 16_500,
        "node.k8s.io" => 16_300,
        "discovery.k8s.io" | "resource.k8s.io" => 16_200,
        "flowcontrol.apiserver.k8s.io" => 16_100,
        "internal.apiserver.k8s.io" => 16_000,
        "storagemigration.k8s.io" => 15_900,
        _ => 1000,
    };
    let version_priority = match (group, version) {
        ("autoscaling", "v2") => 30,
        ("resource.k8s.io" | "flowcontrol.apiserver.k8s.io", "v1") => 21,
        ("discovery.k8s.io", "v1") => 15,
        (_, version) if !version.contains("alpha") && !version.contains("beta") => 15,
        (_, version) if version.contains("beta") => 9,
        _ => 1,
    };
    (group_priority, version_priority)
}
