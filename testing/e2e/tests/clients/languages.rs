//! The clients of other languages: `./dev test` installs them at the versions that `testing/e2e/clients` names. Their
//! scripts try one thing after another and say which did not hold.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::fleet::StandaloneCluster;

/// Where the clients are installed: `FAIRLEAD_CLIENTS`, else beside the tests.
fn clients() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FAIRLEAD_CLIENTS") {
        return Ok(path.into());
    }
    let test = std::env::current_exe().context("failed to find the test's own executable")?;
    let found = test.ancestors().map(|dir| dir.join("clients")).find(|dir| dir.is_dir());
    Ok(found.unwrap_or_default())
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(path)
}

fn holds(name: &str, mut command: Command) -> Result<()> {
    let cluster = StandaloneCluster::start("one")?;
    let output =
        command.arg(cluster.kubectl().kubeconfig()).output().context("failed to start the client")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the {name} client ended with {}:\n{said}{errors}", output.status);
    Ok(())
}

#[test]
fn the_python_client_works() -> Result<()> {
    let python = clients()?.join("python/bin/python");
    if !python.is_file() {
        eprintln!("skipped: the Python client is not installed; ./dev test does that");
        return Ok(());
    }
    let mut command = Command::new(python);
    command.arg(source("python/main.py"));
    holds("Python", command)
}

#[test]
fn the_javascript_client_works() -> Result<()> {
    let directory = clients()?.join("javascript");
    if !directory.join("node_modules").is_dir() {
        eprintln!("skipped: the JavaScript client is not installed; ./dev test does that");
        return Ok(());
    }
    // Node looks for packages beside the script.
    let script = directory.join("main.js");
    std::fs::copy(source("javascript/main.js"), &script)?;
    let mut command = Command::new("node");
    command.arg(script);
    holds("JavaScript", command)
}
