//! The agent against an API server that is not ours: whichever `AGENT_KUBECONFIG` names. Without it there is nothing to test.

#[path = "any_kubernetes/journeys.rs"]
mod journeys;

use e2e::kubectl::Kubectl;

use super::*;

/// Its own, so that nothing of anybody's cluster is touched.
const NAMESPACE: &str = "fairlead-journey";

fn profile(colour: &str, objects: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "List", "items": [
        {{"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Profile", "metadata": {{"name": "journey", "namespace": "default"}},
          "spec": {{"targetNamespace": "{NAMESPACE}", "manifests": [
            {{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "app"}}, "data": {{"color": "{colour}"}}}}{objects}]}}}},
        {{"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Placement", "metadata": {{"name": "journey", "namespace": "default"}},
          "spec": {{"profile": "journey", "clusterSelector": {{}}}}}}]}}"#
    )
}

/// Of every kind of scope and several groups.
const MORE: &str = r#",
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"}, "stringData": {"word": "x"}},
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}, "spec": {"selector": {"app": "app"}, "ports": [{"port": 80}]}},
    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "app"}},
        "template": {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [{"name": "a", "image": "registry.example.com/a:1"}]}}}},
    {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "app"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}"#;

#[test]
fn the_agents_journeys_on_any_kubernetes() -> Result<()> {
    let Some(kubeconfig) = std::env::var_os("AGENT_KUBECONFIG").map(std::path::PathBuf::from) else {
        eprintln!("skipped: AGENT_KUBECONFIG names no Kubernetes");
        return Ok(());
    };
    let cluster = Kubectl::new(&kubeconfig);
    let mut fleet = Fleet::start(&[], Nodes::Simulated)?;
    journeys::begin_anew(&fleet, &cluster)?;
    fleet.join_elsewhere("other", &kubeconfig)?;
    fleet.wait_connected("other", "True")?;
    let field = |kind: &str, path: &str| {
        cluster.run(&["get", kind, "app", "-n", NAMESPACE, "-o", &format!("jsonpath={path}")])
    };
    let is = |what: &str, kind: &str, path: &str, wanted: &str| {
        wait::until(what, SOON, || Ok((field(kind, path)? == wanted).then_some(())))
    };

    // Placed, and everything there.
    fleet.hub().apply(&profile("blue", MORE))?;
    wait_applied(&fleet)?;
    for kind in ["configmap", "secret", "service", "deployment", "role"] {
        ensure!(cluster.find(&[kind, "app", "-n", NAMESPACE])?.is_some(), "no {kind}");
    }
    // Drift of every kind is undone.
    cluster.run(&[
        "patch",
        "configmap",
        "app",
        "-n",
        NAMESPACE,
        "--type=merge",
        "-p",
        r#"{"data":{"color":"red"}}"#,
    ])?;
    is("the edit to be undone", "configmap", "{.data.color}", "blue")?;
    cluster.run(&["scale", "deployment", "app", "-n", NAMESPACE, "--replicas=1"])?;
    is("the scaling to be undone", "deployment", "{.spec.replicas}", "0")?;
    cluster.run(&["delete", "service,role", "app", "-n", NAMESPACE, "--wait=false"])?;
    is("the service to be back", "service", "{.metadata.name}", "app")?;
    is("the role to be back", "role", "{.metadata.name}", "app")?;

    journeys::kubectl_through_the_hub(&fleet)?;
    journeys::an_audit_by_policies(&fleet, &cluster)?;
    journeys::a_namespace_stuck_terminating(&fleet, &cluster)?;
    journeys::two_writers(&fleet, &cluster)?;

    // Without the hub, and after a restart of the agent without it.
    fleet.kill_hub()?;
    fleet.kill_agent("other")?;
    cluster.run(&["delete", "configmap", "app", "-n", NAMESPACE, "--wait=false"])?;
    fleet.start_elsewhere("other", &kubeconfig)?;
    is("the repair from disk", "configmap", "{.data.color}", "blue")?;
    fleet.start_hub()?;
    fleet.wait_connected("other", "True")?;
    fleet.check_sequences("other")?;

    // A smaller version takes away what it no longer names; a tombstone takes the rest.
    fleet.hub().apply(&profile("green", ""))?;
    is("the new version", "configmap", "{.data.color}", "green")?;
    wait::until("the rest to go", SOON, || {
        Ok(cluster.find(&["deployment", "app", "-n", NAMESPACE])?.is_none().then_some(()))
    })?;
    fleet.hub().run(&["delete", "placement.fleet.fairlead.dev", "journey"])?;
    wait::until("the tombstone to be carried out", SOON, || {
        Ok(cluster.find(&["configmap", "app", "-n", NAMESPACE])?.is_none().then_some(()))
    })?;
    fleet.kill_agent("other")?;
    journeys::remove_namespace(&fleet, &cluster, NAMESPACE)
}

/// Everything applied; health hangs on controllers that need not run there.
fn wait_applied(fleet: &Fleet) -> Result<()> {
    wait::until("everything to be applied", SOON, || {
        let found = fleet.hub().find(&[
            "assignments.fleet.fairlead.dev",
            "default.journey",
            "-n",
            "cluster-other",
        ])?;
        let found = found.context("no such assignment")?;
        ensure!(condition(&found, "Applied") == Some("True"), "{}", found["status"]);
        Ok(Some(()))
    })
}
