//! Values of secret variables that the hub keeps: each is a key of an immutable Secret beside the profile, given to the
//! agents whose assignments refer to it and to nobody else. A value is never in an assignment, a status, an event, a message
//! or a digest; a changed value is a Secret of another name, so that it goes the way of every change, in waves. One that was made
//! anew under its name is another, too: assignments name the very Secret that is meant.

use bytes::Bytes;
use fleet_objects::{AgentIdentity, Assignment, AssignmentState, partition_namespace};
use fleet_planner::variables::SecretReference;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use kube_objects::{Reason, Status};

use super::Router;
use crate::error::Error;

impl Router {
    /// A value for an agent.
    ///
    /// # Errors
    /// 403 unless an assignment of its own refers to it, 404 when it is not there, 422 when it may change under its name.
    pub(super) async fn value_of(
        &self,
        agent: &AgentIdentity,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> Result<Bytes, Status> {
        let api: Api<Assignment> =
            Api::namespaced(self.shared.client.clone(), &partition_namespace(&agent.name));
        let all = api.list(&ListParams::default()).await.map_err(Error::api("list assignments"))?;
        let meant =
            SecretReference { on_hub: true, namespace: None, name: name.to_owned(), key: key.to_owned() };
        let (name, uid) = meant.incarnation();
        let refers = |assignment: &Assignment| {
            let spec = &assignment.spec;
            spec.state == AssignmentState::Present
                && spec.profile.namespace == namespace
                && SecretReference::on_hub(&spec.variables)
                    .any(|one| one.incarnation().0 == name && one.key == key)
        };
        if !all.items.iter().any(refers) {
            let message = "you may not read secrets that no assignment of yours refers to";
            return Err(Status::new(Reason::Forbidden, message));
        }
        let api: Api<Secret> = Api::namespaced(self.shared.client.clone(), namespace);
        let found = api.get_opt(name).await.map_err(Error::api(format!("read secret {namespace}/{name}")))?;
        let secret = found.ok_or_else(|| Status::not_found("", "secrets", name))?;
        if uid.is_some() && secret.metadata.uid.as_deref() != uid {
            let message = format!("secret {namespace}/{name} was made anew meanwhile");
            return Err(Status::new(Reason::NotFound, message));
        }
        if secret.immutable != Some(true) {
            let message = format!(
                "secret {namespace}/{name} is not immutable: agents keep what they were given, and a changed value needs \
                 another name"
            );
            return Err(Status::new(Reason::Invalid, message));
        }
        let value = secret.data.and_then(|mut data| data.remove(key));
        let missing =
            || Status::new(Reason::NotFound, format!("secret {namespace}/{name} has no key {key:?}"));
        value.map(|value| value.0.into()).ok_or_else(missing)
    }
}
