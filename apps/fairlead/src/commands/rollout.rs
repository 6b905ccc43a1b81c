//! `fairlead rollout …`

mod show;

use std::time::Duration;

use clap::{Args, Subcommand};
use fleet_objects::rollout::Rollout;
use fleet_objects::rollout::{RolloutPhase, RolloutStatus};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::arguments::{self, Format, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

/// Between two looks at a rollout.
const POLL: Duration = Duration::from_millis(500);

#[derive(Subcommand, Debug)]
pub(crate) enum RolloutCommand {
    /// List rollouts
    List(ListArguments),
    /// Say how far a rollout is, and what it waits for
    Status(StatusArguments),
    /// Follow a rollout to its end. Exit code 0: it went through; 1: it did not; 5: out of time
    Watch(WatchArguments),
    /// Give the change to no further cluster for now
    Pause(NameArguments),
    /// Go on after a pause
    Resume(NameArguments),
    /// Let a rollout go past the approval, soak or halt it is at
    Promote(PromoteArguments),
    /// Give this change to no further cluster; those that have it keep it
    Abort(NameArguments),
    /// Bring every cluster back to an earlier revision
    Rollback(RollbackArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ListArguments {
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    /// Which rollout
    name: String,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

#[derive(Args, Debug)]
pub(crate) struct WatchArguments {
    /// Which rollout
    name: String,
    /// How long to wait for its end
    #[arg(long, default_value = "1h", value_parser = arguments::duration, value_name = "DURATION")]
    timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct NameArguments {
    /// Which rollout
    name: String,
}

#[derive(Args, Debug)]
pub(crate) struct PromoteArguments {
    /// Which rollout
    name: String,
    /// Let the emptying of clusters go past the gate or the failures it is at, instead of the change
    #[arg(long)]
    withdrawal: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RollbackArguments {
    /// Which rollout
    name: String,
    /// Which revision to return to [default: the last one that went through before]
    #[arg(long, value_name = "REVISION")]
    to: Option<i64>,
}

pub(crate) async fn run(global: &Global, command: RolloutCommand) -> Result<Code, Failure> {
    let rollouts: Api<Rollout> = Api::namespaced(connection::hub(global).await?, &global.namespace);
    match command {
        RolloutCommand::List(arguments) => {
            let found = rollouts.list(&ListParams::default()).await.map_err(api("cannot list rollouts"))?;
            output::objects(arguments.output, "rollout", &show::HEADER, &found.items, show::row)?;
            Ok(Code::Ok)
        }
        RolloutCommand::Status(arguments) => {
            let rollout = get(&rollouts, &arguments.name).await?;
            match arguments.output {
                Format::Table | Format::Wide => output::data(&show::status(&rollout))?,
                format => output::object(format, "rollout", &show::HEADER, &rollout, show::row)?,
            }
            Ok(Code::Ok)
        }
        RolloutCommand::Watch(arguments) => watch(&rollouts, &arguments).await,
        RolloutCommand::Pause(arguments) => {
            patch(&rollouts, &arguments.name, &json!({"paused": true})).await?;
            output::progress(&format!("paused rollout {}", arguments.name));
            Ok(Code::Ok)
        }
        RolloutCommand::Resume(arguments) => {
            if !get(&rollouts, &arguments.name).await?.spec.paused {
                return Err(Failure::usage(format!("rollout {} is not paused", arguments.name))
                    .hint(format!("fairlead rollout status {}", arguments.name)));
            }
            patch(&rollouts, &arguments.name, &json!({"paused": false})).await?;
            output::progress(&format!("rollout {} goes on", arguments.name));
            Ok(Code::Ok)
        }
        RolloutCommand::Promote(arguments) if arguments.withdrawal => {
            promote_withdrawal(&rollouts, &arguments.name).await
        }
        RolloutCommand::Promote(arguments) => promote(&rollouts, &arguments.name).await,
        RolloutCommand::Abort(arguments) => abort(&rollouts, &arguments.name).await,
        RolloutCommand::Rollback(arguments) => roll_back(&rollouts, &arguments).await,
    }
}

async fn get(rollouts: &Api<Rollout>, name: &str) -> Result<Rollout, Failure> {
    rollouts.get(name).await.map_err(api(format!("cannot get rollout {name}")))
}

async fn patch(rollouts: &Api<Rollout>, name: &str, spec: &Value) -> Result<(), Failure> {
    let patch = json!({"spec": spec});
    let patched = rollouts.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map(drop).map_err(api(format!("cannot change rollout {name}")))
}

/// The word is about the moment the status shows: were it to move on meanwhile, nothing happens.
async fn promote(rollouts: &Api<Rollout>, name: &str) -> Result<Code, Failure> {
    let status = get(rollouts, name).await?.status.unwrap_or_default();
    let waits = matches!(status.phase, RolloutPhase::Waiting | RolloutPhase::Soaking | RolloutPhase::Halted);
    if !waits {
        let message = format!("rollout {name} is {:?} and waits for nobody's word", status.phase);
        let hint = match status.withdrawal {
            Some(_) => format!("fairlead rollout promote {name} --withdrawal"),
            None => format!("fairlead rollout status {name}"),
        };
        return Err(Failure::usage(message).hint(hint));
    }
    let step = json!({"revision": status.revision, "step": status.step});
    patch(rollouts, name, &json!({"promote": step})).await?;
    output::progress(&format!("revision {} of rollout {name} may go on", status.revision));
    Ok(Code::Ok)
}

/// The same for clusters that are being emptied.
async fn promote_withdrawal(rollouts: &Api<Rollout>, name: &str) -> Result<Code, Failure> {
    let status = get(rollouts, name).await?.status.unwrap_or_default();
    let Some(withdrawal) = status.withdrawal else {
        let message = format!("rollout {name} empties no clusters");
        return Err(Failure::usage(message).hint(format!("fairlead rollout status {name}")));
    };
    patch(rollouts, name, &json!({"promoteWithdrawal": status.withdrawal_step})).await?;
    let (left, waited) = (withdrawal.left, withdrawal.message);
    output::progress(&format!("rollout {name} may go on emptying {left} clusters ({waited})"));
    Ok(Code::Ok)
}

async fn abort(rollouts: &Api<Rollout>, name: &str) -> Result<Code, Failure> {
    let status = get(rollouts, name).await?.status.unwrap_or_default();
    if status.phase.is_final() && status.phase != RolloutPhase::Halted {
        return Err(Failure::usage(format!("rollout {name} is {:?}: nothing is under way", status.phase)));
    }
    patch(rollouts, name, &json!({"abort": status.revision})).await?;
    output::progress(&format!("revision {} of rollout {name} goes no further", status.revision));
    Ok(Code::Ok)
}

async fn roll_back(rollouts: &Api<Rollout>, arguments: &RollbackArguments) -> Result<Code, Failure> {
    let name = &arguments.name;
    let status = get(rollouts, name).await?.status.unwrap_or_default();
    let earlier = status.history.iter().rev().find(|revision| match arguments.to {
        Some(to) => revision.number == to,
        None => revision.number < status.revision,
    });
    let Some(earlier) = earlier else {
        let known: Vec<String> = status.history.iter().map(|revision| revision.number.to_string()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("rollout {name} has no such revision to return to; it knows {known}");
        return Err(Failure::usage(message).hint(format!("fairlead rollout abort {name}")));
    };
    let request = json!({"revision": status.revision, "to": earlier.number});
    patch(rollouts, name, &json!({"rollback": request})).await?;
    output::progress(&format!("rollout {name} goes back to revision {}", earlier.number));
    Ok(Code::Ok)
}

async fn watch(rollouts: &Api<Rollout>, arguments: &WatchArguments) -> Result<Code, Failure> {
    let name = &arguments.name;
    let followed = tokio::time::timeout(arguments.timeout, follow(rollouts, name)).await;
    let status = followed.map_err(|_| {
        let waited = workflow::duration::display(arguments.timeout);
        Failure::timeout(format!("rollout {name} has not ended after {waited}; it goes on"))
            .hint(format!("fairlead rollout status {name}"))
    })??;
    Ok(if status.phase == RolloutPhase::Completed { Code::Ok } else { Code::Negative })
}

/// Says what changes until nothing more happens by itself.
async fn follow(rollouts: &Api<Rollout>, name: &str) -> Result<RolloutStatus, Failure> {
    let mut told = String::new();
    loop {
        let rollout = get(rollouts, name).await?;
        let line = show::line(&rollout);
        if line != told {
            output::progress(&line);
            told = line;
        }
        let seen = rollout.metadata.generation;
        let status = rollout.status.unwrap_or_default();
        if status.phase.is_final() && seen == Some(status.observed_generation) {
            return Ok(status);
        }
        tokio::time::sleep(POLL).await;
    }
}
