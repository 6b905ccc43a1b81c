//! Keeps what was found as report objects in the cluster: `openreports.io` or `wgpolicyk8s.io`, where the cluster has
//! their definition. One for each namespace, and one for what is in none.

use std::collections::BTreeMap;
use std::sync::Arc;

use api_client::apply;
use fleet_objects::LABEL_ASSIGNMENT;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::ServedKind;

/// The name of every report, and the field manager that writes it.
const NAME: &str = "fairlead-audit";
const LABEL: &str = "app.kubernetes.io/managed-by";
/// Groups and versions of reports, the first that is served is written.
const KINDS: [(&str, &str, &str); 3] = [
    ("openreports.io", "v1alpha1", "reports"),
    ("wgpolicyk8s.io", "v1beta1", "policyreports"),
    ("wgpolicyk8s.io", "v1alpha2", "policyreports"),
];

/// The two kinds of one group.
#[derive(Clone, Debug, PartialEq)]
struct Chosen {
    namespaced: ApiResource,
    cluster: ApiResource,
}

/// The reports of a cluster.
pub(super) struct Reports {
    client: Client,
    chosen: Option<Chosen>,
    /// As they were written last, by namespace; `None` until it was looked what is there.
    written: Option<BTreeMap<String, Arc<Value>>>,
}

fn resource(group: &str, version: &str, kind: &ServedKind) -> ApiResource {
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: format!("{group}/{version}"),
        kind: kind.kind.clone(),
        plural: kind.plural.clone(),
    }
}

fn choose(served: &[ServedKind]) -> Option<Chosen> {
    KINDS.iter().find_map(|(group, version, plural)| {
        let find = |wanted: &str| {
            served
                .iter()
                .find(|kind| kind.group == *group && kind.version == *version && kind.plural == wanted)
        };
        let (namespaced, cluster) = (find(plural)?, find(&format!("cluster{plural}"))?);
        Some(Chosen {
            namespaced: resource(group, version, namespaced),
            cluster: resource(group, version, cluster),
        })
    })
}

impl Reports {
    pub(super) fn new(client: Client) -> Self {
        Self { client, chosen: None, written: None }
    }

    /// Takes what the cluster serves.
    pub(super) fn choose(&mut self, served: &[ServedKind]) {
        let chosen = choose(served);
        if self.chosen != chosen {
            self.chosen = chosen;
            self.written = None;
        }
    }

    fn api(&self, chosen: &Chosen, namespace: &str) -> Api<DynamicObject> {
        match namespace {
            "" => Api::all_with(self.client.clone(), &chosen.cluster),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &chosen.namespaced),
        }
    }

    /// Writes what differs from what was written; reports of namespaces that are not named go. Answers whether all is
    /// written.
    pub(super) async fn write(&mut self, reports: &BTreeMap<String, Value>) -> bool {
        let Some(chosen) = self.chosen.clone() else { return true };
        let mut complete = true;
        let mut written = match self.written.take() {
            Some(written) => written,
            None => match self.there(&chosen).await {
                Ok(there) => there,
                Err(error) => {
                    tracing::debug!(%error, "cannot list the reports of this cluster");
                    return false;
                }
            },
        };
        for (namespace, report) in reports {
            if written.get(namespace).is_some_and(|known| **known == *report) {
                continue;
            }
            let api = self.api(&chosen, namespace);
            let document = document(&chosen, namespace, report);
            match apply::apply(&api, NAME, NAME, true, &document).await {
                Ok(_) => drop(written.insert(namespace.clone(), Arc::new(report.clone()))),
                // The namespace is going: so does its report.
                Err(error)
                    if api_client::error::is_not_found(&error)
                        || api_client::error::is_namespace_terminating(&error) => {}
                Err(error) => {
                    tracing::debug!(%namespace, %error, "a policy report could not be written");
                    complete = false;
                }
            }
        }
        let stale: Vec<String> =
            written.keys().filter(|known| !reports.contains_key(*known)).cloned().collect();
        for namespace in stale {
            match self.api(&chosen, &namespace).delete(NAME, &DeleteParams::default()).await {
                Ok(_) => drop(written.remove(&namespace)),
                Err(error) if api_client::error::is_not_found(&error) => drop(written.remove(&namespace)),
                Err(error) => {
                    tracing::debug!(%namespace, %error, "a stale policy report could not be removed");
                    complete = false;
                }
            }
        }
        self.written = Some(written);
        complete
    }

    /// Where reports of an earlier life are. What they say is written anew.
    async fn there(&self, chosen: &Chosen) -> kube::Result<BTreeMap<String, Arc<Value>>> {
        let own = ListParams::default().labels(&format!("{LABEL}={NAME}"));
        let mut found = BTreeMap::new();
        for resource in [&chosen.namespaced, &chosen.cluster] {
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), resource);
            for report in api.list(&own).await? {
                let is_own = report.metadata.name.as_deref() == Some(NAME);
                let delivered =
                    report.metadata.labels.is_some_and(|labels| labels.contains_key(LABEL_ASSIGNMENT));
                if is_own && !delivered {
                    found.insert(report.metadata.namespace.unwrap_or_default(), Arc::default());
                }
            }
        }
        Ok(found)
    }
}

fn document(chosen: &Chosen, namespace: &str, report: &Value) -> Value {
    let resource = if namespace.is_empty() { &chosen.cluster } else { &chosen.namespaced };
    let mut metadata = json!({"name": NAME, "labels": {LABEL: NAME}});
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    let mut document = json!({
        "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata,
        "summary": report["summary"], "results": report["results"],
    });
    if resource.group == "openreports.io" {
        document["source"] = json!("fairlead");
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_the_definitions_that_are_there_is_written() {
        let kind = |group: &str, version: &str, plural: &str| ServedKind {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            kind: plural.to_owned(),
            namespaced: !plural.starts_with("cluster"),
        };
        let both = |group, version, plural: &str| {
            [kind(group, version, plural), kind(group, version, &format!("cluster{plural}"))]
        };
        let old = both("wgpolicyk8s.io", "v1alpha2", "policyreports");
        let new = both("openreports.io", "v1alpha1", "reports");
        let all: Vec<_> = old.iter().chain(&new).cloned().collect();
        assert_eq!(choose(&all).unwrap().cluster.plural, "clusterreports");
        assert_eq!(choose(&old).unwrap().namespaced.api_version, "wgpolicyk8s.io/v1alpha2");
        assert_eq!(choose(&old[..1]), None, "one of the two is not enough");
        let chosen = choose(&new).unwrap();
        let made = document(&chosen, "shop", &json!({"summary": {"fail": 1}, "results": []}));
        assert_eq!(made["metadata"]["namespace"], "shop");
        assert_eq!((&made["source"], &made["summary"]["fail"]), (&json!("fairlead"), &json!(1)));
    }
}
