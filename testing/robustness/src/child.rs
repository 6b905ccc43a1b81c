//! The process that is killed.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use durable_log::Log;
use storage::mvcc::Retention;
use storage::{Operation, Store, StoreError, Transaction};
use storage_embedded::{EmbeddedStore, Options};

use crate::load::{self, Acknowledged, Plant, Subject, TASKS};

/// Writes until it is killed. `from` is each task's first number.
///
/// # Errors
/// Whatever the subject answers: a healthy subject never fails.
pub async fn run(subject: Subject, dir: &Path, seed: u64, from: &[u64], plant: Plant) -> anyhow::Result<()> {
    anyhow::ensure!(from.len() == TASKS, "one first number per task");
    let tasks: Vec<_> = match subject {
        Subject::Store => {
            // Little history, so that compactions are killed, too.
            let retention = Some(Retention { events: 400, ..Retention::default() });
            let store = Arc::new(EmbeddedStore::open(dir, Options { retention, ..Options::default() })?);
            let start = |(task, from): (usize, &u64)| {
                tokio::spawn(write_store(store.clone(), seed, task, *from, plant))
            };
            from.iter().enumerate().map(start).collect()
        }
        Subject::Log => {
            let log = Log::open(dir, crate::log_check::options()).await?;
            let start =
                |(task, from): (usize, &u64)| tokio::spawn(write_log(log.clone(), seed, task, *from, plant));
            from.iter().enumerate().map(start).collect()
        }
    };
    for task in tasks {
        task.await.context("a writing task panicked")??;
    }
    Ok(())
}

async fn write_store(
    store: Arc<EmbeddedStore>,
    seed: u64,
    task: usize,
    from: u64,
    plant: Plant,
) -> anyhow::Result<()> {
    for number in from.. {
        let write = load::write(seed, task, number);
        let operation = match write.value {
            Some(value) => Operation::put(write.key, value),
            None => Operation::delete(write.key),
        };
        let transaction = Transaction { success: vec![operation], ..Transaction::default() };
        match plant {
            Plant::None => {
                let done = store.transact(transaction).await?;
                acknowledge(task, number, done.revision.0)?;
            }
            Plant::AckBeforeCommit => {
                let store = store.clone();
                tokio::spawn(async move { store.transact(transaction).await.map(drop) });
                acknowledge(task, number, 0)?;
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        }
        if number % 97 == 96 {
            let revision = store.status().await?.revision;
            match store.compact(revision).await {
                Ok(()) | Err(StoreError::Compacted { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

async fn write_log(log: Log, seed: u64, task: usize, from: u64, plant: Plant) -> anyhow::Result<()> {
    for number in from.. {
        let payload =
            load::write(seed, task, number).value.unwrap_or_else(|| format!("{task}:{number}:").into_bytes());
        match plant {
            Plant::None => {
                let sequence = log.append(&payload).await?;
                acknowledge(task, number, sequence)?;
            }
            Plant::AckBeforeCommit => {
                let log = log.clone();
                tokio::spawn(async move { log.append(&payload).await.map(drop) });
                acknowledge(task, number, 0)?;
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        }
    }
    Ok(())
}

fn acknowledge(task: usize, number: u64, revision: u64) -> anyhow::Result<()> {
    // One write per line: a pipe takes it whole, and what is in the pipe outlives the writer.
    let line = Acknowledged { task, number, revision }.line();
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("cannot tell the parent")
}
