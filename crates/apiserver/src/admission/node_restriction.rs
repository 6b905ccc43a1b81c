//! NodeRestriction: a node changes itself and what runs on it, nothing else.

use access::authorization::node;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kind_rules::json::{alike, entries, list, present, text, truth};
use kind_rules::references;
use kube_objects::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};

mod audience;

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Labels of Kubernetes' own names that a node may give itself (upstream `kubelet/apis`).
const OWN_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "node.kubernetes.io/windows-build",
];

/// The plug-in.
pub(super) struct NodeRestriction;

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let own = &attributes.cx.resource.gvr;
        let restricted = matches!(
            (own.group.as_str(), own.resource.as_str()),
            ("", "pods" | "nodes" | "persistentvolumeclaims" | "serviceaccounts")
                | ("coordination.k8s.io", "leases")
                | ("storage.k8s.io", "csinodes")
                | ("resource.k8s.io", "resourceslices")
                | ("certificates.k8s.io", "certificatesigningrequests")
        );
        restricted
            && attributes.operation != Operation::Connect
            && node::name_of(attributes.cx.user).is_some()
    }

    async fn mutate(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        let user = &attributes.cx.user.username;
        let refused = match node::name_of(attributes.cx.user).filter(|node| !node.is_empty()) {
            None => Some(format!("could not determine node from user {user:?}")),
            Some(node) => refusal(attributes, object, node).await?,
        };
        match refused {
            Some(why) => Err(attributes.forbidden(object, &why)),
            None => Ok(()),
        }
    }
}

/// Why `node` may not do this; `None`: it may.
async fn refusal(attributes: &Attributes<'_>, object: &Value, node: &str) -> Result<Option<String>, Status> {
    let cx = &attributes.cx;
    Ok(match (cx.resource.gvr.resource.as_str(), cx.subresource) {
        ("pods", None) => pod(attributes, object, node).await?,
        ("pods", Some("status")) => pod_status(attributes, object, node),
        ("pods", Some("eviction")) => {
            let found = cx.objects.get("", "pods", cx.namespace, cx.name).await?;
            let found = found.ok_or_else(|| Status::not_found("", "pods", cx.name))?;
            (text(&found["spec"], "nodeName") != node)
                .then(|| format!("node {node} can only evict pods with spec.nodeName set to itself"))
        }
        ("pods", Some(other)) => {
            Some(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
        }
        ("nodes", _) => own_node(attributes, object, node),
        ("persistentvolumeclaims", Some("status")) => claim_status(attributes, object, node),
        ("persistentvolumeclaims", _) => Some("may only update PVC status".to_owned()),
        ("serviceaccounts", Some("token")) => token(attributes, object, node).await?,
        ("leases", _) => lease(attributes, node),
        ("csinodes", _) => named(attributes, object, node, "CSINode"),
        ("resourceslices", _) => slice(attributes, object, node),
        ("certificatesigningrequests", None) => signing_request(attributes, object, node),
        _ => None,
    })
}

async fn pod(attributes: &Attributes<'_>, pod: &Value, node: &str) -> Result<Option<String>, Status> {
    match attributes.operation {
        Operation::Create => mirror(attributes, pod, node).await,
        Operation::Delete => {
            let own = attributes.old.is_some_and(|old| text(&old["spec"], "nodeName") == node);
            Ok((!own).then(|| format!("node {node:?} can only delete pods with spec.nodeName set to itself")))
        }
        other => Ok(Some(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            other.as_str()
        ))),
    }
}

async fn mirror(attributes: &Attributes<'_>, pod: &Value, node: &str) -> Result<Option<String>, Status> {
    let only = |what: &str| Ok(Some(format!("node {node:?} can only create pods with {what}")));
    if !present(&pod["metadata"]["annotations"], MIRROR) {
        return Ok(Some(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        )));
    }
    if text(&pod["spec"], "nodeName") != node {
        return only("spec.nodeName set to itself");
    }
    let owner = match list(&pod["metadata"], "ownerReferences") {
        [] => return only("an owner reference set to itself"),
        [owner] => owner,
        _ => return only("a single owner reference set to itself"),
    };
    let own =
        text(owner, "apiVersion") == "v1" && text(owner, "kind") == "Node" && text(owner, "name") == node;
    if !own {
        return only("an owner reference set to itself");
    }
    if !truth(owner, "controller") {
        return only("a controller owner reference set to itself");
    }
    if truth(owner, "blockOwnerDeletion") {
        return Ok(Some(format!("node {node:?} must not set blockOwnerDeletion on an owner reference")));
    }
    let found = attributes.cx.objects.get("", "nodes", "", node).await?;
    let found = found.ok_or_else(|| Status::not_found("", "nodes", node))?;
    let (expected, uid) = (text(owner, "uid"), text(&found["metadata"], "uid"));
    if expected != uid {
        return Ok(Some(format!("node {node} UID mismatch: expected {expected} got {uid}")));
    }
    Ok(match references::api_reference(&pod["spec"]) {
        Ok(None) => None,
        Ok(Some(what)) => Some(format!("node {node:?} can not create pods that reference {what}")),
        Err(why) => Some(format!("error checking mirror pod for API references: {why}")),
    })
}

fn pod_status(attributes: &Attributes<'_>, pod: &Value, node: &str) -> Option<String> {
    let Some(old) = attributes.old else {
        return Some(format!("unexpected operation {:?}", attributes.operation.as_str()));
    };
    if text(&old["spec"], "nodeName") != node {
        return Some(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if old["metadata"]["labels"] != pod["metadata"]["labels"] {
        return Some(format!("node {node:?} cannot update labels through pod status"));
    }
    let differs = |key: &str| !alike(old["status"].get(key), pod["status"].get(key));
    if differs("resourceClaimStatuses") {
        return Some(format!("node {node:?} cannot update resource claim statues"));
    }
    differs("extendedResourceClaimStatus")
        .then(|| format!("node {node:?} cannot update extended resource claim status"))
}

fn own_node(attributes: &Attributes<'_>, object: &Value, node: &str) -> Option<String> {
    let name = attributes.shown_name(object);
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let nothing = Value::Null;
    let old = match attributes.operation {
        Operation::Create => &nothing,
        Operation::Update => attributes.old.unwrap_or(&nothing),
        _ => return None,
    };
    if !old.is_null() {
        if old["spec"]["taints"] != object["spec"]["taints"] {
            return Some(format!("node {node:?} is not allowed to modify taints"));
        }
        if old["metadata"]["ownerReferences"] != object["metadata"]["ownerReferences"] {
            return Some(format!("node {node:?} is not allowed to modify ownerReferences"));
        }
    }
    let (new, old_labels) = (&object["metadata"], &old["metadata"]);
    let mut changed: Vec<&str> = entries(new, "labels")
        .filter(|(key, value)| old_labels["labels"].get(key.as_str()) != Some(*value))
        .chain(entries(old_labels, "labels").filter(|(key, _)| !present(&new["labels"], key)))
        .map(|(key, _)| key.as_str())
        .filter(|key| !may_label(key))
        .collect();
    changed.sort_unstable();
    if changed.is_empty() {
        return None;
    }
    let labels = changed.join(", ");
    Some(if old.is_null() {
        format!("node {node:?} is not allowed to set the following labels: {labels}")
    } else {
        format!("is not allowed to modify labels: {labels}")
    })
}

/// Whether a node may set a label on itself.
fn may_label(key: &str) -> bool {
    let prefix = key.split_once('/').map_or("", |(prefix, _)| prefix);
    let below = |domain: &str| prefix == domain || prefix.ends_with(&format!(".{domain}"));
    if below("node-restriction.kubernetes.io") {
        return false;
    }
    if !below("kubernetes.io") && !below("k8s.io") {
        return true;
    }
    OWN_LABELS.contains(&key) || below("kubelet.kubernetes.io") || below("node.kubernetes.io")
}

fn claim_status(attributes: &Attributes<'_>, claim: &Value, node: &str) -> Option<String> {
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for (part, keys) in [
            ("metadata", &["resourceVersion", "managedFields"][..]),
            ("status", &["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"]),
        ] {
            for key in keys {
                kind_rules::json::remove(&mut claim[part], key);
            }
        }
        claim
    };
    let same = attributes.old.is_some_and(|old| rest(old) == rest(claim));
    (!same).then(|| {
        format!(
            "node {node:?} is not allowed to update fields other than status.quantity and status.conditions"
        )
    })
}

async fn token(attributes: &Attributes<'_>, request: &Value, node: &str) -> Result<Option<String>, Status> {
    let cx = &attributes.cx;
    let reference = &request["spec"]["boundObjectRef"];
    let (name, uid) = (text(reference, "name"), text(reference, "uid"));
    if text(reference, "apiVersion") != "v1" || text(reference, "kind") != "Pod" || name.is_empty() {
        return Ok(Some("node requested token not bound to a pod".to_owned()));
    }
    if uid.is_empty() {
        return Ok(Some("node requested token with a pod binding without a uid".to_owned()));
    }
    let pod = cx.objects.get("", "pods", cx.namespace, name).await?;
    let pod = pod.ok_or_else(|| Status::not_found("", "pods", name))?;
    if text(&pod["metadata"], "uid") != uid {
        return Ok(Some(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been \
             deleted and then recreated"
        )));
    }
    if text(&pod["spec"], "nodeName") != node {
        return Ok(Some("node requested token bound to a pod scheduled on a different node".to_owned()));
    }
    audience::refusal(attributes, request, &pod).await
}

fn lease(attributes: &Attributes<'_>, node: &str) -> Option<String> {
    let cx = &attributes.cx;
    if cx.namespace != "kube-node-lease" {
        return Some("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    (cx.name != node)
        .then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

/// What a change does to a slice is the authorizer's to judge; it sees neither what is created nor each of those that a
/// deletecollection takes.
fn slice(attributes: &Attributes<'_>, slice: &Value, node: &str) -> Option<String> {
    let (slice, verb) = match attributes.operation {
        Operation::Create => (slice, "create"),
        Operation::Delete => (attributes.old.unwrap_or(&Value::Null), "delete"),
        _ => return None,
    };
    (text(&slice["spec"], "nodeName") != node)
        .then(|| format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

/// A node asks for certificates in its own name only.
fn signing_request(attributes: &Attributes<'_>, request: &Value, node: &str) -> Option<String> {
    const NODE_SIGNERS: [&str; 2] =
        ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
    let spec = &request["spec"];
    if attributes.operation != Operation::Create || !NODE_SIGNERS.contains(&text(spec, "signerName")) {
        return None;
    }
    let decoded = STANDARD.decode(text(spec, "request")).ok().and_then(|pem| String::from_utf8(pem).ok());
    let read = decoded.ok_or_else(|| "it is no text".to_owned());
    let read =
        read.and_then(|pem| access::certificates::read_request(&pem).map_err(|error| error.to_string()));
    match read {
        Err(why) => Some(format!("unable to parse csr: {why}")),
        Ok(found) if found.common_name != format!("system:node:{node}") => {
            Some(format!("can only create a node CSR with CN=system:node:{node}"))
        }
        Ok(_) => None,
    }
}

fn named(attributes: &Attributes<'_>, object: &Value, node: &str, kind: &str) -> Option<String> {
    (attributes.shown_name(object) != node)
        .then(|| format!("can only access {kind} with the same name as the requesting node"))
}

#[cfg(test)]
mod tests {
    use kube_objects::UserInfo;
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    fn fixture() -> Fixture {
        let node = json!({"metadata": {"name": "n1", "uid": "u1"}});
        let pod =
            json!({"metadata": {"name": "p", "namespace": "n", "uid": "pu"}, "spec": {"nodeName": "n1"}});
        let user = UserInfo::node("n1");
        Fixture::new().with("", "nodes", node).with("", "pods", pod).by(user)
    }

    async fn told(fixture: Fixture, operation: Operation, resource: &str, object: Value) -> Option<String> {
        let group = if resource == "resourceslices" { "resource.k8s.io" } else { "" };
        let run = fixture.run(&NodeRestriction, operation, group, resource, "n", object).await;
        run.err().map(|refused| refused.message.split("forbidden: ").last().unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn a_node_keeps_to_itself() {
        let create = Operation::Create;
        let mirror = |uid: &str| {
            json!({"metadata": {"name": "m", "annotations": {MIRROR: "x"}, "ownerReferences":
                [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true}]}, "spec": {"nodeName": "n1"}})
        };
        assert_eq!(told(fixture(), create, "pods", mirror("u1")).await, None);
        assert_eq!(
            told(fixture(), create, "pods", mirror("other")).await.unwrap(),
            "node n1 UID mismatch: expected other got u1"
        );
        assert_eq!(
            told(fixture(), create, "pods", json!({"metadata": {"name": "x"}})).await.unwrap(),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods"
        );
        assert_eq!(
            told(fixture(), create, "nodes", json!({"metadata": {"name": "n2"}})).await.unwrap(),
            "node \"n1\" is not allowed to modify node \"n2\""
        );
        let labelled = |label: &str| json!({"metadata": {"name": "n1", "labels": {label: "x"}}});
        for label in ["mine", "example.com/a", "kubernetes.io/hostname", "a.kubelet.kubernetes.io/b"] {
            assert_eq!(told(fixture(), create, "nodes", labelled(label)).await, None, "{label}");
        }
        for label in [
            "node-restriction.kubernetes.io/a",
            "a.node-restriction.kubernetes.io/b",
            "kubernetes.io/role",
            "a.k8s.io/b",
        ] {
            assert_eq!(
                told(fixture(), create, "nodes", labelled(label)).await.unwrap(),
                format!("node \"n1\" is not allowed to set the following labels: {label}")
            );
        }
        let old = json!({"metadata": {"name": "n1"}});
        let tainted = json!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "a"}]}});
        assert_eq!(
            told(fixture().updating(old), Operation::Update, "nodes", tainted).await.unwrap(),
            "node \"n1\" is not allowed to modify taints"
        );
    }

    #[tokio::test]
    async fn a_mirror_pod_refers_to_nothing_and_slices_are_the_nodes_own() {
        let pod = json!({"metadata": {"name": "m", "annotations": {MIRROR: "x"}, "ownerReferences":
            [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": true}]},
            "spec": {"nodeName": "n1", "volumes": [{"name": "v", "secret": {"secretName": "s"}}]}});
        assert_eq!(
            told(fixture(), Operation::Create, "pods", pod).await.unwrap(),
            "node \"n1\" can not create pods that reference secrets"
        );
        let slice = |node: &str| json!({"metadata": {"name": "s"}, "spec": {"nodeName": node}});
        let ask = |node: &str| told(fixture(), Operation::Create, "resourceslices", slice(node));
        assert_eq!(ask("n1").await, None);
        assert_eq!(
            ask("n2").await.unwrap(),
            "can only create ResourceSlice with the same NodeName as the requesting node"
        );
    }

    #[tokio::test]
    async fn tokens_are_for_pods_on_the_node() {
        let request = |uid: &str| json!({"metadata": {"name": "sa"}, "spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}});
        let ask = |request| told(fixture().at("token"), Operation::Create, "serviceaccounts", request);
        assert_eq!(ask(request("pu")).await, None);
        assert_eq!(ask(json!({})).await.unwrap(), "node requested token not bound to a pod");
        assert!(
            ask(request("old")).await.unwrap().starts_with("the UID in the bound object reference (old)")
        );
        let other = Fixture::new().by(UserInfo::new("somebody", &["system:authenticated"])).at("token");
        assert_eq!(
            told(other, Operation::Create, "serviceaccounts", json!({})).await,
            None,
            "only nodes are held to it"
        );
    }

    /// Volumes of each sort, and the audiences that a node may have tokens for because of them.
    #[tokio::test]
    async fn tokens_are_for_audiences_that_the_pod_names() {
        let api = "rbac.authorization.k8s.io";
        let objects = [
            json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRole", "metadata": {"name": "r"},
                "rules": [{"apiGroups": [""], "resources": ["granted"], "verbs": ["request-serviceaccounts-token-audience"]}]}),
            json!({"apiVersion": format!("{api}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
                "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "r"},
                "subjects": [{"apiGroup": api, "kind": "Group", "name": "system:nodes"}]}),
        ];
        let volumes = json!([
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}},
            {"name": "inline", "csi": {"driver": "d"}},
            {"name": "old", "awsElasticBlockStore": {"volumeID": "v"}},
            {"name": "claim", "persistentVolumeClaim": {"claimName": "c"}},
        ]);
        let driver = |name: &str, audience: &str| json!({"metadata": {"name": name}, "spec": {"tokenRequests": [{"audience": audience}]}});
        let ask = async |pod: &Value, audiences: Value| {
            let mut fixture = Fixture::new()
                .with("", "pods", pod.clone())
                .with("storage.k8s.io", "csidrivers", driver("d", "of-d"))
                .with("storage.k8s.io", "csidrivers", driver("ebs.csi.aws.com", "of-ebs"))
                .with("storage.k8s.io", "csidrivers", driver("bound", "of-bound"))
                .with(
                    "",
                    "persistentvolumeclaims",
                    json!({"metadata": {"name": "c", "namespace": "n"}, "spec": {"volumeName": "pv"}}),
                )
                .with(
                    "",
                    "persistentvolumes",
                    json!({"metadata": {"name": "pv"}, "spec": {"csi": {"driver": "bound"}}}),
                )
                .by(UserInfo::node("n1"))
                .at("token");
            let authorizer = access::Authorizer::new();
            authorizer.apply_all(objects.iter()).unwrap();
            fixture.authorizer = Some(authorizer);
            let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pu"});
            let request = json!({"metadata": {"name": "sa"}, "spec": {"boundObjectRef": reference, "audiences": audiences}});
            told(fixture, Operation::Create, "serviceaccounts", request).await
        };
        let pod = |volumes: &Value| json!({"metadata": {"name": "p", "namespace": "n", "uid": "pu"}, "spec": {"nodeName": "n1", "volumes": volumes}});
        for audience in ["vault", "of-d", "of-ebs", "of-bound", "granted"] {
            assert_eq!(ask(&pod(&volumes), json!([audience])).await, None, "{audience}");
        }
        assert_eq!(
            ask(&pod(&volumes), json!(["other"])).await.unwrap(),
            "audience \"other\" not found in pod spec volume, system:node:n1 is not authorized to request tokens for this audience"
        );
        assert_eq!(
            ask(&pod(&volumes), json!(["a", "b"])).await.unwrap(),
            "node may only request 0 or 1 audiences"
        );
        let missing = json!([{"name": "claim", "persistentVolumeClaim": {"claimName": "gone"}}]);
        assert_eq!(
            ask(&pod(&missing), json!(["other"])).await.unwrap(),
            "error validating audience \"other\": persistentvolumeclaim \"gone\" not found"
        );
        let own =
            json!([{"name": "api", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]);
        assert_eq!(ask(&pod(&own), json!([])).await, None, "what every pod is given");
    }
}
