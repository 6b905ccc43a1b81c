//! What each command does to the machine it runs on.

use std::io;
use std::time::Duration;

use workflow::collect::PACKS;
use workflow::pod::RECEIVED_DIR;

use crate::command::{self, ToolCommand};
use crate::duration::Span;
use crate::junit;
use crate::pack::{self, Wanted};

/// Levels of `do` within `do`.
const MAX_DEPTH: usize = 8;
/// How long a collector holds files that nobody takes: an agent that is away for longer finds its pod ended.
const HOLD: Duration = Duration::from_secs(24 * 3600);

/// The machine a command line runs on.
pub trait Host {
    /// Prints a line on standard output.
    fn out(&mut self, line: &str);
    /// Prints a line on standard error.
    fn err(&mut self, line: &str);
    /// Waits; `false` when told to stop meanwhile.
    fn sleep(&mut self, time: Duration) -> bool;
    /// Waits until told to stop.
    fn wait_for_stop(&mut self);
    /// Writes a whole file, making the directories above it.
    ///
    /// # Errors
    /// As the file system says.
    fn write(&mut self, path: &str, content: &[u8]) -> io::Result<()>;
    /// Reads a whole file.
    ///
    /// # Errors
    /// As the file system says.
    fn read(&mut self, path: &str) -> io::Result<Vec<u8>>;
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// Answers HTTP until told to stop.
    ///
    /// # Errors
    /// When the port cannot be listened on.
    fn serve(&mut self, port: u16, text: &str) -> io::Result<()>;
    /// Holds the namespaces of a pod until told to stop.
    fn pause(&mut self);
    /// Prints the matching files as frames; how many of them are only named, to be taken from here.
    ///
    /// # Errors
    /// What is wrong with the globs or the directory, for people.
    fn collect(&mut self, from: &Collection<'_>) -> Result<usize, String>;
    /// Copies a file of any size, making the directories above its new place; answers its size.
    ///
    /// # Errors
    /// As the file system says.
    fn copy(&mut self, from: &str, to: &str) -> io::Result<u64>;
    /// Writes an archive of files, path and name in it, as [`crate::archive`] does.
    ///
    /// # Errors
    /// As the file system says.
    fn archive(&mut self, files: &[(String, String)], to: &str) -> io::Result<()>;
    /// Packs the plain files below a directory that are wanted into a file.
    ///
    /// # Errors
    /// As the file system says.
    fn pack(&mut self, from: &str, wanted: &Wanted, to: &str) -> io::Result<()>;
    /// Puts the files that are wanted of a pack of so many bytes, which comes by standard input, below a directory.
    ///
    /// # Errors
    /// As the file system says, or that the pack is damaged.
    fn unpack(&mut self, bytes: u64, wanted: &Wanted, to: &str) -> io::Result<()>;
    /// Waits until all these files are there; `false` when told to stop meanwhile.
    fn wait_for_files(&mut self, paths: &[String]) -> bool;
    /// Puts a file of any size on standard output as it is, from this byte on.
    ///
    /// # Errors
    /// As the file system says, or standard output.
    fn send(&mut self, path: &str, from: u64) -> io::Result<()>;
    /// Writes a file of so many bytes that look random but follow from the seed; see [`junk`].
    ///
    /// # Errors
    /// As the file system says.
    fn fill(&mut self, path: &str, size: u64, seed: u64) -> io::Result<()>;
    /// Runs a command to its end, its output going where this one's goes.
    fn run(&mut self, run: &Run) -> RunEnd;
    /// Plain files below a directory, by their path in it, with their sizes, in order of path: those at most `levels` deep
    /// (1: in the directory itself), no more than `most`, and whether those are all.
    fn list(&mut self, dir: &str, levels: usize, most: usize) -> Listing;
    /// Removes a file; what is not there is no error.
    fn remove(&mut self, path: &str);
    /// Sets a file's permission bits.
    ///
    /// # Errors
    /// As the file system says.
    fn set_mode(&mut self, path: &str, mode: u32) -> io::Result<()>;
    /// Makes directories that every user may write to.
    ///
    /// # Errors
    /// As the file system says.
    fn make_dirs(&mut self, dirs: &[&str]) -> io::Result<()>;
    /// The whole environment.
    fn variables(&self) -> Vec<(String, String)>;
    /// Time since the process started.
    fn elapsed_millis(&self) -> u64;
    /// A clock that all containers of a pod share.
    fn clock_millis(&self) -> u64;
    /// Now, as RFC 3339 tells it.
    fn date(&self) -> String;
    /// Copies the executable and what it needs to run into a directory, so that it runs in containers of any image.
    ///
    /// # Errors
    /// As the file system says.
    fn install(&mut self, dir: &str) -> io::Result<()>;
}

/// Files below a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Paths in it, and sizes.
    pub files: Vec<(String, u64)>,
    /// There are more.
    pub more: bool,
}

impl Listing {
    /// The first `most` of these.
    #[must_use]
    pub fn of(mut files: Vec<(String, u64)>, most: usize) -> Self {
        files.sort();
        let more = files.len() > most;
        files.truncate(most);
        Self { files, more }
    }
}

/// A command to run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Program and arguments; at least one word.
    pub command: Vec<String>,
    /// The directory it starts in; made when absent.
    pub dir: String,
    /// Variables beside those of this process.
    pub env: Vec<(String, String)>,
    /// It is ended after this time.
    pub timeout: Duration,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// With this code; 128 and the signal's number when one ended it.
    Code(i32),
    /// Its time was over.
    TimedOut,
    /// This process was told to stop; the command was stopped.
    Stopped,
    /// It could not be started.
    CannotStart(String),
}

/// What `collect` was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Collection<'a> {
    /// The directory.
    pub dir: &'a str,
    /// Globs of files to keep.
    pub artifacts: &'a [String],
    /// Globs of JUnit reports.
    pub junit: &'a [String],
    /// Bytes of all files together, at most; `None` leaves it to the encoder's bound.
    pub max_bytes: Option<u64>,
    /// There are packs among the files.
    pub packs: bool,
}

/// How a command line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With this exit code.
    Code(u8),
    /// It was told to stop before it had done its work.
    Stopped,
}

impl Ending {
    /// The exit code of the process: 143 (128 + TERM) when it was stopped in the middle of its work.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Stopped => 143,
        }
    }
}

/// Bytes that look random and follow from a seed, in pieces of 64 KiB (the last shorter), `size` in all: files to try things
/// with that no compression makes small.
pub fn junk(size: u64, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    const PIECE: u64 = 64 << 10;
    // Any odd number will do: the generator (xorshift64*, Marsaglia and Vigna) must not begin with nothing.
    let mut state = seed.wrapping_mul(2).wrapping_add(0x9E37_79B9_7F4A_7C15) | 1;
    let mut left = size;
    std::iter::from_fn(move || {
        let length = left.min(PIECE);
        left -= length;
        let mut piece = Vec::with_capacity(PIECE as usize);
        while (piece.len() as u64) < length {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            piece.extend_from_slice(&state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes());
        }
        piece.truncate(length as usize);
        (length > 0).then_some(piece)
    })
}

/// Carries out a command line.
pub fn execute(command: &ToolCommand, host: &mut dyn Host) -> Ending {
    run(command, host, 0)
}

fn run(command: &ToolCommand, host: &mut dyn Host, depth: usize) -> Ending {
    match command {
        ToolCommand::Serve { port, text } => serve(*port, text, host),
        ToolCommand::Sleep { time: Span::For(time) } => {
            if host.sleep(*time) {
                Ending::Code(0)
            } else {
                Ending::Stopped
            }
        }
        ToolCommand::Sleep { time: Span::Forever } => {
            host.wait_for_stop();
            Ending::Code(0)
        }
        ToolCommand::Exit { code } => Ending::Code(*code),
        ToolCommand::Write { path, content } => write(path, content.as_bytes(), host),
        ToolCommand::Print { text } => {
            host.out(&text.join(" "));
            Ending::Code(0)
        }
        ToolCommand::Cat { path } => cat(path, host),
        ToolCommand::Env { name } => match host.variable(name) {
            Some(value) => {
                host.out(&value);
                Ending::Code(0)
            }
            None => {
                host.err(&format!("{name} is not set"));
                Ending::Code(1)
            }
        },
        ToolCommand::Junit { path, suite, passing, failing, fail_when, always_succeed } => {
            let (mut passing, mut failing) = (passing.clone(), failing.clone());
            for case in fail_when {
                match conditional(case, host) {
                    Some((name, true)) => failing.push(name),
                    Some((name, false)) => passing.push(name),
                    None => return fail(host, &format!("{case:?} is not VARIABLE=VALUE:CASE")),
                }
            }
            report(host, suite, &passing, &failing);
            match write(path, junit::render(suite, &passing, &failing).as_bytes(), host) {
                Ending::Code(0) if !failing.is_empty() && !always_succeed => Ending::Code(1),
                ending => ending,
            }
        }
        ToolCommand::Collect { dir, artifacts, junit, max_bytes, now, packs } => {
            if !now {
                host.wait_for_stop();
            }
            for pack in packs {
                // Who was to have it finds that it is not there.
                if let Err(why) = make_pack(pack, dir, host) {
                    host.err(&why);
                }
            }
            let packs = !packs.is_empty();
            let from = Collection { dir, artifacts, junit, max_bytes: *max_bytes, packs };
            match host.collect(&from) {
                Ok(0) => Ending::Code(0),
                Ok(_) => {
                    // Whoever has taken what is held removes the pod.
                    host.sleep(HOLD);
                    Ending::Code(0)
                }
                Err(why) => fail(host, &why),
            }
        }
        ToolCommand::Receive { count, first } => {
            let numbers = *first..first.saturating_add(*count);
            let paths: Vec<String> = numbers.map(|number| format!("{RECEIVED_DIR}/{number}")).collect();
            if host.wait_for_files(&paths) { Ending::Code(0) } else { Ending::Stopped }
        }
        ToolCommand::Unpack { to, bytes, from, files, number } => {
            match unpack(*bytes, from, files, to, *number, host) {
                Ok(()) => Ending::Code(0),
                Err(why) => fail(host, &why),
            }
        }
        ToolCommand::Take { path, from } => match host.send(path, *from) {
            Ok(()) => Ending::Code(0),
            Err(error) => fail(host, &format!("cannot send {path}: {error}")),
        },
        ToolCommand::Fill { path, size, seed } => match host.fill(path, *size, *seed) {
            Ok(()) => Ending::Code(0),
            Err(error) => fail(host, &format!("cannot write {path}: {error}")),
        },
        ToolCommand::Step { index, guard } => crate::step::run(*index, *guard, host),
        ToolCommand::Install { dir } => match crate::step::install(dir, host) {
            Ok(()) => Ending::Code(0),
            Err(why) => fail(host, &why),
        },
        ToolCommand::Do { commands } => sequence(commands, host, depth),
        ToolCommand::Pause => {
            host.pause();
            Ending::Code(0)
        }
    }
}

fn make_pack(text: &str, dir: &str, host: &mut dyn Host) -> Result<(), String> {
    let pack = pack::wanted(text)?;
    let wanted = Wanted::new("", &pack.files)?;
    let to = format!("{dir}/{PACKS}{}", pack.name);
    host.pack(&pack.from, &wanted, &to).map_err(|error| format!("cannot pack {}: {error}", pack.from))
}

fn unpack(
    bytes: u64,
    from: &str,
    files: &[String],
    to: &str,
    number: usize,
    host: &mut dyn Host,
) -> Result<(), String> {
    let wanted = Wanted::new(from, files)?;
    if bytes > 0 {
        host.unpack(bytes, &wanted, to).map_err(|error| format!("cannot unpack into {to}: {error}"))?;
    }
    let mark = format!("{RECEIVED_DIR}/{number}");
    host.write(&mark, b"").map_err(|error| format!("cannot write {mark}: {error}"))
}

/// The case's name, and whether it fails here.
fn conditional(case: &str, host: &dyn Host) -> Option<(String, bool)> {
    let (variable, rest) = case.split_once('=')?;
    let (value, name) = rest.split_once(':')?;
    Some((name.to_owned(), host.variable(variable).is_some_and(|actual| actual == value)))
}

fn serve(port: u16, text: &str, host: &mut dyn Host) -> Ending {
    let text = match text.strip_prefix('$') {
        Some(name) => host.variable(name).unwrap_or_default(),
        None => text.to_owned(),
    };
    host.out(&format!("listening on port {port}"));
    match host.serve(port, &text) {
        Ok(()) => Ending::Code(0),
        Err(error) => fail(host, &format!("cannot serve on port {port}: {error}")),
    }
}

fn write(path: &str, content: &[u8], host: &mut dyn Host) -> Ending {
    match host.write(path, content) {
        Ok(()) => Ending::Code(0),
        Err(error) => fail(host, &format!("cannot write {path}: {error}")),
    }
}

fn cat(path: &str, host: &mut dyn Host) -> Ending {
    match host.read(path) {
        Ok(content) => {
            for line in String::from_utf8_lossy(&content).lines() {
                host.out(line);
            }
            Ending::Code(0)
        }
        Err(error) => fail(host, &format!("cannot read {path}: {error}")),
    }
}

fn report(host: &mut dyn Host, suite: &str, passing: &[String], failing: &[String]) {
    for case in passing {
        host.out(&format!("PASS {suite} {case}"));
    }
    for case in failing {
        host.out(&format!("FAIL {suite} {case}"));
    }
}

fn sequence(commands: &[String], host: &mut dyn Host, depth: usize) -> Ending {
    if depth >= MAX_DEPTH {
        return fail(host, &format!("do within do goes no deeper than {MAX_DEPTH}"));
    }
    for line in commands {
        let parsed = command::words(line).and_then(|words| ToolCommand::from_words(&words));
        let ending = match parsed {
            Ok(command) => run(&command, host, depth + 1),
            Err(why) => fail(host, &why),
        };
        if ending != Ending::Code(0) {
            return ending;
        }
    }
    Ending::Code(0)
}

fn fail(host: &mut dyn Host, why: &str) -> Ending {
    for line in why.lines() {
        host.err(line);
    }
    Ending::Code(1)
}
