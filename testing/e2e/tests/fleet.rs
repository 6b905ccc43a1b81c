//! The fleet's promises, with a hub, three clusters and three agents as processes of their own.

#[path = "fleet/access.rs"]
mod access;
#[path = "fleet/any_kubernetes.rs"]
mod any_kubernetes;
#[path = "fleet/authority.rs"]
mod authority;
#[path = "fleet/bad_input.rs"]
mod bad_input;
#[path = "fleet/certificates.rs"]
mod certificates;
#[path = "fleet/clocks.rs"]
mod clocks;
#[path = "fleet/diff.rs"]
mod diff;
#[path = "fleet/full_disk.rs"]
mod full_disk;
#[path = "fleet/intent.rs"]
mod intent;
#[path = "fleet/members.rs"]
mod members;
#[path = "fleet/outages.rs"]
mod outages;
#[path = "fleet/placement.rs"]
mod placement;
#[path = "fleet/replicas.rs"]
mod replicas;
#[path = "fleet/rollout.rs"]
mod rollout;
#[path = "fleet/test_commands.rs"]
mod test_commands;
#[path = "fleet/tokens.rs"]
mod tokens;

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::fleet::{Fleet, Nodes, condition};
use e2e::process::Process;
use e2e::wait;

const NAMES: [&str; 3] = ["dev", "staging", "prod"];

/// Generous: debug builds on a busy machine. Figures are measured in testing/bench, not here.
const SOON: Duration = Duration::from_secs(60);

const APPLICATION: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: Profile
metadata: { name: app, namespace: default }
spec:
  targetNamespace: default
  manifests:
    - { apiVersion: v1, kind: ConfigMap, metadata: { name: app }, data: { color: blue } }
    - apiVersion: apps/v1
      kind: Deployment
      metadata: { name: app }
      spec:
        replicas: 2
        selector: { matchLabels: { app: app } }
        template:
          metadata: { labels: { app: app } }
          spec: { containers: [{ name: web, image: "fairlead.dev/tool:latest", command: [/fairlead, tool, serve] }] }
---
apiVersion: fleet.fairlead.dev/v1alpha1
kind: Placement
metadata: { name: app, namespace: default }
spec: { profile: app, clusterSelector: {} }
"#;

fn with_application() -> Result<Fleet> {
    let fleet = Fleet::start(&NAMES, Nodes::Simulated)?;
    fleet.hub().apply(APPLICATION)?;
    for name in NAMES {
        wait_ready(&fleet, name, "default.app")?;
    }
    Ok(fleet)
}

fn wait_ready(fleet: &Fleet, cluster: &str, assignment: &str) -> Result<()> {
    let hub = fleet.hub();
    let namespace = format!("cluster-{cluster}");
    wait::until(&format!("{assignment} to be ready in {cluster}"), SOON, || {
        let found = hub.find(&["assignments.fleet.fairlead.dev", assignment, "-n", &namespace])?;
        let found = found.context("no such assignment")?;
        ensure!(condition(&found, "Ready") == Some("True"), "{}", found["status"]);
        Ok(Some(()))
    })
}

/// Deletes and changes what the profile owns in a cluster; both must be undone.
fn breaks_and_heals(fleet: &Fleet, cluster: &str) -> Result<()> {
    let kubectl = fleet.cluster(cluster);
    kubectl.run(&["delete", "configmap", "app", "--wait=false"])?;
    let start = Instant::now();
    wait::until("the deleted object to be back", SOON, || kubectl.find(&["configmap", "app"]))?;
    kubectl.run(&["patch", "configmap", "app", "--type", "merge", "-p", r#"{"data":{"color":"red"}}"#])?;
    wait::until("the changed field to be back", SOON, || {
        let color = kubectl.run(&["get", "configmap", "app", "-o", "jsonpath={.data.color}"])?;
        Ok((color == "blue").then_some(()))
    })?;
    eprintln!("{cluster}: two repairs in {:?}, kubectl included", start.elapsed());
    Ok(())
}

#[test]
fn a_profile_reaches_all_is_repaired_and_leaves_by_tombstone_only() -> Result<()> {
    let fleet = with_application()?;
    for name in NAMES {
        breaks_and_heals(&fleet, name)?;
    }
    let away = r#"{"spec":{"clusterSelector":{"matchExpressions":[{"key":"stage","operator":"NotIn","values":["dev"]}]}}}"#;
    fleet.hub().run(&["patch", "placements.fleet.fairlead.dev", "app", "--type", "merge", "-p", away])?;
    let dev = fleet.cluster("dev");
    wait::until("the application to leave dev", SOON, || {
        Ok(dev.find(&["configmap", "app"])?.is_none().then_some(()))
    })?;
    wait::until("the deployment to leave dev", SOON, || {
        Ok(dev.find(&["deployment", "app"])?.is_none().then_some(()))
    })?;
    for name in ["staging", "prod"] {
        breaks_and_heals(&fleet, name)?;
    }
    Ok(())
}

#[test]
fn clusters_go_on_without_the_hub_and_every_event_of_the_outage_arrives_once() -> Result<()> {
    let mut fleet = with_application()?;
    fleet.kill_hub()?;
    for name in NAMES {
        breaks_and_heals(&fleet, name)?;
    }
    for name in NAMES {
        fleet.kill_agent(name)?;
        fleet.start_agent(name)?;
    }
    for name in NAMES {
        breaks_and_heals(&fleet, name)?;
    }
    fleet.start_hub()?;
    for name in NAMES {
        fleet.wait_connected(name, "True")?;
        wait::until(&format!("the repairs of {name} to be reported"), SOON, || {
            let status = fleet.hub().json(&[
                "get",
                "assignments.fleet.fairlead.dev",
                "default.app",
                "-n",
                &format!("cluster-{name}"),
            ])?;
            // Those of the agent that runs now: what was broken while it started, its first pass put right.
            let repairs = status["status"]["repairs"].as_u64().unwrap_or(0);
            Ok((repairs >= 1).then_some(()))
        })?;
        let count = fleet.check_sequences(name)?;
        let events = fleet.records(name)?;
        let repaired = |record: &&serde_json::Value| record["data"]["reason"] == "DriftRepaired";
        let repaired = events.iter().filter(repaired).count();
        // Two of the agent before it, and at least the one.
        ensure!(repaired >= 3, "{name}: {repaired} repairs among {count} records");
    }
    Ok(())
}

#[test]
fn an_empty_hub_or_an_older_one_takes_nothing_away() -> Result<()> {
    let mut fleet = with_application()?;
    let older = fleet.path().join("older");
    fleet.kill_hub()?;
    copy_directory(&fleet.hub_dir(), &older)?;
    fleet.start_hub()?;
    for name in NAMES {
        fleet.wait_connected(name, "True")?;
    }
    let change = r#"{"spec":{"manifests":[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"app"},"data":{"color":"blue","new":"yes"}}]}}"#;
    fleet.hub().run(&["patch", "profiles.fleet.fairlead.dev", "app", "--type", "merge", "-p", change])?;
    for name in NAMES {
        let kubectl = fleet.cluster(name);
        wait::until("the change to arrive", SOON, || {
            let new = kubectl.run(&["get", "configmap", "app", "-o", "jsonpath={.data.new}"])?;
            Ok((new == "yes").then_some(()))
        })?;
    }
    // The older copy: the same authority, an earlier history.
    fleet.kill_hub()?;
    std::fs::rename(fleet.hub_dir(), fleet.path().join("newest"))?;
    std::fs::rename(&older, fleet.hub_dir())?;
    fleet.start_hub()?;
    keeps_everything(&fleet)?;
    for name in NAMES {
        fleet.wait_agent_says(name, "back in time")?;
    }
    // An empty directory: another authority altogether.
    fleet.kill_hub()?;
    std::fs::rename(fleet.hub_dir(), fleet.path().join("old"))?;
    fleet.start_hub()?;
    for name in NAMES {
        fleet.wait_agent_says(name, "certificate")?;
    }
    keeps_everything(&fleet)
}

/// The newest content is still there, and still enforced.
fn keeps_everything(fleet: &Fleet) -> Result<()> {
    for name in NAMES {
        let kubectl = fleet.cluster(name);
        breaks_and_heals(fleet, name)?;
        let new = kubectl.run(&["get", "configmap", "app", "-o", "jsonpath={.data.new}"])?;
        ensure!(new == "yes", "{name} went back in time");
    }
    Ok(())
}

fn copy_directory(from: &std::path::Path, to: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[test]
fn real_applications_become_healthy_in_every_cluster() -> Result<()> {
    let Some(samples) = fixtures::samples::find("manifests") else { return Ok(()) };
    let boutique = samples.join("microservices-demo/kubernetes-manifests.yaml");
    let fleet = Fleet::start(&NAMES, Nodes::Simulated)?;
    let podinfo = fleet.path().join("podinfo");
    std::fs::create_dir(&podinfo)?;
    for file in ["deployment.yaml", "hpa.yaml", "service.yaml"] {
        std::fs::copy(samples.join("podinfo/kustomize").join(file), podinfo.join(file))?;
    }
    for (name, source) in [("boutique", &boutique), ("podinfo", &podinfo)] {
        let source = source.to_str().context("a UTF-8 path")?;
        fleet.succeed(&["profile", "create", name, "--from", source, "--target-namespace", "default"])?;
        fleet.hub().apply(&format!(
            r#"{{ "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Placement",
                 "metadata": {{ "name": "{name}", "namespace": "default" }},
                 "spec": {{ "profile": "{name}", "clusterSelector": {{}} }} }}"#
        ))?;
    }
    for cluster in NAMES {
        for name in ["default.boutique", "default.podinfo"] {
            wait_ready(&fleet, cluster, name)?;
        }
    }
    Ok(())
}
