//! `fairlead cluster pause|resume|revoke|drain|remove`: what a person decides about a member of the fleet. Each is a field of
//! the Cluster, which `kubectl` shows and changes as well.

use std::collections::BTreeSet;

use clap::Args;
use fleet_objects::{Assignment, AssignmentState, Cluster, ClusterTaint, TaintEffect, partition_namespace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::failure::{Code, Failure, api};
use crate::output;

/// The taint of a cluster that is to hold nothing any more.
const DRAIN: &str = "fleet.fairlead.dev/drain";
/// Tries before a conflict is given back.
const TRIES: usize = 10;
/// Profiles that a refusal names.
const NAMED: usize = 5;

#[derive(Args, Debug)]
pub(crate) struct NameArguments {
    /// Which cluster
    pub(super) name: String,
}

#[derive(Args, Debug)]
pub(crate) struct UndoArguments {
    /// Which cluster
    pub(super) name: String,
    /// Take it back
    #[arg(long)]
    pub(super) undo: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArguments {
    /// Which cluster
    pub(super) name: String,
    /// Also while it holds profiles: they stay in it, and its agent goes on enforcing them
    #[arg(long)]
    pub(super) keep_profiles: bool,
}

/// What changes, and what is said of it.
struct Change {
    /// The field of the specification and its value; none: it is so already.
    spec: Option<Value>,
    done: &'static str,
    already: &'static str,
}

fn change(is: bool, wanted: bool, field: &str, done: &'static str, already: &'static str) -> Change {
    Change { spec: (is != wanted).then(|| json!({field: wanted})), done, already }
}

pub(super) async fn pause(client: Client, name: &str) -> Result<Code, Failure> {
    let done = "it gets nothing new and nothing is taken from it; what it holds stays enforced";
    alter(client, name, "pause", |cluster| {
        change(cluster.spec.paused, true, "paused", done, "it is paused already")
    })
    .await
}

pub(super) async fn resume(client: Client, name: &str) -> Result<Code, Failure> {
    alter(client, name, "resume", |cluster| {
        change(cluster.spec.paused, false, "paused", "it follows its placements again", "it is not paused")
    })
    .await
}

pub(super) async fn revoke(client: Client, arguments: &UndoArguments) -> Result<Code, Failure> {
    let UndoArguments { name, undo } = arguments;
    let (done, already) = if *undo {
        ("its agent is let in again, with the key it registered", "it is not revoked")
    } else {
        (
            "its agent is refused, whatever it shows; what it holds stays in it and goes on being enforced",
            "it is revoked already",
        )
    };
    let what = if *undo { "let in again" } else { "revoke" };
    alter(client, name, what, |cluster| change(cluster.spec.revoked, !undo, "revoked", done, already)).await
}

pub(super) async fn drain(client: Client, arguments: &UndoArguments) -> Result<Code, Failure> {
    let UndoArguments { name, undo } = arguments;
    let (done, already) = if *undo {
        ("placements may choose it again", "it is not being drained")
    } else {
        (
            "profiles leave it as its placements' rollouts let them, and none comes; see what it still holds with `fairlead cluster get`",
            "it is being drained already",
        )
    };
    let what = if *undo { "end draining" } else { "drain" };
    let noted = std::cell::Cell::new(None);
    let code = alter(client, name, what, |cluster| {
        noted.set(hindrance(cluster).filter(|_| !undo));
        let spec = taints(&cluster.spec.taints, *undo).map(|taints| json!({"taints": taints}));
        Change { spec, done, already }
    })
    .await?;
    if let Some(hindrance) = noted.take() {
        output::progress(&format!("nothing leaves it yet: {hindrance}"));
    }
    Ok(code)
}

/// Why nothing leaves a cluster for now.
fn hindrance(cluster: &Cluster) -> Option<&'static str> {
    match () {
        () if cluster.spec.revoked => Some("it is revoked (fairlead cluster revoke NAME --undo)"),
        () if cluster.spec.paused => Some("it is paused (fairlead cluster resume NAME)"),
        () => None,
    }
}

/// The taints with the one of draining, or without; none when nothing is to change.
fn taints(now: &[ClusterTaint], undo: bool) -> Option<Vec<ClusterTaint>> {
    let is = now.iter().any(|taint| taint.key == DRAIN && taint.effect == TaintEffect::Evict);
    if is != undo {
        return None;
    }
    let mut taints: Vec<ClusterTaint> = now.iter().filter(|taint| taint.key != DRAIN).cloned().collect();
    if !undo {
        taints.push(ClusterTaint { key: DRAIN.to_owned(), value: None, effect: TaintEffect::Evict });
    }
    Some(taints)
}

/// Changes a cluster under the version that was looked at; looks again when the hub has written it meanwhile, which it does
/// whenever an agent reports.
async fn alter(
    client: Client,
    name: &str,
    what: &str,
    decide: impl Fn(&Cluster) -> Change,
) -> Result<Code, Failure> {
    let clusters: Api<Cluster> = Api::all(client);
    let mut tries = 0;
    loop {
        let found = get(&clusters, name).await?;
        let Change { spec, done, already } = decide(&found);
        let Some(spec) = spec else {
            output::progress(&format!("cluster {name}: {already}"));
            return Ok(Code::Ok);
        };
        let patch = json!({"metadata": {"resourceVersion": found.metadata.resource_version}, "spec": spec});
        match clusters.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => {
                output::progress(&format!("cluster {name}: {done}"));
                return Ok(Code::Ok);
            }
            Err(kube::Error::Api(status)) if status.code == 409 && tries < TRIES => tries += 1,
            Err(error) => return Err(api(format!("cannot {what} cluster {name}"))(error)),
        }
    }
}

async fn get(clusters: &Api<Cluster>, name: &str) -> Result<Cluster, Failure> {
    match clusters.get_opt(name).await.map_err(api(format!("cannot get cluster {name}")))? {
        Some(found) => Ok(found),
        None => Err(Failure::negative(format!("there is no cluster {name}")).hint("fairlead cluster list")),
    }
}

pub(super) async fn remove(client: Client, arguments: &RemoveArguments) -> Result<Code, Failure> {
    let RemoveArguments { name, keep_profiles } = arguments;
    let clusters: Api<Cluster> = Api::all(client.clone());
    let found = get(&clusters, name).await?;
    let holds = holds(&client, &found).await?;
    if !holds.is_empty() && !keep_profiles {
        let message = format!(
            "cluster {name} holds {}; they would stay in it, and nobody could take them off from here",
            counted(&holds)
        );
        return Err(Failure::negative(message).hint(format!(
            "fairlead cluster drain {name} takes them off first; --keep-profiles leaves them there"
        )));
    }
    let only = Preconditions { uid: found.metadata.uid.clone(), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
    clusters.delete(name, &params).await.map_err(api(format!("cannot remove cluster {name}")))?;
    output::progress(&farewell(name, has_joined(&found), holds.is_empty()));
    Ok(Code::Ok)
}

/// Whether an agent has ever spoken for the cluster.
fn has_joined(cluster: &Cluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| {
        let said = status.kube_system_uid.is_some() || status.agent_version.is_some();
        status.registration.is_some() || said || !status.held.is_empty()
    })
}

/// What is said of a cluster that was removed.
fn farewell(name: &str, joined: bool, holds_nothing: bool) -> String {
    if !joined {
        return format!(
            "removed cluster {name} from the fleet, which it never joined; `fairlead join token list` names the tokens that let \
             one in"
        );
    }
    let stays = if holds_nothing { "" } else { ", and so does what it holds" };
    format!(
        "removed cluster {name} from the fleet. Its agent stays there{stays}; to end it there:\n  \
         kubectl delete namespace fairlead-system    # where `fairlead join manifest` put it; its rights: \
         docs/guides/removing-a-cluster.md"
    )
}

/// What a cluster holds, by the names of assignments: what its agent says, and what it is told to hold.
async fn holds(client: &Client, cluster: &Cluster) -> Result<BTreeSet<String>, Failure> {
    let said = cluster.status.iter().flat_map(|status| &status.held).filter(|held| !held.pruned);
    let mut names: BTreeSet<String> = said.map(|held| held.name.clone()).collect();
    let name = cluster.name_any();
    let api: Api<Assignment> = Api::namespaced(client.clone(), &partition_namespace(&name));
    let told = api.list(&ListParams::default()).await;
    let told =
        told.map_err(crate::failure::api(format!("cannot list what cluster {name} is told to hold")))?;
    let present = told.items.iter().filter(|one| one.spec.state == AssignmentState::Present);
    names.extend(present.map(ResourceExt::name_any));
    Ok(names)
}

/// `2 profiles (default.app, default.web)`; names of assignments, which are NAMESPACE.PROFILE.
fn counted(names: &BTreeSet<String>) -> String {
    let some: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    let more = if names.len() > NAMED { ", …" } else { "" };
    let profiles = if names.len() == 1 { "profile" } else { "profiles" };
    format!("{} {profiles} ({}{more})", names.len(), some.join(", "))
}

#[cfg(test)]
mod tests {
    use fleet_objects::ClusterStatus;

    use super::*;

    #[test]
    fn draining_adds_one_taint_and_takes_only_that_away() {
        let own = ClusterTaint { key: "gpu".to_owned(), value: None, effect: TaintEffect::NoPlace };
        let drained = taints(std::slice::from_ref(&own), false).expect("it changes");
        assert_eq!(
            (drained.len(), drained[1].key.as_str(), drained[1].effect),
            (2, DRAIN, TaintEffect::Evict)
        );
        assert_eq!(taints(&drained, false), None);
        assert_eq!(taints(&drained, true), Some(vec![own.clone()]));
        assert_eq!(taints(&[own], true), None);
        let weaker = ClusterTaint { effect: TaintEffect::NoPlace, ..drained[1].clone() };
        assert_eq!(
            taints(&[weaker], false).map(|taints| taints.len()),
            Some(1),
            "it is made the stronger one"
        );
    }

    #[test]
    fn what_is_so_already_is_not_written() {
        assert_eq!(change(true, true, "paused", "", "").spec, None);
        assert_eq!(change(true, false, "paused", "", "").spec, Some(json!({"paused": false})));
    }

    #[test]
    fn of_an_agent_is_spoken_where_there_was_one() {
        let mut cluster = Cluster::new("edge", Default::default());
        assert!(!has_joined(&cluster));
        // What the hub writes of a cluster that nobody speaks for.
        cluster.status = Some(ClusterStatus { generation_floor: 7, ..ClusterStatus::default() });
        assert!(!has_joined(&cluster) && !farewell("edge", false, true).contains("agent"));
        for status in [
            json!({"registration": {"publicKeySha256": "", "notAfter": ""}}),
            json!({"agentVersion": "1"}),
            json!({"held": [{"name": "default.app", "generation": 1, "hubEpoch": "e"}]}),
        ] {
            let status = serde_json::from_value(status).expect("a status");
            cluster.status = Some(status);
            assert!(has_joined(&cluster));
        }
        assert!(farewell("edge", true, true).contains("Its agent stays there; to end it"));
        assert!(farewell("edge", true, false).contains("Its agent stays there, and so does what it holds"));
    }

    #[test]
    fn many_profiles_are_counted_and_some_named() {
        let names = |count: usize| (0..count).map(|number| format!("default.{number}")).collect();
        assert_eq!(counted(&names(1)), "1 profile (default.0)");
        assert!(
            counted(&names(9)).starts_with("9 profiles (default.0,") && counted(&names(9)).ends_with("…)")
        );
    }
}
