//! What belongs to which node: the nodes' authorizer asks, the watch cache answers. Nothing is kept beside the cache, so an
//! answer is as new as what the node's own watch shows.
//!
//! A question costs a look at the pods of one namespace. Only what holds the name asked for as a JSON text at all is read
//! further, so that a node with a thousand pods pays for one or two.

use std::sync::Arc;

use access::authorization::node::{Related, Relations};
use kind_rules::json::{list, present, text};
use kind_rules::references;
use memchr::memmem::Finder;
use serde_json::Value;

use crate::watch_cache::{CachedObject, WatchCache};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Answers from a server's caches.
pub(super) struct StoredRelations(pub(super) Arc<WatchCache>);

impl Relations for StoredRelations {
    fn related(&self, node: &str, kind: Related, namespace: &str, name: &str) -> bool {
        match kind {
            Related::Pod => self.object("", "pods", namespace, name).is_some_and(|pod| is_on(&pod, node)),
            Related::PersistentVolume => self.volume(node, name),
            Related::VolumeAttachment => self.names_node("storage.k8s.io", "volumeattachments", name, node),
            Related::ResourceSlice => self.names_node("resource.k8s.io", "resourceslices", name, node),
            Related::Secret => {
                self.pod_refers(node, namespace, kind, name) || self.volume_secret(node, namespace, name)
            }
            _ => self.pod_refers(node, namespace, kind, name),
        }
    }
}

impl StoredRelations {
    fn object(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<CachedObject>> {
        self.0.storage(group, resource)?.get(namespace, name)
    }

    fn names_node(&self, group: &str, resource: &str, name: &str, node: &str) -> bool {
        let found = self.object(group, resource, "", name);
        found.is_some_and(|object| text(&object.encoded.to_value()["spec"], "nodeName") == node)
    }

    /// Whether a pod of the node in `namespace` refers to the object.
    fn pod_refers(&self, node: &str, namespace: &str, kind: Related, name: &str) -> bool {
        let Some(pods) = self.0.storage("", "pods") else { return false };
        if namespace.is_empty() || name.is_empty() {
            return false;
        }
        let quoted = format!("\"{name}\"");
        let finder = Finder::new(&quoted);
        pods.objects(namespace, None).iter().filter(|pod| is_on(pod, node)).any(|pod| {
            // The claim of an ephemeral volume bears the pod's name, and stands nowhere.
            let made = kind == Related::PersistentVolumeClaim && name.starts_with(pod.name());
            (made || finder.find(pod.encoded.stored()).is_some())
                && refers(&pod.encoded.to_value(), kind, name)
        })
    }

    fn volume(&self, node: &str, name: &str) -> bool {
        let Some(volume) = self.object("", "persistentvolumes", "", name) else { return false };
        self.claimed(node, &volume.encoded.to_value())
    }

    /// Whether the claim of a volume is one of a pod of the node.
    fn claimed(&self, node: &str, volume: &Value) -> bool {
        let claim = &volume["spec"]["claimRef"];
        let (namespace, name) = (text(claim, "namespace"), text(claim, "name"));
        self.pod_refers(node, namespace, Related::PersistentVolumeClaim, name)
    }

    fn volume_secret(&self, node: &str, namespace: &str, name: &str) -> bool {
        let Some(volumes) = self.0.storage("", "persistentvolumes") else { return false };
        let quoted = format!("\"{name}\"");
        let finder = Finder::new(&quoted);
        volumes.objects("", None).iter().any(|volume| {
            if finder.find(volume.encoded.stored()).is_none() {
                return false;
            }
            let volume = volume.encoded.to_value();
            references::secrets_of_persistent_volume(&volume).contains(&(namespace, name))
                && self.claimed(node, &volume)
        })
    }
}

fn is_on(pod: &CachedObject, node: &str) -> bool {
    pod.field("spec.nodeName") == Some(node)
}

/// A mirror pod is made by the node itself, so it gives access to nothing.
fn refers(pod: &Value, kind: Related, name: &str) -> bool {
    if present(&pod["metadata"]["annotations"], MIRROR) {
        return false;
    }
    let spec = &pod["spec"];
    match kind {
        Related::Secret => references::secrets(spec).any(|own| own == name),
        Related::ConfigMap => references::config_maps(spec).any(|own| own == name),
        Related::ServiceAccount => text(spec, "serviceAccountName") == name,
        Related::ResourceClaim => references::resource_claims(pod).any(|own| own == name),
        Related::PersistentVolumeClaim => {
            let owner = text(&pod["metadata"], "name");
            let claims = list(spec, "volumes").iter();
            claims.filter_map(|volume| references::claim_of_volume(owner, volume)).any(|own| own == name)
        }
        Related::Pod | Related::PersistentVolume | Related::VolumeAttachment | Related::ResourceSlice => {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_gives_its_node_what_it_names_and_a_mirror_pod_nothing() {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "sa",
            "volumes": [{"name": "v", "ephemeral": {}}, {"name": "s", "secret": {"secretName": "s1"}}]}});
        assert!(refers(&pod, Related::ServiceAccount, "sa"));
        assert!(refers(&pod, Related::Secret, "s1"));
        assert!(refers(&pod, Related::PersistentVolumeClaim, "p-v"));
        assert!(!refers(&pod, Related::ConfigMap, "s1"));
        pod["metadata"]["annotations"] = json!({MIRROR: "x"});
        assert!(!refers(&pod, Related::Secret, "s1"));
    }
}
