//! DefaultTolerationSeconds: pods tolerate a node's short absence.

use async_trait::async_trait;
use kube_objects::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};
use kind_rules::json::{default, existing, list, text};

/// How long a pod stays on a node that is not ready, unless it says otherwise.
const TOLERATION_SECONDS: i64 = 300;

/// The plug-in.
pub(super) struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is("", "pods", None)
            && matches!(attributes.operation, Operation::Create | Operation::Update)
    }

    async fn mutate(&self, _: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        tolerate_absence(object);
        Ok(())
    }
}

fn tolerate_absence(pod: &mut Value) {
    let Some(spec) = existing(pod, "spec") else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let covered = list(spec, "tolerations").iter().any(|toleration| {
            matches!(text(toleration, "key"), own if own == key || own.is_empty())
                && matches!(text(toleration, "effect"), "" | "NoExecute")
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
    fn absence_is_tolerated_once() {
        let mut pod = json!({"spec": {}});
        tolerate_absence(&mut pod);
        tolerate_absence(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 2);
        for own in [
            json!([{"operator": "Exists"}]),
            json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
                {"key": "node.kubernetes.io/unreachable"}]),
        ] {
            let all = json!({"spec": {"tolerations": own}});
            let mut pod = all.clone();
            tolerate_absence(&mut pod);
            assert_eq!(pod, all);
        }
        let mut pod = json!({"spec": {"tolerations": [{"operator": "Exists", "effect": "NoSchedule"}]}});
        tolerate_absence(&mut pod);
        assert_eq!(pod["spec"]["tolerations"].as_array().unwrap().len(), 3);
    }
}
