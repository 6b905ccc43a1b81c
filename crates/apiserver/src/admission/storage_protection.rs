//! StorageObjectInUseProtection: claims and volumes stay until nothing uses them; controllers take the finalizers off.

use async_trait::async_trait;
use kind_rules::json::{child, default};
use kube_objects::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};

/// The plug-in.
pub(super) struct StorageObjectInUseProtection;

fn finalizer(attributes: &Attributes<'_>) -> Option<&'static str> {
    if attributes.is("", "persistentvolumeclaims", None) {
        Some("kubernetes.io/pvc-protection")
    } else if attributes.is("", "persistentvolumes", None) {
        Some("kubernetes.io/pv-protection")
    } else {
        None
    }
}

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && finalizer(attributes).is_some()
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let Some(finalizer) = finalizer(attributes) else { return Ok(()) };
        let Some(metadata) = child(object, "metadata") else { return Ok(()) };
        default(metadata, "finalizers", json!([]));
        if let Some(list) = metadata.get_mut("finalizers").and_then(Value::as_array_mut)
            && !list.iter().any(|own| own == finalizer)
        {
            list.push(finalizer.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    #[tokio::test]
    async fn claims_and_volumes_are_held_once() {
        for (resource, wanted) in [
            ("persistentvolumeclaims", "kubernetes.io/pvc-protection"),
            ("persistentvolumes", "kubernetes.io/pv-protection"),
        ] {
            let run = |object| async {
                Fixture::new()
                    .run(&StorageObjectInUseProtection, Operation::Create, "", resource, "", object)
                    .await
                    .unwrap()
            };
            let once = run(json!({"metadata": {"name": "a", "finalizers": ["a/b"]}})).await;
            assert_eq!(once["metadata"]["finalizers"], json!(["a/b", wanted]));
            assert_eq!(run(once.clone()).await, once);
        }
    }
}
