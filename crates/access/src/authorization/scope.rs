//! Where else a thing belongs than its path says: the consumer's own rule, asked when no role has allowed a request.

use super::Attributes;

/// Says in which namespaces roles count for a thing besides where it lies: they are asked as if it lay there. It can give
/// nothing that a role does not give. Called for requests that would be denied; must neither block nor wait.
pub trait Scopes: Send + Sync + 'static {
    /// The namespaces, in the order in which they are asked.
    fn namespaces_of(&self, attributes: &Attributes) -> Vec<String>;
}
