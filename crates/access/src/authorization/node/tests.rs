use super::super::{Authorizer, FieldRequirement};
use super::*;

/// What belongs to node `n1`; `n2` has nothing but its name.
struct Table;

impl Relations for Table {
    fn related(&self, node: &str, kind: Related, namespace: &str, name: &str) -> bool {
        node == "n1" && name == "own" && (namespace == "a" || cluster_wide(kind) && namespace.is_empty())
    }
}

fn cluster_wide(kind: Related) -> bool {
    matches!(kind, Related::PersistentVolume | Related::VolumeAttachment | Related::ResourceSlice)
}

fn authorizer() -> Authorizer {
    let authorizer = Authorizer::new();
    authorizer.apply_all(&crate::bootstrap::objects()).unwrap();
    authorizer.set_relations(Arc::new(Table));
    authorizer
}

/// `VERB GROUP RESOURCE[/SUBRESOURCE] NAMESPACE NAME`, a dash for "".
fn request(text: &str) -> Attributes {
    let words: Vec<&str> = text.split(' ').map(|word| if word == "-" { "" } else { word }).collect();
    let [verb, group, resource, namespace, name] = words.as_slice() else { panic!("{text}") };
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Attributes::resource(verb, group, resource, namespace, name).with_subresource(subresource)
}

/// Upstream's documented behaviour: <https://kubernetes.io/docs/reference/access-authn-authz/node/>, and what its
/// authorizer says where it does not allow.
#[test]
fn nodes_reach_what_is_theirs() {
    const UNRELATED: &str = "no relationship found between node 'n1' and this object";
    let table: &[(&str, Result<(), &str>)] = &[
        // Reads that are the same for every node.
        ("list - services - -", Ok(())),
        ("watch - services - -", Ok(())),
        ("get - endpoints a any", Ok(())),
        ("list storage.k8s.io csidrivers - -", Ok(())),
        ("list node.k8s.io runtimeclasses - -", Ok(())),
        ("create authentication.k8s.io tokenreviews - -", Ok(())),
        ("create authorization.k8s.io subjectaccessreviews - -", Ok(())),
        ("create certificates.k8s.io certificatesigningrequests - -", Ok(())),
        ("create - events a -", Ok(())),
        ("patch events.k8s.io events a x", Ok(())),
        ("delete - services a own", Err("")),
        ("create apps deployments a -", Err("")),
        ("list - namespaces - -", Err("")),
        // Secrets and config maps: only those that pods of the node refer to, one by one.
        ("get - secrets a own", Ok(())),
        ("list - secrets a own", Ok(())),
        ("watch - configmaps a own", Ok(())),
        ("get - secrets a other", Err(UNRELATED)),
        ("get - secrets b own", Err(UNRELATED)),
        ("list - secrets a -", Err("No Object name found")),
        ("list - secrets - -", Err("can only read namespaced object of this type")),
        ("update - secrets a own", Err("can only read resources of this type")),
        ("delete - configmaps a own", Err("can only read resources of this type")),
        ("get - configmaps/status a own", Err("cannot read subresource")),
        // Claims and volumes.
        ("get - persistentvolumeclaims a own", Ok(())),
        ("get - persistentvolumeclaims a other", Err(UNRELATED)),
        ("list - persistentvolumeclaims a own", Err("can only get individual resources of this type")),
        ("patch - persistentvolumeclaims/status a own", Ok(())),
        ("update - persistentvolumeclaims/status a other", Err(UNRELATED)),
        ("get - persistentvolumeclaims/status a own", Err("can only get/update/patch this type")),
        ("get - persistentvolumes - own", Ok(())),
        ("get - persistentvolumes - other", Err(UNRELATED)),
        ("delete - persistentvolumes - own", Err("can only get individual resources of this type")),
        ("get storage.k8s.io volumeattachments - own", Ok(())),
        ("get storage.k8s.io volumeattachments - other", Err(UNRELATED)),
        ("get resource.k8s.io resourceclaims a own", Ok(())),
        ("get resource.k8s.io resourceclaims/status a own", Err("cannot get subresource")),
        // Accounts.
        ("get - serviceaccounts a own", Ok(())),
        ("get - serviceaccounts a other", Err(UNRELATED)),
        ("create - serviceaccounts/token a own", Ok(())),
        ("create - serviceaccounts/token a other", Err(UNRELATED)),
        ("create - serviceaccounts a own", Err("can only create token subresource of serviceaccount")),
        ("create - serviceaccounts/token a -", Err("can only create tokens for individual service accounts")),
        ("list - serviceaccounts a -", Err("can only create tokens for individual service accounts")),
        // Leases and CSINodes: those of the node's own name.
        ("get coordination.k8s.io leases kube-node-lease n1", Ok(())),
        ("create coordination.k8s.io leases kube-node-lease -", Ok(())),
        (
            "update coordination.k8s.io leases kube-node-lease n2",
            Err("can only access node lease with the same name as the requesting node"),
        ),
        (
            "get coordination.k8s.io leases kube-system n1",
            Err("can only access leases in the \"kube-node-lease\" system namespace"),
        ),
        (
            "list coordination.k8s.io leases kube-node-lease -",
            Err("can only get, create, update, patch, or delete a node lease"),
        ),
        ("patch storage.k8s.io csinodes - n1", Ok(())),
        ("create storage.k8s.io csinodes - -", Ok(())),
        (
            "get storage.k8s.io csinodes - n2",
            Err("can only access CSINode with the same name as the requesting node"),
        ),
        (
            "watch storage.k8s.io csinodes - n1",
            Err("can only get, create, update, patch, or delete a CSINode"),
        ),
        // Its own Node, and pods that are bound to it.
        ("get - nodes - n1", Ok(())),
        ("watch - nodes - n1", Ok(())),
        ("create - nodes - -", Ok(())),
        ("patch - nodes/status - n1", Ok(())),
        ("get - nodes - n2", Err("node 'n1' cannot read 'n2', only its own Node object")),
        ("list - nodes - -", Err("node 'n1' cannot read all nodes, only its own Node object")),
        ("delete - nodes - n1", Err("")),
        ("get - nodes/proxy - n1", Err("")),
        ("get - pods a own", Ok(())),
        ("watch - pods a own", Ok(())),
        ("get - pods a other", Err(UNRELATED)),
        ("list - pods - -", Err("can only list/watch pods with spec.nodeName field selector")),
        ("create - pods a -", Ok(())),
        ("delete - pods a other", Ok(())),
        ("patch - pods/status a other", Ok(())),
        ("create - pods/eviction a other", Ok(())),
        ("update - pods a own", Err("")),
        ("create - pods/exec a own", Err("")),
        ("create - pods/binding a own", Err("")),
        // Resource slices.
        ("create resource.k8s.io resourceslices - -", Ok(())),
        ("delete resource.k8s.io resourceslices - own", Ok(())),
        ("update resource.k8s.io resourceslices - other", Err(UNRELATED)),
        (
            "list resource.k8s.io resourceslices - -",
            Err("can only list/watch/deletecollection resourceslices with nodeName field selector"),
        ),
        (
            "get resource.k8s.io resourceslices/status - own",
            Err("cannot authorize ResourceSlice subresources"),
        ),
        ("get certificates.k8s.io podcertificaterequests a own", Err("")),
    ];
    let (authorizer, user) = (authorizer(), UserInfo::node("n1"));
    for (text, expected) in table {
        let decision = authorizer.authorize(&user, &request(text));
        let found = if decision.allowed { Ok(()) } else { Err(decision.reason.as_str()) };
        assert_eq!(found, *expected, "{text}");
    }
}

#[test]
fn a_selector_of_the_node_narrows_lists_to_it() {
    let (authorizer, user) = (authorizer(), UserInfo::node("n1"));
    let may = |text: &str, equals: bool, value: &str| {
        let mut attributes = request(text);
        let term = FieldRequirement { field: "spec.nodeName".to_owned(), equals, value: value.to_owned() };
        attributes.field_selector = vec![term];
        authorizer.authorize(&user, &attributes).allowed
    };
    for text in ["list - pods - -", "watch - pods a -", "deletecollection resource.k8s.io resourceslices - -"]
    {
        assert!(may(text, true, "n1"), "{text}");
        assert!(!may(text, true, "n2") && !may(text, false, "n1"), "{text}");
    }
}

#[test]
fn only_name_and_group_together_make_a_node() {
    let authorizer = authorizer();
    let secret = request("get - secrets a own");
    let told = |user: &UserInfo| authorizer.authorize(user, &secret);
    assert!(!told(&UserInfo::new("system:node:n1", &["system:authenticated"])).allowed);
    assert!(!told(&UserInfo::new("n1", &[NODES])).allowed);
    let nameless = told(&UserInfo::node(""));
    assert_eq!(nameless.reason, "unknown node for user \"system:node:\"");
    // What RBAC grants a node comes on top.
    let rbac = serde_json::json!({"kind": "ClusterRoleBinding", "metadata": {"name": "more"}, "roleRef": {"kind": "ClusterRole",
        "name": "view"}, "subjects": [{"kind": "User", "name": "system:node:n1"}]});
    assert!(!authorizer.authorize(&UserInfo::node("n1"), &request("list - pods - -")).allowed);
    authorizer.apply(&rbac).unwrap();
    assert!(authorizer.authorize(&UserInfo::node("n1"), &request("list - pods - -")).allowed);
    let listed = authorizer.rules_for(&UserInfo::node("n1"), "a");
    assert_eq!(listed.errors, ["node authorizer does not support user rule resolution"]);
}
