//! What a cluster's owner holds, and a placement that suddenly chooses nobody.

use anyhow::{Result, ensure};
use e2e::fleet::{Fleet, Nodes};
use e2e::wait;
use serde_json::Value;

use super::{NAMES, SOON};

fn intent(color: &str, stage: &str) -> String {
    format!(
        r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: Profile
metadata: {{ name: app, namespace: default }}
spec:
  targetNamespace: default
  health:
    - {{ apiVersion: v1, kind: ConfigMap, current: "object.data.color == '{color}'" }}
  manifests:
    - {{ apiVersion: v1, kind: ConfigMap, metadata: {{ name: app }}, data: {{ color: {color} }} }}
---
apiVersion: fleet.fairlead.dev/v1alpha1
kind: Placement
metadata: {{ name: app, namespace: default }}
spec:
  profile: app
  rollout: app
  clusterSelector:
    matchExpressions: [{{ key: {stage}, operator: Exists }}]
    celExpressions: ["'apps' in cluster.apiGroups && 'distribution.fleet.fairlead.dev' in cluster.properties"]
---
apiVersion: fleet.fairlead.dev/v1alpha1
kind: Rollout
metadata: {{ name: app, namespace: default }}
spec:
  strategy: {{ canary: {{ clusterSelector: {{ matchLabels: {{ stage: dev }} }} }} }}
"#
    )
}

fn status(fleet: &Fleet, kind: &str) -> Result<Value> {
    Ok(fleet.hub().json(&["get", &format!("{kind}.fleet.fairlead.dev"), "app"])?["status"].clone())
}

fn wait_color(fleet: &Fleet, cluster: &str, wanted: Option<&str>) -> Result<()> {
    wait::until(&format!("{cluster} to be {wanted:?}"), SOON, || {
        let found = fleet.cluster(cluster).find(&["configmap", "app"])?;
        let color = found.and_then(|map| map["data"]["color"].as_str().map(str::to_owned));
        ensure!(color.as_deref() == wanted, "it is {color:?}");
        Ok(Some(()))
    })
}

fn annotate(fleet: &Fleet, cluster: &str, word: &str) -> Result<()> {
    fleet.cluster(cluster).run(&["annotate", "namespace", "kube-system", word])?;
    Ok(())
}

#[test]
fn an_owner_holds_a_cluster_and_a_wrong_selector_empties_nobody() -> Result<()> {
    let fleet = Fleet::start(&NAMES, Nodes::Simulated)?;
    fleet.hub().apply(&intent("blue", "stage"))?;
    for name in NAMES {
        wait_color(&fleet, name, Some("blue"))?;
    }
    annotate(&fleet, "staging", "fleet.fairlead.dev/hold=stock-taking")?;
    wait::until("the hub to know of the hold", SOON, || {
        let cluster = fleet.hub().json(&["get", "clusters.fleet.fairlead.dev", "staging"])?;
        Ok((cluster["status"]["hold"] == "stock-taking").then_some(()))
    })?;
    fleet.hub().apply(&intent("red", "stage"))?;
    wait_color(&fleet, "dev", Some("red"))?;
    wait_color(&fleet, "prod", Some("red"))?;
    wait::until("the rollout to go past it", SOON, || {
        let status = status(&fleet, "rollouts")?;
        ensure!(status["phase"] == "Completed" && status["failedCount"] == 0, "{status}");
        Ok((status["debtCount"] == 1).then_some(()))
    })?;
    let said = fleet.succeed(&["rollout", "status", "app"])?;
    ensure!(said.contains("held by the cluster's owner: stock-taking"), "{said}");
    wait_color(&fleet, "staging", Some("blue"))?;
    annotate(&fleet, "staging", "fleet.fairlead.dev/hold-")?;
    wait_color(&fleet, "staging", Some("red"))?;
    empties_with_a_word_alone(&fleet)
}

fn empties_with_a_word_alone(fleet: &Fleet) -> Result<()> {
    let seen = fleet.succeed(&["placement", "explain", "app", "--cluster", "dev"])?;
    for part in ["dev is chosen", "distribution.fleet.fairlead.dev", "API group"] {
        ensure!(seen.contains(part), "{part} is not in:\n{seen}");
    }
    fleet.hub().apply(&intent("red", "stagee"))?;
    wait::until("the withdrawal to be held", SOON, || {
        let status = status(fleet, "placements")?;
        Ok((status["heldWithdrawal"]["count"] == 3).then_some(()))
    })?;
    let said = fleet.succeed(&["placement", "explain", "app"])?;
    ensure!(said.contains("fairlead placement confirm app"), "{said}");
    for name in NAMES {
        wait_color(fleet, name, Some("red"))?;
    }
    fleet.succeed(&["placement", "confirm", "app"])?;
    for name in NAMES {
        wait_color(fleet, name, None)?;
    }
    let (code, _, said) = fleet.command(&["placement", "confirm", "app"])?;
    ensure!(code == 2 && said.contains("holds no withdrawal"), "{code}: {said}");
    Ok(())
}
