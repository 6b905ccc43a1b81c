//! Journeys that make sense on any Kubernetes, one after the other on the one that is there.

use super::*;

const STUCK: &str = "fairlead-stuck";

fn list(items: &str) -> String {
    format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{items}]}}"#)
}

fn profile_and_placement(name: &str, namespace: &str, manifests: &str) -> String {
    list(&format!(
        r#"{{"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Profile", "metadata": {{"name": "{name}", "namespace": "default"}},
          "spec": {{"targetNamespace": "{namespace}", "manifests": [{manifests}]}}}},
        {{"apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "Placement", "metadata": {{"name": "{name}", "namespace": "default"}},
          "spec": {{"profile": "{name}", "clusterSelector": {{}}}}}}"#
    ))
}

fn map(name: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "{name}"}}, "data": {{"color": "blue"}}}}"#
    )
}

fn assignment(fleet: &Fleet, name: &str) -> Result<serde_json::Value> {
    let found = fleet.hub().find(&["assignments.fleet.fairlead.dev", name, "-n", "cluster-other"])?;
    found.with_context(|| format!("no assignment {name}"))
}

fn wait_condition(fleet: &Fleet, name: &str, kind: &str, what: &str) -> Result<()> {
    wait::until(what, SOON, || {
        let found = assignment(fleet, name)?;
        ensure!(condition(&found, kind) == Some("True"), "{}", found["status"]);
        Ok(Some(()))
    })
}

fn color(cluster: &Kubectl, name: &str, namespace: &str) -> Result<String> {
    cluster.run(&[
        "get",
        "configmap",
        name,
        "-n",
        namespace,
        "--ignore-not-found",
        "-o",
        "jsonpath={.data.color}",
    ])
}

fn set_color(cluster: &Kubectl, value: &str) -> Result<()> {
    let patch = format!(r#"{{"data":{{"color":"{value}"}}}}"#);
    let words =
        ["patch", "configmap", "app", "-n", NAMESPACE, "--type=merge", "--field-manager=fighter", "-p"];
    cluster.run(&[&words[..], &[patch.as_str()]].concat()).map(drop)
}

/// Lets a namespace that is being deleted go, whether or not something clears namespaces there.
fn finalize(fleet: &Fleet, cluster: &Kubectl, name: &str) -> Result<()> {
    let body = format!(
        r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}},"spec":{{"finalizers":[]}}}}"#
    );
    let file = fleet.path().join("finalize.json");
    std::fs::write(&file, body)?;
    let path = format!("/api/v1/namespaces/{name}/finalize");
    // Somebody may have been faster.
    let _ = cluster.run(&["replace", "--raw", &path, "-f", file.to_str().context("a UTF-8 path")?]);
    Ok(())
}

/// Removes a namespace, also one that an earlier journey left half way.
pub(super) fn remove_namespace(fleet: &Fleet, cluster: &Kubectl, name: &str) -> Result<()> {
    cluster.run(&["delete", "namespace", name, "--ignore-not-found", "--wait=false"])?;
    wait::until("a namespace to go", SOON, || {
        finalize(fleet, cluster, name)?;
        Ok(cluster.find(&["namespace", name])?.is_none().then_some(()))
    })
}

/// What an earlier journey may have left.
pub(super) fn begin_anew(fleet: &Fleet, cluster: &Kubectl) -> Result<()> {
    for namespace in [STUCK, NAMESPACE] {
        remove_namespace(fleet, cluster, namespace)?;
    }
    let words = ["delete", "validatingadmissionpolicy,validatingadmissionpolicybinding", "fairlead-journey"];
    cluster.run(&[&words[..], &["--ignore-not-found"]].concat()).map(drop)
}

/// A namespace that is being deleted takes nothing new: that is said, holds up nothing else, and mends itself when it is gone.
pub(super) fn a_namespace_stuck_terminating(fleet: &Fleet, cluster: &Kubectl) -> Result<()> {
    fleet.hub().apply(&profile_and_placement("stuck", STUCK, &map("stuck")))?;
    wait_condition(fleet, "default.stuck", "Applied", "it to be applied")?;
    let holds = r#"{"metadata":{"finalizers":["example.com/holds"]}}"#;
    cluster.run(&["patch", "configmap", "stuck", "-n", STUCK, "--type=merge", "-p", holds])?;
    cluster.run(&["delete", "namespace", STUCK, "--wait=false"])?;
    cluster.run(&["delete", "configmap", "stuck", "-n", STUCK, "--wait=false"])?;
    let free = r#"{"metadata":{"finalizers":null}}"#;
    cluster.run(&["patch", "configmap", "stuck", "-n", STUCK, "--type=merge", "-p", free])?;
    wait::until("the agent to say why", SOON, || {
        let said = assignment(fleet, "default.stuck")?["status"].to_string();
        Ok((said.contains("being terminated") || said.contains("Terminating")).then_some(()))
    })?;
    set_color(cluster, "red")?;
    wait::until("another profile to be enforced meanwhile", SOON, || {
        Ok((color(cluster, "app", NAMESPACE)? == "blue").then_some(()))
    })?;
    finalize(fleet, cluster, STUCK)?;
    wait::until("everything to be back", SOON, || {
        let phase = cluster.run(&[
            "get",
            "namespace",
            STUCK,
            "--ignore-not-found",
            "-o",
            "jsonpath={.status.phase}",
        ])?;
        Ok((phase == "Active" && color(cluster, "stuck", STUCK)? == "blue").then_some(()))
    })?;
    wait_condition(fleet, "default.stuck", "Applied", "it to be applied again")?;
    fleet.hub().run(&["delete", "placement.fleet.fairlead.dev", "stuck"])?;
    wait::until("the tombstone to be carried out", SOON, || {
        Ok(color(cluster, "stuck", STUCK)?.is_empty().then_some(()))
    })?;
    remove_namespace(fleet, cluster, STUCK)
}

/// Somebody who puts his own value back again and again is named, and the agent does not answer him at once for ever.
pub(super) fn two_writers(fleet: &Fleet, cluster: &Kubectl) -> Result<()> {
    let told = || Ok::<_, anyhow::Error>(assignment(fleet, "default.journey")?["status"].to_string());
    wait::until("the fight to be told, with the fighter's name", SOON, || {
        set_color(cluster, "red")?;
        Ok(told()?.contains("two writers fight over it: fighter").then_some(()))
    })?;
    let before = assignment(fleet, "default.journey")?["status"]["repairs"].as_u64().unwrap_or(0);
    for _ in 0..10 {
        set_color(cluster, "red")?;
    }
    let after = assignment(fleet, "default.journey")?["status"]["repairs"].as_u64().unwrap_or(0);
    ensure!(after - before < 10, "every blow was answered: {before}, {after}");
    wait::until("the last word to be the profile's", SOON, || {
        Ok((color(cluster, "app", NAMESPACE)? == "blue").then_some(()))
    })?;
    wait::until("peace to be told", SOON * 2, || Ok((!told()?.contains("fight")).then_some(())))
}

/// A policy that comes with a profile judges what was there before it.
pub(super) fn an_audit_by_policies(fleet: &Fleet, cluster: &Kubectl) -> Result<()> {
    let text = format!(
        r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "crowded", "namespace": "{NAMESPACE}"}},
        "data": {{"a": "1", "b": "2", "c": "3"}}}}"#
    );
    cluster.apply(&text)?;
    let policy = r#"{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "fairlead-journey"},
        "spec": {"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
            "resources": ["configmaps"]}]}, "validations": [{"expression": "!has(object.data) || size(object.data) <= 2", "message": "too many keys"}]}}"#;
    let binding = format!(
        r#"{{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {{"name": "fairlead-journey"}},
        "spec": {{"policyName": "fairlead-journey", "validationActions": ["Audit"],
            "matchResources": {{"namespaceSelector": {{"matchLabels": {{"kubernetes.io/metadata.name": "{NAMESPACE}"}}}}}}}}}}"#
    );
    fleet.hub().apply(&profile_and_placement("policy", NAMESPACE, &format!("{policy}, {binding}")))?;
    let found = || {
        let report =
            fleet.hub().find(&["compliancereports.fleet.fairlead.dev", "other", "-n", "cluster-other"])?;
        Ok::<_, anyhow::Error>(
            report.map_or_else(String::new, |report| report["status"]["violations"].to_string()),
        )
    };
    wait_condition(fleet, "default.policy", "Applied", "the policy to be applied")?;
    wait::until("the audit to find it", SOON, || {
        let said = found()?;
        ensure!(said.contains("crowded") && said.contains("too many keys"), "{said}");
        Ok(Some(()))
    })?;
    cluster.run(&["delete", "configmap", "crowded", "-n", NAMESPACE, "--wait=false"])?;
    wait::until("the audit to see it go", SOON, || Ok((!found()?.contains("crowded")).then_some(())))?;
    // Two objects of every cluster: graver than what goes without a word.
    fleet.hub().run(&["delete", "placement.fleet.fairlead.dev", "policy", "--wait=false"])?;
    wait::until("the policy to go, or to be held for a person", SOON, || {
        let gone = cluster.find(&["validatingadmissionpolicy", "fairlead-journey"])?.is_none();
        let Some(found) =
            fleet.hub().find(&["assignments.fleet.fairlead.dev", "default.policy", "-n", "cluster-other"])?
        else {
            return Ok(gone.then_some(()));
        };
        if found["status"]["heldDeletionCount"].as_u64().unwrap_or(0) > 0 {
            let word = format!("fleet.fairlead.dev/confirm-deletions={}", found["spec"]["generation"]);
            let words = [
                "annotate",
                "assignments.fleet.fairlead.dev",
                "default.policy",
                "-n",
                "cluster-other",
                "--overwrite",
                &word,
            ];
            fleet.hub().run(&words)?;
        }
        Ok(gone.then_some(()))
    })
}

/// The unmodified kubectl, by the hub and the agent's own connection.
pub(super) fn kubectl_through_the_hub(fleet: &Fleet) -> Result<()> {
    let text = fleet.succeed(&["kubeconfig", "--cluster", "other", "--through-hub"])?;
    let path = fleet.path().join("other-through-hub.kubeconfig");
    std::fs::write(&path, text)?;
    let through = Kubectl::new(&path);
    wait::until("the hub's administrators to be let in", SOON, || {
        Ok(through.run(&["get", "configmap", "app", "-n", NAMESPACE, "-o", "name"]).ok())
    })?;
    let who = through.run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])?;
    ensure!(who == "cluster:hub:kubernetes-admin", "{who}");
    through.run(&["create", "configmap", "made", "-n", NAMESPACE, "--from-literal=by=hand"])?;
    through.run(&[
        "wait",
        "--for=jsonpath={.data.by}=hand",
        "configmap/made",
        "-n",
        NAMESPACE,
        "--timeout=30s",
    ])?;
    through.run(&["delete", "configmap", "made", "-n", NAMESPACE])?;
    let listed = fleet.succeed(&["get", "configmaps", "--all-clusters", "-A"])?;
    ensure!(listed.contains("other") && listed.contains("app"), "{listed}");
    Ok(())
}
