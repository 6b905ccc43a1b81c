//! What selecting policies needs to know beside the request.

use kube_objects::GroupVersionResource;
use serde_json::Value;

/// A kind that parameters are of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamKind {
    /// Where its objects are.
    pub resource: GroupVersionResource,
    /// Whether they are in namespaces.
    pub namespaced: bool,
}

/// Reads other objects than the one that is judged. The futures are awaited in turn; nothing is asked twice for one
/// binding.
pub trait Surroundings: Sync {
    /// Why something could not be read: ends the evaluation, nothing is decided.
    type Error: Send;

    /// A Namespace.
    ///
    /// # Errors
    /// When there is none of the name, too.
    fn namespace(&self, name: &str) -> impl Future<Output = Result<Value, Self::Error>> + Send;

    /// The other groups and versions that the objects of a resource are served under.
    fn equivalents(&self, resource: &GroupVersionResource) -> Vec<GroupVersionResource>;

    /// A kind that a policy's parameters are of; `None`: there is no such kind.
    fn param_kind(&self, api_version: &str, kind: &str) -> Option<ParamKind>;

    /// One parameter; `namespace` is "" for a kind without namespaces.
    ///
    /// # Errors
    /// When it cannot be read; one that is not there is `None`.
    fn param(
        &self,
        kind: &ParamKind,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Value>, Self::Error>> + Send;

    /// All possible parameters of a namespace, or of the cluster.
    ///
    /// # Errors
    /// When they cannot be read.
    fn params(
        &self,
        kind: &ParamKind,
        namespace: &str,
    ) -> impl Future<Output = Result<Vec<Value>, Self::Error>> + Send;
}
