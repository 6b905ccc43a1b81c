//! Who each controller is: a service account of `kube-system` with the rights of its upstream namesake, so that a
//! controller that errs (or is led astray by what it reads) does no more than its own work allows.

use std::sync::Arc;

use kube::Client;

/// The client that acts as the controller of this name, `system:serviceaccount:kube-system:NAME` where identities are
/// told apart.
pub type Identities = Arc<dyn Fn(&'static str) -> Client + Send + Sync>;

/// One client for all of them.
pub(crate) fn shared(client: &Client) -> Identities {
    let client = client.clone();
    Arc::new(move |_| client.clone())
}
