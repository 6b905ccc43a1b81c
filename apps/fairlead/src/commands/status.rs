//! `fairlead status`

use std::path::PathBuf;

use assembly::up;
use clap::Args;

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::{connection, output};

/// Show what `fairlead up` runs, and the fleet. Exit code 0: everything is up; 3: it is not.
#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    /// State directory [default: fairlead in the user's data directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(global: &Global, arguments: StatusArguments) -> Result<Code, Failure> {
    let directory = arguments.dir.map_or_else(|| connection::state_dir(global), Ok)?;
    let status = up::status(&directory).map_err(super::up::failure)?;
    if !status.processes.iter().any(|process| process.running) {
        output::progress(&format!("nothing is running in {}", directory.display()));
        output::progress("  hint: fairlead up");
        return Ok(Code::Unreachable);
    }
    let mut rows = vec![["PROCESS", "PID", "STATE", "LOG"].map(str::to_owned).to_vec()];
    rows.extend(status.processes.iter().map(|process| {
        let state = if process.running { "running" } else { "ended" };
        vec![
            process.name.clone(),
            process.pid.to_string(),
            state.to_owned(),
            process.log.display().to_string(),
        ]
    }));
    output::data(&workflow::report::columns(&rows))?;
    if !status.supervised {
        output::progress("the supervisor is gone; what is left runs without it");
        output::progress("  hint: fairlead down, then fairlead up");
        return Ok(Code::Unreachable);
    }
    if !status.ready {
        output::progress("still starting");
        return Ok(Code::Unreachable);
    }
    output::data("\n")?;
    let own = Global { dir: Some(directory), kubeconfig: None, ..global.clone() };
    super::cluster::show(connection::hub(&own).await?).await?;
    Ok(Code::Ok)
}
