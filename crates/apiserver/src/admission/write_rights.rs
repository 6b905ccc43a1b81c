//! Rights that a write needs besides its own: who may write an object may not thereby say to whom it belongs. Which
//! rights those are the assembly says; the authorizer decides.

use std::sync::Arc;

use access::Attributes as Asked;
use async_trait::async_trait;
use kube_objects::{Status, Write};
use serde_json::Value;

use super::{Attributes, Operation, Plugin};

/// A right that a write needs.
#[derive(Clone, Debug)]
pub struct NeededRight {
    /// What the authorizer is asked.
    pub asked: Asked,
    /// What takes it, to stand behind "cannot": `take it out of the cluster set "edge"`.
    pub purpose: String,
}

/// Says which rights writes need besides their own.
pub trait WriteRights: Send + Sync + 'static {
    /// Whether writes of such things ever need any. Asked for every write: cheap.
    fn concerns(&self, group: &str, resource: &str) -> bool;

    /// What this one needs; nothing for one that changes nothing of the kind.
    fn needed(&self, write: &Write<'_>) -> Vec<NeededRight>;

    /// What keeps an object without a namespace from being deleted, whoever asks.
    fn kept(&self, _group: &str, _resource: &str, _name: &str) -> Option<Kept> {
        None
    }
}

/// Why an object may not be deleted.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Only while this object is there; `None`: always.
    pub by: Option<Keeper>,
    /// The reason, for whoever asked.
    pub why: String,
}

/// An object without a namespace.
#[derive(Clone, Debug)]
pub struct Keeper {
    /// Its API group.
    pub group: String,
    /// Its resource, in the plural.
    pub resource: String,
    /// Its name.
    pub name: String,
}

/// Asks for them, of the object as every plug-in that changes objects has left it.
pub(super) struct FurtherRights(pub(super) Arc<dyn WriteRights>);

#[async_trait]
impl Plugin for FurtherRights {
    fn name(&self) -> &'static str {
        "WriteRights"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let resource = &attributes.cx.resource.gvr;
        if attributes.operation == Operation::Delete {
            return self.0.kept(&resource.group, &resource.resource, attributes.cx.name).is_some();
        }
        matches!(attributes.operation, Operation::Create | Operation::Update)
            && self.0.concerns(&resource.group, &resource.resource)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let cx = &attributes.cx;
        if attributes.operation == Operation::Delete {
            return self.removable(attributes).await;
        }
        let Some(authorizer) = cx.authorizer else { return Ok(()) };
        let (group, resource) = (&cx.resource.gvr.group, &cx.resource.gvr.resource);
        let write = Write { group, resource, namespace: cx.namespace, old: attributes.old, new: object };
        for NeededRight { asked, purpose } in self.0.needed(&write) {
            if !authorizer.authorize(cx.user, &asked).allowed {
                let why = refusal(&cx.user.username, &asked, &purpose);
                return Err(attributes.forbidden(object, &why));
            }
        }
        Ok(())
    }
}

impl FurtherRights {
    async fn removable(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let cx = &attributes.cx;
        let (group, resource) = (&cx.resource.gvr.group, &cx.resource.gvr.resource);
        let Some(Kept { by, why }) = self.0.kept(group, resource, cx.name) else { return Ok(()) };
        if let Some(by) = by
            && cx.objects.get(&by.group, &by.resource, "", &by.name).await?.is_none()
        {
            return Ok(());
        }
        Err(access::authorization::forbidden(group, resource, cx.name, &why))
    }
}

/// Says what is lacking so that it can be granted as it stands there.
fn refusal(user: &str, asked: &Asked, purpose: &str) -> String {
    let slash = if asked.subresource.is_empty() { "" } else { "/" };
    let named =
        if asked.name.is_empty() { "of every name".to_owned() } else { format!("named {:?}", asked.name) };
    format!(
        "User {user:?} cannot {purpose}: that takes the verb {:?} on resource \"{}{slash}{}\" in API group {:?} {named}",
        asked.verb, asked.resource, asked.subresource, asked.group
    )
}

#[cfg(test)]
mod tests {
    use access::Authorizer;
    use kube_objects::UserInfo;
    use serde_json::json;

    use super::super::fixture::Fixture;
    use super::*;

    /// A ConfigMap's label `owner` is a thing of its own.
    struct Owners;

    impl WriteRights for Owners {
        fn concerns(&self, group: &str, resource: &str) -> bool {
            group.is_empty() && resource == "configmaps"
        }

        fn needed(&self, write: &Write<'_>) -> Vec<NeededRight> {
            let owner = |object: &Value| object["metadata"]["labels"]["owner"].as_str().map(str::to_owned);
            let (old, new) = (write.old.and_then(owner), owner(write.new));
            let changed = [old.clone(), new.clone()].into_iter().flatten().filter(|_| old != new);
            changed
                .map(|name| NeededRight {
                    asked: Asked::resource("create", "example.com", "owners", "", &name)
                        .with_subresource("own"),
                    purpose: format!("change what {name:?} owns"),
                })
                .collect()
        }
    }

    #[tokio::test]
    async fn a_write_needs_every_right_that_is_named() {
        let api = "rbac.authorization.k8s.io";
        let version = format!("{api}/v1");
        let authorizer = || {
            let authorizer = Authorizer::new();
            let objects = [
                json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": [
                    {"apiGroups": ["example.com"], "resources": ["owners/own"], "verbs": ["create"], "resourceNames": ["a", "b"]}]}),
                json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": "b"},
                    "roleRef": {"apiGroup": api, "kind": "ClusterRole", "name": "r"},
                    "subjects": [{"apiGroup": api, "kind": "User", "name": "u"}]}),
            ];
            authorizer.apply_all(objects.iter()).unwrap();
            authorizer
        };
        let owned =
            |owner: Value| json!({"metadata": {"name": "m", "namespace": "n", "labels": {"owner": owner}}});
        let lacks = |user: &str, name: &str| {
            format!(
                "configmaps \"m\" is forbidden: User {user:?} cannot change what {name:?} owns: that takes the verb \
                 \"create\" on resource \"owners/own\" in API group \"example.com\" named {name:?}"
            )
        };
        let table = [
            ("u", Some(json!("a")), json!("b"), None),
            ("u", Some(json!("a")), json!("c"), Some(lacks("u", "c"))),
            ("u", Some(json!("c")), json!("a"), Some(lacks("u", "c"))),
            ("u", Some(json!("c")), json!("c"), None),
            ("u", None, json!("a"), None),
            ("u", None, json!("c"), Some(lacks("u", "c"))),
            ("v", None, json!("a"), Some(lacks("v", "a"))),
            ("v", None, json!(null), None),
        ];
        for (user, old, new, wanted) in table {
            let mut fixture = Fixture::new().by(UserInfo::new(user, &[]));
            fixture.authorizer = Some(authorizer());
            let operation = if old.is_some() { Operation::Update } else { Operation::Create };
            fixture.old = old.map(&owned);
            let plugin = FurtherRights(Arc::new(Owners));
            let outcome = fixture.run(&plugin, operation, "", "configmaps", "n", owned(new)).await;
            assert_eq!(outcome.err().map(|refused| refused.message), wanted);
        }
    }
}
