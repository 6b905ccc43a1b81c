//! `conformance`: asserts against any API server what Kubernetes clients need of it. See `conformance --help`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use conformance::case::Outcome;
use conformance::subject::Subject;
use conformance::{cases, report};

#[derive(Debug, Parser)]
#[command(
    about = "Asserts against any API server what Kubernetes clients need of it; exit code 1 when something does not hold"
)]
struct Arguments {
    /// Whose API server; the usual places if not given.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// Writes JUnit here.
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Prints the names of the cases and runs none.
    #[arg(long)]
    list: bool,
    /// Prints the cases beside Kubernetes' own tests, as Markdown, and runs none.
    #[arg(long)]
    mapping: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let wanted: Vec<_> =
        cases::all().into_iter().filter(|case| case.name.contains(&arguments.filter)).collect();
    if arguments.mapping {
        print!("{}", report::mapping(&wanted));
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.list {
        wanted.iter().for_each(|case| println!("{}", case.name));
        return Ok(ExitCode::SUCCESS);
    }
    let subject = Subject::connect(arguments.kubeconfig.as_deref()).await?;
    let results = cases::run(&subject, wanted).await;
    print!("{}", report::table(&results));
    if let Some(path) = arguments.junit {
        std::fs::write(path, report::junit(&results))?;
    }
    let failed = results.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
