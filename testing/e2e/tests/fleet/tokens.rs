//! Join tokens that were handed out: shown with who came with them, and taken back.

use anyhow::{Context, Result, ensure};
use e2e::fleet::{Fleet, Nodes};
use serde_json::Value;

use super::bad_input::{kept_out, token};

fn listed(fleet: &Fleet) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&fleet.succeed(&["join", "token", "list", "-o", "json"])?)?)
}

#[test]
fn a_token_is_listed_with_who_came_and_lets_nobody_in_once_it_is_revoked() -> Result<()> {
    let mut fleet = Fleet::start(&[], Nodes::Simulated)?;
    for name in ["late", "thief"] {
        fleet.start_cluster(name)?;
    }
    ensure!(listed(&fleet)?.is_empty());
    let more = ["--uses", "3", "--cluster-set", "shop", "--labels", "region=eu"];
    let (whole, pin) = token(&fleet, &more)?;
    let (id, secret) = whole.split_once('.').context("an id")?;
    fleet.join_with("late", &whole, &pin)?;
    fleet.wait_connected("late", "True")?;
    let tokens = listed(&fleet)?;
    let [one] = tokens.as_slice() else { anyhow::bail!("{tokens:?}") };
    ensure!(one["id"] == id && one["uses"] == 3 && one["usesLeft"] == 2, "{one}");
    ensure!(one["clusterSet"] == "shop" && one["labels"]["region"] == "eu", "{one}");
    ensure!(one["joined"][0]["name"] == "late" && one["expires"].is_string(), "{one}");
    for format in ["table", "wide", "json", "yaml", "name"] {
        let printed = fleet.succeed(&["join", "token", "list", "-o", format])?;
        ensure!(printed.contains(id) && !printed.contains(secret), "{format}: {printed}");
    }
    let (code, _, said) = fleet.command(&["join", "token", "revoke", &whole])?;
    ensure!(code == 0 && said.contains(id) && !said.contains(secret), "{code}: {said}");
    ensure!(listed(&fleet)?.is_empty());
    let refused = kept_out(&mut fleet, "thief", &whole, &pin)?;
    ensure!(refused.contains("unknown, expired or already used"), "{refused}");
    fleet.wait_connected("late", "True")?;
    let (code, _, said) = fleet.command(&["join", "token", "revoke", id])?;
    ensure!(code == 1 && said.contains("there is no join token"), "{code}: {said}");
    // Other Secrets of the hub are none.
    fleet.hub().run(&["create", "secret", "generic", "join-token-other", "-n", "fairlead-system"])?;
    let (code, ..) = fleet.command(&["join", "token", "revoke", "other"])?;
    ensure!(code == 1 && listed(&fleet)?.is_empty());
    ensure!(fleet.hub().find(&["secret", "join-token-other", "-n", "fairlead-system"])?.is_some());
    Ok(())
}
