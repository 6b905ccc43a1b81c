//! PersistentVolumeClaimResize: only bound claims of a class that allows it grow.

use async_trait::async_trait;
use kind_rules::json::{text, truth};
use kind_rules::resource_list::amount;
use kube_objects::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};

/// The plug-in.
pub(super) struct PersistentVolumeClaimResize;

fn class(claim: &Value) -> &str {
    let annotated = text(&claim["metadata"]["annotations"], "volume.beta.kubernetes.io/storage-class");
    if annotated.is_empty() { text(&claim["spec"], "storageClassName") } else { annotated }
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Update && attributes.is("", "persistentvolumeclaims", None)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let Some(old) = attributes.old else { return Ok(()) };
        let size = |claim: &Value| amount(&claim["spec"]["resources"]["requests"]["storage"]);
        if size(object) <= size(old) {
            return Ok(());
        }
        if text(&old["status"], "phase") != "Bound" {
            let why = "Only bound persistent volume claims can be expanded";
            return Err(attributes.forbidden(object, why));
        }
        let name = class(object);
        let found = match name {
            "" => None,
            name if name != class(old) => None,
            name => attributes.cx.objects.get("storage.k8s.io", "storageclasses", "", name).await?,
        };
        if found.is_some_and(|class| truth(&class, "allowVolumeExpansion")) {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                   support resize";
        Err(attributes.forbidden(object, why))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    #[tokio::test]
    async fn claims_grow_only_where_their_class_lets_them() {
        let claim = |size: &str, class: &str, phase: &str| {
            json!({"metadata": {"name": "c"}, "spec": {"storageClassName": class,
                "resources": {"requests": {"storage": size}}}, "status": {"phase": phase}})
        };
        let group = "storage.k8s.io";
        for (old, new, wanted) in [
            (claim("1Gi", "grows", "Bound"), claim("2Gi", "grows", "Bound"), None),
            (claim("2Gi", "stays", "Bound"), claim("1Gi", "stays", "Bound"), None),
            (claim("1Gi", "grows", "Pending"), claim("2Gi", "grows", "Pending"), Some("Only bound")),
            (
                claim("1Gi", "stays", "Bound"),
                claim("2Gi", "stays", "Bound"),
                Some("only dynamically provisioned"),
            ),
            (claim("1Gi", "", "Bound"), claim("2Gi", "", "Bound"), Some("only dynamically provisioned")),
        ] {
            let grows = json!({"metadata": {"name": "grows"}, "allowVolumeExpansion": true});
            let fixture = Fixture::new()
                .with(group, "storageclasses", grows)
                .with(group, "storageclasses", json!({"metadata": {"name": "stays"}}))
                .updating(old);
            let resource = "persistentvolumeclaims";
            let run =
                fixture.run(&PersistentVolumeClaimResize, Operation::Update, "", resource, "n", new).await;
            let refused = run.err().map(|refused| refused.message);
            assert_eq!(refused.is_some(), wanted.is_some(), "{refused:?}");
            assert!(refused.unwrap_or_default().contains(wanted.unwrap_or_default()));
        }
    }
}
