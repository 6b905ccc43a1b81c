//! The tool image's command lines as a process.
//!
//! TERM and INT are taken by a thread of their own, so that also process 1 of a container, to which signals without a
//! handler do nothing, stops when told to.

mod http;

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use tool_image::execute::{Collection, Ending, Host};
use tool_image::{ToolCommand, execute, frames};

/// Files looked at by `collect`, at most; more are not listed.
const MAX_LISTED: usize = 10_000;
/// The largest file `collect` and `cat` read.
const MAX_READ: u64 = 64 << 20;

/// Carries out a command line until it ends or the process is told to stop.
#[must_use]
pub fn run(command: &ToolCommand) -> ExitCode {
    let stop = match Stop::install() {
        Ok(stop) => stop,
        Err(error) => {
            eprintln!("cannot take signals: {error}");
            return ExitCode::from(1);
        }
    };
    let mut host = Process { stop };
    let ending: Ending = execute(command, &mut host);
    let _ = io::stdout().flush();
    ExitCode::from(ending.code())
}

/// Whether the process was told to stop.
#[derive(Clone)]
struct Stop {
    told: Arc<(Mutex<bool>, Condvar)>,
}

impl Stop {
    /// Blocks TERM, INT and CHLD in this and later threads and waits for them in one of its own.
    fn install() -> io::Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
            signals.add(signal);
        }
        signals.thread_block()?;
        let stop = Self { told: Arc::default() };
        let told = stop.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            loop {
                match signals.wait() {
                    Ok(Signal::SIGCHLD) => reap(),
                    Ok(_) => told.tell(),
                    Err(_) => return,
                }
            }
        })?;
        Ok(stop)
    }

    fn tell(&self) {
        *self.told.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.1.notify_all();
    }

    /// Waits until told or until `time` is over; `true` when told.
    fn wait(&self, time: Option<Duration>) -> bool {
        let mut told = self.told.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = time.and_then(|time| Instant::now().checked_add(time));
        while !*told {
            let Some(end) = end else {
                told = self.told.1.wait(told).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
                return false;
            };
            told = self.told.1.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// Takes leave of every ended child: orphans of a pod's shared process namespace end up here.
fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

struct Process {
    stop: Stop,
}

impl Host for Process {
    fn out(&mut self, line: &str) {
        // Nobody is left to tell when standard output is gone.
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    fn err(&mut self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    fn sleep(&mut self, time: Duration) -> bool {
        !self.stop.wait(Some(time))
    }

    fn wait_for_stop(&mut self) {
        self.stop.wait(None);
    }

    fn write(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        if let Some(parent) = Path::new(path).parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, content)
    }

    fn read(&mut self, path: &str) -> io::Result<Vec<u8>> {
        read(Path::new(path))
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn serve(&mut self, port: u16, text: &str) -> io::Result<()> {
        http::serve(port, text)?;
        self.stop.wait(None);
        Ok(())
    }

    fn pause(&mut self) {
        self.stop.wait(None);
    }

    fn collect(&mut self, from: &Collection<'_>) -> Result<(), String> {
        let root = Path::new(from.dir);
        let mut files = Vec::new();
        list(root, "", &mut files);
        files.sort();
        frames::print(from, &files, |path| read(&root.join(path)), |line| self.out(line))
    }
}

/// Reads a plain file; a link that leads elsewhere is not followed out of what was asked for by `collect`, which lists
/// plain files only.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len();
    if size > MAX_READ {
        return Err(io::Error::other(format!("{size} bytes are too many")));
    }
    fs::read(path)
}

fn list(root: &Path, below: &str, files: &mut Vec<(String, u64)>) {
    let Ok(entries) = fs::read_dir(root.join(below)) else { return };
    for entry in entries.flatten() {
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            list(root, &path, files);
        } else if kind.is_file() && files.len() < MAX_LISTED {
            files.push((path, entry.metadata().map_or(0, |meta| meta.len())));
        }
    }
}
