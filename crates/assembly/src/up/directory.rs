//! The state directory of an `up`: its lock, its memory, and what earlier runs left.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::error::UpError;
use super::plan::{self, Layout, Memory, SUPERVISOR};
use super::process::ProcessId;

/// A directory held by this process until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    // The kernel gives the lock back when this is closed, however we end.
    _lock: File,
}

/// Makes the directories and takes the lock.
pub(crate) fn hold(layout: &Layout) -> Result<Held, UpError> {
    for dir in [layout.root.clone(), layout.run(), layout.logs()] {
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(UpError::file("make", &dir))?;
    }
    let path = layout.lock();
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(UpError::file("open", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = supervisor(layout).map(|process| process.pid);
            return Err(UpError::AlreadyUp { directory: layout.root.clone(), pid });
        }
        Err(TryLockError::Error(source)) => return Err(UpError::file("lock", path)(source)),
    }
    remove(&layout.ready())?;
    if let Some(own) = ProcessId::of(std::process::id()) {
        own.write(&layout.pid(SUPERVISOR))?;
    }
    Ok(Held { _lock: lock })
}

/// The running supervisor.
pub(crate) fn supervisor(layout: &Layout) -> Option<ProcessId> {
    ProcessId::read(&layout.pid(SUPERVISOR)).filter(ProcessId::is_running)
}

/// The processes of pid files, in the order in which they are to be ended; also those that run no more.
pub(crate) fn processes(layout: &Layout) -> Result<Vec<(String, ProcessId)>, UpError> {
    let run = layout.run();
    let entries = match std::fs::read_dir(&run) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(UpError::file("read", run)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(UpError::file("read", &run))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".pid"));
        if let (Some(name), Some(process)) = (name, ProcessId::read(&path)) {
            found.push((name.to_owned(), process));
        }
    }
    found.sort_by_key(|(name, _)| (plan::stop_rank(name), name.clone()));
    Ok(found)
}

/// Ends the servers and agents whose supervisor is gone; their names. They hold the stores that new ones need.
pub(crate) async fn end_leftovers(layout: &Layout) -> Result<Vec<String>, UpError> {
    let mut ended = Vec::new();
    for (name, process) in processes(layout)? {
        if name == SUPERVISOR {
            continue;
        }
        if process.is_running() {
            process.end().await;
            ended.push(name.clone());
        }
        remove(&layout.pid(&name))?;
    }
    Ok(ended)
}

/// What the directory remembers.
pub(crate) fn read_memory(layout: &Layout) -> Result<Memory, UpError> {
    let path = layout.memory();
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| UpError::file("understand", path)(std::io::Error::other(error))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Memory::default()),
        Err(error) => Err(UpError::file("read", path)(error)),
    }
}

/// Writes what the directory remembers, whole or not at all.
pub(crate) fn write_memory(layout: &Layout, memory: &Memory) -> Result<(), UpError> {
    let path = layout.memory();
    let text = serde_json::to_string_pretty(memory).unwrap_or_default();
    crate::identity::write_private(&path, &(text + "\n")).map_err(UpError::file("write", path))
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<(), UpError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(UpError::file("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Lets `link` lead to `target`, whatever it was before.
pub(crate) fn link(target: &Path, link: &Path) -> Result<(), UpError> {
    remove(link)?;
    std::os::unix::fs::symlink(target, link).map_err(UpError::file("link", link))
}
