//! `rbac.authorization.k8s.io`. Escalation is checked where requests are authorized, not here.

mod binding;
mod role;

pub use binding::{CLUSTER_ROLE_BINDING, ROLE_BINDING};
pub use role::{CLUSTER_ROLE, ROLE};

/// The API group, which stands in references too.
const GROUP: &str = "rbac.authorization.k8s.io";
