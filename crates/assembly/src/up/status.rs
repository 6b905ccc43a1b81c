//! What runs in a state directory.

use std::path::{Path, PathBuf};

use super::directory;
use super::error::UpError;
use super::plan::{Layout, SUPERVISOR};

/// A process of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStatus {
    /// What it is called.
    pub name: String,
    /// Its number.
    pub pid: u32,
    /// Whether it runs.
    pub running: bool,
    /// Where it logs.
    pub log: PathBuf,
}

/// What runs in a state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether a supervisor keeps the rest running.
    pub supervised: bool,
    /// Whether everything has been ready since the supervisor was started.
    pub ready: bool,
    /// Its processes.
    pub processes: Vec<ProcessStatus>,
}

/// Tells what runs in a state directory.
///
/// # Errors
/// When the directory cannot be read.
pub fn status(directory: &Path) -> Result<Status, UpError> {
    let layout = Layout { root: directory.to_owned() };
    let processes = directory::processes(&layout)?
        .into_iter()
        .map(|(name, process)| ProcessStatus {
            log: layout.log(&name),
            pid: process.pid,
            running: process.is_running(),
            name,
        })
        .collect::<Vec<_>>();
    let supervised = processes.iter().any(|process| process.name == SUPERVISOR && process.running);
    Ok(Status { supervised, ready: supervised && layout.ready().exists(), processes })
}
