//! Checks a log after a kill against what was acknowledged.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use durable_log::{Log, Options};

use crate::load::{self, Acknowledged, TASKS};

/// Small segments, so that rotations and removals are killed, too.
#[must_use]
pub fn options() -> Options {
    Options { max_bytes: 256 << 20, segment_bytes: 64 << 10, fsync: true }
}

/// What is known of a log over all its lives.
#[derive(Debug, Default)]
pub struct Model {
    /// Where each task goes on.
    pub next: [u64; TASKS],
    /// How many appends were acknowledged.
    pub acknowledged: u64,
    first: u64,
    through: u64,
}

impl Model {
    /// Opens the log and checks it, then acknowledges the older half of what it holds.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn check(&mut self, dir: &Path, seed: u64, lines: &[Acknowledged]) -> anyhow::Result<()> {
        let log = Log::open(dir, options()).await?;
        ensure!(log.first() >= self.first, "the acknowledgement of {} was forgotten", self.first);
        ensure!(
            log.next_sequence() > self.through,
            "the log ends at {}, not {}",
            log.next_sequence(),
            self.through
        );
        let mut there = BTreeMap::new();
        for record in log.read_from(0, usize::MAX, usize::MAX).await? {
            ensure!(record.sequence == log.first() + there.len() as u64, "a gap before {}", record.sequence);
            let text = String::from_utf8_lossy(&record.payload);
            let mut parts = text.split(':');
            let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
            let (task, number) = number().zip(number()).context("a foreign record")?;
            there.insert((task, number), record);
        }
        for line in lines {
            ensure!(line.number == self.next[line.task], "a task skipped a number: {line:?}");
            self.next[line.task] += 1;
            self.acknowledged += 1;
            let record = there.get(&(line.task as u64, line.number));
            let record = record.with_context(|| format!("{line:?} was acknowledged and is not there"))?;
            ensure!(
                line.revision == 0 || record.sequence == line.revision,
                "{line:?} is at {}",
                record.sequence
            );
            if let Some(value) = load::write(seed, line.task, line.number).value {
                ensure!(record.payload == value, "{line:?} holds something else");
            }
        }
        for next in &mut self.next {
            *next += 1;
        }
        self.through = log.next_sequence() - 1;
        let half = (log.first() + log.next_sequence()) / 2;
        if half > log.first() {
            log.acknowledge(half - 1).await?;
        }
        self.first = log.first();
        Ok(())
    }
}
