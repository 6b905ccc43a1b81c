//! `fairlead up`, `status` and `down` as a user runs them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::kubectl::Kubectl;
use e2e::process::run_fairlead;
use e2e::wait;

/// Long enough for a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Ends what a test has left, however it ends.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _ = run_fairlead(&["down".as_ref(), "--dir".as_ref(), self.0.as_os_str()]);
    }
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn fairlead(command: &str, dir: &Path, more: &[&str]) -> Result<Ended> {
    let mut words = vec![command.as_ref(), "--dir".as_ref(), dir.as_os_str()];
    words.extend(more.iter().map(|word| std::ffi::OsStr::new(*word)));
    let output = run_fairlead(&words)?;
    Ok(Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn up(dir: &Path, more: &[&str]) -> Result<Ended> {
    let mut words = vec!["--runtime", "simulated", "--detach", "--timeout", "90s"];
    words.extend(more);
    fairlead("up", dir, &words)
}

/// Name and number of every process that `status` shows as running.
fn running(dir: &Path) -> Result<Vec<(String, u32)>> {
    let status = fairlead("status", dir, &[])?;
    let mut found = Vec::new();
    for line in status.stdout.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [name, pid, "running", ..] = words[..] {
            found.push((name.to_owned(), pid.parse().with_context(|| format!("no pid in {line}"))?));
        }
    }
    Ok(found)
}

#[test]
fn a_fleet_comes_up_goes_down_and_comes_back() -> Result<()> {
    let temp = tempfile::Builder::new().prefix("fairlead-up-").tempdir()?;
    let dir = temp.path();
    let _down = Down(dir);

    let first = up(dir, &["--clusters", "one,two"])?;
    ensure!(first.code == 0, "up ended with {}:\n{}", first.code, first.stderr);
    for expected in [
        "agent of one connected",
        "agent of two connected",
        "sample application applied in 2 clusters",
        "passed in 2 clusters",
        "hub ready",
        "\nup after ",
    ] {
        ensure!(first.stderr.contains(expected), "{expected:?} is not in:\n{}", first.stderr);
    }
    let table: Vec<&str> =
        first.stdout.lines().map(|line| line.split_whitespace().next().unwrap_or("")).collect();
    ensure!(table == ["NAME", "one", "two"], "{}", first.stdout);

    let processes = running(dir)?;
    let names: Vec<&str> = processes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["up", "agent-one", "agent-two", "cluster-one", "cluster-two", "hub"]);

    let cluster = Kubectl::new(&dir.join("one.kubeconfig"));
    cluster.run(&["rollout", "status", "deployment/hello", "-n", "hello", "--timeout=60s"])?;
    let server = cluster.run(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"])?;

    let again = up(dir, &[])?;
    ensure!(again.code == 1 && again.stderr.contains("is already up"), "{}: {}", again.code, again.stderr);

    let down = fairlead("down", dir, &[])?;
    ensure!(down.code == 0, "down ended with {}: {}", down.code, down.stderr);
    for (name, pid) in processes {
        ensure!(!runs(pid), "{name} still runs as {pid}");
    }
    ensure!(fairlead("status", dir, &[])?.code == 3, "status after down");

    let back = up(dir, &[])?;
    ensure!(back.code == 0, "the second up ended with {}:\n{}", back.code, back.stderr);
    ensure!(!back.stderr.contains("sample"), "samples come once:\n{}", back.stderr);
    let cluster = Kubectl::new(&dir.join("one.kubeconfig"));
    assert_eq!(cluster.run(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"])?, server);
    cluster.run(&["get", "deployment/hello", "-n", "hello"])?;
    Ok(())
}

#[test]
fn what_crashes_is_started_again_and_orphans_are_cleared_away() -> Result<()> {
    let temp = tempfile::Builder::new().prefix("fairlead-up-").tempdir()?;
    let dir = temp.path();
    let _down = Down(dir);
    let first = up(dir, &["--clusters", "one", "--no-samples"])?;
    ensure!(first.code == 0, "up ended with {}:\n{}", first.code, first.stderr);

    let pid_of = |wanted: &str| -> Result<Option<u32>> {
        Ok(running(dir)?.into_iter().find(|(name, _)| name == wanted).map(|(_, pid)| pid))
    };
    let hub = pid_of("hub")?.context("no hub")?;
    let address = || -> Result<String> {
        let kubeconfig = std::fs::read_to_string(dir.join("hub.kubeconfig"))?;
        Ok(kubeconfig.lines().find(|line| line.contains("server:")).context("no server")?.to_owned())
    };
    let before = address()?;
    kill(hub)?;
    wait::until("another hub", LIMIT, || Ok(pid_of("hub")?.filter(|pid| *pid != hub)))?;
    let kubectl = Kubectl::new(&dir.join("hub.kubeconfig"));
    wait::until("the hub to answer", LIMIT, || {
        Ok((kubectl.run(&["get", "--raw", "/readyz"])? == "ok").then_some(()))
    })?;
    ensure!(address()? == before, "the hub is elsewhere: {} after {before}", address()?);
    let through = ["get", "--raw", "/apis/fleet.fairlead.dev/v1alpha1/clusters/one/proxy/version"];
    wait::until("the agent to be back", LIMIT, || {
        Ok(kubectl.run(&through).is_ok_and(|version| version.contains("gitVersion")).then_some(()))
    })?;

    kill(pid_of("up")?.context("no supervisor")?)?;
    let orphan = pid_of("cluster-one")?.context("no cluster")?;
    let second = up(dir, &[])?;
    ensure!(second.code == 0, "the second up ended with {}:\n{}", second.code, second.stderr);
    ensure!(second.stderr.contains("ended what an earlier run had left"), "{}", second.stderr);
    ensure!(pid_of("cluster-one")? != Some(orphan), "the orphan still runs");
    Ok(())
}

#[test]
fn ctrl_c_ends_everything_and_keeps_the_state() -> Result<()> {
    let temp = tempfile::Builder::new().prefix("fairlead-up-").tempdir()?;
    let dir = temp.path();
    let _down = Down(dir);
    let words = ["up", "--runtime", "simulated", "--clusters", "one", "--no-samples", "--dir"];
    let mut child = std::process::Command::new(e2e::process::fairlead_binary()?)
        .args(words)
        .arg(dir)
        .stdin(std::process::Stdio::null())
        .stdout(std::fs::File::create(dir.join("out"))?)
        .stderr(std::fs::File::create(dir.join("err"))?)
        .spawn()?;
    let said = || std::fs::read_to_string(dir.join("err")).unwrap_or_default();
    wait::until("the fleet to be up", LIMIT, || {
        ensure!(child.try_wait()?.is_none(), "it ended: {}", said());
        Ok(said().contains("Ctrl-C ends it").then_some(()))
    })?;
    let processes = running(dir)?;
    ensure!(processes.len() == 4, "{processes:?}");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT)?;
    let status = child.wait()?;
    ensure!(status.success(), "ended with {status}: {}", said());
    for (name, pid) in processes {
        ensure!(!runs(pid), "{name} still runs as {pid}");
    }
    let back = up(dir, &[])?;
    ensure!(back.code == 0, "the second up ended with {}:\n{}", back.code, back.stderr);
    let names: Vec<String> = running(dir)?.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["up", "agent-one", "cluster-one", "hub"]);
    Ok(())
}

/// Whether a process runs; one that only waits to be looked at by its parent does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn kill(pid: u32) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
    Ok(nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?)
}
