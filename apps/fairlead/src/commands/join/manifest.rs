//! `fairlead join manifest`, `fairlead join cluster`: an agent as a pod of its cluster, with the rights it needs and no
//! more, and the ceiling of the cluster's owner beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agent_protocol::TokenGrant;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use fleet_objects::SYSTEM_NAMESPACE;
use fleet_planner::ceiling::{Ceiling, Identity, PROFILES_NAMESPACE};
use kube::Api;
use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::discovery::ApiResource;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Told, invite, labels};
use crate::arguments::{self, Global};
use crate::failure::{Code, Failure, api};
use crate::output;

/// Under which name the command line applies.
const FIELD_MANAGER: &str = "fairlead-cli";
/// Where the agent runs tests.
const TESTS_NAMESPACE: &str = "fairlead-tests";
/// The agent's name in all its objects.
const AGENT: &str = "fairlead-agent";
const CEILING: &str = "fairlead-ceiling";

#[derive(Args, Debug)]
pub(crate) struct ManifestArguments {
    /// Name of the cluster
    name: String,
    /// Labels the cluster gets
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE,…")]
    labels: Vec<String>,
    /// How long the token within can be used, at most 24h
    #[arg(long, default_value = "1h", value_parser = arguments::duration, value_name = "DURATION")]
    ttl: Duration,
    /// Where the cluster reaches the hub [default: as the kubeconfig has it]
    #[arg(long, value_name = "URL")]
    hub: Option<String>,
    /// The agent's image
    #[arg(long, default_value = concat!("fairlead.dev/fairlead:", env!("CARGO_PKG_VERSION")), value_name = "IMAGE")]
    image: String,
    /// What profiles may do before the owner grants them anything by name
    #[arg(long, value_enum, default_value_t)]
    profiles: ProfileRights,
    /// Let people of the hub reach the cluster with kubectl, the hub's administrators as this ClusterRole; `none`: whom the
    /// cluster binds as cluster:hub:…; `off`: nobody. All but `off` lets the agent act as any user
    #[arg(long, default_value = "off", value_name = "CLUSTERROLE|none|off")]
    access: String,
    /// Size of the agent's volume
    #[arg(long, default_value = "2Gi", value_name = "QUANTITY")]
    storage: String,
}

#[derive(Args, Debug)]
pub(crate) struct PrintArguments {
    #[command(flatten)]
    manifest: ManifestArguments,
    /// What to print
    #[arg(long, short, value_enum, default_value_t)]
    output: ManifestFormat,
}

/// What makes a cluster join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ManifestFormat {
    /// YAML for `kubectl apply`
    #[default]
    Yaml,
    /// Values for the Helm chart of `fairlead join chart`
    HelmValues,
}

#[derive(Args, Debug)]
pub(crate) struct ClusterArguments {
    /// Kubeconfig of the cluster
    #[arg(long, value_name = "FILE")]
    cluster_kubeconfig: PathBuf,
    #[command(flatten)]
    manifest: ManifestArguments,
}

/// A role of the cluster for every profile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProfileRights {
    /// Nothing: each profile gets role bindings by name
    None,
    /// Workloads in every namespace, and making namespaces; no roles beyond their own
    #[default]
    Workloads,
    /// Everything
    ClusterAdmin,
}

/// What differs from cluster to cluster; also the values of the Helm chart.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Values {
    pub(super) cluster: String,
    pub(super) hub: String,
    pub(super) ca_pin: String,
    pub(super) join_token: String,
    pub(super) image: String,
    pub(super) profiles: ProfileRights,
    pub(super) access: String,
    pub(super) storage: String,
}

impl Values {
    fn new(arguments: &ManifestArguments, told: Told) -> Self {
        Self {
            cluster: arguments.name.clone(),
            hub: arguments.hub.clone().unwrap_or(told.hub),
            ca_pin: told.pin,
            join_token: told.token,
            image: arguments.image.clone(),
            profiles: arguments.profiles,
            access: arguments.access.clone(),
            storage: arguments.storage.clone(),
        }
    }
}

pub(crate) async fn print(global: &Global, arguments: PrintArguments) -> Result<Code, Failure> {
    let PrintArguments { manifest, output: format } = arguments;
    let values = Values::new(&manifest, token(global, &manifest).await?);
    match format {
        ManifestFormat::HelmValues => output::data(&output::yaml(&values)?)?,
        ManifestFormat::Yaml => {
            for document in documents(&values)? {
                output::data(&format!("---\n{}", output::yaml(&document)?))?;
            }
        }
    }
    output::progress("it holds a join token: treat it as a password until the cluster has joined");
    Ok(Code::Ok)
}

pub(crate) async fn apply(global: &Global, arguments: ClusterArguments) -> Result<Code, Failure> {
    let path = &arguments.cluster_kubeconfig;
    let kubeconfig = kube::config::Kubeconfig::read_from(path)
        .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .with_context(|| format!("the kubeconfig {} leads nowhere", path.display()))?;
    let client = kube::Client::try_from(config).context("cannot set up the connection")?;
    let values = Values::new(&arguments.manifest, token(global, &arguments.manifest).await?);
    for document in documents(&values)? {
        let object: DynamicObject = serde_json::from_value(document).context("cannot read a document")?;
        let types = object.types.clone().unwrap_or_default();
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
        let objects: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object.metadata.name.clone().unwrap_or_default();
        let params = PatchParams::apply(FIELD_MANAGER);
        // The owner's ceiling is never put back to what is shipped.
        if name == CEILING && objects.get_opt(&name).await.map_err(api("cannot read the ceiling"))?.is_some()
        {
            continue;
        }
        let applied = objects.patch(&name, &params.force(), &Patch::Apply(&object)).await;
        applied.map_err(api(format!("cannot apply {} {name} to the cluster", types.kind)))?;
    }
    output::progress(&format!(
        "the agent of {} is on its way: fairlead cluster get {0}",
        arguments.manifest.name
    ));
    Ok(Code::Ok)
}

async fn token(global: &Global, arguments: &ManifestArguments) -> Result<Told, Failure> {
    let grant = TokenGrant {
        cluster: Some(arguments.name.clone()),
        labels: labels(&arguments.labels)?,
        ttl: Some(arguments.ttl),
        ..TokenGrant::default()
    };
    invite(global, &grant).await
}

pub(super) fn documents(values: &Values) -> Result<Vec<Value>, Failure> {
    let mut all = namespaces();
    all.push(service_account());
    all.push(join_token(&values.join_token));
    all.push(ceiling(&shipped_ceiling()?));
    all.extend(rights());
    all.extend(profile_rights(values.profiles));
    all.extend(access_rights(&values.access));
    all.push(stateful_set(values, if values.access == "off" { "off" } else { "none" }));
    Ok(all)
}

/// The namespace of the agent first.
pub(super) fn namespaces() -> Vec<Value> {
    let namespace = |name: &str, level: &str| {
        let labels = json!({"pod-security.kubernetes.io/enforce": level});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    };
    vec![
        namespace(SYSTEM_NAMESPACE, "restricted"),
        namespace(PROFILES_NAMESPACE, "restricted"),
        namespace(TESTS_NAMESPACE, "baseline"),
    ]
}

pub(super) fn service_account() -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": AGENT, "namespace": SYSTEM_NAMESPACE}})
}

pub(super) fn join_token(token: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": "fairlead-join", "namespace": SYSTEM_NAMESPACE}, "stringData": {"token": token}})
}

pub(super) fn ceiling(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CEILING, "namespace": SYSTEM_NAMESPACE},
        "data": {"ceiling.yaml": text}})
}

/// The ceiling that an owner begins with.
pub(super) fn shipped_ceiling() -> Result<String, Failure> {
    output::yaml(&Ceiling { identity: Identity::PerProfile, ..Ceiling::builtin() })
}

/// What the agent itself may: look at everything it may have to watch, act as profiles' service accounts, and run tests
/// in their namespace. Nothing else is written with its own rights.
pub(super) fn rights() -> Vec<Value> {
    let subject = json!([{"kind": "ServiceAccount", "name": AGENT, "namespace": SYSTEM_NAMESPACE}]);
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let role = |namespace: &str, rules: Value| json!({"apiVersion": version, "kind": "Role", "metadata": {"name": AGENT, "namespace": namespace}, "rules": rules});
    let binding = |namespace: &str| {
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": {"name": AGENT, "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": AGENT}, "subjects": subject})
    };
    let tests = json!([{"apiGroups": [""], "resources": ["pods", "pods/log", "pods/exec"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["create", "delete"]}]);
    let act = json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}]);
    let hold = json!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
        "verbs": ["get", "create", "update", "patch"]}]);
    vec![
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": AGENT},
            "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]},
                // What policies found, where the cluster has the definitions of reports.
                {"apiGroups": ["openreports.io", "wgpolicyk8s.io"],
                    "resources": ["reports", "clusterreports", "policyreports", "clusterpolicyreports"],
                    "verbs": ["create", "patch", "delete"]},
                {"nonResourceURLs": ["*"], "verbs": ["get"]}]}),
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": AGENT},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": AGENT}, "subjects": subject}),
        role(PROFILES_NAMESPACE, act),
        binding(PROFILES_NAMESPACE),
        role(TESTS_NAMESPACE, tests),
        binding(TESTS_NAMESPACE),
        role(SYSTEM_NAMESPACE, hold),
        binding(SYSTEM_NAMESPACE),
    ]
}

pub(super) fn profile_rights(rights: ProfileRights) -> Vec<Value> {
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let bind = |name: &str, role: &str| {
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": group, "kind": "Group",
                "name": format!("system:serviceaccounts:{PROFILES_NAMESPACE}")}]})
    };
    match rights {
        ProfileRights::None => Vec::new(),
        ProfileRights::ClusterAdmin => vec![bind("fairlead-profiles", "cluster-admin")],
        ProfileRights::Workloads => vec![
            json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "fairlead-profiles"},
                "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "create", "patch", "delete"]}]}),
            bind("fairlead-profiles", "fairlead-profiles"),
            bind("fairlead-profiles-workloads", "admin"),
        ],
    }
}

/// What the agent needs to put people's requests to the API server, and what the hub's administrators get. The binding is
/// written here, by the owner: the agent itself may bind nobody.
pub(super) fn access_rights(access: &str) -> Vec<Value> {
    if access == "off" {
        return Vec::new();
    }
    let group = "rbac.authorization.k8s.io";
    let version = format!("{group}/v1");
    let name = "fairlead-access";
    let mut all = vec![
        json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": [
            {"apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["uids", "userextras/*"], "verbs": ["impersonate"]}]}),
        json!({"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": AGENT, "namespace": SYSTEM_NAMESPACE}]}),
    ];
    if access != "none" {
        all.push(json!({"apiVersion": version, "kind": "ClusterRoleBinding",
            "metadata": {"name": "fairlead-access-administrators"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": access},
            "subjects": [{"apiGroup": group, "kind": "Group", "name": "cluster:hub:system:masters"}]}));
    }
    all
}

/// `person_access` is what the agent does itself for people of the hub: `off` or `none`.
pub(super) fn stateful_set(values: &Values, person_access: &str) -> Value {
    let selector = BTreeMap::from([("app.kubernetes.io/name", AGENT)]);
    let run = [
        "agent",
        "serve",
        "--dir",
        "/var/lib/fairlead",
        "--hub",
        &values.hub,
        "--name",
        &values.cluster,
        "--ca-pin",
        &values.ca_pin,
        "--ceiling",
        "/etc/fairlead/ceiling.yaml",
        "--access",
        person_access,
    ];
    let security = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]}});
    json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": AGENT, "namespace": SYSTEM_NAMESPACE},
    "spec": {
        "serviceName": AGENT, "replicas": 1, "selector": {"matchLabels": selector},
        "template": {
            "metadata": {"labels": selector},
            "spec": {
                "serviceAccountName": AGENT,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "fsGroup": 65532,
                    "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "agent", "image": values.image, "args": run,
                    // Gone or used up is all the same to an agent that has joined.
                    "env": [{"name": "FAIRLEAD_JOIN_TOKEN", "valueFrom": {"secretKeyRef":
                        {"name": "fairlead-join", "key": "token", "optional": true}}}],
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                    "securityContext": security,
                    "volumeMounts": [{"name": "state", "mountPath": "/var/lib/fairlead"},
                        {"name": "ceiling", "mountPath": "/etc/fairlead", "readOnly": true}],
                }],
                "volumes": [{"name": "ceiling", "configMap": {"name": CEILING}}],
            },
        },
        "volumeClaimTemplates": [{"metadata": {"name": "state"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": values.storage}}}}],
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_may_write_nothing_of_its_own_but_reports() {
        let writes = |rule: &Value| {
            let verbs = rule["verbs"].as_array().expect("verbs");
            verbs.iter().any(|verb| !["get", "list", "watch"].contains(&verb.as_str().expect("text")))
        };
        let all = rights();
        let cluster_wide = all.iter().filter(|one| one["kind"] == "ClusterRole");
        let reports = json!(["openreports.io", "wgpolicyk8s.io"]);
        for role in cluster_wide {
            let mut rules = role["rules"].as_array().expect("rules").iter();
            assert!(!rules.any(|rule| writes(rule) && rule["apiGroups"] != reports), "{role}");
        }
        let acts = all.iter().find(|one| one["metadata"]["namespace"] == PROFILES_NAMESPACE).expect("a role");
        assert_eq!(acts["rules"][0]["verbs"], json!(["impersonate"]));
        assert!(profile_rights(ProfileRights::None).is_empty());
        assert!(access_rights("off").is_empty(), "and acts as no person unless the owner says so");
    }
}
