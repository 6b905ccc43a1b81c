//! `fairlead test watch`: live logs of all clusters, then the report.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use fleet_objects::test_run::TestRun;
use futures::{AsyncBufReadExt, TryStreamExt};
use kube::Client;
use serde::Deserialize;

use crate::arguments::{self, Global};
use crate::failure::{Code, Failure, api};
use crate::{connection, output};

/// Between two looks at the run.
const POLL: Duration = Duration::from_millis(500);
/// How long the rest of the log may take once the run has ended.
const LOG_TAIL: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub(crate) struct WatchArguments {
    /// Which run
    name: String,
    /// How long to wait for its end
    #[arg(long, default_value = "30m", value_parser = arguments::duration, value_name = "DURATION")]
    timeout: Duration,
}

pub(crate) async fn run(global: &Global, arguments: WatchArguments) -> Result<Code, Failure> {
    let client = connection::hub(global).await?;
    super::get(&client, global, &arguments.name).await?;
    follow(&client, global, &arguments.name, arguments.timeout).await
}

/// Streams a run until it ends; its code is what became of it.
pub(crate) async fn follow(
    client: &Client,
    global: &Global,
    name: &str,
    timeout: Duration,
) -> Result<Code, Failure> {
    let (done, ended) = tokio::sync::oneshot::channel();
    let logs = async {
        tokio::select! {
            result = logs(client, global, name) => result,
            _ = async { let _ = ended.await; tokio::time::sleep(LOG_TAIL).await } => Ok(()),
        }
    };
    let end = async {
        let run = tokio::time::timeout(timeout, wait(client, global, name)).await;
        let _ = done.send(());
        run
    };
    let (run, logs) = tokio::join!(end, logs);
    let run = run.map_err(|_| {
        let waited = workflow::duration::display(timeout);
        Failure::timeout(format!("test run {name} has not ended after {waited}; it goes on"))
            .hint(format!("fairlead test watch {name}"))
    })??;
    if let Err(failure) = logs {
        output::progress(&format!("the log is not whole: {}", crate::failure::render(&failure).trim()));
    }
    let status = run.status.clone().unwrap_or_default();
    eprint!("\n{}", workflow::report::table(name, &status));
    if status.clusters.is_empty() {
        let (reason, message) = super::condition(&run);
        output::progress(&format!("{reason}: {message}"));
    }
    Ok(super::code(&run).unwrap_or(Code::Negative))
}

async fn wait(client: &Client, global: &Global, name: &str) -> Result<TestRun, Failure> {
    let mut told = BTreeMap::new();
    loop {
        let run = super::get(client, global, name).await?;
        for cluster in run.status.iter().flat_map(|status| &status.clusters) {
            let word = match cluster.outcome {
                None if cluster.message.is_empty() => cluster.reason.to_lowercase(),
                None => format!("{}: {}", cluster.reason.to_lowercase(), cluster.message),
                outcome => format!("{} {}", workflow::report::word(outcome), cluster.message),
            };
            if told.insert(cluster.cluster.clone(), word.clone()).as_ref() != Some(&word) {
                output::progress(format!("[{}] {word}", cluster.cluster).trim_end());
            }
        }
        if super::code(&run).is_some() {
            return Ok(run);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// A piece of a log as the hub sends it.
#[derive(Deserialize)]
struct Piece {
    cluster: String,
    step: String,
    attempt: u32,
    text: String,
}

async fn logs(client: &Client, global: &Global, name: &str) -> Result<(), Failure> {
    stream(client, global, name, true, None, None).await
}

/// Prints the log of a run, each line with its cluster and step.
pub(super) async fn stream(
    client: &Client,
    global: &Global,
    name: &str,
    follow: bool,
    cluster: Option<&str>,
    step: Option<&str>,
) -> Result<(), Failure> {
    let mut path = format!("/fleet/v1/testruns/{}/{name}/log?follow={follow}", global.namespace);
    for (key, value) in [("cluster", cluster), ("step", step)] {
        if let Some(value) = value {
            path.push_str(&format!("&{key}={value}"));
        }
    }
    let request = http::Request::get(path).body(Vec::new()).map_err(anyhow::Error::new)?;
    let log = client.request_stream(request).await.map_err(api(format!("cannot read the log of {name}")))?;
    let log = std::pin::pin!(log);
    let mut lines = log.lines();
    let mut order: Vec<String> = Vec::new();
    while let Some(line) = lines.try_next().await.map_err(anyhow::Error::new)? {
        let Ok(piece) = serde_json::from_str::<Piece>(&line) else { continue };
        let index = order.iter().position(|known| *known == piece.cluster).unwrap_or_else(|| {
            order.push(piece.cluster.clone());
            order.len() - 1
        });
        let mut prefix = format!("[{}] {}", output::prefix(&piece.cluster, index), piece.step);
        if piece.attempt > 1 {
            prefix.push_str(&format!("#{}", piece.attempt));
        }
        let text: String = piece.text.lines().map(|line| format!("{prefix} | {line}\n")).collect();
        output::data(&text)?;
    }
    Ok(())
}
