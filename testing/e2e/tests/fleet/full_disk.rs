//! A disk without room under an agent's outbox: said, counted, survived.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// Small enough to fill in seconds, large enough for the records of a start.
const SIZE: &str = "size=256k";

/// A file system of its own, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with a message, where this may not be done.
    fn mount(at: &Path) -> Result<Option<Self>> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: a disk of its own needs root");
            return Ok(None);
        }
        std::fs::create_dir_all(at)?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "outbox"]).arg(at).output()?;
        if !mounted.status.success() {
            eprintln!("skipped: cannot mount: {}", String::from_utf8_lossy(&mounted.stderr));
            return Ok(None);
        }
        Ok(Some(Self(at.to_owned())))
    }

    /// Takes all the room there is left.
    fn fill(&self) -> Result<()> {
        let mut ballast = std::fs::File::create(self.0.join("ballast"))?;
        while std::io::Write::write_all(&mut ballast, &[0; 1024]).is_ok() {}
        Ok(())
    }

    fn make_room(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.0.join("ballast"))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the agent's process may be going still.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// So many objects that each is broken only once: what is fought over is repaired ever more slowly.
const OBJECTS: usize = 48;

fn profile() -> String {
    let mut text = String::from(
        "apiVersion: fleet.fairlead.dev/v1alpha1\nkind: Profile\nmetadata: { name: many, namespace: default }\n\
         spec:\n  targetNamespace: default\n  manifests:\n",
    );
    for number in 0..OBJECTS {
        let _ = writeln!(
            text,
            "    - {{ apiVersion: v1, kind: ConfigMap, metadata: {{ name: m{number} }}, data: {{ a: b }} }}"
        );
    }
    text.push_str(
        "---\napiVersion: fleet.fairlead.dev/v1alpha1\nkind: Placement\n\
         metadata: { name: many, namespace: default }\nspec: { profile: many, clusterSelector: {} }\n",
    );
    text
}

/// Deletes one object after another, each of which must come back.
struct Breaking<'a> {
    fleet: &'a Fleet,
    next: usize,
}

impl Breaking<'_> {
    fn one(&mut self) -> Result<()> {
        ensure!(self.next < OBJECTS, "every object was broken once");
        let name = format!("m{}", self.next);
        self.next += 1;
        let kubectl = self.fleet.cluster("dev");
        let uid = |object: &serde_json::Value| object["metadata"]["uid"].clone();
        let before = uid(&kubectl.json(&["get", "configmap", &name])?);
        kubectl.run(&["delete", "configmap", &name, "--wait=false"])?;
        wait::until(&format!("{name} to be back"), SOON, || {
            Ok(kubectl.find(&["configmap", &name])?.filter(|found| uid(found) != before).map(drop))
        })
    }
}

fn dropped(fleet: &Fleet) -> Result<u64> {
    let cluster = fleet.hub().json(&["get", "clusters.fleet.fairlead.dev", "dev"])?;
    Ok(cluster["status"]["droppedRecords"].as_u64().unwrap_or(0))
}

fn blocked(fleet: &Fleet, status: &str) -> Result<String> {
    let hub = fleet.hub();
    wait::until(&format!("OutboxBlocked to be {status}"), SOON, || {
        let cluster = hub.json(&["get", "clusters.fleet.fairlead.dev", "dev"])?;
        ensure!(condition(&cluster, "OutboxBlocked") == Some(status), "{}", cluster["status"]["conditions"]);
        let conditions = cluster["status"]["conditions"].as_array().context("no conditions")?;
        let found = conditions.iter().find(|condition| condition["type"] == "OutboxBlocked");
        Ok(found.and_then(|found| found["message"].as_str()).map(str::to_owned))
    })
}

#[test]
fn a_full_disk_under_the_outbox_is_said_counted_and_survived() -> Result<()> {
    let mut fleet = Fleet::start(&[], Nodes::Simulated)?;
    let Some(disk) = SmallDisk::mount(&fleet.agent_dir("dev").join("outbox"))? else { return Ok(()) };
    fleet.start_cluster("dev")?;
    fleet.join("dev")?;
    fleet.wait_connected("dev", "True")?;
    fleet.hub().apply(&profile())?;
    wait_ready(&fleet, "dev", "default.many")?;

    disk.fill()?;
    // Repair needs no room in the outbox; what is to be told of it has none.
    let mut breaking = Breaking { fleet: &fleet, next: 0 };
    wait::until("the outbox to have no room", SOON, || {
        breaking.one()?;
        Ok(fleet.agent_output("dev").contains("the outbox takes no more records").then_some(()))
    })?;
    let message = blocked(&fleet, "True")?;
    ensure!(message.contains("no space left on the disk of") && message.contains("make room"), "{message}");
    fleet.wait_connected("dev", "True")?;
    let before = wait::until("drops to be counted", SOON, || {
        breaking.one()?;
        Ok(Some(dropped(&fleet)?).filter(|count| *count > 0))
    })?;
    let next = breaking.next;

    // The count is kept on the full disk, too, and the agent starts on it.
    fleet.kill_agent("dev")?;
    fleet.start_agent("dev")?;
    fleet.wait_connected("dev", "True")?;
    let mut breaking = Breaking { fleet: &fleet, next };
    breaking.one()?;

    disk.make_room()?;
    wait::until("records to arrive again", SOON, || {
        breaking.one()?;
        let records = fleet.records("dev")?;
        let last = records.iter().rev().find(|record| record["kind"] == "Dropped").cloned();
        Ok(last.filter(|record| record["data"]["count"].as_u64() >= Some(before)))
    })?;
    blocked(&fleet, "False")?;
    ensure!(dropped(&fleet)? >= before, "the count went back");
    fleet.check_sequences("dev")?;
    wait_ready(&fleet, "dev", "default.many")
}
