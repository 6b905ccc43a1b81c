//! `fairlead status`

use std::path::PathBuf;

use assembly::up;
use clap::Args;
use serde::Serialize;

use crate::arguments::{Format, Global};
use crate::failure::{Code, Failure};
use crate::output::Columns;
use crate::{connection, output};

/// Show what `fairlead up` runs, and the fleet. Exit code 0: everything is up; 3: it is not.
#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    /// State directory [default: fairlead in the user's data directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How to print; for programs the processes alone: `fairlead cluster list` has the clusters
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// A process, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    pid: u32,
    running: bool,
    log: String,
}

const COLUMNS: Columns<'_> = Columns { always: &["PROCESS", "PID", "STATE", "LOG"], wide: &[] };

impl Shown<'_> {
    fn row(&self) -> Vec<String> {
        let state = if self.running { "running" } else { "ended" };
        vec![self.name.to_owned(), self.pid.to_string(), state.to_owned(), self.log.clone()]
    }
}

pub(crate) async fn run(global: &Global, arguments: StatusArguments) -> Result<Code, Failure> {
    let directory = arguments.dir.map_or_else(|| connection::state_dir(global), Ok)?;
    let status = up::status(&directory).map_err(super::up::failure)?;
    if !status.processes.iter().any(|process| process.running) {
        output::progress(&format!("nothing is running in {}", directory.display()));
        output::progress("  hint: fairlead up");
        return Ok(Code::Unreachable);
    }
    let shown = status.processes.iter().map(|process| Shown {
        name: &process.name,
        pid: process.pid,
        running: process.running,
        log: process.log.display().to_string(),
    });
    let shown: Vec<Shown<'_>> = shown.collect();
    output::values(arguments.output, "no process", &COLUMNS, &shown, Shown::row, |one| one.name.to_owned())?;
    if !status.supervised {
        output::progress("the supervisor is gone; what is left runs without it");
        output::progress("  hint: fairlead down, then fairlead up");
        return Ok(Code::Unreachable);
    }
    if !status.ready {
        output::progress("still starting");
        return Ok(Code::Unreachable);
    }
    if !matches!(arguments.output, Format::Table | Format::Wide) {
        return Ok(Code::Ok);
    }
    output::data("\n")?;
    let own = Global { dir: Some(directory), kubeconfig: None, ..global.clone() };
    super::cluster::show(connection::hub(&own).await?).await?;
    Ok(Code::Ok)
}
