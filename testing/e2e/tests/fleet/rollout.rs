//! A change through canary and waves, one cluster failing, one away.

use anyhow::{Context, Result, ensure};
use e2e::fleet::{Fleet, Nodes};
use e2e::wait;
use serde_json::Value;

use super::{NAMES, SOON};

const INTENT: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: Placement
metadata: { name: app, namespace: default }
spec: { profile: app, clusterSelector: {}, rollout: app }
---
apiVersion: fleet.fairlead.dev/v1alpha1
kind: Rollout
metadata: { name: app, namespace: default }
spec:
  strategy:
    canary: { clusterSelector: { matchLabels: { stage: dev } } }
    waves:
      - { name: early, clusterSelector: { matchLabels: { stage: staging } } }
      - { name: last, gates: [{ type: Approval }] }
    progressDeadlineSeconds: 8
"#;

fn profile(fleet: &Fleet, color: &str, more: &str) -> Result<()> {
    fleet.hub().apply(&format!(
        r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: Profile
metadata: {{ name: app, namespace: default }}
spec:
  targetNamespace: default
  manifests:
    - {{ apiVersion: v1, kind: ConfigMap, metadata: {{ name: app }}, data: {{ color: {color} }} }}
{more}"#
    ))?;
    Ok(())
}

fn status(fleet: &Fleet) -> Result<Value> {
    let rollout = fleet.hub().json(&["get", "rollouts.fleet.fairlead.dev", "app"])?;
    Ok(rollout["status"].clone())
}

fn wait_phase(fleet: &Fleet, revision: i64, phase: &str) -> Result<Value> {
    wait::until(&format!("revision {revision} to be {phase}"), SOON, || {
        let status = status(fleet)?;
        ensure!(status["revision"] == revision && status["phase"] == phase, "{status}");
        Ok(Some(status))
    })
}

fn color(fleet: &Fleet, cluster: &str) -> Result<String> {
    let found = fleet.cluster(cluster).find(&["configmap", "app"])?;
    Ok(found.and_then(|map| map["data"]["color"].as_str().map(str::to_owned)).unwrap_or_default())
}

fn wait_color(fleet: &Fleet, cluster: &str, wanted: &str) -> Result<()> {
    wait::until(&format!("{cluster} to be {wanted}"), SOON, || {
        let color = color(fleet, cluster)?;
        ensure!(color == wanted, "it is {color:?}");
        Ok(Some(()))
    })
}

#[test]
fn a_rollout_stops_at_a_failing_cluster_goes_back_and_waits_for_those_that_are_away() -> Result<()> {
    let mut fleet = Fleet::start(&NAMES, Nodes::Simulated)?;
    // A placement whose rollout is not there changes nothing.
    profile(&fleet, "blue", "")?;
    let (placement, rollout) = INTENT.split_once("---").context("two documents")?;
    fleet.hub().apply(placement)?;
    wait::until("the placement to say what it waits for", SOON, || {
        let found = fleet.hub().json(&["get", "placements.fleet.fairlead.dev", "app"])?;
        Ok(found["status"].to_string().contains("there is no rollout app").then_some(()))
    })?;
    for name in NAMES {
        ensure!(color(&fleet, name)?.is_empty(), "{name} got something");
    }
    fleet.hub().apply(rollout)?;
    first_waits_for_a_word(&fleet)?;
    fails_at_staging_and_goes_back(&fleet)?;
    prod_catches_up(&mut fleet)?;
    staging_has_a_value_of_its_own(&fleet)
}

fn first_waits_for_a_word(fleet: &Fleet) -> Result<()> {
    wait_phase(fleet, 1, "Waiting")?;
    ensure!(color(fleet, "dev")? == "blue" && color(fleet, "staging")? == "blue");
    ensure!(color(fleet, "prod")?.is_empty(), "prod got the change without a word");
    let said = fleet.succeed(&["rollout", "status", "app"])?;
    ensure!(said.contains("approval") && said.contains("fairlead rollout promote app"), "{said}");
    fleet.succeed(&["rollout", "promote", "app"])?;
    fleet.succeed(&["rollout", "watch", "app", "--timeout", "60s"])?;
    ensure!(color(fleet, "prod")? == "blue");
    Ok(())
}

fn fails_at_staging_and_goes_back(fleet: &Fleet) -> Result<()> {
    let theirs = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"key": "theirs"}}"#;
    let arguments = ["apply", "--server-side", "--field-manager", "other-tool", "-f", "-"];
    fleet.cluster("staging").run_with(&arguments, theirs)?;
    let ours = "    - { apiVersion: v1, kind: ConfigMap, metadata: { name: theirs }, data: { key: ours } }";
    profile(fleet, "red", ours)?;
    wait::until("the change to be noticed", SOON, || Ok((status(fleet)?["revision"] == 2).then_some(())))?;
    let (code, _, said) = fleet.command(&["rollout", "watch", "app", "--timeout", "60s"])?;
    ensure!(code == 1, "{code}: {said}");
    wait_phase(fleet, 2, "Halted")?;
    ensure!(color(fleet, "dev")? == "red" && color(fleet, "prod")? == "blue", "the halt came too late");
    let said = fleet.succeed(&["rollout", "status", "app"])?;
    ensure!(said.contains("staging") && said.contains("other-tool"), "{said}");
    fleet.succeed(&["rollout", "rollback", "app"])?;
    wait_phase(fleet, 2, "RolledBack")?;
    for name in NAMES {
        wait_color(fleet, name, "blue")?;
    }
    Ok(())
}

fn prod_catches_up(fleet: &mut Fleet) -> Result<()> {
    fleet.kill_agent("prod")?;
    fleet.wait_connected("prod", "False")?;
    profile(fleet, "green", "")?;
    // Nobody of the last wave is there: only its gate is to be passed.
    wait_phase(fleet, 3, "Waiting")?;
    fleet.succeed(&["rollout", "promote", "app"])?;
    let status = wait_phase(fleet, 3, "Completed")?;
    ensure!(status["debtCount"] == 1 && status["debts"][0]["cluster"] == "prod", "{status}");
    ensure!(color(fleet, "staging")? == "green" && color(fleet, "prod")? == "blue");
    fleet.start_agent("prod")?;
    wait_color(fleet, "prod", "green")?;
    wait::until("the debt to be paid", SOON, || {
        let status = self::status(fleet)?;
        ensure!(status["debtCount"] == 0 && status["updated"] == 3, "{status}");
        Ok(Some(()))
    })
}

fn staging_has_a_value_of_its_own(fleet: &Fleet) -> Result<()> {
    profile(fleet, "\"${var.color}\"", "  variables: [{ name: color, default: green }]")?;
    let rule =
        r#"{"spec":{"values":[{"clusters":["staging"],"expressions":{"color":"cluster.name + '-blue'"}}]}}"#;
    fleet.hub().run(&["patch", "placements.fleet.fairlead.dev", "app", "--type", "merge", "-p", rule])?;
    wait_color(fleet, "staging", "staging-blue")?;
    ensure!(color(fleet, "dev")? == "green");
    // One that does not fit is told, and changes nothing.
    let wrong =
        r#"{"spec":{"values":[{"clusters":["staging"],"expressions":{"color":"cluster.nodes.total"}}]}}"#;
    fleet.hub().run(&["patch", "placements.fleet.fairlead.dev", "app", "--type", "merge", "-p", wrong])?;
    wait::until("the value that does not fit to be told", SOON, || {
        let status = self::status(fleet)?;
        ensure!(status["debts"].to_string().contains("takes text"), "{status}");
        Ok(Some(()))
    })?;
    ensure!(color(fleet, "staging")? == "staging-blue");
    Ok(())
}
