//! Who is chosen, why, and where other tools read it.

use anyhow::{Result, ensure};
use e2e::fleet::{Fleet, Nodes};
use e2e::wait;
use serde_json::Value;

use super::{NAMES, SOON};

const INTENT: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: Profile
metadata: { name: app, namespace: default }
spec:
  targetNamespace: default
  manifests:
    - { apiVersion: v1, kind: ConfigMap, metadata: { name: app }, data: { here: "yes" } }
---
apiVersion: fleet.fairlead.dev/v1alpha1
kind: Placement
metadata: { name: app, namespace: default }
spec:
  profile: app
  clusterSets: [production]
  clusterSelector: { celExpressions: ["cluster.labels.stage != 'dev'"] }
  numberOfClusters: 1
  prioritizers: [{ expression: "cluster.labels.stage == 'prod' ? 10 : 1" }]
"#;

/// The clusters that other tools are told of.
fn published(fleet: &Fleet) -> Result<Vec<String>> {
    let selector = "multicluster.x-k8s.io/decision-key=app";
    let list = fleet.hub().json(&["get", "placementdecisions.multicluster.x-k8s.io", "-l", selector])?;
    let slices = list["items"].as_array().cloned().unwrap_or_default();
    let decisions =
        slices.iter().flat_map(|slice| slice["decisions"].as_array().cloned().unwrap_or_default());
    Ok(decisions
        .filter_map(|decision: Value| decision["clusterProfileRef"]["name"].as_str().map(str::to_owned))
        .collect())
}

fn wait_only(fleet: &Fleet, chosen: &str) -> Result<()> {
    wait::until(&format!("the application to be in {chosen} alone"), SOON, || {
        ensure!(published(fleet)? == [chosen], "published: {:?}", published(fleet)?);
        for name in NAMES {
            let there = fleet.cluster(name).find(&["configmap", "app"])?.is_some();
            ensure!(there == (name == chosen), "{name}: {there}");
        }
        Ok(Some(()))
    })
}

#[test]
fn the_best_of_a_set_is_chosen_and_every_cluster_is_told_why() -> Result<()> {
    let fleet = Fleet::start(&NAMES, Nodes::Simulated)?;
    fleet.hub().apply(INTENT)?;
    wait::until("nobody to be chosen", SOON, || {
        let said = fleet.succeed(&["placement", "explain", "app"])?;
        Ok(said.contains("it is in no cluster set, not in production").then_some(()))
    })?;
    ensure!(published(&fleet)?.is_empty());
    // The best one first: who was chosen before it joined would be kept.
    for name in NAMES.iter().rev() {
        let label = "multicluster.x-k8s.io/clusterset=production";
        fleet.hub().run(&["label", "clusters.fleet.fairlead.dev", name, label])?;
    }
    wait_only(&fleet, "prod")?;
    let said = fleet.succeed(&["placement", "explain", "app"])?;
    for part in ["number 1 of 1", "cluster.labels.stage != 'dev' does not hold", "Number"] {
        ensure!(said.contains(part), "{part} is not in:\n{said}");
    }
    // A taint drives it away, and it does not come back for the score alone.
    let taint = r#"{"spec":{"taints":[{"key":"leaving","effect":"Evict"}]}}"#;
    fleet.hub().run(&["patch", "clusters.fleet.fairlead.dev", "prod", "--type", "merge", "-p", taint])?;
    wait_only(&fleet, "staging")?;
    let none = r#"{"spec":{"taints":[]}}"#;
    fleet.hub().run(&["patch", "clusters.fleet.fairlead.dev", "prod", "--type", "merge", "-p", none])?;
    wait::until("prod to be a candidate again", SOON, || {
        let said = fleet.succeed(&["placement", "explain", "app"])?;
        Ok((!said.contains("taint leaving")).then_some(()))
    })?;
    wait_only(&fleet, "staging")?;
    fleet.hub().run(&["delete", "placements.fleet.fairlead.dev", "app"])?;
    wait::until("the decision to go with its placement", SOON, || {
        Ok(published(&fleet)?.is_empty().then_some(()))
    })
}
