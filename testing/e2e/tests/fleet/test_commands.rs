//! The test commands, a hub and an agent as processes of their own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::fleet::{Fleet, Nodes};
use e2e::wait;
use serde_json::Value;

use super::SOON;

const WORKFLOWS: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: TestWorkflow
metadata: { name: smoke, namespace: default }
spec:
  variables: { CODE: "0" }
  container: { image: "fairlead.dev/tool:latest" }
  steps:
    - { name: hello, command: [/fairlead, tool, print, hello] }
    - { name: check, command: [/fairlead, tool, exit, $(CODE)] }
---
apiVersion: fleet.fairlead.dev/v1alpha1
kind: TestWorkflow
metadata: { name: held, namespace: default }
spec:
  concurrency: { group: one }
  container: { image: "fairlead.dev/tool:latest" }
  steps:
    - { name: first, command: [/fairlead, tool, print, first] }
    - { name: gate, paused: true, command: [/fairlead, tool, print, through] }
"#;

/// The run of a name on the hub.
fn run(fleet: &Fleet, name: &str) -> Result<Value> {
    fleet.hub().find(&["testruns.fleet.fairlead.dev", name])?.with_context(|| format!("no run {name}"))
}

fn wait_reason(fleet: &Fleet, name: &str, reason: &str) -> Result<Value> {
    wait::until(&format!("{name} to be {reason}"), SOON, || {
        let found = run(fleet, name)?;
        ensure!(found["status"]["clusters"][0]["reason"] == reason, "{}", found["status"]);
        Ok(Some(found))
    })
}

/// What `fairlead test …` prints as `testrun/NAME`.
fn made(out: &str) -> &str {
    out.trim().strip_prefix("testrun/").unwrap_or(out.trim())
}

#[test]
fn runs_are_repeated_held_cancelled_compared_and_swept() -> Result<()> {
    let mut fleet = Fleet::start_with(&["dev"], Nodes::Simulated, &["--test-runs-max", "2"])?;
    fleet.hub().apply(WORKFLOWS)?;
    let smoke = ["test", "run", "smoke", "--all-clusters", "--watch", "--name"];
    let (code, out, _) = fleet.command(&[&smoke[..], &["good"]].concat())?;
    ensure!(code == 0 && out.contains("hello"), "{code}: {out}");
    let (code, ..) = fleet.command(&[&smoke[..], &["bad", "--var", "CODE=3"]].concat())?;
    ensure!(code == 1, "a failed test is exit code 1, not {code}");
    let (code, out, _) = fleet.command(&["test", "compare", "good", "bad"])?;
    ensure!(code == 1 && out.contains("check"), "{code}: {out}");
    let (code, ..) = fleet.command(&["test", "rerun", "good", "--failed"])?;
    ensure!(code == 2, "nothing of it failed: {code}");
    let (code, out, error) = fleet.command(&["test", "rerun", "bad", "--failed", "--watch"])?;
    ensure!(code == 1, "it fails again: {code}: {out}{error}");
    let (code, ..) = fleet.command(&[&smoke[..], &["mended"]].concat())?;
    ensure!(code == 0, "{code}");
    let (code, out, _) = fleet.command(&["test", "flaky", "smoke"])?;
    ensure!(code == 1 && out.contains("check"), "passed, failed, passed: {code}: {out}");
    // Held, waiting for its group, let go on, cancelled.
    fleet.succeed(&["test", "run", "held", "--all-clusters", "--name", "held-1"])?;
    wait::until("the first step to end", SOON, || {
        let found = run(&fleet, "held-1")?;
        let steps = found["status"]["clusters"][0]["steps"].as_array().cloned().unwrap_or_default();
        Ok(steps.iter().any(|step| step["outcome"] == "Passed").then_some(()))
    })?;
    fleet.succeed(&["test", "run", "held", "--all-clusters", "--name", "held-2", "--priority", "high"])?;
    wait_reason(&fleet, "held-2", "Queued")?;
    let listed = fleet.succeed(&["test", "list"])?;
    let line = listed.lines().find(|line| line.contains("held-2")).context("it is listed")?;
    ensure!(line.contains("Queued") && line.contains("High"), "{listed}");
    // The queue is the agent's own.
    fleet.kill_agent("dev")?;
    fleet.start_agent("dev")?;
    fleet.wait_connected("dev", "True")?;
    fleet.succeed(&["test", "resume", "held-1"])?;
    let (code, ..) = fleet.command(&["test", "watch", "held-1"])?;
    ensure!(code == 0, "{code}");
    wait_reason(&fleet, "held-2", "Running")?;
    fleet.succeed(&["test", "pause", "held-2"])?;
    fleet.succeed(&["test", "cancel", "held-2"])?;
    let (code, ..) = fleet.command(&["test", "watch", "held-2"])?;
    ensure!(code == 4, "a cancelled run did not run: {code}");
    let (code, ..) = fleet.command(&["test", "resume", "held-2"])?;
    ensure!(code == 1, "it has ended: {code}");
    // The first sweep of a hub that starts again keeps the two newest runs of each workflow.
    fleet.kill_hub()?;
    fleet.start_hub()?;
    wait::until("older runs to be gone", SOON, || {
        let all = fleet.hub().json(&["get", "testruns.fleet.fairlead.dev"])?;
        let names: Vec<_> = all["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|run| run["metadata"]["name"].clone())
            .collect();
        Ok((names.len() == 4 && !names.contains(&"good".into())).then_some(()))
    })
}

const LARGE: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: TestWorkflow
metadata: { name: large, namespace: default }
spec:
  container: { image: "fairlead.dev/tool:latest" }
  steps:
    - { name: trace, command: [/fairlead, tool, fill, /workspace/trace.bin, "50000000"], artifacts: ["*.bin"] }
"#;

#[test]
fn a_large_file_outlives_kills_and_its_download_goes_on_where_it_broke_off() -> Result<()> {
    let mut fleet = Fleet::start(&["dev"], Nodes::Simulated)?;
    fleet.hub().apply(LARGE)?;
    fleet.succeed(&["test", "run", "large", "--all-clusters", "--name", "large"])?;
    // Wherever it is by now.
    fleet.kill_agent("dev")?;
    fleet.start_agent("dev")?;
    fleet.kill_hub()?;
    fleet.start_hub()?;
    wait_reason(&fleet, "large", "Passed")?;
    let listed = wait::until("the file to be stored", SOON, || {
        let listed = fleet.succeed(&["test", "artifacts", "large"])?;
        Ok(listed.contains("stored").then_some(listed))
    })?;
    ensure!(listed.contains("50000000"), "{listed}");
    let dir = fleet.path().join("files");
    let text = dir.to_str().context("a UTF-8 path")?;
    fleet.succeed(&["test", "artifacts", "large", "--download", text])?;
    let file = dir.join("dev/trace/1/trace.bin");
    let content = std::fs::read(&file)?;
    ensure!(content.len() == 50_000_000, "{} bytes", content.len());
    // Broken off after the first bytes: the rest is asked for, and the whole is checked.
    std::fs::remove_file(&file)?;
    std::fs::write(file.with_extension("bin.partial"), &content[..20_000_000])?;
    let (code, _, said) = fleet.command(&["test", "artifacts", "large", "--download", text])?;
    ensure!(code == 0, "{code}: {said}");
    ensure!(std::fs::read(&file)? == content, "it is another file");
    // What is damaged is not taken for whole.
    std::fs::remove_file(&file)?;
    std::fs::write(file.with_extension("bin.partial"), vec![7; 20_000_000])?;
    let (code, _, said) = fleet.command(&["test", "artifacts", "large", "--download", text])?;
    ensure!(code == 4 && said.contains("arrived damaged"), "{code}: {said}");
    ensure!(!file.exists(), "a damaged file was saved");
    Ok(())
}

const NIGHTLY: &str = r#"
apiVersion: fleet.fairlead.dev/v1alpha1
kind: TestTrigger
metadata: { name: minutely, namespace: default }
spec:
  workflowRef: { name: smoke }
  targets: { all: true }
  when: { cron: "* * * * *" }
"#;

#[test]
fn a_schedule_goes_on_without_the_hub_and_is_told_once() -> Result<()> {
    let mut fleet = Fleet::start(&["dev"], Nodes::Simulated)?;
    fleet.hub().apply(WORKFLOWS)?;
    fleet.hub().apply(NIGHTLY)?;
    wait::until("the trigger to be handed over", SOON, || {
        let found = fleet.hub().json(&["get", "testtriggers.fleet.fairlead.dev", "minutely"])?;
        Ok((found["status"]["clusters"] == 1).then_some(()))
    })?;
    std::thread::sleep(Duration::from_secs(1));
    fleet.kill_hub()?;
    wait::until("the agent to fire", Duration::from_secs(90), || {
        Ok(fleet.agent_output("dev").contains("a test trigger fired").then_some(()))
    })?;
    fleet.start_hub()?;
    fleet.wait_connected("dev", "True")?;
    let told = wait::until("the run to be told", SOON, || {
        let all = fleet.hub().json(&["get", "testruns.fleet.fairlead.dev"])?;
        let runs = all["items"].as_array().cloned().unwrap_or_default();
        Ok(runs.into_iter().find(|run| run["status"]["clusters"][0]["outcome"] == "Passed"))
    })?;
    let name = told["metadata"]["name"].as_str().context("a name")?;
    let log = fleet.succeed(&["test", "logs", name])?;
    ensure!(log.matches("| hello").count() == 1, "its log is told once: {log}");
    ensure!(told["status"]["clusters"].as_array().is_some_and(|all| all.len() == 1), "{told}");
    Ok(())
}

#[test]
fn a_bundle_carries_runs_in_and_results_out() -> Result<()> {
    let fleet = Fleet::start(&["dev"], Nodes::Simulated)?;
    let at = |name: &str| fleet.path().join(name).to_string_lossy().into_owned();
    std::fs::write(at("smoke.yaml"), WORKFLOWS.split("---").next().unwrap_or_default())?;
    let office = fleet.succeed(&["profile", "key", &at("office.key")])?.trim().to_owned();
    let site = fleet.succeed(&["profile", "key", &at("site.key")])?.trim().to_owned();
    let create =
        ["bundle", "create", "smoke", "-f", &at("smoke.yaml"), "--key", &at("office.key"), "-o", &at("in")];
    fleet.succeed(&create)?;
    ensure!(
        fleet.succeed(&["bundle", "verify", &at("in"), "--trust", &office])?.contains("documents/0000.json")
    );
    let (code, _, error) = fleet.command(&["bundle", "verify", &at("in"), "--trust", &site])?;
    ensure!(code == 1 && error.contains("no pinned key"), "{code}: {error}");
    // The site knows its cluster and nothing else.
    let kubeconfig = fleet.cluster_dir("dev").join("admin.kubeconfig").to_string_lossy().into_owned();
    let (code, _, error) = fleet.command(&[
        "bundle",
        "load",
        &at("in"),
        "--trust",
        &office,
        "--cluster-kubeconfig",
        &kubeconfig,
        "--cluster",
        "island",
        "--key",
        &at("site.key"),
        "-o",
        &at("out"),
    ])?;
    ensure!(code == 0, "{code}: {error}");
    let take_in = ["bundle", "load", &at("out"), "--trust", &site, "--dir", &at("results")];
    let first = fleet.succeed(&take_in)?;
    ensure!(fleet.succeed(&take_in)? == first, "taken in once");
    let found = run(&fleet, made(&first))?;
    ensure!(found["status"]["clusters"][0]["cluster"] == "island", "{found}");
    ensure!(found["status"]["conditions"][0]["status"] == "True", "{found}");
    let log = std::fs::read_to_string(fleet.path().join("results/logs/smoke.ndjson"))?;
    ensure!(log.contains("hello"), "{log}");
    Ok(())
}
