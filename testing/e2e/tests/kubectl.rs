//! An unmodified kubectl against an embedded cluster, as a user would drive it.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::fleet::StandaloneCluster;
use e2e::wait;

const SOON: Duration = Duration::from_secs(30);

const IMAGE: &str = "fairlead.dev/tool:latest";

fn started() -> Result<StandaloneCluster> {
    StandaloneCluster::start("one")
}

#[test]
fn workloads_come_up_are_shown_scaled_and_deleted() -> Result<()> {
    let cluster = started()?;
    let kubectl = cluster.kubectl();
    kubectl.run(&["create", "namespace", "shop"])?;
    kubectl.run(&["create", "deployment", "web", "--image", IMAGE, "-n", "shop"])?;
    kubectl.run(&["scale", "deployment", "web", "--replicas", "3", "-n", "shop"])?;
    kubectl.run(&["rollout", "status", "deployment/web", "-n", "shop", "--timeout", "30s"])?;
    let table = kubectl.run(&["get", "deployment", "web", "-n", "shop"])?;
    ensure!(table.contains("3/3"), "{table}");
    let wide = kubectl.run(&["get", "pods", "-n", "shop", "-o", "wide"])?;
    ensure!(wide.matches("Running").count() == 3 && wide.contains("NODE"), "{wide}");
    let names = kubectl.run(&["get", "pods", "-n", "shop", "-o", "name"])?;
    ensure!(names.lines().all(|line| line.starts_with("pod/web-")), "{names}");
    let described = kubectl.run(&["describe", "deployment", "web", "-n", "shop"])?;
    ensure!(described.contains("ScalingReplicaSet") && described.contains("3 available"), "{described}");
    let path = "jsonpath={.items[*].spec.containers[*].image}";
    let images = kubectl.run(&["get", "pods", "-n", "shop", "-o", path])?;
    ensure!(images.split(' ').count() == 3, "{images}");
    kubectl.run(&["delete", "namespace", "shop", "--timeout", "30s"])?;
    ensure!(kubectl.find(&["namespace", "shop"])?.is_none());
    Ok(())
}

#[test]
fn jobs_complete_or_fail_and_logs_are_readable() -> Result<()> {
    let cluster = started()?;
    let kubectl = cluster.kubectl();
    let job = |name: &str, command: &str| {
        format!(
            r#"{{ "apiVersion": "batch/v1", "kind": "Job", "metadata": {{ "name": "{name}", "namespace": "default" }},
                 "spec": {{ "backoffLimit": 0, "template": {{ "spec": {{ "restartPolicy": "Never", "containers": [
                   {{ "name": "main", "image": "{IMAGE}", "command": {command} }}] }} }} }} }}"#
        )
    };
    kubectl.apply(&job("once", r#"["/fairlead", "tool", "exit", "0"]"#))?;
    kubectl.run(&["wait", "job/once", "--for", "condition=complete", "--timeout", "30s"])?;
    kubectl.run(&["logs", "job/once"])?;
    kubectl.apply(&job("fails", r#"["/fairlead", "tool", "exit", "3"]"#))?;
    kubectl.run(&["wait", "job/fails", "--for", "condition=failed", "--timeout", "30s"])?;
    Ok(())
}

#[test]
fn applying_both_ways_keeps_owners_and_names_conflicts() -> Result<()> {
    let cluster = started()?;
    let kubectl = cluster.kubectl();
    let map = |value: &str| {
        format!(
            r#"{{ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {{ "name": "m", "namespace": "default" }},
                 "data": {{ "a": "{value}" }} }}"#
        )
    };
    kubectl.apply(&map("1"))?;
    ensure!(kubectl.apply(&map("1"))?.contains("unchanged"));
    ensure!(kubectl.apply(&map("2"))?.contains("configured"));
    let as_other = ["apply", "--server-side", "--field-manager", "other", "-f", "-"];
    let refused = kubectl.output(&as_other, &map("3"))?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && said.contains("conflict") && said.contains(".data.a"), "{said}");
    let mut forced = as_other.to_vec();
    forced.insert(1, "--force-conflicts");
    kubectl.run_with(&forced, &map("3"))?;
    ensure!(kubectl.json(&["get", "configmap", "m"])?["data"]["a"] == "3");
    Ok(())
}

#[test]
fn labels_selectors_permissions_and_discovery_work() -> Result<()> {
    let cluster = started()?;
    let kubectl = cluster.kubectl();
    kubectl.run(&["label", "namespace", "default", "tier=gold"])?;
    let gold = kubectl.run(&["get", "namespaces", "-l", "tier in (gold)", "-o", "name"])?;
    ensure!(gold.trim() == "namespace/default", "{gold}");
    ensure!(kubectl.run(&["auth", "can-i", "delete", "nodes"])?.trim() == "yes");
    let somebody = ["auth", "can-i", "delete", "nodes", "--as", "system:serviceaccount:default:default"];
    let denied = kubectl.output(&somebody, "")?;
    ensure!(String::from_utf8_lossy(&denied.stdout).trim() == "no");
    let resources = kubectl.run(&["api-resources", "--verbs", "list", "-o", "name"])?;
    for name in ["pods", "deployments.apps", "jobs.batch", "roles.rbac.authorization.k8s.io"] {
        ensure!(resources.lines().any(|line| line == name), "{name} is missing in {resources}");
    }
    Ok(())
}

#[test]
fn bad_input_gets_a_clear_error_and_changes_nothing() -> Result<()> {
    let cluster = started()?;
    let kubectl = cluster.kubectl();
    let refused = |manifest: &str, expected: &str| -> Result<()> {
        let output = kubectl.output(&["apply", "-f", "-"], manifest)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(expected), "{expected:?} is not in: {said}");
        Ok(())
    };
    refused("a: [1", "error")?;
    let misspelt = r#"{ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" }, "dta": {} }"#;
    refused(misspelt, "unknown field \"dta\"")?;
    let confused = r#"{ "apiVersion": "v1", "kind": "Confusion", "metadata": { "name": "m" } }"#;
    refused(confused, "no matches for kind \"Confusion\" in version \"v1\"")?;
    let mismatched = r#"{ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "d" }, "spec": {
         "selector": { "matchLabels": { "a": "b" } }, "template": { "metadata": { "labels": { "a": "c" } },
         "spec": { "containers": [{ "name": "x", "image": "y" }] } } } }"#;
    refused(mismatched, "`selector` does not match template `labels`")?;
    let huge = format!(
        r#"{{ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {{ "name": "m" }}, "data": {{ "a": "{}" }} }}"#,
        "x".repeat(4 << 20)
    );
    let output = kubectl.output(&["create", "-f", "-"], &huge)?;
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    ensure!(!output.status.success() && (said.contains("too large") || said.contains("limit")), "{said}");
    ensure!(kubectl.find(&["configmap", "m"])?.is_none());
    ensure!(kubectl.find(&["deployment", "d"])?.is_none());
    Ok(())
}

#[test]
fn a_killed_cluster_has_everything_it_acknowledged() -> Result<()> {
    let mut cluster = started()?;
    let kubectl = cluster.kubectl();
    kubectl.run(&["create", "configmap", "kept", "--from-literal", "a=b"])?;
    kubectl.run(&["create", "deployment", "web", "--image", IMAGE])?;
    kubectl.run(&["rollout", "status", "deployment/web", "--timeout", "30s"])?;
    let before = kubectl.json(&["get", "configmap", "kept"])?;
    cluster.kill_and_restart()?;
    let kubectl = cluster.kubectl();
    ensure!(kubectl.json(&["get", "configmap", "kept"])? == before);
    wait::until("the deployment to be available again", SOON, || {
        let web = kubectl.json(&["get", "deployment", "web"])?;
        Ok((web["status"]["availableReplicas"] == 1).then_some(()))
    })
}
