//! Test runs in a cluster on simulated nodes: how many an agent's executor carries through in a minute, what thousands that
//! wait take, how soon the first line of a log is there, how much of a log goes through.
//!
//! Hub, executor and cluster live in this process, in memory: what a network and a disk add is not in these figures.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use assembly::cluster;
use assembly::ephemeral::{Options, TestBed};
use fleet_objects::test_run::{Outcome, TestRun};
use futures::{AsyncBufReadExt, Stream, StreamExt, TryStreamExt, stream};
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt, watcher};
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
        let mut ended = std::pin::pin!(ends(client, "drain-"));
        let mut outcomes = HashMap::new();
        let mut look = tokio::time::interval(Duration::from_millis(500));
        while outcomes.len() < count {
            tokio::select! {
                next = ended.try_next() => {
                    let (name, outcome) = next?.context("the watch of runs ended")?;
                    outcomes.insert(name, outcome);
                }
                _ = look.tick() => most = most.max(usage::resident(&own)?),
            }
        }
        let passed = outcomes.values().filter(|outcome| **outcome == Outcome::Passed).count();
        anyhow::Ok((began.elapsed(), most, passed))
    };
    let (made, drained) = tokio::join!(making, watching);
    let (made, (drained, most, passed)) = (made?, drained?);
    ensure!(passed == count, "only {passed} of {count} executions passed");
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

/// Runs that have ended, and how, as they end: each once or more often. Listing them again and again would be most of the work.
fn ends(client: &Client, prefix: &str) -> impl Stream<Item = anyhow::Result<(String, Outcome)>> {
    let runs: Api<TestRun> = Api::namespaced(client.clone(), "default");
    let events = watcher::watcher(runs, watcher::Config::default()).applied_objects();
    events.map_err(anyhow::Error::new).try_filter_map(move |run| {
        let outcome = run.status.and_then(|status| status.clusters.first().and_then(|own| own.outcome));
        let name = run.metadata.name.filter(|name| name.starts_with(prefix));
        std::future::ready(Ok(name.zip(outcome)))
    })
}
