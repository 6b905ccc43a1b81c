//! One server, or two in the same breath: every row of the speed table, phase by phase, first the subject, then the
//! reference, so that both see the same machine. [`rows`] has the phases, [`table`] the ratios.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kube::Client;

use crate::wire::Target;
use crate::{connect, objects, usage};

mod rows;
mod storm;
pub mod table;

use table::Row;

/// How much is measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Amounts {
    /// Pods that are created, listed and read.
    #[arg(long, default_value_t = 10_000)]
    pub pods: usize,
    /// Gets, patches and applies.
    #[arg(long, default_value_t = 10_000)]
    pub requests: usize,
    /// Times the whole list is read.
    #[arg(long, default_value_t = 10)]
    pub lists: usize,
    /// Watches of the storm.
    #[arg(long, default_value_t = 1_000)]
    pub watchers: usize,
    /// Changes of the storm.
    #[arg(long, default_value_t = 2_000)]
    pub events: usize,
    /// CustomResourceDefinitions that are made.
    #[arg(long, default_value_t = 50)]
    pub definitions: usize,
    /// Seconds of rest before the memory of a server with pods is read: what a burst took and nobody holds is not the pods'.
    #[arg(long, default_value_t = 40)]
    pub rest: u64,
    /// Only phases of these names: create, get, list, paged, patch, apply, watch, definitions. Without create the others
    /// have no pods.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Speaks HTTP/2, all requests in flight on one connection, as Go's clients do.
    #[arg(long)]
    pub http2: bool,
}

/// A server under measurement.
pub(crate) struct Subject {
    pub(crate) target: Target,
    client: Client,
    pub(crate) namespace: String,
    pub(crate) pids: Vec<u32>,
    /// Resident before anything was done.
    pub(crate) idle: u64,
}

impl Subject {
    async fn begin(kubeconfig: &Path, pids: Vec<u32>, http2: bool) -> anyhow::Result<Self> {
        let client = connect(Some(kubeconfig)).await?;
        let idle = usage::resident(&pids)?;
        let namespace = objects::namespace(&client).await?;
        Ok(Self { target: Target::of(kubeconfig, http2).await?, client, namespace, pids, idle })
    }

    /// Does something, and says how long it took and what it cost the server.
    pub(crate) async fn cost<T>(
        &self,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(T, Cost)> {
        let before = usage::cpu(&self.pids)?;
        let began = Instant::now();
        let done = work.await?;
        let taken = began.elapsed();
        Ok((done, Cost { taken, cpu: usage::cpu(&self.pids)?.saturating_sub(before) }))
    }
}

/// What a piece of work cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) taken: Duration,
    /// Of the server's processes; zero when none were named.
    pub(crate) cpu: Duration,
}

/// A server to measure: its kubeconfig, and the processes that it consists of.
pub type Place = (PathBuf, Vec<u32>);

/// Measures one server, or two.
///
/// # Errors
/// When a server refuses a request, or a process is not there.
pub async fn run(places: &[Place], amounts: &Amounts) -> anyhow::Result<Vec<Row>> {
    let mut subjects = Vec::new();
    for (kubeconfig, pids) in places {
        subjects.push(Subject::begin(kubeconfig, pids.clone(), amounts.http2).await?);
    }
    let measured = phases(&subjects, amounts).await;
    for subject in &subjects {
        objects::clean(&subject.client, &subject.namespace).await?;
    }
    measured
}

async fn phases(subjects: &[Subject], amounts: &Amounts) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for phase in rows::Phase::ALL {
        if !amounts.only.is_empty() && !amounts.only.iter().any(|name| name == phase.name()) {
            continue;
        }
        let mut columns = Vec::new();
        for subject in subjects {
            eprintln!("{} of {}", phase.name(), subject.namespace);
            columns.push(phase.measure(subject, amounts).await);
        }
        // A server that does not bear a phase (a watch it ends, say) is left out of that phase's rows.
        let measured = columns.into_iter().map(|column| {
            column.unwrap_or_else(|error| {
                eprintln!("{} failed: {error:#}", phase.name());
                Vec::new()
            })
        });
        rows.extend(table::joined(measured.collect()));
    }
    Ok(rows)
}
