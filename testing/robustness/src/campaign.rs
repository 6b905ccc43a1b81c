//! Cycles of start, kill, check; several lanes at once, each with its own directory.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::load::{Acknowledged, Plant, Subject, TASKS};
use crate::{log_check, store_check};

/// Directories worked on at the same time: cycles mostly wait.
const LANES: u64 = 4;

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The program whose `child` subcommand is killed.
    pub program: PathBuf,
    /// What is killed.
    pub subject: Subject,
    /// How often, over all lanes.
    pub cycles: u64,
    /// Where all randomness comes from, but for the moment of the kill, which the machine adds to.
    pub seed: u64,
    /// A deliberate bug.
    pub plant: Plant,
}

/// What a campaign did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Kills.
    pub cycles: u64,
    /// Acknowledged writes, all of them found again.
    pub acknowledged: u64,
    /// How often a watch over a kill gave exactly what is there (otherwise it was told that history is compacted).
    pub replayed: u64,
}

enum Model {
    Store(store_check::Model),
    Log(log_check::Model),
}

impl Campaign {
    /// Runs all cycles.
    ///
    /// # Errors
    /// The first violation, with the seed that leads near it.
    pub fn run(&self) -> anyhow::Result<Report> {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let campaign = self.clone();
                let cycles = self.cycles / LANES + u64::from(lane < self.cycles % LANES);
                std::thread::spawn(move || campaign.lane(lane, cycles))
            })
            .collect();
        let mut report = Report::default();
        for lane in lanes {
            let done = lane.join().map_err(|_| anyhow!("a lane panicked"))?;
            let done = done.with_context(|| format!("seed {}", self.seed))?;
            report.cycles += done.cycles;
            report.acknowledged += done.acknowledged;
            report.replayed += done.replayed;
        }
        Ok(report)
    }

    fn lane(&self, lane: u64, cycles: u64) -> anyhow::Result<Report> {
        let dir = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let seed = self.seed.wrapping_add(lane);
        let mut random = StdRng::seed_from_u64(seed);
        let mut model = match self.subject {
            Subject::Store => Model::Store(store_check::Model::default()),
            Subject::Log => Model::Log(log_check::Model::default()),
        };
        for cycle in 0..cycles {
            let lines = self.kill_one(dir.path(), seed, model.next(), &mut random)?;
            runtime
                .block_on(model.check(dir.path(), seed, &lines))
                .with_context(|| format!("lane {lane}, cycle {cycle}"))?;
        }
        Ok(model.report(cycles))
    }

    /// Starts a child, kills it at a random moment, and answers what it printed.
    fn kill_one(
        &self,
        dir: &Path,
        seed: u64,
        from: &[u64; TASKS],
        random: &mut StdRng,
    ) -> anyhow::Result<Vec<Acknowledged>> {
        let from: Vec<String> = from.iter().map(u64::to_string).collect();
        let value = |value: &dyn clap_value::Named| value.name();
        let mut child = Command::new(&self.program)
            .arg("child")
            .arg("--dir")
            .arg(dir)
            .args(["--seed", &seed.to_string(), "--from", &from.join(",")])
            .args(["--subject", &value(&self.subject), "--plant", &value(&self.plant)])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let pipe = child.stdout.take().context("the child has no output")?;
        let (first, started) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || read_lines(BufReader::new(pipe), &first));
        // One in eight is killed while it opens, the others while they write.
        if !random.random_ratio(1, 8) {
            let _ = started.recv_timeout(Duration::from_secs(10));
        }
        std::thread::sleep(Duration::from_micros(random.random_range(0..80_000)));
        if let Some(status) = child.try_wait()? {
            anyhow::bail!("the child ended by itself: {status}");
        }
        child.kill()?;
        child.wait()?;
        reader.join().map_err(|_| anyhow!("the reader panicked"))?
    }
}

fn read_lines(
    mut pipe: impl BufRead,
    first: &std::sync::mpsc::Sender<()>,
) -> anyhow::Result<Vec<Acknowledged>> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    while pipe.read_line(&mut line)? > 0 {
        lines.extend(Acknowledged::parse(&line));
        if lines.len() == 1 {
            // Nobody may be waiting any more.
            let _ = first.send(());
        }
        line.clear();
    }
    Ok(lines)
}

impl Model {
    fn next(&self) -> &[u64; TASKS] {
        match self {
            Self::Store(model) => &model.next,
            Self::Log(model) => &model.next,
        }
    }

    async fn check(&mut self, dir: &Path, seed: u64, lines: &[Acknowledged]) -> anyhow::Result<()> {
        match self {
            Self::Store(model) => model.check(dir, seed, lines).await,
            Self::Log(model) => model.check(dir, seed, lines).await,
        }
    }

    fn report(&self, cycles: u64) -> Report {
        match self {
            Self::Store(model) => {
                Report { cycles, acknowledged: model.acknowledged, replayed: model.replayed }
            }
            Self::Log(model) => Report { cycles, acknowledged: model.acknowledged, replayed: 0 },
        }
    }
}

mod clap_value {
    use clap::ValueEnum;

    /// A value as the command line names it.
    pub(super) trait Named {
        fn name(&self) -> String;
    }

    impl<T: ValueEnum> Named for T {
        fn name(&self) -> String {
            self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
        }
    }
}
