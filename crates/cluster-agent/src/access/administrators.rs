//! What the hub's administrators may do here, as a ClusterRoleBinding that the cluster's owner can see and take away.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Options, PREFIX};

/// On the bindings that are kept here.
const LABEL: &str = "fleet.fairlead.dev/hub-administrators";

/// How long to wait after the cluster's API did not take it: it may be starting, or the agent may not bind roles.
const RETRY: Duration = Duration::from_secs(15);

/// Writes the binding once, and takes away one of another role; tried again until it is done or `shutdown`.
pub(crate) async fn keep_binding(cluster: Client, options: Options, shutdown: CancellationToken) {
    let mut said = false;
    loop {
        match shutdown.run_until_cancelled(write(&cluster, options.administrators.as_deref())).await {
            None | Some(Ok(())) => return,
            Some(Err(error)) if !said => {
                tracing::warn!(%error, "the role of the hub's administrators is not bound yet; trying again");
                said = true;
            }
            Some(Err(_)) => {}
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
            return;
        }
    }
}

async fn write(cluster: &Client, role: Option<&str>) -> Result<(), kube::Error> {
    let api: Api<ClusterRoleBinding> = Api::all(cluster.clone());
    let wanted = role.map(binding);
    let name = wanted.as_ref().and_then(|own| own["metadata"]["name"].as_str());
    if let (Some(name), Some(wanted)) = (name, &wanted) {
        let manager = PatchParams::apply("fairlead-agent").force();
        api.patch(name, &manager, &Patch::Apply(wanted)).await?;
    }
    // The role of a binding cannot be changed, so another role is another binding.
    for old in api.list(&ListParams::default().labels(LABEL)).await? {
        if Some(old.name_any().as_str()) != name {
            match api.delete(&old.name_any(), &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                deleted => drop(deleted?),
            }
        }
    }
    Ok(())
}

fn binding(role: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": format!("fairlead:hub-administrators:{role}"), "labels": {LABEL: "true"}},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group",
            "name": format!("{PREFIX}system:masters")}],
    })
}
