//! What no role can give: the consumer's own rule, asked before any role.

use kube_objects::UserInfo;

use super::Attributes;

/// Denies before roles are asked; it can allow nothing. Both methods are called for every request and must neither block
/// nor wait.
pub trait Guard: Send + Sync + 'static {
    /// Whether this user is restricted at all.
    fn restricts(&self, user: &UserInfo) -> bool;

    /// Why the user may not; `None`: the roles decide.
    fn forbids(&self, user: &UserInfo, attributes: &Attributes) -> Option<String>;
}
