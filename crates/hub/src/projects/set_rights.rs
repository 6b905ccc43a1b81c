//! Which cluster sets a write gives to somebody or takes from somebody. Pure; the API server asks whether the writer has the
//! right over each.
//!
//! * A Cluster's label moves it out of one set into another.
//! * A project's annotation gives the project sets and takes them away. A namespace that ceases to be a project has every
//!   cluster: that is a matter of all sets. One that is made without the label gives nobody anything that the namespace
//!   `default` does not give.
//! * A join token lets clusters into the set that it names.

use std::collections::{BTreeMap, BTreeSet};

use agent_protocol::TOKEN_SECRET_TYPE;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_objects::project::project_sets;
use fleet_objects::{GROUP, LABEL_CLUSTER_SET, SYSTEM_NAMESPACE};
use kube::api::ObjectMeta;
use kube_objects::Write;
use serde_json::Value;

/// A right over a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRight {
    /// The set; "": all there are and will be.
    pub set: String,
    /// What it is needed for, to stand behind "cannot".
    pub purpose: String,
}

impl SetRight {
    fn new(set: &str, purpose: String) -> Self {
        Self { set: set.to_owned(), purpose }
    }
}

/// Whether writes of such things can need rights over sets.
#[must_use]
pub fn concerns(group: &str, resource: &str) -> bool {
    matches!((group, resource), (GROUP, "clusters") | ("", "namespaces" | "secrets"))
}

/// The rights over sets that a write needs, what loses before what gains.
#[must_use]
pub fn needed(write: &Write<'_>) -> Vec<SetRight> {
    match (write.group, write.resource) {
        (GROUP, "clusters") => of_cluster(write),
        ("", "namespaces") => of_project(write),
        ("", "secrets") if write.namespace == SYSTEM_NAMESPACE => of_token(write),
        _ => Vec::new(),
    }
}

fn of_cluster(write: &Write<'_>) -> Vec<SetRight> {
    let set = |object: &Value| object["metadata"]["labels"][LABEL_CLUSTER_SET].as_str().map(str::to_owned);
    let (old, new) = (write.old.and_then(set), set(write.new));
    if old == new {
        return Vec::new();
    }
    let out = old.map(|set| SetRight::new(&set, format!("take it out of the cluster set {set:?}")));
    let into = new.map(|set| SetRight::new(&set, format!("put it into the cluster set {set:?}")));
    out.into_iter().chain(into).collect()
}

fn of_project(write: &Write<'_>) -> Vec<SetRight> {
    let sets = |object: &Value| -> Option<BTreeSet<String>> {
        // What is no metadata the server has refused before.
        let metadata: ObjectMeta = serde_json::from_value(object["metadata"].clone()).ok()?;
        project_sets(&metadata).map(|sets| sets.into_iter().collect())
    };
    let (old, new) = (write.old.and_then(sets), sets(write.new));
    match (old, new) {
        (_, None) if write.old.and_then(sets).is_none() => Vec::new(),
        (_, None) => {
            vec![SetRight::new("", "give it every cluster, as a namespace that is no project has".to_owned())]
        }
        (old, Some(new)) => {
            let old = old.unwrap_or_default();
            let lost = old
                .difference(&new)
                .map(|set| SetRight::new(set, format!("take the cluster set {set:?} from the project")));
            let gained = new
                .difference(&old)
                .map(|set| SetRight::new(set, format!("give the cluster set {set:?} to the project")));
            lost.chain(gained).collect()
        }
    }
}

fn of_token(write: &Write<'_>) -> Vec<SetRight> {
    let set = |object: &Value| -> Option<String> {
        if object["type"] != TOKEN_SECRET_TYPE {
            return None;
        }
        // As a join reads it: what is no labels lets into no set.
        let labels = STANDARD.decode(object["data"]["labels"].as_str()?).ok()?;
        let mut labels: BTreeMap<String, String> = serde_json::from_slice(&labels).ok()?;
        labels.remove(LABEL_CLUSTER_SET)
    };
    let (old, new) = (write.old.and_then(set), set(write.new));
    let into = new.filter(|set| old.as_ref() != Some(set));
    into.map(|set| SetRight::new(&set, format!("let clusters into the cluster set {set:?} with it")))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use fleet_objects::project::{ANNOTATION_CLUSTER_SETS, LABEL_PROJECT};
    use serde_json::json;

    use super::*;

    fn sets(group: &str, resource: &str, namespace: &str, old: Option<&Value>, new: &Value) -> Vec<String> {
        let needed = needed(&Write { group, resource, namespace, old, new });
        assert!(needed.is_empty() || concerns(group, resource));
        needed.into_iter().map(|right| right.set).collect()
    }

    /// The set a cluster was in, where there was one, the set it comes to, and whose rights that takes.
    type Move = (Option<Option<&'static str>>, Option<&'static str>, &'static [&'static str]);

    #[test]
    fn a_cluster_moves_by_the_rights_over_both_sets() {
        let cluster = |set: Option<&str>, other: &str| {
            let mut object = json!({"metadata": {"name": "dev", "labels": {"other": other}}});
            if let Some(set) = set {
                object["metadata"]["labels"][LABEL_CLUSTER_SET] = json!(set);
            }
            object
        };
        let table: [Move; 8] = [
            (None, None, &[]),
            (None, Some("a"), &["a"]),
            (Some(None), None, &[]),
            (Some(None), Some("a"), &["a"]),
            (Some(Some("a")), Some("a"), &[]),
            (Some(Some("a")), Some("b"), &["a", "b"]),
            (Some(Some("a")), None, &["a"]),
            (Some(Some("")), Some("a"), &["", "a"]),
        ];
        for (from, to, wanted) in table {
            let old = from.map(|set| cluster(set, "1"));
            let found = sets(GROUP, "clusters", "", old.as_ref(), &cluster(to, "2"));
            assert_eq!(found, wanted, "{from:?} to {to:?}");
        }
        // Another kind that happens to bear the label moves nothing.
        assert!(sets(GROUP, "profiles", "x", None, &cluster(Some("a"), "")).is_empty());
    }

    #[test]
    fn a_project_gains_and_loses_sets_by_the_rights_over_them() {
        let plain = json!({"metadata": {"name": "team"}});
        let project = |sets: &str| {
            json!({"metadata": {"name": "team", "labels": {LABEL_PROJECT: ""},
                "annotations": {ANNOTATION_CLUSTER_SETS: sets}}})
        };
        let named_only = json!({"metadata": {"name": "team", "annotations": {ANNOTATION_CLUSTER_SETS: "a"}}});
        let table: [(Option<Value>, Value, &[&str]); 9] = [
            (None, plain.clone(), &[]),
            (None, project("b,a"), &["a", "b"]),
            (Some(plain.clone()), project("a"), &["a"]),
            (Some(plain.clone()), plain.clone(), &[]),
            (Some(project("a")), project(" a ,"), &[]),
            (Some(project("a,b")), project("b,c"), &["a", "c"]),
            (Some(project("a")), project(""), &["a"]),
            (Some(project("a")), plain, &[""]),
            (Some(project("a")), named_only, &[""]),
        ];
        for (old, new, wanted) in table {
            assert_eq!(sets("", "namespaces", "", old.as_ref(), &new), wanted, "{old:?} to {new}");
        }
    }

    #[test]
    fn a_token_lets_into_a_set_by_the_right_over_it() {
        let token = |kind: &str, labels: Value| {
            let labels = STANDARD.encode(labels.to_string());
            json!({"metadata": {"name": "t"}, "type": kind, "data": {"labels": labels}})
        };
        let edge = token(TOKEN_SECRET_TYPE, json!({LABEL_CLUSTER_SET: "edge"}));
        let none = token(TOKEN_SECRET_TYPE, json!({"region": "eu"}));
        let of = |namespace, old, new| sets("", "secrets", namespace, old, new);
        assert_eq!(of(SYSTEM_NAMESPACE, None, &edge), ["edge"]);
        assert_eq!(of(SYSTEM_NAMESPACE, Some(&none), &edge), ["edge"]);
        assert!(of(SYSTEM_NAMESPACE, Some(&edge), &edge).is_empty(), "the hub notes who used it");
        assert!(of(SYSTEM_NAMESPACE, None, &none).is_empty());
        assert!(of("default", None, &edge).is_empty(), "it is none there");
        assert!(of(SYSTEM_NAMESPACE, None, &token("Opaque", json!({LABEL_CLUSTER_SET: "edge"}))).is_empty());
    }
}
