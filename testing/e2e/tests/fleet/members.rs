//! What a person decides about a member of the fleet: pausing, revoking, draining and removing it.

use anyhow::{Result, ensure};
use e2e::fleet::{Fleet, Nodes};
use e2e::wait;

use super::{APPLICATION, SOON, wait_ready};

fn color(fleet: &Fleet, cluster: &str) -> Result<String> {
    fleet.cluster(cluster).run(&["get", "configmap", "app", "-o", "jsonpath={.data.color}"])
}

#[test]
fn a_cluster_is_paused_revoked_drained_and_removed_and_each_can_be_taken_back() -> Result<()> {
    let fleet = Fleet::start(&["dev", "prod"], Nodes::Simulated)?;
    fleet.hub().apply(APPLICATION)?;
    for name in ["dev", "prod"] {
        wait_ready(&fleet, name, "default.app")?;
    }
    // Paused: a change passes it by.
    fleet.succeed(&["cluster", "pause", "prod"])?;
    ensure!(fleet.succeed(&["cluster", "list"])?.contains("True,Paused"));
    fleet.hub().apply(&APPLICATION.replace("blue", "green"))?;
    wait::until("dev to follow", SOON, || Ok((color(&fleet, "dev")? == "green").then_some(())))?;
    ensure!(color(&fleet, "prod")? == "blue");
    fleet.succeed(&["cluster", "resume", "prod"])?;
    wait::until("prod to follow", SOON, || Ok((color(&fleet, "prod")? == "green").then_some(())))?;

    // Revoked: its agent is turned away, and what it holds stays.
    fleet.succeed(&["cluster", "revoke", "prod"])?;
    fleet.wait_connected("prod", "False")?;
    ensure!(color(&fleet, "prod")? == "green");
    fleet.succeed(&["cluster", "revoke", "prod", "--undo"])?;
    fleet.wait_connected("prod", "True")?;

    // Removed: one that never joined has no agent to speak of.
    fleet.hub().apply(
        "apiVersion: fleet.fairlead.dev/v1alpha1\nkind: Cluster\nmetadata: { name: edge }\nspec: {}\n",
    )?;
    let (code, _, said) = fleet.command(&["cluster", "remove", "edge"])?;
    ensure!(code == 0 && said.contains("which it never joined") && !said.contains("agent"), "{code}: {said}");

    // Not while it holds something.
    let (code, _, said) = fleet.command(&["cluster", "remove", "prod"])?;
    ensure!(code == 1 && said.contains("holds 1 profile (default.app)"), "{code}: {said}");
    ensure!(said.contains("fairlead cluster drain prod"), "{said}");
    fleet.succeed(&["cluster", "drain", "prod"])?;
    let prod = fleet.cluster("prod");
    wait::until("the application to leave prod", SOON, || {
        Ok(prod.find(&["configmap", "app"])?.is_none().then_some(()))
    })?;
    wait::until("prod to be free to go", SOON, || {
        let (code, ..) = fleet.command(&["cluster", "remove", "prod"])?;
        Ok((code == 0).then_some(()))
    })?;
    wait::until("its partition to go", SOON, || {
        Ok(fleet.hub().find(&["namespace", "cluster-prod"])?.is_none().then_some(()))
    })?;
    ensure!(fleet.succeed(&["cluster", "list", "-o", "name"])? == "cluster/dev\n");
    let (code, _, said) = fleet.command(&["cluster", "remove", "prod"])?;
    ensure!(code == 1 && said.contains("there is no cluster prod"), "{code}: {said}");

    // With what it holds: that stays.
    fleet.succeed(&["cluster", "remove", "dev", "--keep-profiles"])?;
    ensure!(color(&fleet, "dev")? == "green");
    Ok(())
}
