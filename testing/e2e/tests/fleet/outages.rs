//! A hub that is away for three lives of a certificate, as 72 hours are of a day's; and two hubs that claim one cluster.

use e2e::fleet::Invitation;

use super::*;

/// How long agents' certificates hold here: an outage of three of these is to them what 72 hours are to those of a day.
const LIFE: Duration = Duration::from_secs(5);

#[test]
fn a_cluster_governs_itself_for_three_lives_of_its_certificate_and_comes_back_by_itself() -> Result<()> {
    let life = format!("{}s", LIFE.as_secs());
    let mut fleet = Fleet::start_with(&["dev"], Nodes::Simulated, &["--agent-certificate-ttl", &life])?;
    fleet.hub().apply(APPLICATION)?;
    wait_ready(&fleet, "dev", "default.app")?;
    fleet.kill_hub()?;
    let away = Instant::now();
    let mut restarted = false;
    while away.elapsed() < LIFE * 3 {
        breaks_and_heals(&fleet, "dev")?;
        if away.elapsed() > LIFE && !restarted {
            // With a certificate that has ended, and nobody to ask: what it holds is on its disk.
            fleet.kill_agent("dev")?;
            fleet.start_agent("dev")?;
            restarted = true;
        }
    }
    ensure!(restarted, "the agent was not restarted");
    fleet.start_hub()?;
    fleet.wait_agent_says("dev", "re-attested with the registered key")?;
    fleet.wait_connected("dev", "True")?;
    // Nothing that was told meanwhile is missing or doubled, and the hub governs again.
    wait::until("every repair to be told", SOON, || {
        let told = fleet.records("dev")?;
        let repairs = told.iter().filter(|record| record["data"]["reason"] == "DriftRepaired").count();
        Ok((repairs > 0).then_some(()))
    })?;
    fleet.check_sequences("dev")?;
    fleet.hub().apply(&APPLICATION.replace("blue", "green"))?;
    wait::until("the change after the outage", SOON, || {
        let map = fleet.cluster("dev").json(&["get", "configmap", "app"])?;
        Ok((map["data"]["color"] == "green").then_some(()))
    })
}

#[test]
fn of_two_hubs_that_claim_a_cluster_the_first_governs_it() -> Result<()> {
    let fleet = Fleet::start(&["dev"], Nodes::Simulated)?;
    fleet.hub().apply(APPLICATION)?;
    wait_ready(&fleet, "dev", "default.app")?;
    // Another hub of another authority invites the same cluster, and says that it should hold something else.
    let second = Fleet::start(&[], Nodes::Simulated)?;
    second.hub().apply(&APPLICATION.replace("blue", "red"))?;
    let Invitation { token, ca_pin } = second.invite("dev")?;
    let directory = second.agent_dir("dev").display().to_string();
    let kubeconfig = fleet.cluster_dir("dev").join("admin.kubeconfig").display().to_string();
    let url = second.hub_url()?;
    let log = second.path().join("agent-dev.log");
    std::fs::create_dir_all(second.path().join("agents"))?;
    let arguments = [
        "agent",
        "serve",
        "--dir",
        &directory,
        "--hub",
        &url,
        "--kubeconfig",
        &kubeconfig,
        "--token",
        &token,
        "--ca-pin",
        &ca_pin,
        "--name",
        "dev",
    ];
    let mut rival = Process::fairlead(&arguments, &log)?;
    wait::until("the second agent to stand by and say so", SOON, || {
        rival.expect_running()?;
        Ok(rival.output().contains("another agent governs this cluster").then_some(()))
    })?;
    breaks_and_heals(&fleet, "dev")?;
    ensure!(
        fleet.cluster("dev").json(&["get", "configmap", "app"])?["data"]["color"] == "blue",
        "the rival wrote"
    );
    ensure!(
        second.hub().find(&["clusters.fleet.fairlead.dev", "dev"])?.is_none(),
        "it joined the second hub"
    );
    fleet.wait_connected("dev", "True")
}
