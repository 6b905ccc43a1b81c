//! `fairlead down`

use std::path::PathBuf;

use assembly::up;
use clap::Args;

use crate::arguments::Global;
use crate::failure::{Code, Failure};
use crate::{connection, output};

/// End everything that `fairlead up` runs. State stays; the next `fairlead up` goes on with it.
#[derive(Args, Debug)]
pub(crate) struct DownArguments {
    /// State directory [default: fairlead in the user's data directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) async fn run(global: &Global, arguments: DownArguments) -> Result<Code, Failure> {
    let directory = arguments.dir.map_or_else(|| connection::state_dir(global), Ok)?;
    let stopped = Box::pin(up::stop(&directory)).await.map_err(super::up::failure)?;
    if stopped.ended.is_empty() {
        output::progress(&format!("nothing was running in {}", directory.display()));
    } else {
        output::progress(&format!("ended {}", stopped.ended.join(", ")));
    }
    Ok(Code::Ok)
}
