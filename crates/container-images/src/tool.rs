//! The tool image's command lines as a process.
//!
//! TERM and INT are taken by a thread of their own, so that also process 1 of a container, to which signals without a
//! handler do nothing, stops when told to.

mod http;
mod install;
mod packs;

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sha2::{Digest as _, Sha256};
use tool_image::execute::{Collection, Ending, Host, Listing, Run, RunEnd, junk};
use tool_image::pack::Wanted;
use tool_image::{ToolCommand, execute, frames};

/// Files looked at by `collect`, at most; more are not listed. Of a step's files far fewer are kept.
const MAX_LISTED: usize = 10_000;
/// The largest file `collect` and `cat` read.
const MAX_READ: u64 = 64 << 20;

/// Between two looks for a file.
const LOOK: Duration = Duration::from_millis(20);

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
    let mut host = Process { stop, started: Instant::now() };
    let ending: Ending = execute(command, &mut host);
    let _ = io::stdout().flush();
    ExitCode::from(ending.code())
}

/// Whether the process was told to stop, and which of its children ended.
#[derive(Clone)]
struct Stop {
    told: Arc<(Mutex<Told>, Condvar)>,
}

#[derive(Default)]
struct Told {
    stop: bool,
    /// Exit codes of children that ended, by process id.
    ended: HashMap<i32, i32>,
}

/// Children whose ends are remembered: a container's orphans must not fill the memory.
const MAX_REMEMBERED: usize = 1024;

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
                    Ok(Signal::SIGCHLD) => told.reap(),
                    Ok(_) => told.tell(),
                    Err(_) => return,
                }
            }
        })?;
        Ok(stop)
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.lock().stop = true;
        self.told.1.notify_all();
    }

    /// Takes leave of every ended child: orphans of a pod's shared process namespace end up here.
    fn reap(&self) {
        loop {
            let (child, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(child, code)) => (child, code),
                Ok(WaitStatus::Signaled(child, signal, _)) => (child, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            let mut told = self.lock();
            if told.ended.len() < MAX_REMEMBERED {
                told.ended.insert(child.as_raw(), code);
            }
            drop(told);
            self.told.1.notify_all();
        }
    }

    /// Waits until told or until `time` is over; `true` when told.
    fn wait(&self, time: Option<Duration>) -> bool {
        self.until(time, |told| told.stop.then_some(())).is_some()
    }

    /// Waits until `found` finds something or until `time` is over.
    fn until<T>(&self, time: Option<Duration>, mut found: impl FnMut(&mut Told) -> Option<T>) -> Option<T> {
        let end = time.and_then(|time| Instant::now().checked_add(time));
        let mut told = self.lock();
        loop {
            if let Some(found) = found(&mut told) {
                return Some(found);
            }
            let Some(end) = end else {
                told = self.told.1.wait(told).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            told = self.told.1.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

struct Process {
    stop: Stop,
    started: Instant,
}

/// What ends the wait for a command.
enum Seen {
    Ended(i32),
    Told,
}

/// How long a command may take to end once it was told to.
const STOPPING: Duration = Duration::from_secs(5);

impl Process {
    /// Ends a command and everything it started that stayed in its group: politely, then not.
    fn end(&self, child: i32) {
        let group = Pid::from_raw(child);
        let _ = killpg(group, Signal::SIGTERM);
        let gone = self.stop.until(Some(STOPPING), |told| told.ended.remove(&child));
        let _ = killpg(group, Signal::SIGKILL);
        if gone.is_none() {
            self.stop.until(Some(STOPPING), |told| told.ended.remove(&child));
        }
    }
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
        make_parent(path)?;
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

    fn collect(&mut self, from: &Collection<'_>) -> Result<usize, String> {
        let root = Path::new(from.dir);
        let mut files = Vec::new();
        for below in frames::ORDER {
            list(root, below, usize::MAX, MAX_LISTED, &mut files);
        }
        files.sort();
        files.dedup();
        let digest = |path: &str| digest(&root.join(path));
        frames::print(from, &files, |path| read(&root.join(path)), digest, |line| self.out(line))
    }

    fn copy(&mut self, from: &str, to: &str) -> io::Result<u64> {
        make_parent(to)?;
        // Not its permissions: whoever collects may be another user.
        io::copy(&mut fs::File::open(from)?, &mut fs::File::create(to)?)
    }

    fn archive(&mut self, files: &[(String, String)], to: &str) -> io::Result<()> {
        make_parent(to)?;
        let open = |path: &str| {
            let file = fs::File::open(path)?;
            Ok((file.metadata()?.len(), file))
        };
        tool_image::archive::write(files, open, io::BufWriter::new(fs::File::create(to)?))
    }

    fn pack(&mut self, from: &str, wanted: &Wanted, to: &str) -> io::Result<()> {
        make_parent(to)?;
        packs::write(Path::new(from), wanted, Path::new(to))
    }

    fn unpack(&mut self, bytes: u64, wanted: &Wanted, to: &str) -> io::Result<()> {
        packs::read(io::stdin().lock().take(bytes), wanted, Path::new(to))
    }

    fn wait_for_files(&mut self, paths: &[String]) -> bool {
        while !paths.iter().all(|path| Path::new(path).exists()) {
            if self.stop.wait(Some(LOOK)) {
                return false;
            }
        }
        true
    }

    fn send(&mut self, path: &str, from: u64) -> io::Result<()> {
        let mut file = fs::File::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut out = io::stdout().lock();
        io::copy(&mut file, &mut out)?;
        out.flush()
    }

    fn fill(&mut self, path: &str, size: u64, seed: u64) -> io::Result<()> {
        make_parent(path)?;
        let mut file = fs::File::create(path)?;
        junk(size, seed).try_for_each(|piece| file.write_all(&piece))
    }

    fn run(&mut self, run: &Run) -> RunEnd {
        let Some((program, arguments)) = run.command.split_first() else {
            return RunEnd::CannotStart("there is no command".to_owned());
        };
        let _ = io::stdout().flush();
        let _ = fs::create_dir_all(&run.dir);
        let mut command = Command::new(program);
        command.args(arguments).envs(run.env.iter().map(|(name, value)| (name, value)));
        if Path::new(&run.dir).is_dir() {
            command.current_dir(&run.dir);
        }
        // A group of its own, so that everything it starts is ended with it.
        let child = match command.stdin(Stdio::null()).process_group(0).spawn() {
            Ok(child) => i32::try_from(child.id()).unwrap_or(i32::MAX),
            Err(error) => return RunEnd::CannotStart(format!("cannot start {program}: {error}")),
        };
        let seen = self.stop.until(Some(run.timeout), |told| match told.ended.remove(&child) {
            Some(code) => Some(Seen::Ended(code)),
            None => told.stop.then_some(Seen::Told),
        });
        match seen {
            Some(Seen::Ended(code)) => RunEnd::Code(code),
            Some(Seen::Told) => {
                self.end(child);
                RunEnd::Stopped
            }
            None => {
                self.end(child);
                RunEnd::TimedOut
            }
        }
    }

    fn list(&mut self, dir: &str, levels: usize, most: usize) -> Listing {
        let mut files = Vec::new();
        list(Path::new(dir), "", levels, most.saturating_add(1), &mut files);
        Listing::of(files, most)
    }

    fn remove(&mut self, path: &str) {
        let _ = fs::remove_file(path);
    }

    fn set_mode(&mut self, path: &str, mode: u32) -> io::Result<()> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn make_dirs(&mut self, dirs: &[&str]) -> io::Result<()> {
        for dir in dirs {
            fs::create_dir_all(dir)?;
            self.set_mode(dir, 0o1777)?;
        }
        Ok(())
    }

    fn variables(&self) -> Vec<(String, String)> {
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn elapsed_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn clock_millis(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn date(&self) -> String {
        jiff::Timestamp::now().to_string()
    }

    fn install(&mut self, dir: &str) -> io::Result<()> {
        install::into(Path::new(dir))
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

/// Size and SHA-256 of a file of any size.
fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut digest = DigestOf(Sha256::new());
    let size = io::copy(&mut fs::File::open(path)?, &mut digest)?;
    Ok((size, hex::encode(digest.0.finalize())))
}

/// What is written to it is taken into the digest.
struct DigestOf(Sha256);

impl io::Write for DigestOf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn make_parent(path: &str) -> io::Result<()> {
    Path::new(path).parent().map_or(Ok(()), fs::create_dir_all)
}

/// Adds plain files until there are `most`, of so many levels.
fn list(root: &Path, below: &str, levels: usize, most: usize, files: &mut Vec<(String, u64)>) {
    let Ok(entries) = fs::read_dir(root.join(below)) else { return };
    for entry in entries.flatten() {
        if files.len() >= most {
            return;
        }
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if levels > 1 {
                list(root, &path, levels - 1, most, files);
            }
        } else if kind.is_file() {
            files.push((path, entry.metadata().map_or(0, |meta| meta.len())));
        }
    }
}
