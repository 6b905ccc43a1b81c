//! Clocks that jump a day and more ahead, and back: the agent's, and the hub's.

use e2e::clock::Clock;

use super::*;

/// Longer than an agent's certificate holds.
const HOURS: i64 = 30;
/// How long it is watched after each jump that nothing runs away.
const WATCHED: Duration = Duration::from_secs(12);
/// Certificates that one jump may cost: at each side one as it is noticed, and one more.
const CERTIFICATES: usize = 4;
/// Runs of a schedule of every minute that the whole journey may begin: one a minute of real time, and those that jumps bring due.
const RUNS: usize = 12;

const SCHEDULE: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: TestTrigger
metadata: { name: minutely, namespace: default }
spec:
  targets: { all: true }
  workflow: { steps: [{ name: go, image: "fairlead.dev/tool:latest", command: [/fairlead, tool, print, went] }] }
  when: { cron: "* * * * *" }
"#;

fn issued(fleet: &Fleet) -> usize {
    let output = fleet.agent_output("dev");
    output.matches("certificate renewed").count()
        + output.matches("re-attested with the registered key").count()
}

fn runs(fleet: &Fleet) -> Result<usize> {
    let all = fleet.hub().json(&["get", "testruns.fleet.fairlead.dev", "-A"])?;
    Ok(all["items"].as_array().map_or(0, Vec::len))
}

/// What must hold after any jump.
fn goes_on(fleet: &Fleet, what: &str) -> Result<()> {
    eprintln!("{what}");
    let before = issued(fleet);
    let begun = Instant::now();
    breaks_and_heals(fleet, "dev")?;
    // That something does not happen can only be watched for a time.
    while begun.elapsed() < WATCHED {
        ensure!(issued(fleet) - before <= CERTIFICATES, "{what}: {}", fleet.agent_output("dev"));
        std::thread::sleep(Duration::from_millis(200));
    }
    fleet.wait_connected("dev", "True")?;
    let cost = issued(fleet) - before;
    ensure!(cost <= CERTIFICATES, "{what}: {cost} certificates");
    let assignment =
        fleet.hub().json(&["get", "assignments.fleet.fairlead.dev", "default.app", "-n", "cluster-dev"])?;
    ensure!(assignment["spec"]["state"] == "Present", "{what}: it was taken away");
    let count = runs(fleet)?;
    ensure!(count <= RUNS, "{what}: {count} runs");
    // A change still arrives.
    let stamp = begun.elapsed().as_nanos();
    let change = format!(
        r#"{{"metadata":{{"annotations":{{"changed":"{stamp}"}}}},"spec":{{"manifests":[
        {{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"app"}},"data":{{"color":"blue","stamp":"{stamp}"}}}}]}}}}"#
    );
    fleet.hub().run(&["patch", "profiles.fleet.fairlead.dev", "app", "--type", "merge", "-p", &change])?;
    wait::until("a change to arrive", SOON, || {
        let found = fleet.cluster("dev").run(&["get", "configmap", "app", "-o", "jsonpath={.data.stamp}"])?;
        Ok((found == stamp.to_string()).then_some(()))
    })
}

#[test]
fn clocks_that_jump_ahead_and_back_cost_a_certificate_and_nothing_else() -> Result<()> {
    let mut fleet = Fleet::start(&["dev"], Nodes::Simulated)?;
    let Some(agent) = Clock::new(fleet.path(), "agent")? else { return Ok(()) };
    let Some(hub) = Clock::new(fleet.path(), "hub")? else { return Ok(()) };
    fleet.set_environment("dev", agent.environment());
    fleet.set_environment("hub", hub.environment());
    fleet.kill_agent("dev")?;
    fleet.kill_hub()?;
    fleet.start_hub()?;
    fleet.start_agent("dev")?;
    fleet.hub().apply(APPLICATION)?;
    fleet.hub().apply(SCHEDULE)?;
    wait_ready(&fleet, "dev", "default.app")?;
    wait::until("the schedule to fire", Duration::from_secs(120), || Ok((runs(&fleet)? > 0).then_some(())))?;

    agent.jump(HOURS)?;
    goes_on(&fleet, "the agent's clock is ahead")?;
    // It starts with that clock, too, and the hub does beside it.
    fleet.kill_agent("dev")?;
    fleet.start_agent("dev")?;
    goes_on(&fleet, "the agent starts with a clock that is ahead")?;
    agent.jump(0)?;
    goes_on(&fleet, "the agent's clock is right again")?;

    hub.jump(HOURS)?;
    goes_on(&fleet, "the hub's clock is ahead")?;
    fleet.kill_hub()?;
    fleet.start_hub()?;
    fleet.wait_connected("dev", "True")?;
    goes_on(&fleet, "the hub starts with a clock that is ahead")?;
    hub.jump(0)?;
    fleet.kill_hub()?;
    fleet.start_hub()?;
    fleet.wait_connected("dev", "True")?;
    goes_on(&fleet, "the hub's clock is right again")?;

    agent.jump(-HOURS)?;
    goes_on(&fleet, "the agent's clock is behind")?;
    agent.jump(0)?;
    goes_on(&fleet, "all is right at last")?;
    // The schedule has not been put to sleep by the times that came too early.
    let before = runs(&fleet)?;
    wait::until("the schedule to go on", Duration::from_secs(150), || {
        Ok((runs(&fleet)? > before).then_some(()))
    })?;
    fleet.check_sequences("dev")?;
    Ok(())
}
