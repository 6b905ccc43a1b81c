//! `bench`: measures an API server, a fleet, or a program's start. See `bench --help`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bench::figures::{Figure, Machine, Report};
use bench::fleet::{self, Target};
use bench::{compare, connect, engine, in_process, objects, process, scale, suite, test_runs, watches};
use clap::{Parser, Subcommand};
use serde_json::{Value, json};

/// As in the binary itself, so that the server in this process is the one that ships.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(about = "Measures any Kubernetes API server; prints a table, or JSON")]
struct Arguments {
    /// Whose API server; the usual places if not given.
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
    /// Prints JSON instead of a table.
    #[arg(long, global = true)]
    json: bool,
    /// Everything that needs nothing but the binary, if none is named.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, parsed once")]
enum Command {
    /// Every row of the speed table: creates, gets, lists, patches, applies, watches, memory and processor time, of one
    /// server or of two side by side. `--kubeconfig` is the subject.
    Compare {
        /// The processes that the subject consists of.
        #[arg(long, value_delimiter = ',', required = true)]
        pids: Vec<u32>,
        /// The kubeconfig of a server to compare with.
        #[arg(long, requires = "reference_pids")]
        reference: Option<PathBuf>,
        /// The processes that the reference consists of: a kube-apiserver and its etcd, say.
        #[arg(long, value_delimiter = ',', requires = "reference")]
        reference_pids: Vec<u32>,
        #[command(flatten)]
        amounts: compare::Amounts,
    },
    #[command(flatten)]
    Figures(Measure),
    /// The hub of `scale`, which starts it.
    #[command(hide = true)]
    ScaleHub {
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        listen: SocketAddr,
    },
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, parsed once")]
enum Measure {
    /// Starts, pods, watchers, a fleet's repairs and changes, memory: all that needs nothing but the binary. The default.
    Suite {
        /// How many pods are created and listed.
        #[arg(long, default_value_t = 10_000)]
        pods: usize,
    },
    /// Creates, lists and watches pods in a namespace of their own.
    Objects(Amounts),
    /// The same against an API server in this process, on an embedded store in a new directory or in memory.
    InProcess {
        /// In memory.
        #[arg(long)]
        ephemeral: bool,
        #[command(flatten)]
        amounts: Amounts,
    },
    /// Delivers a storm of changes to many watches; every event is counted.
    Watches {
        /// How many watches.
        #[arg(long, default_value_t = 1_000)]
        watchers: usize,
        /// How many changes.
        #[arg(long, default_value_t = 2_000)]
        events: usize,
    },
    /// Spoils an object that something keeps right, and waits until it is right again.
    Drift {
        /// group/version/plural/Kind/namespace/name
        #[arg(long)]
        target: Target,
        /// JSON pointer of what is spoilt.
        #[arg(long)]
        pointer: String,
        /// JSON to put there.
        #[arg(long)]
        wrong: Value,
        /// How often.
        #[arg(long, default_value_t = 20)]
        rounds: usize,
    },
    /// Patches an object of the hub (--kubeconfig), and waits until all clusters show it.
    Change {
        /// What is patched: group/version/plural/Kind/namespace/name
        #[arg(long)]
        changed: Target,
        /// The merge patch.
        #[arg(long)]
        patch: Value,
        /// A cluster's kubeconfig; once for each.
        #[arg(long = "cluster", required = true)]
        clusters: Vec<PathBuf>,
        /// What is looked at in the clusters.
        #[arg(long)]
        target: Target,
        /// JSON pointer in it.
        #[arg(long)]
        pointer: String,
        /// JSON that must come to be there.
        #[arg(long)]
        expected: Value,
    },
    /// Starts a hub and thousands of agents, and measures changes to all, drift repair, rest and a restart of the hub. Takes
    /// some five file descriptors for each agent: see `ulimit -n`.
    Scale(scale::Amounts),
    /// Test runs in a cluster on simulated nodes: executions a minute, a queue drained, first log lines, log throughput.
    Tests(test_runs::Amounts),
    /// Measures the stores alone, without an API server.
    Store {
        /// How many keys are put.
        #[arg(long, default_value_t = 20_000)]
        writes: usize,
        /// How many puts are in flight.
        #[arg(long, default_value_t = 32)]
        in_flight: usize,
        /// Where the embedded store is made and removed again; a temporary directory if not given.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Starts a server in empty directories: `bench start -- fairlead cluster serve --dir {dir} --name bench`.
    Start {
        /// How often.
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// The command; `{dir}` is the directory, where it writes admin.kubeconfig.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(clap::Args, Debug)]
struct Amounts {
    /// How many pods are created and listed.
    #[arg(long, default_value_t = 10_000)]
    pods: usize,
    /// How often they are listed.
    #[arg(long, default_value_t = 5)]
    lists: usize,
    /// How many watchers wait for an event; one measurement each.
    #[arg(long, value_delimiter = ',', default_value = "1,100")]
    watchers: Vec<usize>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    let command = arguments.command.take().unwrap_or(Command::Figures(Measure::Suite { pods: 10_000 }));
    let machine = Machine::here();
    match &command {
        Command::Compare { pids, reference, reference_pids, amounts } => {
            let subject = arguments.kubeconfig.clone().context("compare wants the subject's --kubeconfig")?;
            let reference = reference.clone().map(|reference| (reference, reference_pids.clone()));
            let places: Vec<compare::Place> =
                [Some((subject, pids.clone())), reference].into_iter().flatten().collect();
            let rows = compare::run(&places, amounts).await?;
            if arguments.json {
                println!("{}", serde_json::to_string_pretty(&json!({"machine": machine, "rows": rows}))?);
            } else {
                println!("{}\n\n{}", machine.line(), compare::table::table(&rows));
            }
        }
        Command::ScaleHub { dir, listen } => scale::serve(dir.clone(), *listen).await?,
        Command::Figures(what) => {
            let figures = measure(what, arguments.kubeconfig.as_deref()).await?;
            let report = Report { machine, figures };
            if arguments.json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                print!("{}", report.table());
            }
        }
    }
    Ok(())
}

async fn measure(what: &Measure, kubeconfig: Option<&Path>) -> anyhow::Result<Vec<Figure>> {
    match what {
        Measure::Suite { pods } => suite::run(*pods).await,
        Measure::Objects(amounts) => measure_objects(&connect(kubeconfig).await?, amounts).await,
        Measure::InProcess { ephemeral, amounts } => {
            let dir = tempfile::tempdir()?;
            let running = in_process::start((!ephemeral).then_some(dir.path())).await?;
            let mut figures = running.figures.clone();
            figures.extend(measure_objects(&running.client, amounts).await?);
            Ok(figures)
        }
        Measure::Watches { watchers, events } => {
            let client = connect(kubeconfig).await?;
            let namespace = objects::namespace(&client).await?;
            let measured = watches::storm(&client, &namespace, *watchers, *events).await;
            let cleaned = objects::clean(&client, &namespace).await;
            let figures = measured?;
            cleaned?;
            Ok(figures)
        }
        Measure::Drift { target, pointer, wrong, rounds } => {
            let client = connect(kubeconfig).await?;
            Ok(fleet::drift_repair(&client, target, pointer, wrong, *rounds).await?.into_iter().collect())
        }
        Measure::Change { changed, patch, clusters, target, pointer, expected } => {
            let hub = connect(kubeconfig).await?;
            let figure =
                fleet::change_to_applied(&hub, changed, patch, clusters, target, pointer, expected).await?;
            Ok(vec![figure])
        }
        Measure::Scale(amounts) => Box::pin(scale::run(amounts)).await,
        Measure::Tests(amounts) => Box::pin(test_runs::run(amounts)).await,
        Measure::Store { writes, in_flight, dir } => {
            let dir = match dir {
                Some(dir) => tempfile::tempdir_in(dir)?,
                None => tempfile::tempdir()?,
            };
            engine::measure(dir.path(), *writes, *in_flight).await
        }
        Measure::Start { rounds, command } => process::cold_start(command, *rounds).await,
    }
}

async fn measure_objects(client: &kube::Client, amounts: &Amounts) -> anyhow::Result<Vec<Figure>> {
    let namespace = objects::namespace(client).await?;
    let measured = measure_in(client, &namespace, amounts).await;
    let cleaned = objects::clean(client, &namespace).await;
    let figures = measured?;
    cleaned?;
    Ok(figures)
}

async fn measure_in(
    client: &kube::Client,
    namespace: &str,
    amounts: &Amounts,
) -> anyhow::Result<Vec<Figure>> {
    eprintln!("creating {} pods", amounts.pods);
    let mut figures = objects::creates(client, namespace, amounts.pods).await?;
    eprintln!("listing them {} times", amounts.lists);
    figures.extend(objects::lists(client, namespace, amounts.pods, amounts.lists).await?);
    for count in &amounts.watchers {
        eprintln!("watching with {count}");
        figures.extend(objects::delivery(client, namespace, *count).await?);
    }
    Ok(figures)
}
