//! What kind of cluster it is, from its version, its nodes and what it says of itself. Pure.

use std::collections::{BTreeMap, BTreeSet};

use api_machinery::quantity::Quantity;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroupList;
use kube::ResourceExt as _;
use serde_json::Value;

/// Properties kept of a cluster, and bytes of one value: what fits into a Cluster's status beside the rest.
const MAX_PROPERTIES: usize = 64;
const MAX_VALUE: usize = 1024;
/// Group versions kept of a cluster: a few dozen are its own, the rest custom ones.
const MAX_GROUPS: usize = 256;

/// Where the well-known labels of a node are.
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";

/// What is kept of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeFacts {
    pub(super) ready: bool,
    region: Option<String>,
    zone: Option<String>,
    provider: Option<String>,
    allocatable: BTreeMap<&'static str, Quantity>,
}

impl NodeFacts {
    pub(super) fn of(node: &Node) -> Self {
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let label = |key: &str| node.labels().get(key).filter(|value| !value.is_empty()).cloned();
        let id = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref()).unwrap_or_default();
        let given = status.and_then(|status| status.allocatable.as_ref());
        let amount = |name: &'static str| Some((name, given?.get(name)?.0.parse().ok()?));
        Self {
            ready: conditions.into_iter().any(|own| own.type_ == "Ready" && own.status == "True"),
            region: label(REGION),
            zone: label(ZONE),
            provider: id.split_once("://").map(|(provider, _)| provider.to_owned()),
            allocatable: ["cpu", "memory", "pods"].into_iter().filter_map(amount).collect(),
        }
    }
}

/// The cluster's properties: what its own About API says wins over what was found out.
pub(super) fn properties<'a>(
    version: &str,
    nodes: impl Iterator<Item = &'a NodeFacts> + Clone,
    said: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            found.insert(format!("{name}.fleet.fairlead.dev"), value);
        }
    };
    let joined = |of: fn(&NodeFacts) -> &Option<String>| {
        let all: BTreeSet<&str> = nodes.clone().filter_map(|node| of(node).as_deref()).collect();
        (!all.is_empty()).then(|| all.into_iter().collect::<Vec<_>>().join(","))
    };
    put("provider", joined(|node| &node.provider));
    put("region", joined(|node| &node.region));
    put("zones", joined(|node| &node.zone));
    put("distribution", distribution(version).map(str::to_owned));
    for name in ["cpu", "memory", "pods"] {
        let sum = nodes
            .clone()
            .filter_map(|node| node.allocatable.get(name))
            .copied()
            .reduce(|sum, own| sum.plus(&own));
        put(&format!("allocatable-{name}"), sum.map(|sum| sum.to_string()));
    }
    for (name, value) in said {
        found.insert(name.clone(), value.clone());
    }
    found.retain(|_, value| value.len() <= MAX_VALUE);
    while found.len() > MAX_PROPERTIES {
        found.pop_last();
    }
    found
}

/// Who made it, by the mark that distributions leave in their version.
fn distribution(version: &str) -> Option<&'static str> {
    const MARKS: [(&str, &str); 8] = [
        ("+k3s", "k3s"),
        ("+rke2", "rke2"),
        ("+k0s", "k0s"),
        ("-eks-", "eks"),
        ("-gke.", "gke"),
        ("+vmware", "tkg"),
        ("-mirantis", "mke"),
        ("fairlead", "fairlead"),
    ];
    MARKS.iter().find(|(mark, _)| version.contains(mark)).map(|(_, name)| *name)
}

/// What the cluster's About API (KEP-2149) lists.
pub(super) fn about(list: &Value) -> BTreeMap<String, String> {
    let items = list["items"].as_array().into_iter().flatten();
    let pairs = items.filter_map(|item| {
        let name = item["metadata"]["name"].as_str()?;
        Some((name.to_owned(), item["spec"]["value"].as_str()?.to_owned()))
    });
    pairs.filter(|(name, _)| name.len() <= 253).take(MAX_PROPERTIES).collect()
}

/// Every group and version that is served, but for the core group, which is everywhere.
pub(super) fn api_groups(list: &APIGroupList) -> Vec<String> {
    let versions = list.groups.iter().flat_map(|group| &group.versions);
    let all: BTreeSet<&String> = versions.map(|version| &version.group_version).collect();
    all.into_iter().filter(|name| name.contains('/')).take(MAX_GROUPS).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(zone: &str, cpu: &str) -> NodeFacts {
        let node = json!({"metadata": {"name": zone, "labels": {REGION: "eu", ZONE: zone}},
            "spec": {"providerID": "aws:///eu/i-1"},
            "status": {"allocatable": {"cpu": cpu, "memory": "1Gi", "odd": "x"},
                "conditions": [{"type": "Ready", "status": "True"}]}});
        NodeFacts::of(&serde_json::from_value(node).unwrap())
    }

    #[test]
    fn a_cluster_is_described_by_its_nodes_and_has_the_last_word() {
        let nodes = [node("eu-b", "1500m"), node("eu-a", "2")];
        assert!(nodes.iter().all(|node| node.ready));
        let said = about(&json!({"items": [
            {"metadata": {"name": "cluster.clusterset.k8s.io"}, "spec": {"value": "shop"}},
            {"metadata": {"name": "region.fleet.fairlead.dev"}, "spec": {"value": "europe"}},
            {"metadata": {"name": "broken"}}]}));
        let found = properties("v1.36.1+k3s1", nodes.iter(), &said);
        let of = |name: &str| found.get(&format!("{name}.fleet.fairlead.dev")).map(String::as_str);
        assert_eq!(of("zones"), Some("eu-a,eu-b"));
        assert_eq!((of("provider"), of("distribution")), (Some("aws"), Some("k3s")));
        assert_eq!((of("allocatable-cpu"), of("allocatable-memory")), (Some("3500m"), Some("2Gi")));
        assert_eq!(of("allocatable-pods"), None);
        assert_eq!(of("region"), Some("europe"));
        assert_eq!(found["cluster.clusterset.k8s.io"], "shop");
    }

    #[test]
    fn what_a_cluster_says_of_itself_is_bounded() {
        let items: Vec<Value> = (0..500)
            .map(|number| {
                json!({"metadata": {"name": format!("p{number}")},
            "spec": {"value": "x".repeat(if number == 0 { MAX_VALUE + 1 } else { 1 })}})
            })
            .collect();
        let found = properties("", std::iter::empty(), &about(&json!({"items": items})));
        assert!(found.len() <= MAX_PROPERTIES && !found.contains_key("p0"));
    }

    #[test]
    fn groups_are_told_with_their_versions_but_for_the_core() {
        let version = |name: &str| json!({"groupVersion": name, "version": "v1"});
        let list = json!({"groups": [
            {"name": "policy", "versions": [version("policy/v1"), version("policy/v1beta1")]},
            {"name": "apps", "versions": [version("apps/v1")]}, {"name": "", "versions": [version("v1")]}]});
        let list = serde_json::from_value(list).unwrap();
        assert_eq!(api_groups(&list), ["apps/v1", "policy/v1", "policy/v1beta1"]);
    }
}
