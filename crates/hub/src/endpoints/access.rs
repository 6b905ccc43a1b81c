//! Who may use what. Agents: their own partition, by exact identity. People: what RBAC on the hub gives them.

use fleet_objects::{AGENT_GROUP, AgentIdentity, Assignment, GROUP, VERSION, partition_namespace};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use kube_objects::{Reason, Status, UserInfo};
use serde_json::json;

use super::Router;
use crate::error::Error;

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Caller {
    /// No credentials.
    Nobody,
    /// An agent, by name and group.
    Agent(AgentIdentity),
    /// Anybody else.
    Person(UserInfo),
}

impl Caller {
    pub(super) fn of(user: Option<UserInfo>) -> Self {
        let Some(user) = user else { return Self::Nobody };
        if user.username.is_empty() || user.username == "system:anonymous" {
            return Self::Nobody;
        }
        if user.in_group(AGENT_GROUP) {
            // In the agents' group without an agent's name: nobody the hub knows, and no person either.
            return AgentIdentity::parse(&user.username).map_or(Self::Nobody, Self::Agent);
        }
        Self::Person(user)
    }
}

fn denied(what: &str) -> Status {
    Status::new(Reason::Forbidden, format!("you may not {what}"))
}

impl Router {
    /// An agent may read content that an assignment in its partition names; whoever may get profiles, all of it.
    pub(super) async fn may_read_content(&self, caller: &Caller, digest: &str) -> Result<(), Status> {
        let identity = match caller {
            Caller::Agent(_) => self.agent(caller).await?,
            Caller::Person(user) => return self.allowed(user, "get", "profiles", None).await,
            Caller::Nobody => return Err(Status::new(Reason::Unauthorized, "credentials are needed")),
        };
        let api: Api<Assignment> =
            Api::namespaced(self.shared.client.clone(), &partition_namespace(&identity.name));
        let all = api.list(&ListParams::default()).await.map_err(Error::api("list assignments"))?;
        let named = |assignment: &Assignment| {
            assignment.spec.content.as_ref().is_some_and(|content| content.digest == digest)
        };
        if all.items.iter().any(named) {
            Ok(())
        } else {
            Err(denied("read content that no assignment of yours names"))
        }
    }

    /// Agents send collected files; whoever may create profiles sends sources.
    pub(super) async fn may_write_content(&self, caller: &Caller) -> Result<(), Status> {
        match caller {
            Caller::Agent(_) => self.agent(caller).await.map(drop),
            Caller::Person(user) => self.allowed(user, "create", "profiles", None).await,
            Caller::Nobody => Err(Status::new(Reason::Unauthorized, "credentials are needed")),
        }
    }

    /// An agent reads its own records; whoever may get the cluster reads that cluster's. Answers the cluster's uid.
    pub(super) async fn may_read_records(&self, caller: &Caller, name: &str) -> Result<String, Status> {
        match caller {
            Caller::Agent(identity) if identity.name == name => {
                self.agent(caller).await.map(|agent| agent.uid)
            }
            Caller::Agent(_) => Err(denied("read another cluster's records")),
            Caller::Person(user) => {
                self.allowed(user, "get", "clusters", Some(name)).await?;
                let api: Api<fleet_objects::Cluster> = Api::all(self.shared.client.clone());
                let found = api.get_opt(name).await.map_err(Error::api("look up a cluster"))?;
                let uid = found.and_then(|cluster| cluster.status?.kube_system_uid);
                uid.ok_or_else(|| Status::not_found(GROUP, "clusters", name))
            }
            Caller::Nobody => Err(Status::new(Reason::Unauthorized, "credentials are needed")),
        }
    }

    /// The clusters that a person may `get`, by the roles of the whole hub or of projects: for people who may not list all of
    /// them.
    pub(super) async fn reachable(&self, caller: &Caller) -> Result<serde_json::Value, Status> {
        let user = match caller {
            Caller::Person(user) => user,
            Caller::Agent(_) => return Err(denied("list clusters")),
            Caller::Nobody => return Err(Status::new(Reason::Unauthorized, "credentials are needed")),
        };
        let all = self.allowed(user, "list", "clusters", None).await.is_ok();
        let mut items: Vec<std::sync::Arc<fleet_objects::Cluster>> = Vec::new();
        for cluster in self.shared.clusters.list() {
            let name = cluster.name_any();
            if all || self.allowed(user, "get", "clusters", Some(&name)).await.is_ok() {
                items.push(cluster);
            }
        }
        let items: Vec<&fleet_objects::Cluster> = items.iter().map(|cluster| &**cluster).collect();
        Ok(
            json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "ClusterList", "metadata": {}, "items": items}),
        )
    }

    async fn allowed(
        &self,
        user: &UserInfo,
        verb: &str,
        resource: &str,
        name: Option<&str>,
    ) -> Result<(), Status> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.username.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    group: Some(GROUP.to_owned()),
                    resource: Some(resource.to_owned()),
                    verb: Some(verb.to_owned()),
                    name: name.map(str::to_owned),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.shared.client.clone());
        let answer =
            api.create(&PostParams::default(), &review).await.map_err(Error::api("ask who may do what"))?;
        if answer.status.is_some_and(|status| status.allowed) {
            Ok(())
        } else {
            Err(denied(&format!("{verb} {resource}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_exact_name_in_the_group_is_an_agent() {
        let agent = |name: &str, groups: &[&str]| Caller::of(Some(UserInfo::new(name, groups)));
        assert!(matches!(agent("fairlead:cluster:dev:1a", &[AGENT_GROUP]), Caller::Agent(_)));
        assert_eq!(agent("fairlead:cluster:dev", &[AGENT_GROUP]), Caller::Nobody);
        assert_eq!(agent("root", &[AGENT_GROUP]), Caller::Nobody);
        assert!(matches!(agent("fairlead:cluster:dev:1a", &["fairlead:clusters2"]), Caller::Person(_)));
        assert_eq!(Caller::of(None), Caller::Nobody);
    }
}
