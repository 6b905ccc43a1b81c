//! Seeds and mutations through a target, on a stack as small as an async worker's.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::Target;
use crate::mutation::{Random, mutate};

/// The stack of Tokio's workers.
const STACK_BYTES: usize = 2 << 20;
/// An input that takes longer is a finding: some thousand times what the slowest ordinary one takes in a debug build.
const SLOW: Duration = Duration::from_secs(10);
/// The mutations kept to be mutated further, beside the seeds.
const POPULATION: usize = 256;

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Inputs that went through.
    pub inputs: u64,
}

/// Until when to go on.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// So many mutations.
    Mutations(u32),
    /// So long.
    Elapsed(Duration),
}

/// The seeds of a target, in the order of their names.
///
/// # Errors
/// When its directory cannot be read.
pub fn seeds(target: &Target) -> anyhow::Result<Vec<Vec<u8>>> {
    let directory = directory(target);
    let mut paths = std::fs::read_dir(&directory)
        .with_context(|| format!("reading {}", directory.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<PathBuf>>>()?;
    paths.sort();
    let read = |path: PathBuf| std::fs::read(&path).with_context(|| format!("reading {}", path.display()));
    paths.into_iter().map(read).collect()
}

/// Where a target's seeds are.
#[must_use]
pub fn directory(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// Runs all seeds, then mutations of them. `before` sees each input before it runs: what a crash leaves behind.
///
/// # Errors
/// The input that panicked or took too long, written as Rust writes bytes.
pub fn run(target: Target, seed: u64, until: Until, before: fn(&[u8])) -> anyhow::Result<Report> {
    let seeds = seeds(&target)?;
    let thread = std::thread::Builder::new().name(target.name.to_owned()).stack_size(STACK_BYTES);
    let running =
        thread.spawn(move || all(target, &seeds, seed, until, before)).context("starting a thread")?;
    running.join().map_err(|_| anyhow::anyhow!("{}: the runner itself panicked", target.name))?
}

fn all(
    target: Target,
    seeds: &[Vec<u8>],
    seed: u64,
    until: Until,
    before: fn(&[u8]),
) -> anyhow::Result<Report> {
    let mut report = Report::default();
    for input in seeds {
        one(target, input, before)?;
        report.inputs += 1;
    }
    let begun = Instant::now();
    let mut random = Random::new(seed);
    let mut population = seeds.to_vec();
    let mut count = 0;
    loop {
        match until {
            Until::Mutations(most) if count >= most => break,
            Until::Elapsed(longest) if begun.elapsed() >= longest => break,
            _ => count += 1,
        }
        let parent = random.below(population.len().max(1));
        let empty = Vec::new();
        let parent = population.get(parent).unwrap_or(&empty);
        let input = mutate(&mut random, parent, seeds, target.words);
        one(target, &input, before).with_context(|| format!("seed {seed}, mutation {count}"))?;
        report.inputs += 1;
        if random.below(8) == 0 {
            if population.len() >= seeds.len() + POPULATION {
                let replaced = seeds.len() + random.below(POPULATION);
                population[replaced] = input;
            } else {
                population.push(input);
            }
        }
    }
    Ok(report)
}

fn one(target: Target, input: &[u8], before: fn(&[u8])) -> anyhow::Result<()> {
    before(input);
    let begun = Instant::now();
    let outcome = std::panic::catch_unwind(|| (target.run)(input));
    let shown = || format!("{}: b\"{}\"", target.name, input.escape_ascii());
    anyhow::ensure!(outcome.is_ok(), "panicked on {}", shown());
    anyhow::ensure!(begun.elapsed() < SLOW, "took {:?} on {}", begun.elapsed(), shown());
    Ok(())
}
