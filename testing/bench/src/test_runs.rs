//! Test runs in a cluster on simulated nodes: how many an agent's executor carries through in a minute, what thousands that
//! wait take, how soon the first line of a log is there, how much of a log goes through.
//!
//! Hub, executor and cluster live in this process, in memory: what a network and a disk add is not in these figures.

use std::time::{Duration, Instant};

use anyhow::ensure;
use assembly::cluster;
use assembly::ephemeral::{Options, TestBed};
use fleet_objects::test_run::{Outcome, TestRun};
use futures::{AsyncBufReadExt, StreamExt, TryStreamExt, stream};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::figures::Figure;
use crate::usage;

const TOOL: &str = "fairlead.dev/tool:latest";
/// Runs that are made at once.
const MAKERS: usize = 32;
/// Runs whose logs go through at once.
const LOGS: usize = 8;
/// Bytes that one attempt prints, and how often it is made: below the 2 MiB that are kept of a step.
const PRINTED: usize = 60_000;
const PRINTS: usize = 20;

/// How much is measured.
#[derive(clap::Args, Clone, Debug)]
pub struct Amounts {
    /// Executions that are queued at once and drained.
    #[arg(long, default_value_t = 1_000)]
    pub executions: usize,
    /// Runs whose first line is waited for.
    #[arg(long, default_value_t = 30)]
    pub rounds: usize,
}

/// Measures all of it.
///
/// # Errors
/// When a run does not end as it must.
pub async fn run(amounts: &Amounts) -> anyhow::Result<Vec<Figure>> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let directory = tempfile::tempdir()?;
    let options = Options {
        cluster: cluster::Options::ephemeral("bench"),
        directory: directory.path().to_owned(),
        access: false,
    };
    let bed = TestBed::start(options).await?;
    let client = bed.hub();
    eprintln!("waiting for the first line of {} runs", amounts.rounds);
    let mut figures = first_lines(&client, amounts.rounds).await?;
    eprintln!("reading the logs of {LOGS} runs");
    figures.push(logs(&client).await?);
    eprintln!("draining {} executions", amounts.executions);
    figures.extend(drain(&client, amounts.executions).await?);
    bed.stop().await?;
    Ok(figures)
}

fn object(name: &str, step: &Value) -> anyhow::Result<TestRun> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "fleet.fairlead.dev/v1alpha1", "kind": "TestRun", "metadata": { "name": name },
        "spec": { "targets": { "all": true }, "workflow": { "container": { "image": TOOL }, "steps": [step] } },
    }))?)
}

async fn make(client: &Client, name: &str, step: &Value) -> anyhow::Result<()> {
    let runs: Api<TestRun> = Api::namespaced(client.clone(), "default");
    runs.create(&PostParams::default(), &object(name, step)?).await?;
    Ok(())
}

/// Reads a run's log as it comes, up to its end or to `lines`; how many bytes of it are the test's.
async fn read(client: &Client, name: &str, lines: usize) -> anyhow::Result<usize> {
    let path = format!("/fleet/v1/testruns/default/{name}/log?follow=true");
    let log = client.request_stream(http::Request::get(path).body(Vec::new())?).await?;
    let mut log = std::pin::pin!(log.lines());
    let mut bytes = 0;
    let mut seen = 0;
    while seen < lines {
        let Some(line) = log.try_next().await? else { break };
        let piece: Value = serde_json::from_str(&line)?;
        bytes += piece["text"].as_str().map_or(0, str::len);
        seen += 1;
    }
    Ok(bytes)
}

async fn first_lines(client: &Client, rounds: usize) -> anyhow::Result<Vec<Figure>> {
    let step = json!({ "name": "say", "command": ["/fairlead", "tool", "print", "here"] });
    let mut times = Vec::new();
    for round in 0..rounds {
        let name = format!("line-{round}");
        let began = Instant::now();
        make(client, &name, &step).await?;
        ensure!(read(client, &name, 1).await? > 0, "the log of {name} is empty");
        times.push(began.elapsed());
    }
    Ok(Figure::times("test run: made at the hub to its first log line there", times).into_iter().collect())
}

#[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
async fn logs(client: &Client) -> anyhow::Result<Figure> {
    let text = "0123456789abcde ".repeat(PRINTED / 16);
    let step = json!({
        "name": "talk", "command": ["/fairlead", "tool", "print", text],
        "retry": { "count": PRINTS - 1, "until": "false" }, "optional": true,
    });
    let began = Instant::now();
    let read = stream::iter(0..LOGS).map(|index| {
        let step = &step;
        async move {
            let name = format!("log-{index}");
            make(client, &name, step).await?;
            read(client, &name, usize::MAX).await
        }
    });
    let bytes: Vec<usize> = read.buffer_unordered(LOGS).try_collect().await?;
    let total: usize = bytes.iter().sum();
    ensure!(total >= LOGS * PRINTED * PRINTS, "only {total} bytes of the logs arrived");
    let rate = total as f64 / 1e6 / began.elapsed().as_secs_f64();
    Ok(Figure::one(format!("test logs through one executor, {LOGS} runs at once"), rate, "MB/s"))
}

#[expect(clippy::cast_precision_loss, reason = "far below what a float holds exactly")]
async fn drain(client: &Client, count: usize) -> anyhow::Result<Vec<Figure>> {
    let own = [std::process::id()];
    let before = usage::resident(&own)?;
    let step = json!({ "name": "go", "command": ["/fairlead", "tool", "exit", "0"] });
    let began = Instant::now();
    let making = async {
        let made = stream::iter(0..count).map(|index| {
            let step = &step;
            async move { make(client, &format!("drain-{index}"), step).await }
        });
        made.buffer_unordered(MAKERS).try_collect::<Vec<()>>().await.map(|_| began.elapsed())
    };
    let watching = async {
        let mut most = before;
        loop {
            most = most.max(usage::resident(&own)?);
            let all = list(client, "drain-").await?;
            if all.len() == count && all.iter().all(Option::is_some) {
                return anyhow::Ok((began.elapsed(), most));
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let (made, drained) = tokio::join!(making, watching);
    let (made, (drained, most)) = (made?, drained?);
    ensure!(passed(client, "drain-").await? == count, "some executions did not pass");
    let minutes = drained.as_secs_f64() / 60.0;
    let memory = usage::mebibytes(most.saturating_sub(before));
    Ok(vec![
        Figure::one(
            format!("{count} test executions in one cluster: ended per minute"),
            count as f64 / minutes,
            "/min",
        ),
        Figure::one(format!("{count} test executions: made at the hub after"), made.as_secs_f64(), "s"),
        Figure::one(
            format!("{count} test executions: memory of hub, cluster and executor, most over before"),
            memory,
            "MiB",
        ),
    ])
}

async fn passed(client: &Client, prefix: &str) -> anyhow::Result<usize> {
    let all = list(client, prefix).await?;
    Ok(all.iter().filter(|outcome| **outcome == Some(Outcome::Passed)).count())
}

/// How runs ended, read in pages.
async fn list(client: &Client, prefix: &str) -> anyhow::Result<Vec<Option<Outcome>>> {
    let runs: Api<TestRun> = Api::namespaced(client.clone(), "default");
    let (mut out, mut params) = (Vec::new(), ListParams::default().limit(500));
    loop {
        let page = runs.list(&params).await?;
        for run in page.items {
            if run.metadata.name.as_deref().is_some_and(|name| name.starts_with(prefix)) {
                let outcome =
                    run.status.and_then(|status| status.clusters.first().and_then(|own| own.outcome));
                out.push(outcome);
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(out),
        }
    }
}
