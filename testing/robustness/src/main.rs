//! `robustness kill [--cycles N] [--seed S] [--subject store|log] [--plant …]`: kills a writing child again and again.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};
use robustness::campaign::Campaign;
use robustness::child;
use robustness::load::{Plant, Subject};

#[derive(Debug, Parser)]
#[command(about = "Kills processes at random moments and checks that nothing acknowledged is lost")]
struct Arguments {
    #[command(subcommand)]
    command: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Runs cycles of write, kill, check.
    Kill {
        /// How many.
        #[arg(long, default_value_t = 1000)]
        cycles: u64,
        /// Where randomness comes from; drawn and printed if not given.
        #[arg(long)]
        seed: Option<u64>,
        /// What is killed.
        #[arg(long, value_enum, default_value_t)]
        subject: Subject,
        /// A deliberate bug, which must be found.
        #[arg(long, value_enum, default_value_t)]
        plant: Plant,
    },
    /// What is killed; started by `kill`.
    #[command(hide = true)]
    Child {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        seed: u64,
        #[arg(long, value_delimiter = ',')]
        from: Vec<u64>,
        #[arg(long, value_enum)]
        subject: Subject,
        #[arg(long, value_enum)]
        plant: Plant,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Mode::Kill { cycles, seed, subject, plant } => {
            let program = std::env::current_exe().context("cannot find this program")?;
            let seed = seed.unwrap_or_else(rand::random);
            eprintln!("seed {seed}");
            let report = Campaign { program, subject, cycles, seed, plant }.run()?;
            println!("{report:?}");
            Ok(())
        }
        Mode::Child { dir, seed, from, subject, plant } => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?
            .block_on(child::run(subject, &dir, seed, &from, plant)),
    }
}
