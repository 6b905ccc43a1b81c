//! What agents may reach of the API, whatever roles say: their own partition, by the exact name and uid that their
//! certificate carries, for as long as they are members in good standing.

use std::sync::{Arc, Weak};

use fleet_objects::{AGENT_GROUP, AgentIdentity, GROUP, partition_namespace};
use kube_objects::UserInfo;

use crate::service::Shared;

/// What is read of a partition, and nothing is written of it.
const RESOURCES: [&str; 3] = ["assignments", "testexecutions", "testtriggerassignments"];
const VERBS: [&str; 3] = ["get", "list", "watch"];

/// A request, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The verb; for paths the lower-case HTTP method.
    pub verb: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The resource, plural.
    pub resource: &'a str,
    /// The subresource, or "".
    pub subresource: &'a str,
    /// The namespace, or "" for all or none.
    pub namespace: &'a str,
    /// Whether it is a path outside the API's resources.
    pub is_path: bool,
}

/// How an agent stands with the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A member; its roles decide.
    Good,
    /// Unknown, of another uid, revoked, not approved or being deleted.
    Bad,
}

/// Whether a user is (or claims to be) an agent.
#[must_use]
pub fn is_agent(user: &UserInfo) -> bool {
    user.in_group(AGENT_GROUP)
}

/// Why an agent may not; `None`: roles decide, as they do for everybody who is no agent.
#[must_use]
pub fn forbids(
    user: &UserInfo,
    wanted: Wanted<'_>,
    standing: impl FnOnce(&AgentIdentity) -> Standing,
) -> Option<String> {
    if !is_agent(user) {
        return None;
    }
    let Some(identity) = AgentIdentity::parse(&user.username) else {
        return Some("this is not the name of an agent".to_owned());
    };
    if wanted.is_path {
        return (wanted.verb != "get").then(|| "agents read paths and change none".to_owned());
    }
    let own = partition_namespace(&identity.name);
    let reads = wanted.group == GROUP
        && wanted.subresource.is_empty()
        && RESOURCES.contains(&wanted.resource)
        && VERBS.contains(&wanted.verb);
    if !reads || wanted.namespace != own {
        return Some(format!("agents read {} in their own namespace, {own:?}", RESOURCES.join(", ")));
    }
    match standing(&identity) {
        Standing::Good => None,
        Standing::Bad => {
            Some("this hub knows no cluster of this name with this uid, or it is revoked".to_owned())
        }
    }
}

/// [`forbids`] by what a hub knows at the moment. It does not keep the hub alive: the server that asks it is what the
/// hub's own client holds.
#[derive(Clone)]
pub struct AgentGuard {
    shared: Weak<Shared>,
}

impl AgentGuard {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::downgrade(shared) }
    }

    /// As [`forbids`]; once the hub has ended, agents may nothing.
    #[must_use]
    pub fn forbids(&self, user: &UserInfo, wanted: Wanted<'_>) -> Option<String> {
        let shared = self.shared.upgrade();
        forbids(user, wanted, |identity| shared.map_or(Standing::Bad, |shared| shared.standing(identity)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBS_ALL: [&str; 9] =
        ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "bind"];

    fn agent(name: &str) -> UserInfo {
        UserInfo::new(name, &[AGENT_GROUP])
    }

    #[test]
    fn of_every_verb_resource_and_namespace_only_reading_the_own_partition_is_left_to_roles() {
        let groups = ["", GROUP, "apps", "rbac.authorization.k8s.io", "authorization.k8s.io"];
        let resources = [
            "assignments",
            "testexecutions",
            "testtriggerassignments",
            "clusters",
            "profiles",
            "placements",
            "testworkflows",
            "testruns",
            "secrets",
            "namespaces",
            "roles",
            "selfsubjectaccessreviews",
            "*",
            "",
        ];
        let namespaces = [
            "cluster-dev",
            "cluster-dev2",
            "cluster-de",
            "cluster-Dev",
            "cluster-dev ",
            "cluster-prod",
            "fairlead-system",
            "default",
            "",
        ];
        let user = agent("fairlead:cluster:dev:1a");
        let mut left = Vec::new();
        for group in groups {
            for resource in resources {
                for subresource in ["", "status", "scale"] {
                    for namespace in namespaces {
                        for verb in VERBS_ALL {
                            let wanted =
                                Wanted { verb, group, resource, subresource, namespace, is_path: false };
                            if forbids(&user, wanted, |_| Standing::Good).is_none() {
                                left.push((verb, resource, namespace));
                            }
                            assert!(forbids(&user, wanted, |_| Standing::Bad).is_some(), "{wanted:?}");
                        }
                    }
                }
            }
        }
        let mut expected = Vec::new();
        for resource in RESOURCES {
            expected.extend(VERBS.map(|verb| (verb, resource, "cluster-dev")));
        }
        assert_eq!(left, expected);
    }

    #[test]
    fn names_that_only_resemble_an_agents_reach_nothing() {
        let wanted = Wanted {
            verb: "get",
            group: GROUP,
            resource: "assignments",
            subresource: "",
            namespace: "cluster-dev",
            is_path: false,
        };
        for name in [
            "fairlead:cluster:dev",
            "fairlead:cluster:dev:",
            "fairlead:cluster::1a",
            "fairlead:cluster:dev:1a:2b",
            "fairlead:cluster:prod/dev:1a",
            "fairlead:cluster:dev2:1a",
            "fairlead:cluster:DEV:1a",
            "fairlead:cluster:d\u{435}v:1a",
            "xfairlead:cluster:dev:1a",
            " fairlead:cluster:dev:1a",
            "system:admin",
            "",
        ] {
            assert!(forbids(&agent(name), wanted, |_| Standing::Good).is_some(), "{name:?}");
        }
        assert_eq!(forbids(&UserInfo::new("someone", &[]), wanted, |_| Standing::Bad), None);
        let path = Wanted { is_path: true, ..wanted };
        assert_eq!(forbids(&agent("fairlead:cluster:dev:1a"), path, |_| Standing::Bad), None);
        let write = Wanted { verb: "post", ..path };
        assert!(forbids(&agent("fairlead:cluster:dev:1a"), write, |_| Standing::Good).is_some());
    }
}
