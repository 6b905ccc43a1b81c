//! A supervisor in the background.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::directory;
use super::error::UpError;
use super::plan::{Layout, SUPERVISOR};
use super::process::ProcessId;
use super::start::Summary;

/// Between two looks at the supervisor.
const LOOK: Duration = Duration::from_millis(20);

/// Starts `executable ARGUMENTS`, which brings `directory` up, in the background; returns when it says that it is ready.
/// `relay` is given what it prints meanwhile.
///
/// # Errors
/// When it ends, is not ready within `timeout`, or `stop` was cancelled; it has been ended then.
pub async fn detach(
    executable: &Path,
    arguments: &[OsString],
    directory: &Path,
    timeout: Duration,
    relay: impl FnMut(&str),
    stop: &CancellationToken,
) -> Result<Summary, UpError> {
    let root = std::path::absolute(directory).map_err(UpError::file("find", directory))?;
    let layout = Layout { root };
    // Says so when somebody else holds it; the supervisor takes it again.
    drop(directory::hold(&layout)?);
    let log = layout.log(SUPERVISOR);
    let mut relayed = Relay::new(log.clone(), relay)?;
    let out = File::options().create(true).append(true).open(&log).map_err(UpError::file("open", &log))?;
    let errors = out.try_clone().map_err(UpError::file("open", &log))?;
    let mut child = Command::new(executable)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(UpError::file("start", executable))?;
    let own = child.id().and_then(ProcessId::of);
    let mut ready = async || loop {
        relayed.pass()?;
        if let Ok(Some(_)) = child.try_wait() {
            relayed.pass()?;
            let name = "the supervisor".to_owned();
            return Err(UpError::Child { name, log: log.clone(), tail: "(as above)".to_owned() });
        }
        if let Some(summary) = read_summary(&layout, own.as_ref()) {
            relayed.pass()?;
            return Ok(summary);
        }
        tokio::time::sleep(LOOK).await;
    };
    let result = tokio::select! {
        result = tokio::time::timeout(timeout, ready()) => result.unwrap_or_else(|_| {
            Err(UpError::Timeout { what: "the start".to_owned(), limit: timeout, logs: layout.logs() })
        }),
        () = stop.cancelled() => Err(UpError::Interrupted),
    };
    if let (Err(_), Some(process)) = (&result, &own) {
        process.end_patiently().await;
    }
    result
}

/// The summary, if it is of this supervisor.
fn read_summary(layout: &Layout, supervisor: Option<&ProcessId>) -> Option<Summary> {
    if ProcessId::read(&layout.pid(SUPERVISOR)).as_ref() != supervisor {
        return None;
    }
    serde_json::from_slice(&std::fs::read(layout.ready()).ok()?).ok()
}

/// Passes on what is appended to a file, by lines.
struct Relay<F> {
    path: PathBuf,
    position: u64,
    rest: Vec<u8>,
    pass: F,
}

impl<F: FnMut(&str)> Relay<F> {
    fn new(path: PathBuf, pass: F) -> Result<Self, UpError> {
        let position = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(UpError::file("read", path)(error)),
        };
        Ok(Self { path, position, rest: Vec::new(), pass })
    }

    fn pass(&mut self) -> Result<(), UpError> {
        let mut read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.position))?;
            file.read_to_end(&mut self.rest)
        };
        let count = read().map_err(UpError::file("read", &self.path))?;
        self.position += count as u64;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, rest);
        for line in String::from_utf8_lossy(&lines).lines() {
            (self.pass)(line);
        }
        Ok(())
    }
}
