//! The scale test, small: that it measures everything, and what must hold at any size and speed.

use std::process::Command;

use serde_json::Value;

fn measured(report: &Value, part: &str) -> f64 {
    let figures = report["figures"].as_array().expect("figures");
    let named = |figure: &&Value| figure["name"].as_str().is_some_and(|name| name.contains(part));
    let figure = figures.iter().find(named).unwrap_or_else(|| panic!("no figure of {part}: {report:#}"));
    figure["value"].as_f64().expect("a number")
}

#[test]
fn a_fleet_follows_changes_repairs_drift_writes_nothing_at_rest_and_comes_back() {
    // Agents that connected together ping together: what is counted is longer than the five seconds between two pings.
    let arguments = "scale --json --agents 12 --profiles 2 --changes 2 --drifts 12 --rest 7";
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments.split(' ')).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for part in [
        "all agents joined",
        "all profiles placed: shown by the hub",
        "change of a profile: applied in the last cluster",
        "drift to repaired",
        "hub killed and started: all connected",
        "first change after that",
        "hub's processor time per cluster and hour",
    ] {
        assert!(measured(&report, part) > 0.0, "{part}");
    }
    // Pings and greetings pass, and none of them is written anywhere.
    assert!(measured(&report, "bytes per cluster and hour") > 0.0);
    assert!(measured(&report, "writes to the hub's store").abs() < f64::EPSILON, "{report:#}");
}
