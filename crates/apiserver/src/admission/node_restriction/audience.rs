//! For whom a node may ask tokens (KEP-4412): for audiences that the pod's own volumes name, and those that the cluster's
//! owner allows it by the verb `request-serviceaccounts-token-audience`.

use std::sync::Arc;

use access::authorization::Attributes as Asked;
use kind_rules::json::{list, present, text};
use kube_objects::Status;
use serde_json::Value;

use super::super::Attributes;

/// What a node asks to be allowed; the audience stands for the resource, the service account for its name.
const VERB: &str = "request-serviceaccounts-token-audience";

/// Volumes of Kubernetes' own that CSI drivers have taken over, and by which driver (upstream `csi-translation-lib`).
const MIGRATED: [(&str, &str); 7] = [
    ("awsElasticBlockStore", "ebs.csi.aws.com"),
    ("azureDisk", "disk.csi.azure.com"),
    ("azureFile", "file.csi.azure.com"),
    ("cinder", "cinder.csi.openstack.org"),
    ("gcePersistentDisk", "pd.csi.storage.gke.io"),
    ("portworxVolume", "pxd.portworx.com"),
    ("vsphereVolume", "csi.vsphere.vmware.com"),
];

/// Why a node may not have the token that it asks for on behalf of `pod`; `None`: it may.
pub(super) async fn refusal(
    attributes: &Attributes<'_>,
    request: &Value,
    pod: &Value,
) -> Result<Option<String>, Status> {
    let audience = match list(&request["spec"], "audiences") {
        [] => "",
        [audience] => audience.as_str().unwrap_or_default(),
        _ => return Ok(Some("node may only request 0 or 1 audiences".to_owned())),
    };
    let problems = match named_by(attributes, pod, audience).await? {
        Named::Yes => return Ok(None),
        Named::No => None,
        Named::Unknown(why) => Some(format!("error validating audience {audience:?}: {why}")),
    };
    if problems.is_some() || is_allowed(attributes, audience) {
        return Ok(problems);
    }
    let user = &attributes.cx.user.username;
    Ok(Some(format!(
        "audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience"
    )))
}

fn is_allowed(attributes: &Attributes<'_>, audience: &str) -> bool {
    let cx = &attributes.cx;
    let Some(authorizer) = cx.authorizer else { return true };
    authorizer.authorize(cx.user, &Asked::resource(VERB, "", audience, cx.namespace, cx.name)).allowed
}

/// Whether a pod's volumes name an audience.
enum Named {
    Yes,
    No,
    /// Something on the way to a driver is missing.
    Unknown(String),
}

async fn named_by(attributes: &Attributes<'_>, pod: &Value, audience: &str) -> Result<Named, Status> {
    let mut missing = Vec::new();
    for volume in list(&pod["spec"], "volumes") {
        let mut tokens =
            list(&volume["projected"], "sources").iter().map(|source| &source["serviceAccountToken"]);
        if tokens.any(|token| token.is_object() && text(token, "audience") == audience) {
            return Ok(Named::Yes);
        }
        match driver_asks_for(attributes, pod, volume, audience).await {
            Ok(true) => return Ok(Named::Yes),
            Ok(false) => {}
            Err(status) if status.code == 404 => missing.push(status.message),
            Err(status) => return Err(status),
        }
    }
    Ok(match missing.len() {
        0 => Named::No,
        1 => Named::Unknown(missing.remove(0)),
        // As Kubernetes' aggregated errors read.
        _ => Named::Unknown(format!("[{}]", missing.join(", "))),
    })
}

/// Whether the CSI driver behind a volume, if there is one, is given tokens for an audience.
async fn driver_asks_for(
    attributes: &Attributes<'_>,
    pod: &Value,
    volume: &Value,
    audience: &str,
) -> Result<bool, Status> {
    let driver = if present(&volume["ephemeral"], "volumeClaimTemplate") {
        let claim = format!("{}-{}", text(&pod["metadata"], "name"), text(volume, "name"));
        driver_of_claim(attributes, &claim).await?
    } else if present(volume, "persistentVolumeClaim") {
        driver_of_claim(attributes, text(&volume["persistentVolumeClaim"], "claimName")).await?
    } else {
        driver_of(volume)
    };
    if driver.is_empty() {
        return Ok(false);
    }
    let found = existing(attributes, "storage.k8s.io", "csidrivers", "", &driver).await?;
    let mut requests = list(&found["spec"], "tokenRequests").iter();
    Ok(requests.any(|request| text(request, "audience") == audience))
}

async fn driver_of_claim(attributes: &Attributes<'_>, claim: &str) -> Result<String, Status> {
    let claim = existing(attributes, "", "persistentvolumeclaims", attributes.cx.namespace, claim).await?;
    let name = text(&claim["spec"], "volumeName");
    Ok(driver_of(&existing(attributes, "", "persistentvolumes", "", name).await?["spec"]))
}

/// The driver that a source of a volume names; "" if none does.
fn driver_of(source: &Value) -> String {
    let named = text(&source["csi"], "driver");
    let migrated =
        || MIGRATED.iter().find(|(field, _)| present(source, field)).map_or("", |(_, driver)| driver);
    if named.is_empty() { migrated() } else { named }.to_owned()
}

async fn existing(
    attributes: &Attributes<'_>,
    group: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<Arc<Value>, Status> {
    let found = attributes.cx.objects.get(group, resource, namespace, name).await?;
    found.ok_or_else(|| Status::not_found(group, singular(resource), name))
}

/// Upstream reads these from listers, whose errors name a resource in the singular.
fn singular(resource: &str) -> &str {
    resource.strip_suffix('s').unwrap_or(resource)
}
