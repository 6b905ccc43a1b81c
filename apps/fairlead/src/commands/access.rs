//! `fairlead access …`: projects, and the roles of people in them. Plain Kubernetes objects, which `kubectl` shows and
//! changes as well: a Namespace with a label, RoleBindings to the hub's ClusterRoles.

use clap::{Args, Subcommand, ValueEnum};
use fleet_objects::project::{ANNOTATION_CLUSTER_SETS, LABEL_PROJECT, ROLES, project_sets};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, Subject};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::json;

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure, api};
use crate::output::Columns;
use crate::{connection, output};

const MANAGER: &str = "fairlead-access";
const GROUP: &str = "rbac.authorization.k8s.io";

#[derive(Subcommand, Debug)]
pub(crate) enum AccessCommand {
    /// Make a project, or change its cluster sets
    Project(ProjectArguments),
    /// Give a role
    Grant(GrantArguments),
    /// Take a role away
    Revoke(GrantArguments),
    /// Show projects and who has which role
    List(ListArguments),
}

/// A project is a namespace of the hub with some of the clusters: its people reach those by their roles in it, its
/// placements and test runs choose among them alone.
#[derive(Args, Debug)]
pub(crate) struct ProjectArguments {
    /// Its name
    name: String,
    /// The cluster sets it has (values of the clusters' label multicluster.x-k8s.io/clusterset)
    #[arg(long, value_delimiter = ',', required = true, value_name = "SET,…")]
    cluster_sets: Vec<String>,
}

/// Viewers look, also into clusters; operators place profiles, run rollouts and tests and act in clusters; admins also write
/// profiles and secrets and give roles. What happens inside a cluster, its own RBAC decides as well.
#[derive(Args, Debug)]
pub(crate) struct GrantArguments {
    /// Which role
    role: Role,
    /// A person, as the hub knows them
    #[arg(long, value_name = "NAME", required_unless_present = "group")]
    user: Option<String>,
    /// A group
    #[arg(long, value_name = "NAME", conflicts_with = "user")]
    group: Option<String>,
    /// In one project
    #[arg(long, value_name = "NAME", required_unless_present = "all_projects")]
    project: Option<String>,
    /// On the whole hub
    #[arg(long, conflicts_with = "project")]
    all_projects: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// Only this project
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// What somebody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Look
    Viewer,
    /// Place, roll out, test, and act in clusters
    Operator,
    /// All of that, and profiles, secrets and roles
    Admin,
}

impl Role {
    fn cluster_role(self) -> &'static str {
        ROLES[self as usize]
    }
}

pub(crate) async fn run(global: &Global, command: AccessCommand) -> Result<Code, Failure> {
    let client = connection::hub(global).await?;
    match command {
        AccessCommand::Project(arguments) => project(client, &arguments).await?,
        AccessCommand::Grant(arguments) => grant(client, &arguments).await?,
        AccessCommand::Revoke(arguments) => return revoke(client, &arguments).await,
        AccessCommand::List(arguments) => list(client, &arguments).await?,
    }
    Ok(Code::Ok)
}

async fn project(client: Client, arguments: &ProjectArguments) -> Result<(), Failure> {
    let ProjectArguments { name, cluster_sets } = arguments;
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name,
        "labels": {LABEL_PROJECT: ""}, "annotations": {ANNOTATION_CLUSTER_SETS: cluster_sets.join(",")}}});
    let namespaces: Api<Namespace> = Api::all(client);
    let written = namespaces.patch(name, &PatchParams::apply(MANAGER), &Patch::Apply(object)).await;
    written.map_err(api(format!("cannot write project {name}")))?;
    output::progress(&format!("project {name} has the cluster sets {}", cluster_sets.join(", ")));
    Ok(())
}

impl GrantArguments {
    fn subject(&self) -> (&'static str, &str) {
        match (&self.user, &self.group) {
            (Some(user), _) => ("User", user),
            (None, group) => ("Group", group.as_deref().unwrap_or_default()),
        }
    }

    /// The same for the same role and subject, whatever characters its name has.
    fn binding(&self) -> String {
        let (kind, name) = self.subject();
        let digest = fleet_planner::digest(format!("{kind} {name}").as_bytes());
        format!("{}-{}", self.role.cluster_role(), &digest[..16])
    }

    fn told(&self) -> String {
        let (kind, name) = self.subject();
        let place = self
            .project
            .as_ref()
            .map_or_else(|| "on the whole hub".to_owned(), |one| format!("in project {one}"));
        format!("{} {name} {} {place}", kind.to_lowercase(), self.role.cluster_role())
    }
}

async fn grant(client: Client, arguments: &GrantArguments) -> Result<(), Failure> {
    let (kind, subject) = arguments.subject();
    let name = arguments.binding();
    let role = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": arguments.role.cluster_role()});
    let subjects = json!([{"apiGroup": GROUP, "kind": kind, "name": subject}]);
    let params = PatchParams::apply(MANAGER);
    let document = |kind: &str| {
        Patch::Apply(json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": name},
            "roleRef": role, "subjects": subjects}))
    };
    let failed = format!("cannot grant {}", arguments.told());
    match &arguments.project {
        Some(project) => {
            is_project(&client, project).await?;
            let bindings: Api<RoleBinding> = Api::namespaced(client, project);
            bindings.patch(&name, &params, &document("RoleBinding")).await.map_err(api(failed))?;
        }
        None => {
            let bindings: Api<ClusterRoleBinding> = Api::all(client);
            bindings.patch(&name, &params, &document("ClusterRoleBinding")).await.map_err(api(failed))?;
        }
    }
    output::progress(&format!("granted {}", arguments.told()));
    Ok(())
}

/// A role in a namespace that is no project reaches no cluster; who may not look is not kept from granting.
async fn is_project(client: &Client, name: &str) -> Result<(), Failure> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    match namespaces.get_opt(name).await {
        Ok(Some(found)) if project_sets(&found.metadata).is_some() => Ok(()),
        Ok(_) => Err(Failure::negative(format!("there is no project {name}"))
            .hint(format!("fairlead access project {name} --cluster-sets SET"))),
        Err(_) => Ok(()),
    }
}

async fn revoke(client: Client, arguments: &GrantArguments) -> Result<Code, Failure> {
    let name = arguments.binding();
    let params = DeleteParams::default();
    let deleted = match &arguments.project {
        Some(project) => {
            Api::<RoleBinding>::namespaced(client, project).delete(&name, &params).await.map(drop)
        }
        None => Api::<ClusterRoleBinding>::all(client).delete(&name, &params).await.map(drop),
    };
    match deleted {
        Ok(()) => {
            output::progress(&format!("revoked {}", arguments.told()));
            Ok(Code::Ok)
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Err(Failure::negative(format!(
            "{} was not granted by this command; kubectl get rolebindings shows others",
            arguments.told()
        ))),
        Err(error) => Err(api(format!("cannot revoke {}", arguments.told()))(error)),
    }
}

/// Who has which role, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Held {
    /// `*`: on the whole hub.
    project: String,
    cluster_sets: String,
    role: String,
    kind: String,
    name: String,
}

const COLUMNS: Columns<'_> =
    Columns { always: &["PROJECT", "CLUSTER-SETS", "ROLE", "KIND", "NAME"], wide: &[] };

async fn list(client: Client, arguments: &ListArguments) -> Result<(), Failure> {
    let project = arguments.project.as_deref();
    let all = ListParams::default();
    let mut held: Vec<Held> = Vec::new();
    let mut add = |project: &str, sets: &str, role: &str, subjects: &[Subject]| {
        if !ROLES.contains(&role) {
            return;
        }
        for subject in subjects {
            held.push(Held {
                project: project.to_owned(),
                cluster_sets: sets.to_owned(),
                role: role.to_owned(),
                kind: subject.kind.clone(),
                name: subject.name.clone(),
            });
        }
    };
    let failed = || api("cannot list who has which role");
    let mut sets_of = std::collections::BTreeMap::new();
    let projects = match project {
        // Who has a role in one project may be allowed nothing else.
        Some(name) => vec![name.to_owned()],
        None => {
            let namespaces: Api<Namespace> = Api::all(client.clone());
            let found =
                namespaces.list(&ListParams::default().labels(LABEL_PROJECT)).await.map_err(failed())?;
            for one in &found.items {
                sets_of.insert(one.name_any(), project_sets(&one.metadata).unwrap_or_default().join(","));
            }
            let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
            for binding in bindings.list(&all).await.map_err(failed())? {
                add("*", "*", &binding.role_ref.name, binding.subjects.as_deref().unwrap_or_default());
            }
            sets_of.keys().cloned().collect()
        }
    };
    for project in projects {
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), &project);
        let sets = sets_of.get(&project).map(String::as_str).unwrap_or_default();
        for binding in bindings.list(&all).await.map_err(failed())? {
            add(&project, sets, &binding.role_ref.name, binding.subjects.as_deref().unwrap_or_default());
        }
    }
    let row = |one: &Held| {
        [&one.project, &one.cluster_sets, &one.role, &one.kind, &one.name].map(Clone::clone).to_vec()
    };
    let name = |one: &Held| format!("{}/{}", one.kind.to_lowercase(), one.name);
    output::values(arguments.output, "nobody has a role of the fleet", &COLUMNS, &held, row, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_has_one_name_whoever_it_is_for() {
        let of = |role, user: Option<&str>, group: Option<&str>| {
            let owned = |name: Option<&str>| name.map(str::to_owned);
            GrantArguments { role, user: owned(user), group: owned(group), project: None, all_projects: true }
                .binding()
        };
        let ada = of(Role::Viewer, Some("ada@example.com/x%"), None);
        assert_eq!(ada, of(Role::Viewer, Some("ada@example.com/x%"), None));
        assert!(
            ada.starts_with("fleet-viewer-")
                && ada.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        );
        assert_ne!(ada, of(Role::Viewer, None, Some("ada@example.com/x%")));
        assert_ne!(ada, of(Role::Admin, Some("ada@example.com/x%"), None));
    }
}
