//! Priority: a pod's class becomes its number; only one class is the default.

use std::sync::Arc;

use async_trait::async_trait;
use kube_objects::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use kind_rules::json::{existing, integer, present, remove, set, text, truth};

const CLASSES: (&str, &str) = ("scheduling.k8s.io", "priorityclasses");

/// The plug-in.
pub(super) struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && (attributes.is("", "pods", None) || attributes.is(CLASSES.0, CLASSES.1, None))
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if attributes.cx.resource.gvr.resource != "pods" {
            return Ok(());
        }
        match attributes.old {
            Some(old) => {
                keep(object, old);
                Ok(())
            }
            None => establish(attributes, object).await,
        }
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        if attributes.cx.resource.gvr.resource == "pods" || !truth(object, "globalDefault") {
            return Ok(());
        }
        let Some(current) = default_class(attributes).await? else { return Ok(()) };
        let name = text(&current["metadata"], "name");
        if attributes.operation == Operation::Create || name != text(&object["metadata"], "name") {
            let why =
                format!("PriorityClass {name} is already marked as default. Only one default can exist");
            return Err(attributes.forbidden(object, &why));
        }
        Ok(())
    }
}

/// An update that leaves out what was decided at creation keeps it.
fn keep(pod: &mut Value, old: &Value) {
    let Some(spec) = existing(pod, "spec") else { return };
    for key in ["priority", "preemptionPolicy"] {
        if !present(spec, key) && present(&old["spec"], key) {
            set(spec, key, old["spec"][key].clone());
        }
    }
}

/// Of several global defaults the lowest counts.
async fn default_class(attributes: &Attributes<'_>) -> Result<Option<Arc<Value>>, Status> {
    let classes = attributes.cx.objects.list(CLASSES.0, CLASSES.1, "").await?;
    Ok(classes
        .into_iter()
        .filter(|class| truth(class, "globalDefault"))
        .min_by_key(|class| integer(class, "value")))
}

async fn establish(attributes: &Attributes<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = text(&pod["spec"], "priorityClassName").to_owned();
    let class = if name.is_empty() {
        default_class(attributes).await?
    } else {
        let found = attributes.cx.objects.get(CLASSES.0, CLASSES.1, "", &name).await?;
        let missing = || attributes.forbidden(pod, &format!("no PriorityClass with name {name} was found"));
        Some(found.ok_or_else(missing)?)
    };
    let nothing = Value::Null;
    let class = class.as_deref().unwrap_or(&nothing);
    let value = integer(class, "value");
    let policy = match text(class, "preemptionPolicy") {
        "" => "PreemptLowerPriority",
        policy => policy,
    };
    let spec = &pod["spec"];
    if spec["priority"].as_i64().is_some_and(|given| given != value) {
        let why = format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller \
             computed {value} from the given PriorityClass name",
            spec["priority"]
        );
        return Err(attributes.forbidden(pod, &why));
    }
    let given = text(spec, "preemptionPolicy");
    if !given.is_empty() && given != policy {
        let why = format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
             controller computed {policy} from the given PriorityClass name"
        );
        return Err(attributes.forbidden(pod, &why));
    }
    let Some(spec) = existing(pod, "spec") else { return Ok(()) };
    set(spec, "priority", value);
    set(spec, "preemptionPolicy", policy);
    match text(&class["metadata"], "name") {
        "" => drop(remove(spec, "priorityClassName")),
        name => set(spec, "priorityClassName", name),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    fn fixture() -> Fixture {
        let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default});
        Fixture::new().with(CLASSES.0, CLASSES.1, class("high", 1000, false)).with(
            CLASSES.0,
            CLASSES.1,
            class("usual", 5, true),
        )
    }

    #[tokio::test]
    async fn a_class_becomes_a_number() {
        let fixture = fixture();
        for (spec, wanted) in [
            (json!({}), Ok((5, "usual"))),
            (json!({"priorityClassName": "high"}), Ok((1000, "high"))),
            (json!({"priorityClassName": "high", "priority": 1000}), Ok((1000, "high"))),
            (
                json!({"priorityClassName": "none"}),
                Err("pods \"p\" is forbidden: no PriorityClass with name none was found"),
            ),
            (
                json!({"priority": 7}),
                Err(
                    "pods \"p\" is forbidden: the integer value of priority (7) must not be provided in pod spec; \
                     priority admission controller computed 5 from the given PriorityClass name",
                ),
            ),
            (
                json!({"preemptionPolicy": "Never"}),
                Err(
                    "pods \"p\" is forbidden: the string value of PreemptionPolicy (Never) must not be provided in pod \
                     spec; priority admission controller computed PreemptLowerPriority from the given PriorityClass name",
                ),
            ),
        ] {
            let pod = json!({"metadata": {"name": "p"}, "spec": spec});
            let outcome = fixture.run(&Priority, Operation::Create, "", "pods", "n", pod).await;
            let found = outcome
                .as_ref()
                .map(|pod| (integer(&pod["spec"], "priority"), text(&pod["spec"], "priorityClassName")));
            assert_eq!(found.map_err(|refused| refused.message.as_str()), wanted);
        }
    }

    #[tokio::test]
    async fn one_class_is_the_default() {
        let class = json!({"metadata": {"name": "other"}, "value": 1, "globalDefault": true});
        let refused = fixture().run(&Priority, Operation::Create, CLASSES.0, CLASSES.1, "", class).await;
        assert_eq!(
            refused.unwrap_err().message,
            "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as \
             default. Only one default can exist"
        );
    }
}
