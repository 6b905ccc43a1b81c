//! The load: every operation follows from (seed, task, number), so that both sides can compute it.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How many tasks write at the same time. Each has its own keys, and one operation in flight.
pub const TASKS: usize = 8;
/// Keys of one task.
const KEYS: u32 = 12;

/// A deliberate bug, to prove that the checker can fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// No bug.
    #[default]
    None,
    /// The child acknowledges when a write is handed over, not when it is durable.
    AckBeforeCommit,
}

/// What is being killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// The embedded store.
    #[default]
    Store,
    /// The durable log.
    Log,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which key.
    pub key: String,
    /// The value; `None`: a deletion.
    pub value: Option<Vec<u8>>,
}

/// The operation `number` of a task.
#[must_use]
pub fn write(seed: u64, task: usize, number: u64) -> Write {
    let mixed =
        seed ^ (task as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xD1B5_4A32_D192_ED03);
    let mut random = StdRng::seed_from_u64(mixed);
    let key = format!("task-{task}/{}", random.random_range(0..KEYS));
    if random.random_ratio(1, 8) {
        return Write { key, value: None };
    }
    let mut value = format!("{task}:{number}:").into_bytes();
    value.resize(value.len() + random.random_range(0..1500), b'.');
    Write { key, value: Some(value) }
}

/// A line that the child prints when an operation was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Which task's.
    pub task: usize,
    /// Which operation.
    pub number: u64,
    /// At which revision or sequence; 0 when the plant does not know.
    pub revision: u64,
}

impl Acknowledged {
    /// The line, with its end.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {} {}\n", self.task, self.number, self.revision)
    }

    /// Reads a line; `None`: it was cut short by the kill.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let mut numbers = line.strip_suffix('\n')?.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        Some(Self { task: usize::try_from(next()?).ok()?, number: next()?, revision: next()? })
    }
}
