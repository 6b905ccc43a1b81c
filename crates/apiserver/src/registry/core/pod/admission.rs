//! What every new pod is given from other objects: its service account with a token, its priority, and tolerations of a
//! node's short absence (upstream's admission plug-ins ServiceAccount, Priority and DefaultTolerationSeconds).

use kube_objects::Status;
use rand::Rng as _;
use serde_json::{Value, json};

use crate::registry::strategy::RequestContext;
use kind_rules::json::{default, default_text, existing, list, list_mut, set, text};

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How long a pod stays on a node that is not ready, unless it says otherwise.
const TOLERATION_SECONDS: i64 = 300;

/// Completes a new pod.
///
/// # Errors
/// 403 when its service account or priority class does not exist, worded as upstream's.
pub(super) async fn complete(cx: &RequestContext<'_>, pod: &mut Value) -> Result<(), Status> {
    tolerate_absence(pod);
    set_priority(cx, pod).await?;
    // A static pod's mirror says what already runs.
    if pod["metadata"]["annotations"][MIRROR].is_string() {
        return Ok(());
    }
    give_account(cx, pod).await
}

fn refused(cx: &RequestContext<'_>, why: &str) -> Status {
    access::authorization::forbidden("", "pods", cx.name, why)
}

async fn give_account(cx: &RequestContext<'_>, pod: &mut Value) -> Result<(), Status> {
    let Some(spec) = existing(pod, "spec") else { return Ok(()) };
    default_text(spec, "serviceAccountName", "default");
    let name = text(spec, "serviceAccountName").to_owned();
    set(spec, "serviceAccount", name.as_str());
    let Some(account) = cx.objects.get("", "serviceaccounts", cx.namespace, &name).await? else {
        let why = format!(
            "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
            cx.namespace
        );
        return Err(refused(cx, &why));
    };
    if list(spec, "imagePullSecrets").is_empty() && !list(&account, "imagePullSecrets").is_empty() {
        set(spec, "imagePullSecrets", account["imagePullSecrets"].clone());
    }
    // The pod's word counts before its account's.
    let wanted = match (
        spec["automountServiceAccountToken"].as_bool(),
        account["automountServiceAccountToken"].as_bool(),
    ) {
        (Some(wanted), _) | (None, Some(wanted)) => wanted,
        (None, None) => true,
    };
    if wanted {
        mount_token(spec);
    }
    Ok(())
}

fn mount_token(spec: &mut Value) {
    let mounted = |container: &Value| {
        list(container, "volumeMounts").iter().any(|mount| text(mount, "mountPath") == TOKEN_PATH)
    };
    let needed = ["initContainers", "containers"]
        .iter()
        .any(|key| list(spec, key).iter().any(|container| !mounted(container)));
    let own = list(spec, "volumes")
        .iter()
        .map(|volume| text(volume, "name"))
        .find(|name| name.starts_with("kube-api-access-"));
    if !needed {
        return;
    }
    let name = own.map_or_else(generated_name, str::to_owned);
    for key in ["initContainers", "containers"] {
        for container in list_mut(spec, key).iter_mut().filter(|container| !mounted(container)) {
            default(container, "volumeMounts", json!([]));
            if let Some(mounts) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) {
                mounts.push(json!({"name": name, "readOnly": true, "mountPath": TOKEN_PATH}));
            }
        }
    }
    if list(spec, "volumes").iter().any(|volume| text(volume, "name") == name) {
        return;
    }
    default(spec, "volumes", json!([]));
    if let Some(volumes) = spec.get_mut("volumes").and_then(Value::as_array_mut) {
        volumes.push(token_volume(&name));
    }
}

/// The suffix avoids vowels and look-alikes, as generated names do.
fn generated_name() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    let suffix: String = (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect();
    format!("kube-api-access-{suffix}")
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        // Seven seconds more than an hour tells such tokens from others (upstream's mark).
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

async fn set_priority(cx: &RequestContext<'_>, pod: &mut Value) -> Result<(), Status> {
    const RESOURCE: (&str, &str) = ("scheduling.k8s.io", "priorityclasses");
    let name = text(&pod["spec"], "priorityClassName").to_owned();
    let class = if name.is_empty() {
        let classes = cx.objects.list(RESOURCE.0, RESOURCE.1, "").await?;
        // Of several global defaults the lowest counts.
        classes
            .into_iter()
            .filter(|class| class["globalDefault"] == true)
            .min_by_key(|class| class["value"].as_i64().unwrap_or_default())
    } else {
        let found = cx.objects.get(RESOURCE.0, RESOURCE.1, "", &name).await?;
        Some(found.ok_or_else(|| refused(cx, &format!("no PriorityClass with name {name} was found")))?)
    };
    let Some(spec) = existing(pod, "spec") else { return Ok(()) };
    let nothing = Value::Null;
    let class = class.as_ref().unwrap_or(&nothing);
    let value = class["value"].as_i64().unwrap_or_default();
    if spec["priority"].as_i64().is_some_and(|given| given != value) {
        let why = format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name",
            spec["priority"]
        );
        return Err(refused(cx, &why));
    }
    set(spec, "priority", value);
    default_text(spec, "priorityClassName", text(&class["metadata"], "name"));
    if text(spec, "priorityClassName").is_empty() {
        kind_rules::json::remove(spec, "priorityClassName");
    }
    let policy = match text(class, "preemptionPolicy") {
        "" => "PreemptLowerPriority",
        policy => policy,
    };
    default_text(spec, "preemptionPolicy", policy);
    Ok(())
}

fn tolerate_absence(pod: &mut Value) {
    let Some(spec) = existing(pod, "spec") else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = list(spec, "tolerations").iter().any(|toleration| {
            matches!(text(toleration, "key"), "")
                && text(toleration, "operator") == "Exists"
                && matches!(text(toleration, "effect"), "" | "NoExecute")
                || text(toleration, "key") == key && matches!(text(toleration, "effect"), "" | "NoExecute")
        });
        if covered {
            continue;
        }
        default(spec, "tolerations", json!([]));
        if let Some(tolerations) = spec.get_mut("tolerations").and_then(Value::as_array_mut) {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECONDS}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_gets_the_token_once() {
        let mut spec = json!({"containers": [{"name": "a"}, {"name": "b",
            "volumeMounts": [{"name": "own", "mountPath": TOKEN_PATH}]}], "initContainers": [{"name": "i"}]});
        mount_token(&mut spec);
        let once = spec.clone();
        mount_token(&mut spec);
        assert_eq!(once, spec);
        assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], spec["volumes"][0]["name"]);
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        assert_eq!(spec["initContainers"][0]["volumeMounts"][0]["mountPath"], TOKEN_PATH);
    }

    #[test]
    fn absence_is_tolerated_once() {
        let mut pod = json!({"spec": {}});
        tolerate_absence(&mut pod);
        tolerate_absence(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
        let all = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
        let mut pod = all.clone();
        tolerate_absence(&mut pod);
        assert_eq!(pod, all);
    }
}
