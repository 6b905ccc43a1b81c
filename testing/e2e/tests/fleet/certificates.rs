//! Certificates of seconds: renewed under load without a gap, and got anew after they ended.

use super::*;

/// How long agents' certificates hold here.
const LIFE: Duration = Duration::from_secs(6);

fn connected_since(fleet: &Fleet) -> Result<(String, String)> {
    let cluster = fleet.hub().json(&["get", "clusters.fleet.fairlead.dev", "dev"])?;
    let conditions = cluster["status"]["conditions"].as_array().context("no conditions")?;
    let found = conditions.iter().find(|condition| condition["type"] == "Connected");
    let found = found.context("no Connected condition")?;
    let text = |key: &str| found[key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
    Ok((text("status")?, text("lastTransitionTime")?))
}

fn renewals(fleet: &Fleet) -> usize {
    fleet.agent_output("dev").matches("certificate renewed").count()
}

/// Waits until the certificate on the agent's disk has ended.
fn wait_ended(fleet: &Fleet) -> Result<()> {
    let path = fleet.agent_dir("dev").join("credentials/identity.json");
    let identity: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let ends = identity["notAfter"].as_str().context("no notAfter")?.to_owned();
    wait::until("the certificate to end", SOON, || {
        let now = Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S"]).output()?;
        // Both in UTC and of the same shape: they compare as text.
        Ok((String::from_utf8(now.stdout)?.trim() > &ends[..19]).then_some(()))
    })
}

#[test]
fn certificates_are_renewed_under_load_without_a_gap_and_got_anew_after_an_outage() -> Result<()> {
    let life = format!("{}s", LIFE.as_secs());
    let mut fleet = Fleet::start_with(&["dev"], Nodes::Simulated, &["--agent-certificate-ttl", &life])?;
    fleet.hub().apply(APPLICATION)?;
    wait_ready(&fleet, "dev", "default.app")?;
    let since = connected_since(&fleet)?;
    ensure!(since.0 == "True", "{since:?}");
    wait::until("four renewals under load", SOON, || {
        breaks_and_heals(&fleet, "dev")?;
        ensure!(connected_since(&fleet)? == since, "the hub saw the agent leave");
        Ok((renewals(&fleet) >= 4).then_some(()))
    })?;
    ensure!(!fleet.agent_output("dev").contains("no conversation"), "{}", fleet.agent_output("dev"));
    fleet.check_sequences("dev")?;

    // The hub is away for longer than the certificate holds.
    fleet.kill_hub()?;
    wait_ended(&fleet)?;
    breaks_and_heals(&fleet, "dev")?;
    fleet.start_hub()?;
    fleet.wait_agent_says("dev", "re-attested with the registered key")?;
    fleet.wait_connected("dev", "True")?;

    // So is the agent.
    fleet.kill_agent("dev")?;
    fleet.wait_connected("dev", "False")?;
    wait_ended(&fleet)?;
    fleet.start_agent("dev")?;
    fleet.wait_connected("dev", "True")?;
    let said = fleet.agent_output("dev").matches("re-attested with the registered key").count();
    ensure!(said >= 2, "re-attested {said} times");
    fleet.check_sequences("dev")?;
    Ok(())
}
