//! DefaultStorageClass and DefaultIngressClass: claims and ingresses that name no class get the default one.

use std::sync::Arc;

use async_trait::async_trait;
use kind_rules::json::{child, present, set, text};
use kube_objects::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};

/// DefaultStorageClass.
pub(super) struct DefaultStorageClass;

/// DefaultIngressClass.
pub(super) struct DefaultIngressClass;

const STORAGE: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];

/// The newest of the default classes; of equally old ones the first by name.
fn newest_default(classes: &[Arc<Value>], marks: &[&str]) -> Option<String> {
    let marked =
        |class: &Value| marks.iter().any(|mark| text(&class["metadata"]["annotations"], mark) == "true");
    let mut defaults: Vec<(&str, &str)> = classes
        .iter()
        .filter(|class| marked(class))
        .map(|class| (text(&class["metadata"], "creationTimestamp"), text(&class["metadata"], "name")))
        .collect();
    // Creation times are written alike, so that they sort as texts.
    defaults.sort_by(|a, b| b.0.cmp(a.0).then_with(|| a.1.cmp(b.1)));
    defaults.first().map(|(_, name)| (*name).to_owned())
}

/// Sets the field to the name of the newest default class of the resource.
async fn give_default(
    attributes: &Attributes<'_>,
    resource: (&str, &str),
    marks: &[&str],
    object: &mut Value,
    field: &str,
) -> Result<(), Status> {
    let classes = attributes.cx.objects.list(resource.0, resource.1, "").await?;
    if let Some(name) = newest_default(&classes, marks)
        && let Some(spec) = child(object, "spec")
    {
        set(spec, field, name);
    }
    Ok(())
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("", "persistentvolumeclaims", None)
    }

    async fn mutate(&self, attributes: &Attributes<'_>, claim: &mut Value) -> Result<(), Status> {
        let named = present(&claim["spec"], "storageClassName")
            || present(&claim["metadata"]["annotations"], "volume.beta.kubernetes.io/storage-class");
        if named {
            return Ok(());
        }
        let classes = ("storage.k8s.io", "storageclasses");
        give_default(attributes, classes, &STORAGE, claim, "storageClassName").await
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.operation == Operation::Create && attributes.is("networking.k8s.io", "ingresses", None)
    }

    async fn mutate(&self, attributes: &Attributes<'_>, ingress: &mut Value) -> Result<(), Status> {
        let named = present(&ingress["spec"], "ingressClassName")
            || present(&ingress["metadata"]["annotations"], "kubernetes.io/ingress.class");
        if named {
            return Ok(());
        }
        let classes = ("networking.k8s.io", "ingressclasses");
        give_default(attributes, classes, &INGRESS, ingress, "ingressClassName").await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    fn class(name: &str, created: &str, mark: &str) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {mark: "true"}}})
    }

    #[tokio::test]
    async fn the_newest_default_is_given_to_who_names_none() {
        let fixture = Fixture::new()
            .with("storage.k8s.io", "storageclasses", class("old", "2026-01-01T00:00:00Z", STORAGE[0]))
            .with("storage.k8s.io", "storageclasses", class("b", "2026-02-01T00:00:00Z", STORAGE[1]))
            .with("storage.k8s.io", "storageclasses", class("a", "2026-02-01T00:00:00Z", STORAGE[0]))
            .with("storage.k8s.io", "storageclasses", class("plain", "2026-03-01T00:00:00Z", "other"));
        for (spec, wanted) in
            [(json!({}), "a"), (json!({"storageClassName": ""}), ""), (json!({"storageClassName": "x"}), "x")]
        {
            let claim = json!({"metadata": {"name": "c"}, "spec": spec});
            let resource = "persistentvolumeclaims";
            let claim = fixture.run(&DefaultStorageClass, Operation::Create, "", resource, "n", claim).await;
            assert_eq!(claim.unwrap()["spec"]["storageClassName"], wanted);
        }
    }

    #[tokio::test]
    async fn ingresses_get_a_class() {
        let group = "networking.k8s.io";
        let front = class("front", "2026-01-01T00:00:00Z", INGRESS[0]);
        let fixture = Fixture::new().with(group, "ingressclasses", front);
        let run =
            |ingress| fixture.run(&DefaultIngressClass, Operation::Create, group, "ingresses", "n", ingress);
        let given = run(json!({"metadata": {"name": "i"}})).await.unwrap();
        assert_eq!(given["spec"]["ingressClassName"], "front");
        let old = json!({"metadata": {"name": "i", "annotations": {"kubernetes.io/ingress.class": "x"}}});
        assert!(run(old).await.unwrap()["spec"]["ingressClassName"].is_null());
    }
}
