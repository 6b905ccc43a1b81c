//! The ways to impersonate and what each has to be allowed (upstream `endpoints/filters/impersonation/mode.go`).

use access::Attributes;
use access::authorization::MASTERS;
use kube_objects::{Status, UserInfo};

use super::Authority;
use api_machinery::names;

/// From so many checks on, one for `*` is tried first.
const MANY: usize = 4;

/// A way to impersonate, in the order they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// A service account of a pod acts as the node the pod is on.
    AssociatedNode,
    /// Any node.
    ArbitraryNode,
    /// A service account.
    ServiceAccount,
    /// Anybody who is neither a node nor a service account.
    UserInfo,
    /// As it was before 1.36: anybody, for any request.
    Legacy,
}

impl Mode {
    pub(super) const ALL: [Self; 5] =
        [Self::AssociatedNode, Self::ArbitraryNode, Self::ServiceAccount, Self::UserInfo, Self::Legacy];

    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self::AssociatedNode => "impersonate:associated-node",
            Self::ArbitraryNode => "impersonate:arbitrary-node",
            Self::ServiceAccount => "impersonate:serviceaccount",
            Self::UserInfo => "impersonate:user-info",
            Self::Legacy => "impersonate",
        }
    }

    /// What the audit log says of it.
    pub(super) fn constraint(self) -> &'static str {
        if self == Self::Legacy { "" } else { self.verb() }
    }

    /// Where users and groups are named: the old way in the core group.
    fn group(self) -> &'static str {
        if self == Self::Legacy { "" } else { "authentication.k8s.io" }
    }

    /// Whether the wanted user can be had this way at all.
    pub(super) fn applies(self, wanted: &UserInfo, requestor: &UserInfo) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = node_name(&wanted.username);
        match self {
            Self::AssociatedNode => {
                only_name
                    && service_account(&requestor.username).is_some()
                    && node.is_some()
                    && own_node(requestor) == node
            }
            Self::ArbitraryNode => only_name && node.is_some(),
            Self::ServiceAccount => only_name && service_account(&wanted.username).is_some(),
            Self::UserInfo => node.is_none() && service_account(&wanted.username).is_none(),
            Self::Legacy => true,
        }
    }

    /// Checks everything this mode asks for; answers the user, its groups not yet completed.
    pub(super) fn check(
        self,
        authority: &impl Authority,
        requestor: &UserInfo,
        wanted: &UserInfo,
        request: &Attributes,
    ) -> Result<UserInfo, Status> {
        let requestor = &self.seen(requestor);
        if self != Self::Legacy {
            let mut on = request.clone();
            on.verb = format!("impersonate-on:{}:{}", self.name(), request.verb);
            authority.check(requestor, &on)?;
        }
        let mut user = wanted.clone();
        self.check_name(authority, requestor, &mut user)?;
        if !wanted.uid.is_empty() {
            let uid = Attributes::resource(self.verb(), "authentication.k8s.io", "uids", "", &wanted.uid);
            authority.check(requestor, &uid)?;
        }
        self.check_groups(authority, requestor, &wanted.groups)?;
        self.check_extra(authority, requestor, wanted)?;
        Ok(user)
    }

    /// The requestor as the authorizer sees it. For the node of its pod, what distinguishes one pod's account from
    /// another's is left out, so that one answer holds for all of them.
    fn seen(self, requestor: &UserInfo) -> UserInfo {
        let mut seen = requestor.clone();
        if self == Self::AssociatedNode {
            let keys = requestor.extra.keys().cloned().collect();
            seen.extra = [("authentication.kubernetes.io/associated-node-keys".to_owned(), keys)]
                .into_iter()
                .collect();
        }
        seen
    }

    fn check_name(
        self,
        authority: &impl Authority,
        requestor: &UserInfo,
        user: &mut UserInfo,
    ) -> Result<(), Status> {
        let mut attributes = Attributes::resource(self.verb(), self.group(), "users", "", &user.username);
        attributes.version = "v1".to_owned();
        if let Some(node) = node_name(&user.username).filter(|_| self != Self::Legacy) {
            attributes.resource = "nodes".to_owned();
            attributes.name = if self == Self::AssociatedNode { "*".to_owned() } else { node.to_owned() };
            user.groups = vec!["system:nodes".to_owned()];
        }
        if let Some((namespace, name)) = service_account(&user.username) {
            attributes.resource = "serviceaccounts".to_owned();
            attributes.namespace = namespace.to_owned();
            attributes.name = name.to_owned();
            if user.groups.is_empty() {
                user.groups =
                    vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        authority.check(requestor, &attributes)
    }

    fn check_groups(
        self,
        authority: &impl Authority,
        requestor: &UserInfo,
        groups: &[String],
    ) -> Result<(), Status> {
        let of = |name: &str| Attributes::resource(self.verb(), self.group(), "groups", "", name);
        if self != Self::Legacy {
            if groups.iter().any(String::is_empty) {
                let why = "impersonating the empty string group is not allowed";
                return Err(of("").forbidden(requestor, why));
            }
            if groups.iter().any(|group| group == MASTERS) {
                let why = "impersonating the system:masters group is not allowed";
                return Err(of(MASTERS).forbidden(requestor, why));
            }
            if groups.len() >= MANY && authority.check(requestor, &of("*")).is_ok() {
                return Ok(());
            }
        }
        groups.iter().try_for_each(|group| authority.check(requestor, &of(group)))
    }

    fn check_extra(
        self,
        authority: &impl Authority,
        requestor: &UserInfo,
        wanted: &UserInfo,
    ) -> Result<(), Status> {
        let of = |key: &str, value: &str| {
            Attributes::resource(self.verb(), "authentication.k8s.io", "userextras", "", value)
                .with_subresource(key)
        };
        if self != Self::Legacy {
            check_extra_form(wanted).map_err(|why| of("", "").forbidden(requestor, &why))?;
            let values: usize = wanted.extra.values().map(Vec::len).sum();
            let many = wanted.extra.len() >= MANY || values >= MANY;
            if many && authority.check(requestor, &of("*", "*")).is_ok() {
                return Ok(());
            }
        }
        for (key, values) in &wanted.extra {
            for value in values {
                authority.check(requestor, &of(key, value))?;
            }
        }
        Ok(())
    }
}

fn check_extra_form(wanted: &UserInfo) -> Result<(), String> {
    for (key, values) in &wanted.extra {
        if key.is_empty() {
            return Err("impersonating the empty string key in extra is not allowed".to_owned());
        }
        let Some((domain, path)) = key.split_once('/') else {
            return Err(format!(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: must be a \
                 domain-prefixed path (such as \"acme.io/foo\")"
            ));
        };
        if !names::dns1123_subdomain(domain).is_empty() || path.is_empty() {
            return Err(format!(
                "impersonating an invalid key in extra is not allowed: extra.key: Invalid value: {key:?}: must be a \
                 domain-prefixed path (such as \"acme.io/foo\")"
            ));
        }
        if *key != key.to_lowercase() {
            return Err(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
        }
        if values.is_empty() {
            return Err("impersonating empty values in extra is not allowed".to_owned());
        }
        if values.iter().any(String::is_empty) {
            return Err("impersonating the empty string value in extra is not allowed".to_owned());
        }
    }
    Ok(())
}

/// `system:node:NAME`.
fn node_name(user: &str) -> Option<&str> {
    user.strip_prefix("system:node:").filter(|name| names::dns1123_subdomain(name).is_empty())
}

/// The node a service account's pod is on, as its token says.
fn own_node(requestor: &UserInfo) -> Option<&str> {
    match requestor.extra.get("authentication.kubernetes.io/node-name").map(Vec::as_slice) {
        Some([name]) => Some(name),
        _ => None,
    }
}

/// `system:serviceaccount:NAMESPACE:NAME`, both parts what upstream lets such names be.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let valid = names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty();
    valid.then_some((namespace, name))
}
