//! `fairlead join token create`

use std::collections::BTreeMap;
use std::time::Duration;

use agent_protocol::{JoinToken, TokenGrant};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;

use crate::arguments::{self, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

#[derive(Subcommand, Debug)]
pub(crate) enum JoinCommand {
    /// One-use tokens
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Make a token with which one cluster can join, and print it
    Create(CreateArguments),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArguments {
    /// Only for a cluster of this name
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Labels the cluster gets
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE,…")]
    labels: Vec<String>,
    /// How long it can be used, at most 24h
    #[arg(long, default_value = "1h", value_parser = arguments::duration, value_name = "DURATION")]
    ttl: Duration,
}

pub(crate) async fn run(global: &Global, command: JoinCommand) -> Result<Code, Failure> {
    let JoinCommand::Token(TokenCommand::Create(arguments)) = command;
    if let Some(cluster) = &arguments.cluster {
        fleet_objects::check_cluster_name(cluster).map_err(|error| Failure::usage(error.to_string()))?;
    }
    if arguments.ttl.is_zero() || arguments.ttl > Duration::from_secs(24 * 3600) {
        return Err(Failure::usage("--ttl must be above 0 and at most 24h"));
    }
    let labels = labels(&arguments.labels)?;
    let grant = TokenGrant { cluster: arguments.cluster, labels, ttl: Some(arguments.ttl) };
    let token = JoinToken::generate();
    let secret: Secret = serde_json::from_value(token.secret_object(&grant, jiff::Timestamp::now()))
        .context("cannot make the token's secret")?;
    let client = connection::hub(global).await?;
    let secrets: Api<Secret> = Api::namespaced(client, fleet_objects::SYSTEM_NAMESPACE);
    secrets.create(&PostParams::default(), &secret).await.map_err(api("cannot make a join token"))?;
    output::data(&format!("{}\n", token.reveal()))?;
    output::progress(&format!(
        "good for one cluster and {}; it is not shown again",
        workflow::duration::display(arguments.ttl)
    ));
    Ok(Code::Ok)
}

fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        let (key, value) =
            text.split_once('=').ok_or_else(|| Failure::usage(format!("{text:?} is not KEY=VALUE")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}
