//! Several servers on one etcd, and stores that are copied, restored and put back: with the real binary and kubectl.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::kubectl::Kubectl;
use e2e::process::{Process, run_fairlead};
use e2e::wait::until;
use fixtures::etcd::{self, Etcd};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// A cluster without nodes.
struct Server {
    directory: PathBuf,
    process: Option<Process>,
    arguments: Vec<String>,
}

impl Server {
    fn start(root: &Path, name: &str, store: Option<&str>) -> Result<Self> {
        let directory = root.join(name);
        let mut arguments: Vec<String> =
            ["cluster", "serve", "--name", name, "--nodes", "0", "--listen", "127.0.0.1:0", "--dir"]
                .map(str::to_owned)
                .to_vec();
        arguments.push(directory.display().to_string());
        if let Some(store) = store {
            arguments.extend(["--store".to_owned(), store.to_owned()]);
        }
        let mut server = Self { directory, process: None, arguments };
        server.resume()?;
        Ok(server)
    }

    fn log(&self) -> PathBuf {
        self.directory.with_extension("log")
    }

    fn resume(&mut self) -> Result<()> {
        // The last one's would lead to a port that nobody listens on.
        let _ = std::fs::remove_file(self.kubeconfig());
        let mut process = Process::fairlead(&self.arguments, &self.log())?;
        until("the server to be ready", LIMIT, || {
            process.expect_running()?;
            Ok(self.kubeconfig().exists().then_some(()))
        })?;
        self.process = Some(process);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        self.process.take().context("it does not run")?.kill()
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig())
    }
}

fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Runs `fairlead store …`; answers its JSON.
fn store(arguments: &[&str]) -> Result<Value> {
    let all: Vec<&str> = ["store"].iter().chain(arguments).chain(&["-o", "json"]).copied().collect();
    let output = run_fairlead(&all)?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "fairlead {} ended with {}: {told}", all.join(" "), output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn two_servers_on_one_etcd_are_one_cluster() -> Result<()> {
    let Some(program) = etcd::program() else { return Ok(()) };
    let root = tempfile::tempdir()?;
    let etcd = Etcd::start(&program, root.path(), etcd::Options::default())?;
    let choice = format!("etcd={}", etcd.endpoint());
    let mut one = Server::start(root.path(), "one", Some(&choice))?;
    // Servers of one cluster have one authority: its directory is given to each.
    std::fs::create_dir_all(root.path().join("two"))?;
    let copied = std::process::Command::new("cp")
        .args(["-r".as_ref(), one.directory.join("pki").as_os_str(), root.path().join("two").as_os_str()])
        .status()?;
    ensure!(copied.success(), "the authority was not copied");
    let mut two = Server::start(root.path(), "two", Some(&choice))?;

    let mut last = 0;
    for n in 0..6 {
        let (writer, reader) = if n % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let name = format!("m{n}");
        writer.kubectl().run(&["create", "configmap", &name, "--from-literal", "a=b"])?;
        // A consistent read at once: no waiting.
        let seen = reader.kubectl().json(&["get", "configmap", &name])?;
        ensure!(version(&seen) > last, "{n}: {} after {last}", version(&seen));
        last = version(&seen);
        let list = reader.kubectl().run(&["get", "--raw", "/api/v1/namespaces/default/configmaps"])?;
        let list: Value = serde_json::from_str(&list)?;
        ensure!(version(&list) >= last, "a list at {} does not show {last}", version(&list));
    }
    // One watch over the other server's writes, from a resourceVersion that this server gave.
    let path =
        format!("/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=5&resourceVersion={last}");
    let watching = std::thread::spawn({
        let kubectl = two.kubectl();
        move || kubectl.run(&["get", "--raw", &path])
    });
    one.kubectl().run(&["create", "configmap", "watched"])?;
    one.kubectl().run(&["delete", "configmap", "watched"])?;
    let told = watching.join().expect("the thread does not panic")?;
    let events: Vec<Value> = told.lines().map(serde_json::from_str).collect::<std::result::Result<_, _>>()?;
    let of: Vec<_> = events
        .iter()
        .filter(|event| event["object"]["metadata"]["name"] == "watched")
        .map(|event| event["type"].as_str().unwrap_or_default())
        .collect();
    ensure!(of == ["ADDED", "DELETED"], "{of:?}");

    // One of them leads; when it is killed the other takes over, and nothing acknowledged is lost.
    let holder = |server: &Server| -> Result<String> {
        let lease =
            server.kubectl().json(&["get", "lease", "-n", "kube-system", "kube-controller-manager"])?;
        Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
    };
    let leader = until("a leader", LIMIT, || Ok(Some(holder(&one)?).filter(|name| !name.is_empty())))?;
    let (dead, alive) = if leader.starts_with("one_") { (&mut one, &mut two) } else { (&mut two, &mut one) };
    dead.kill()?;
    alive.kubectl().run(&["create", "namespace", "later"])?;
    until("the other to lead", LIMIT, || Ok((holder(alive)? != leader).then_some(())))?;
    until("its controllers to work", LIMIT, || {
        alive.kubectl().find(&["serviceaccount", "default", "-n", "later"])
    })?;
    alive.kill()?;
    dead.resume()?;
    let kept = dead.kubectl().json(&["get", "configmaps"])?;
    let names: Vec<_> = kept["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    ensure!((0..6).all(|n| names.contains(&format!("m{n}").as_str())), "{names:?}");
    Ok(())
}

#[test]
fn snapshots_are_taken_online_and_offline_and_move_between_engines() -> Result<()> {
    let root = tempfile::tempdir()?;
    let mut server = Server::start(root.path(), "source", None)?;
    server.kubectl().run(&["create", "configmap", "kept", "--from-literal", "a=b"])?;
    let before = version(&server.kubectl().json(&["get", "configmap", "kept"])?);
    let file = |name: &str| root.path().join(name).display().to_string();
    let (online, offline, dir) = (file("online.snap"), file("offline.snap"), file("source"));
    let taken = store(&["snapshot", &online, "--dir", &dir])?;
    ensure!(taken["damaged"] == 0 && taken["revision"].as_u64() >= Some(before), "{taken}");
    ensure!(store(&["verify", &online])? == taken);
    ensure!(
        store(&["verify", "--dir", &dir]).is_err(),
        "a store that is served cannot be read beside its server"
    );
    server.kill()?;
    store(&["verify", "--dir", &dir])?;
    let later = store(&["snapshot", &offline, "--dir", &dir])?;
    ensure!(later["incarnation"] == taken["incarnation"]);

    ensure!(store(&["restore", &online, "--dir", &dir]).is_err(), "there is a store already");
    let restored = store(&["restore", &online, "--dir", &file("restored")])?;
    ensure!(restored["incarnation"] != taken["incarnation"], "{restored}");
    let again = Server::start(root.path(), "restored", None)?;
    let kept = again.kubectl().json(&["get", "configmap", "kept"])?;
    ensure!(kept["data"]["a"] == "b");
    again.kubectl().run(&["create", "configmap", "new"])?;
    let new = version(&again.kubectl().json(&["get", "configmap", "new"])?);
    ensure!(new > before + 1_000_000_000, "{new} may have been seen before {before}");
    // A client of the old store that comes back is told to list again.
    let stale = format!("/api/v1/configmaps?watch=1&timeoutSeconds=2&resourceVersion={before}");
    let told = again.kubectl().output(&["get", "--raw", &stale], "")?;
    let told = String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
    ensure!(told.contains("too old") || told.contains("410"), "{told}");

    let mut bytes = std::fs::read(&offline)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&offline, bytes)?;
    ensure!(store(&["verify", &offline]).is_err(), "one bit is enough");

    let Some(program) = etcd::program() else { return Ok(()) };
    let etcd = Etcd::start(&program, root.path(), etcd::Options::default())?;
    let choice = format!("etcd={}", etcd.endpoint());
    store(&["restore", &online, "--store", &choice])?;
    let moved = Server::start(root.path(), "moved", Some(&choice))?;
    ensure!(moved.kubectl().json(&["get", "configmap", "kept"])?["data"]["a"] == "b");
    store(&["verify", "--store", &choice])?;
    Ok(())
}

#[test]
fn a_directory_put_back_from_a_copy_is_served_as_another_life() -> Result<()> {
    let root = tempfile::tempdir()?;
    let mut server = Server::start(root.path(), "cluster", None)?;
    server.kill()?;
    let (data, backup) = (server.directory.join("store"), root.path().join("backup"));
    let copy = |from: &Path, to: &Path| -> Result<()> {
        let status = std::process::Command::new("cp").arg("-r").arg(from).arg(to).status()?;
        ensure!(status.success(), "cp failed");
        Ok(())
    };
    copy(&data, &backup)?;
    server.resume()?;
    server.kubectl().run(&["create", "configmap", "lost"])?;
    let lost = version(&server.kubectl().json(&["get", "configmap", "lost"])?);
    // What was served is written down within a second.
    let witness = server.directory.join("store-witness.json");
    until("the witness", LIMIT, || {
        let document: Value = serde_json::from_slice(&std::fs::read(&witness)?)?;
        Ok((document["revision"].as_u64() >= Some(lost)).then_some(()))
    })?;
    server.kill()?;
    std::fs::remove_dir_all(&data)?;
    copy(&backup, &data)?;
    server.resume()?;
    ensure!(server.kubectl().find(&["configmap", "lost"])?.is_none(), "the copy is older");
    server.kubectl().run(&["create", "configmap", "lost"])?;
    let again = version(&server.kubectl().json(&["get", "configmap", "lost"])?);
    ensure!(again > lost + 1_000_000_000, "{again} after {lost}");
    Ok(())
}
