//! What a change would do, told before it is done.

use anyhow::{Result, ensure};
use e2e::wait;
use serde_json::Value;

use super::{APPLICATION, NAMES, SOON, with_application};

#[test]
fn a_change_is_shown_for_every_cluster_and_changes_nothing() -> Result<()> {
    let fleet = with_application()?;
    let diff = |text: &str, more: &[&str]| -> Result<(i32, String)> {
        let file = fleet.path().join("changed.yaml");
        std::fs::write(&file, text)?;
        let file = file.display().to_string();
        let arguments = [&["diff", "-f", file.as_str()], more].concat();
        let (code, out, errors) = fleet.command(&arguments)?;
        ensure!(code < 2, "{code}: {errors}");
        Ok((code, out))
    };
    let (code, out) = diff(APPLICATION, &[])?;
    ensure!((code, out.as_str()) == (0, "0 of 3 clusters would change\n"), "{code}: {out}");

    let changed = APPLICATION.replace("blue", "green").replace("replicas: 2", "replicas: 3");
    let (code, out) = diff(&changed, &[])?;
    ensure!(code == 1, "{out}");
    for part in [
        "clusters dev, prod, staging:",
        "~ ConfigMap app",
        "data.color: \"blue\" -> \"green\"",
        "spec.replicas: 2 -> 3",
        "3 of 3 clusters would change",
    ] {
        ensure!(out.contains(part), "{part} is not in:\n{out}");
    }

    // Where it goes changes too, and one cluster is looked at alone.
    let only_dev = changed.replace(
        "clusterSelector: {}",
        "clusterSelector: { matchFields: [{ key: metadata.name, operator: In, values: [dev] }] }",
    );
    let (code, out) = diff(&only_dev, &["-o", "json", "--clusters", "prod"])?;
    let told: Value = serde_json::from_str(&out)?;
    ensure!(code == 1 && told["changed"] == 1 && told["unchanged"] == 0, "{out}");
    let change = &told["clusters"][0]["changes"][0];
    ensure!(change["action"] == "remove" && change["objects"].as_array().map(Vec::len) == Some(2), "{out}");

    let (code, out, errors) = fleet.command(&["diff", "--without", "placement/app"])?;
    ensure!(code == 1 && out.contains("- profile default/app"), "{code}: {out}{errors}");

    // A project's placement chooses among the project's clusters, of which there are none.
    fleet.hub().apply(
        r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"fleet.fairlead.dev/project": ""},
            "annotations": {"fleet.fairlead.dev/cluster-sets": "nobodys"}}}"#,
    )?;
    let (code, out) =
        diff(&changed.replace("name: app, namespace: default", "name: app, namespace: shop"), &[])?;
    ensure!((code, out.as_str()) == (0, "0 of 3 clusters would change\n"), "{code}: {out}");

    // Nothing of that was done; then it is, and it does what was shown.
    let color = |name: &str| fleet.cluster(name).json(&["get", "configmap", "app"]);
    for name in NAMES {
        ensure!(color(name)?["data"]["color"] == "blue", "{name} has changed");
    }
    fleet.hub().apply(&changed)?;
    wait::until("the change to be told to all", SOON, || {
        let (code, _) = diff(&changed, &[])?;
        Ok((code == 0).then_some(()))
    })
}
