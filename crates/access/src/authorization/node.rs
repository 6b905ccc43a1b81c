//! What nodes may do (upstream `plugin/pkg/auth/authorizer/node`): everything that is the same for all nodes by the rules
//! of the ClusterRole `system:node`, and of secrets, config maps, claims, volumes, accounts, leases and the like only what
//! belongs to the node itself.
//!
//! What belongs to whom is asked of [`Relations`], which the API server answers from its caches; nothing is kept here.

use std::fmt;
use std::sync::Arc;

use kube_objects::UserInfo;

use super::{Attributes, Decision, PolicyRule};

/// The group that every node is in.
pub const NODES: &str = "system:nodes";
/// What node names stand behind in user names.
const USER_PREFIX: &str = "system:node:";
/// Where nodes keep their leases.
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// The node that `user` is; `None` for anybody else. Both the name and the group make a node; the name may be "", which is
/// a node that nothing belongs to.
#[must_use]
pub fn name_of(user: &UserInfo) -> Option<&str> {
    user.username.strip_prefix(USER_PREFIX).filter(|_| user.in_group(NODES))
}

/// What can belong to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Related {
    /// `pods`: those that are bound to it.
    Pod,
    /// `secrets`: of its pods, and of the volumes its pods claim.
    Secret,
    /// `configmaps` of its pods.
    ConfigMap,
    /// `serviceaccounts` of its pods.
    ServiceAccount,
    /// `persistentvolumeclaims` of its pods.
    PersistentVolumeClaim,
    /// `persistentvolumes` that its pods claim.
    PersistentVolume,
    /// `resourceclaims` of its pods.
    ResourceClaim,
    /// `volumeattachments` to it.
    VolumeAttachment,
    /// `resourceslices` of its own devices.
    ResourceSlice,
}

/// Answers what belongs to a node now.
pub trait Relations: Send + Sync + 'static {
    /// Whether the object belongs to `node`; `namespace` is "" for cluster-wide kinds. Must not block on anything but
    /// memory: requests wait for it.
    fn related(&self, node: &str, kind: Related, namespace: &str, name: &str) -> bool;
}

/// Authorizes nodes.
pub(super) struct NodeAuthorizer {
    rules: Vec<PolicyRule>,
    relations: Arc<dyn Relations>,
}

impl fmt::Debug for NodeAuthorizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeAuthorizer")
    }
}

fn allow() -> Decision {
    Decision { allowed: true, reason: String::new() }
}

fn pass(reason: impl Into<String>) -> Decision {
    Decision { allowed: false, reason: reason.into() }
}

impl NodeAuthorizer {
    pub(super) fn new(relations: Arc<dyn Relations>) -> Self {
        Self { rules: crate::bootstrap::node_rules(), relations }
    }

    /// Not allowed means: no opinion.
    pub(super) fn authorize(&self, user: &UserInfo, request: &Attributes) -> Decision {
        let Some(node) = name_of(user) else { return pass("") };
        if node.is_empty() {
            return pass(format!("unknown node for user {:?}", user.username));
        }
        if request.path.is_some() {
            return self.by_rules(request);
        }
        match (request.group.as_str(), request.resource.as_str()) {
            ("", "secrets") => self.read(node, Related::Secret, request),
            ("", "configmaps") => self.read(node, Related::ConfigMap, request),
            ("", "persistentvolumeclaims") if request.subresource == "status" => {
                if matches!(request.verb.as_str(), "update" | "patch") {
                    self.own(node, Related::PersistentVolumeClaim, request)
                } else {
                    pass("can only get/update/patch this type")
                }
            }
            ("", "persistentvolumeclaims") => self.get(node, Related::PersistentVolumeClaim, request),
            ("", "persistentvolumes") => self.get(node, Related::PersistentVolume, request),
            ("resource.k8s.io", "resourceclaims") => self.get(node, Related::ResourceClaim, request),
            ("storage.k8s.io", "volumeattachments") => self.get(node, Related::VolumeAttachment, request),
            ("", "serviceaccounts") => self.account(node, request),
            ("coordination.k8s.io", "leases") => lease(node, request),
            ("storage.k8s.io", "csinodes") => csi_node(node, request),
            ("resource.k8s.io", "resourceslices") => self.slice(node, request),
            ("", "nodes") => own_node(node, request),
            ("", "pods") => self.pod(node, request),
            // Served behind a feature gate that is off by default.
            ("certificates.k8s.io", "podcertificaterequests") => pass(""),
            _ => self.by_rules(request),
        }
    }

    fn by_rules(&self, request: &Attributes) -> Decision {
        if self.rules.iter().any(|rule| rule.allows(request)) { allow() } else { pass("") }
    }

    fn own(&self, node: &str, kind: Related, request: &Attributes) -> Decision {
        if request.name.is_empty() {
            return pass("No Object name found");
        }
        if self.relations.related(node, kind, &request.namespace, &request.name) {
            return allow();
        }
        pass(format!("no relationship found between node '{node}' and this object"))
    }

    fn get(&self, node: &str, kind: Related, request: &Attributes) -> Decision {
        if request.verb != "get" {
            return pass("can only get individual resources of this type");
        }
        if !request.subresource.is_empty() {
            return pass("cannot get subresource");
        }
        self.own(node, kind, request)
    }

    fn read(&self, node: &str, kind: Related, request: &Attributes) -> Decision {
        if !matches!(request.verb.as_str(), "get" | "list" | "watch") {
            return pass("can only read resources of this type");
        }
        if !request.subresource.is_empty() {
            return pass("cannot read subresource");
        }
        if request.namespace.is_empty() {
            return pass("can only read namespaced object of this type");
        }
        self.own(node, kind, request)
    }

    fn account(&self, node: &str, request: &Attributes) -> Decision {
        if request.verb == "get" && request.subresource.is_empty() {
            return self.read(node, Related::ServiceAccount, request);
        }
        if request.verb != "create" || request.name.is_empty() {
            return pass("can only create tokens for individual service accounts");
        }
        if request.subresource != "token" {
            return pass("can only create token subresource of serviceaccount");
        }
        self.own(node, Related::ServiceAccount, request)
    }

    fn slice(&self, node: &str, request: &Attributes) -> Decision {
        if !request.subresource.is_empty() {
            return pass("cannot authorize ResourceSlice subresources");
        }
        match request.verb.as_str() {
            // NodeRestriction looks at what is created.
            "create" => allow(),
            "get" | "update" | "patch" | "delete" => self.own(node, Related::ResourceSlice, request),
            "watch" | "list" | "deletecollection" if selects(request, "spec.nodeName", node) => allow(),
            "watch" | "list" | "deletecollection" => {
                pass("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => pass(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection",
            ),
        }
    }

    fn pod(&self, node: &str, request: &Attributes) -> Decision {
        match (request.subresource.as_str(), request.verb.as_str()) {
            ("", "get") => self.get(node, Related::Pod, request),
            ("", "list" | "watch") if selects(request, "spec.nodeName", node) => allow(),
            ("", "list" | "watch") if !request.name.is_empty() => self.own(node, Related::Pod, request),
            ("", "list" | "watch") => pass("can only list/watch pods with spec.nodeName field selector"),
            // NodeRestriction sees to it that these are mirror pods, and pods of the node.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allow(),
            _ => pass(""),
        }
    }
}

fn selects(request: &Attributes, field: &str, value: &str) -> bool {
    request.field_selector.iter().any(|term| term.equals && term.field == field && term.value == value)
}

/// The name of what is created is not known here: NodeRestriction looks at it.
fn lease(node: &str, request: &Attributes) -> Decision {
    if !matches!(request.verb.as_str(), "get" | "create" | "update" | "patch" | "delete") {
        return pass("can only get, create, update, patch, or delete a node lease");
    }
    if request.namespace != LEASE_NAMESPACE {
        return pass(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    if request.verb != "create" && request.name != node {
        return pass("can only access node lease with the same name as the requesting node");
    }
    allow()
}

fn csi_node(node: &str, request: &Attributes) -> Decision {
    if !matches!(request.verb.as_str(), "get" | "create" | "update" | "patch" | "delete") {
        return pass("can only get, create, update, patch, or delete a CSINode");
    }
    if !request.subresource.is_empty() {
        return pass("cannot authorize CSINode subresources");
    }
    if request.verb != "create" && request.name != node {
        return pass("can only access CSINode with the same name as the requesting node");
    }
    allow()
}

fn own_node(node: &str, request: &Attributes) -> Decision {
    match (request.subresource.as_str(), request.verb.as_str()) {
        // NodeRestriction sees to it that it is the node's own object.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allow(),
        // By name alone, for a node asks for its object before there is one.
        ("", "get" | "list" | "watch") if request.name == node => allow(),
        ("", "get" | "list" | "watch") if request.name.is_empty() => {
            pass(format!("node '{node}' cannot read all nodes, only its own Node object"))
        }
        ("", "get" | "list" | "watch") => {
            pass(format!("node '{node}' cannot read '{}', only its own Node object", request.name))
        }
        _ => pass(""),
    }
}

#[cfg(test)]
mod tests;
