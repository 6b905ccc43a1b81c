//! `fairlead join …`

mod chart;
mod manifest;
mod tokens;

use std::collections::BTreeMap;
use std::time::Duration;

use agent_protocol::{Approval, JoinToken, MAX_USES, TokenGrant};
use anyhow::Context as _;
use api_machinery::names::{label_value, qualified_name};
use clap::{Args, Subcommand, ValueEnum};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::arguments::{self, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

#[derive(Subcommand, Debug)]
pub(crate) enum JoinCommand {
    /// Tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Print what makes a cluster join: YAML for `kubectl apply` there, or values for the Helm chart
    Manifest(manifest::PrintArguments),
    /// Write the Helm chart of the agent
    Chart(chart::ChartArguments),
    /// Apply that to a cluster
    Cluster(manifest::ClusterArguments),
}

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Make a token with which clusters can join, and print it
    Create(CreateArguments),
    /// List tokens: what they let in, how often yet and until when, and who came with them
    List(tokens::ListArguments),
    /// Take tokens back: nobody joins with them any more
    Revoke(tokens::RevokeArguments),
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
    /// How many clusters can join with it, at most 1000
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    uses: u32,
    /// The cluster set of the clusters (the label multicluster.x-k8s.io/clusterset)
    #[arg(long, value_name = "NAME")]
    cluster_set: Option<String>,
    /// New clusters wait for `fairlead cluster approve`
    #[arg(long)]
    hold: bool,
    /// With --hold: but not those with such names; `*` at the end stands for any rest
    #[arg(long, value_delimiter = ',', requires = "hold", value_name = "NAME,…")]
    approve_names: Vec<String>,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    output: TokenFormat,
}

/// How a token is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum TokenFormat {
    /// The token; on stderr the command to run with it
    #[default]
    Text,
    /// id, token, caPin, hub, expires
    Json,
}

pub(crate) async fn run(global: &Global, command: JoinCommand) -> Result<Code, Failure> {
    match command {
        JoinCommand::Token(TokenCommand::Create(arguments)) => create(global, arguments).await,
        JoinCommand::Token(TokenCommand::List(arguments)) => tokens::list(global, arguments.output).await,
        JoinCommand::Token(TokenCommand::Revoke(arguments)) => {
            tokens::revoke(global, &arguments.tokens).await
        }
        JoinCommand::Manifest(arguments) => manifest::print(global, arguments).await,
        JoinCommand::Chart(arguments) => chart::write(&arguments),
        JoinCommand::Cluster(arguments) => manifest::apply(global, arguments).await,
    }
}

async fn create(global: &Global, arguments: CreateArguments) -> Result<Code, Failure> {
    if arguments.ttl.is_zero() || arguments.ttl > Duration::from_secs(24 * 3600) {
        return Err(Failure::usage("--ttl must be above 0 and at most 24h"));
    }
    if arguments.uses == 0 || arguments.uses > MAX_USES {
        return Err(Failure::usage(format!("--uses must be from 1 to {MAX_USES}")));
    }
    if arguments.uses > 1 && arguments.cluster.is_some() {
        return Err(Failure::usage("--cluster names one cluster; --uses makes no sense with it"));
    }
    let mut labels = labels(&arguments.labels)?;
    if let Some(set) = arguments.cluster_set {
        labels.insert(fleet_objects::LABEL_CLUSTER_SET.to_owned(), set);
    }
    let approval = match (arguments.hold, arguments.approve_names) {
        (false, _) => Approval::Given,
        (true, names) if names.is_empty() => Approval::ByHand,
        (true, names) => Approval::ByName(names),
    };
    let grant = TokenGrant {
        cluster: arguments.cluster,
        labels,
        ttl: Some(arguments.ttl),
        uses: arguments.uses,
        approval,
    };
    let told = invite(global, &grant).await?;
    print(&arguments.output, &told)?;
    Ok(Code::Ok)
}

/// Makes a token at the hub.
async fn invite(global: &Global, grant: &TokenGrant) -> Result<Told, Failure> {
    if let Some(cluster) = &grant.cluster {
        fleet_objects::check_cluster_name(cluster).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let (token, now) = (JoinToken::generate(), jiff::Timestamp::now());
    let secret: Secret =
        serde_json::from_value(token.secret_object(grant, now)).context("cannot make the token's secret")?;
    let config = connection::config(global).await?;
    let hub = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let authority = config.root_cert.as_deref().and_then(|roots| roots.first()).cloned();
    let pin = authority.context("the kubeconfig names no authority of the hub")?;
    let pin = assembly::identity::pin(&pin).map_err(crate::failure::program)?;
    let client = Client::try_from(config).context("cannot set up the connection")?;
    let secrets: Api<Secret> = Api::namespaced(client, fleet_objects::SYSTEM_NAMESPACE);
    secrets.create(&PostParams::default(), &secret).await.map_err(api("cannot make a join token"))?;
    let ttl = grant.ttl.unwrap_or(Duration::from_secs(3600));
    Ok(Told { token: token.reveal(), pin, hub, ttl, now, uses: grant.uses.max(1) })
}

/// What a new token is told with.
struct Told {
    token: String,
    pin: String,
    hub: String,
    ttl: Duration,
    now: jiff::Timestamp,
    uses: u32,
}

fn print(format: &TokenFormat, told: &Told) -> Result<(), Failure> {
    let Told { token, pin, hub, ttl, now, uses } = told;
    let id = token.split_once('.').map_or("ID", |(id, _)| id);
    if *format == TokenFormat::Json {
        let ends = jiff::SignedDuration::try_from(*ttl).ok().and_then(|ttl| now.checked_add(ttl).ok());
        let expires = ends.unwrap_or(*now).to_string();
        let object =
            serde_json::json!({"id": id, "token": token, "caPin": pin, "hub": hub, "expires": expires});
        return output::data(&format!("{object}\n"));
    }
    output::data(&format!("{token}\n"))?;
    output::progress(&format!(
        "good for {} and {}; it is not shown again, and taken back with `fairlead join token revoke {id}`. In the \
         cluster's reach run:\n  \
         fairlead agent serve --hub {hub} --ca-pin {pin} --token {token} --name NAME --dir DIR --kubeconfig FILE",
        if *uses == 1 { "one cluster".to_owned() } else { format!("{uses} clusters") },
        workflow::duration::display(*ttl)
    ));
    Ok(())
}

pub(super) fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| {
        let (key, value) =
            text.split_once('=').ok_or_else(|| Failure::usage(format!("{text:?} is not KEY=VALUE")))?;
        // A token with a label that the hub refuses would be used up by a cluster that never gets in.
        match qualified_name(key).into_iter().chain(label_value(value)).next() {
            Some(problem) => Err(Failure::usage(format!("{text:?} is no label: {problem}"))),
            None => Ok((key.to_owned(), value.to_owned())),
        }
    };
    texts.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_label_is_told_before_there_is_a_token() {
        let of = |text: &str| labels(&[text.to_owned()]);
        assert!(of("stage=prod").is_ok() && of("example.com/stage=").is_ok());
        for bad in ["stage", "a=b c", "=x", "-a=b", "a/b/c=d"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
