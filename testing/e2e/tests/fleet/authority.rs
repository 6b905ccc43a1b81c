//! Rotation of the hub's authority by the command line: it says who is not so far, and leaves nobody behind unasked.

use super::*;

/// How long agents' certificates hold here: renewed after two thirds.
const LIFE: &str = "15s";

struct Rotating {
    fleet: Fleet,
    dir: String,
}

impl Rotating {
    /// Runs `fairlead hub authority WORDS`; with its exit code, stdout and stderr.
    fn run(&self, words: &[&str]) -> Result<(i32, String, String)> {
        self.fleet.command(&[&["hub", "authority"], words, &["--dir", &self.dir]].concat())
    }

    fn succeed(&self, words: &[&str]) -> Result<()> {
        let (code, out, said) = self.run(words)?;
        ensure!(code == 0, "{words:?} ended with {code}: {out}{said}");
        Ok(())
    }

    /// Waits until everybody is so far that the next step may be taken.
    fn wait_all(&self) -> Result<()> {
        wait::until("every cluster to have taken the authority", SOON, || {
            Ok((self.run(&["status"])?.0 == 0).then_some(()))
        })
    }
}

#[test]
fn a_rotation_names_who_is_not_so_far_and_leaves_nobody_behind_unasked() -> Result<()> {
    let arguments = ["--agent-certificate-ttl", LIFE];
    let fleet = Fleet::start_with(&["dev", "away"], Nodes::Simulated, &arguments)?;
    let dir = fleet.hub_dir().display().to_string();
    let mut one = Rotating { fleet, dir };

    // With everybody there it goes through, each step when they have followed.
    one.wait_all()?;
    one.succeed(&["prepare"])?;
    one.wait_all()?;
    one.succeed(&["switch"])?;
    let (code, _, said) = one.run(&["finish"])?;
    ensure!(code == 1 || code == 3, "their certificates are those of the previous one: {code}: {said}");
    one.wait_all()?;
    one.succeed(&["finish"])?;

    // One is away: it is named, and nothing happens.
    one.fleet.kill_agent("away")?;
    one.fleet.wait_connected("away", "False")?;
    one.succeed(&["prepare"])?;
    wait::until("the other to trust it", SOON, || {
        let (code, out, _) = one.run(&["status", "-o", "json"])?;
        let all: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
        let of = |name: &str| all.as_array()?.iter().find(|one| one["cluster"] == name);
        let (dev, away) = (of("dev"), of("away"));
        let said = dev.is_some_and(|dev| dev["trustsIt"] == "yes")
            && away.is_some_and(|away| away["trustsIt"] == "no" && away["connected"] == false);
        Ok((code == 1 && said).then_some(()))
    })?;
    let before = one.run(&["show", "-o", "json"])?.1;
    let (code, _, said) = one.run(&["switch"])?;
    ensure!(code == 1 && said.contains("away (does not trust it, and it is away)"), "{code}: {said}");
    ensure!(!said.contains("dev (") && one.run(&["show", "-o", "json"])?.1 == before, "{said}");

    // Nor when the hub cannot be asked.
    one.fleet.kill_hub()?;
    let (code, _, said) = one.run(&["switch"])?;
    ensure!(code == 3 && said.contains("cannot tell which clusters"), "{code}: {said}");
    one.fleet.start_hub()?;

    // A person may go on; who was away then comes when it is bound anew.
    one.succeed(&["switch", "--force"])?;
    wait::until("the end to be refused", SOON, || {
        let (code, _, said) = one.run(&["finish"])?;
        Ok((code == 1 && said.contains("away (")).then_some(()))
    })?;
    one.succeed(&["finish", "--force"])?;
    one.fleet.wait_connected("dev", "True")
}
