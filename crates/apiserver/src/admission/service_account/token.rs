//! The token volume and its mounts. Pure but for the volume's random name.

use api_machinery::name_generator::generate_name;
use serde_json::{Value, json};

use kind_rules::json::{default, list, list_mut, text};

pub(super) const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";

/// Gives every container the token that has nothing at its path.
pub(super) fn mount(spec: &mut Value) {
    let mounted = |container: &Value| {
        list(container, "volumeMounts").iter().any(|mount| text(mount, "mountPath") == TOKEN_PATH)
    };
    let needed = ["initContainers", "containers"]
        .iter()
        .any(|key| list(spec, key).iter().any(|container| !mounted(container)));
    if !needed {
        return;
    }
    let own = list(spec, "volumes")
        .iter()
        .map(|volume| text(volume, "name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let known = own.is_some();
    let name = own.unwrap_or_else(|| generate_name(VOLUME_PREFIX, rand::random()));
    for key in ["initContainers", "containers"] {
        for container in list_mut(spec, key).iter_mut().filter(|container| !mounted(container)) {
            default(container, "volumeMounts", json!([]));
            if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
            }
        }
    }
    if known {
        return;
    }
    default(spec, "volumes", json!([]));
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.push(volume(&name));
    }
}

fn volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        // Seven seconds more than an hour tells such tokens from others (upstream's mark).
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}
