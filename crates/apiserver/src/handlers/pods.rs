//! Which container of which pod on which node a request is about.

use std::sync::Arc;

use kube_objects::{Reason, Status};
use serde_json::Value;

use super::Call;
use crate::node_connection::PodReference;
use crate::registry::strategy::Objects as _;

/// A pod and where it is.
pub(super) struct Target {
    /// The object.
    pub(super) pod: Arc<Value>,
    /// Where it is; the node is "" for a pod that has none yet.
    pub(super) reference: PodReference,
}

impl Target {
    /// Of the request's own pod.
    pub(super) async fn of(call: &Call) -> Result<Self, Status> {
        Self::named(call, &call.path.name).await
    }

    /// Of a pod in the request's namespace.
    pub(super) async fn named(call: &Call, name: &str) -> Result<Self, Status> {
        let namespace = call.namespace();
        let pod = call.server.objects.get("", "pods", namespace, name).await?;
        let pod = pod.ok_or_else(|| Status::not_found("", "pods", name))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let reference = PodReference {
            node: text(&pod["spec"]["nodeName"]),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: text(&pod["metadata"]["uid"]),
        };
        Ok(Self { pod, reference })
    }

    /// 400 for a pod that has no node yet.
    pub(super) fn bound(self) -> Result<Self, Status> {
        if self.reference.node.is_empty() {
            let message = format!("pod {} does not have a host assigned", self.reference.name);
            return Err(Status::new(Reason::BadRequest, message));
        }
        Ok(self)
    }

    /// The container that is asked for, or the only one (upstream `validateContainer`).
    pub(super) fn container(&self, wanted: Option<&str>) -> Result<String, Status> {
        let name = &self.reference.name;
        let bad = |message: String| Status::new(Reason::BadRequest, message);
        let main = self.names("containers");
        let all = [self.names("initContainers"), main.clone(), self.names("ephemeralContainers")].concat();
        match wanted {
            Some(wanted) if all.contains(&wanted) => Ok(wanted.to_owned()),
            Some(wanted) => Err(bad(format!("container {wanted} is not valid for pod {name}"))),
            None => match main.as_slice() {
                [] => Err(bad(format!("a container name must be specified for pod {name}"))),
                [only] => Ok((*only).to_owned()),
                _ => Err(bad(format!(
                    "a container name must be specified for pod {name}, choose one of: [{}]",
                    all.join(" ")
                ))),
            },
        }
    }

    fn names(&self, key: &str) -> Vec<&str> {
        let list = self.pod["spec"][key].as_array().into_iter().flatten();
        list.filter_map(|container| container["name"].as_str()).collect()
    }

    /// Why a container waits, as its status tells.
    pub(super) fn waiting(&self, container: &str) -> Option<&str> {
        let keys = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
        let statuses = keys.iter().flat_map(|key| self.pod["status"][key].as_array().into_iter().flatten());
        let mut own = statuses.filter(|status| status["name"] == container);
        own.next()?["state"]["waiting"]["reason"].as_str()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(spec: Value) -> Target {
        let reference = PodReference { name: "web".to_owned(), ..PodReference::default() };
        Target { pod: Arc::new(json!({ "spec": spec })), reference }
    }

    #[test]
    fn containers_are_chosen_as_upstream_chooses_them() {
        let one = target(json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}));
        assert_eq!(one.container(None), Ok("a".to_owned()));
        assert_eq!(one.container(Some("i")), Ok("i".to_owned()));
        let message = |target: &Target, wanted| target.container(wanted).expect_err("none").message;
        assert_eq!(message(&one, Some("x")), "container x is not valid for pod web");
        let two = target(json!({
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}],
            "ephemeralContainers": [{"name": "e"}],
        }));
        assert_eq!(
            message(&two, None),
            "a container name must be specified for pod web, choose one of: [i a b e]"
        );
        assert_eq!(two.bound().err().expect("no node").message, "pod web does not have a host assigned");
    }
}
