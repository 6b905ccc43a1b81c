//! Mutates the seeds of one target, or of all, for some seconds, and shows the first input that breaks a promise.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Parser;
use fuzz::replay::{self, Until};
use fuzz::targets::TARGETS;

#[derive(Parser)]
#[command(name = "fuzz", about = "Mutates seeds through the parsers that see clients' bytes")]
struct Arguments {
    /// A target; all of them one after the other when none is named.
    target: Option<String>,
    /// How long each.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the random changes begin.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs one input and nothing else.
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let wanted = |name: &str| arguments.target.as_deref().is_none_or(|target| target == name);
    let targets: Vec<_> = TARGETS.iter().filter(|target| wanted(target.name)).collect();
    anyhow::ensure!(!targets.is_empty(), "no such target; there are: {}", names());
    for target in targets {
        if let Some(path) = &arguments.input {
            (target.run)(&std::fs::read(path)?);
            continue;
        }
        let until = Until::Elapsed(Duration::from_secs(arguments.seconds));
        let report = replay::run(*target, arguments.seed, until, keep)?;
        println!("{}: {} inputs", target.name, report.inputs);
    }
    Ok(())
}

fn names() -> String {
    TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ")
}

/// A stack overflow ends the process: what it choked on is in this file.
fn keep(input: &[u8]) {
    static FILE: OnceLock<Option<File>> = OnceLock::new();
    let path = || std::env::temp_dir().join("fairlead-fuzz-input");
    if let Some(file) = FILE.get_or_init(|| File::create(path()).ok()) {
        let _ = file.write_all_at(input, 0);
        let _ = file.set_len(input.len() as u64);
    }
}
