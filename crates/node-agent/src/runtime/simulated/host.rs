//! The machine a tool command line runs on in the simulation: files in memory, a clock that jumps.
//!
//! A command line is carried out when its container starts; what comes after it waits to be stopped is not. When the
//! container is stopped, it is carried out again to that point without effect, then with.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use tool_image::execute::{Collection, Ending, Host, Listing, Run, RunEnd, junk};
use tool_image::pack::{Line, Wanted};
use tool_image::{ToolCommand, execute, frames};

use super::exec::Container;
use super::images;

/// Files of a pod, by volume or container and path.
pub(super) type Files = BTreeMap<String, Bytes>;
/// Bytes of all files of one pod, at most: an `emptyDir` in memory must not eat the machine, but a file that no log carries
/// must have room, and its copy.
const MAX_FILES_BYTES: usize = 160 << 20;

/// What a container sees of its pod.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Its name.
    pub(super) container: String,
    /// Mount paths and volume names.
    pub(super) mounts: Vec<(String, String)>,
    /// Its environment.
    pub(super) environment: Vec<(String, String)>,
}

impl View {
    /// The key of a file by its path in the container.
    fn key(&self, path: &str) -> String {
        let best = self
            .mounts
            .iter()
            .filter_map(|(at, volume)| {
                let rest = path.strip_prefix(at.trim_end_matches('/'))?;
                (rest.is_empty() || rest.starts_with('/')).then_some((at.len(), volume, rest))
            })
            .max_by_key(|(length, ..)| *length);
        match best {
            Some((_, volume, rest)) => in_volume(volume, rest.trim_start_matches('/')),
            None => format!("container/{}/{}", self.container, path.trim_start_matches('/')),
        }
    }
}

/// The key of a file by its path in a volume.
pub(super) fn in_volume(volume: &str, path: &str) -> String {
    format!("volume/{volume}/{path}")
}

/// What came of a command line.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Lines and when they are printed, from the start (or the stop) on.
    pub(super) lines: Vec<(Duration, String)>,
    /// Which of them are of standard error.
    pub(super) errors: BTreeSet<usize>,
    /// Ports it answers HTTP on, with what.
    pub(super) serving: Vec<(u16, String)>,
    /// Bytes that come after the lines, as they are.
    pub(super) sent: Bytes,
    /// When and how it ends; `None`: it waits to be stopped.
    pub(super) end: Option<(Duration, u8)>,
}

/// What the command line does from its start until it ends or waits to be stopped.
pub(super) fn start(command: &ToolCommand, view: &View, files: &mut Files) -> Outcome {
    let mut host = SimulatedHost::new(view, files, None);
    let ending = execute(command, &mut host);
    let end = (!host.waited).then_some((host.offset, ending.code()));
    Outcome { lines: host.lines, errors: host.errors, serving: host.serving, sent: host.sent, end }
}

/// What a command does that was given all its input.
pub(super) fn fed(command: &ToolCommand, view: &View, files: &mut Files, input: Bytes) -> Outcome {
    let mut host = SimulatedHost::new(view, files, None);
    host.input = input;
    let ending = execute(command, &mut host);
    let end = Some((host.offset, ending.code()));
    Outcome { lines: host.lines, errors: host.errors, end, ..Outcome::default() }
}

/// What it does when it is stopped `after` its start.
pub(super) fn stop(command: &ToolCommand, view: &View, files: &mut Files, after: Duration) -> Outcome {
    let mut host = SimulatedHost::new(view, files, Some(after));
    let ending: Ending = execute(command, &mut host);
    let end = Some((Duration::ZERO, ending.code()));
    Outcome { lines: host.lines, errors: host.errors, end, ..Outcome::default() }
}

struct SimulatedHost<'a> {
    view: &'a View,
    files: &'a mut Files,
    lines: Vec<(Duration, String)>,
    errors: BTreeSet<usize>,
    serving: Vec<(u16, String)>,
    sent: Bytes,
    /// Its standard input, whole.
    input: Bytes,
    offset: Duration,
    /// When it is stopped, in a second run.
    stop: Option<Duration>,
    /// It has come to wait for being stopped.
    waited: bool,
}

impl<'a> SimulatedHost<'a> {
    fn new(view: &'a View, files: &'a mut Files, stop: Option<Duration>) -> Self {
        Self {
            view,
            files,
            lines: Vec::new(),
            errors: BTreeSet::new(),
            serving: Vec::new(),
            sent: Bytes::new(),
            input: Bytes::new(),
            offset: Duration::ZERO,
            stop,
            waited: false,
        }
    }

    /// In the first run everything before the wait has effect, in the second everything after it.
    fn effective(&self) -> bool {
        self.stop.is_some() == self.waited
    }

    fn found(&self, path: &str) -> io::Result<Bytes> {
        self.files.get(&self.view.key(path)).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn put(&mut self, path: &str, content: Bytes) -> io::Result<()> {
        if !self.effective() {
            return Ok(());
        }
        let held: usize = self.files.values().map(Bytes::len).sum();
        if held.saturating_add(content.len()) > MAX_FILES_BYTES {
            let why = format!("the simulated volumes of a pod hold no more than {MAX_FILES_BYTES} bytes");
            return Err(io::Error::other(why));
        }
        self.files.insert(self.view.key(path), content);
        Ok(())
    }

    fn dir_prefix(&self, dir: &str) -> String {
        format!("{}/", self.view.key(dir).trim_end_matches('/'))
    }
}

impl Host for SimulatedHost<'_> {
    fn out(&mut self, line: &str) {
        if self.effective() {
            let at = if self.stop.is_some() { Duration::ZERO } else { self.offset };
            self.lines.push((at, line.to_owned()));
        }
    }

    fn err(&mut self, line: &str) {
        let before = self.lines.len();
        self.out(line);
        self.errors.extend(before..self.lines.len());
    }

    fn sleep(&mut self, time: Duration) -> bool {
        if self.waited {
            return self.stop.is_none();
        }
        let end = self.offset.saturating_add(time);
        if self.stop.is_some_and(|stop| stop < end) {
            self.waited = true;
            return false;
        }
        self.offset = end;
        true
    }

    fn wait_for_stop(&mut self) {
        self.waited = true;
    }

    fn write(&mut self, path: &str, content: &[u8]) -> io::Result<()> {
        self.put(path, Bytes::copy_from_slice(content))
    }

    fn read(&mut self, path: &str) -> io::Result<Vec<u8>> {
        self.found(path).map(Vec::from)
    }

    fn copy(&mut self, from: &str, to: &str) -> io::Result<u64> {
        let content = self.found(from)?;
        let size = content.len() as u64;
        self.put(to, content).map(|()| size)
    }

    fn archive(&mut self, files: &[(String, String)], to: &str) -> io::Result<()> {
        let mut archive = Vec::new();
        let open =
            |path: &str| self.found(path).map(|content| (content.len() as u64, io::Cursor::new(content)));
        tool_image::archive::write(files, open, &mut archive)?;
        self.put(to, archive.into())
    }

    fn pack(&mut self, from: &str, wanted: &Wanted, to: &str) -> io::Result<()> {
        let prefix = self.dir_prefix(from);
        let mut pack = Vec::new();
        let mut count = 0;
        for (key, content) in self.files.range(prefix.clone()..) {
            let Some(path) = key.strip_prefix(&prefix) else { break };
            let Some(place) = wanted.place(path) else { continue };
            count += 1;
            let line = Line::File { path: place.to_owned(), size: content.len() as u64, mode: 0o644 };
            pack.extend(line.bytes());
            pack.extend_from_slice(content);
        }
        pack.extend(Line::End { files: count }.bytes());
        self.put(to, pack.into())
    }

    fn unpack(&mut self, bytes: u64, wanted: &Wanted, to: &str) -> io::Result<()> {
        let mut rest = self.input.clone();
        if rest.len() as u64 != bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or(io::ErrorKind::UnexpectedEof)?;
            let line = rest.split_to(end + 1);
            match Line::parse(&line).map_err(io::Error::other)? {
                Line::End { .. } => return Ok(()),
                // The simulation has files alone.
                Line::Link { .. } | Line::Directory { .. } => {}
                Line::File { path, size, .. } => {
                    let size = usize::try_from(size).unwrap_or(usize::MAX);
                    if size > rest.len() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    let content = rest.split_to(size);
                    if let Some(place) = wanted.place(&path) {
                        self.put(&format!("{}/{place}", to.trim_end_matches('/')), content)?;
                    }
                }
            }
        }
    }

    /// The world looks again when files of the pod have changed.
    fn wait_for_files(&mut self, paths: &[String]) -> bool {
        let all = paths.iter().all(|path| self.files.contains_key(&self.view.key(path)));
        self.waited |= !all;
        all
    }

    fn send(&mut self, path: &str, from: u64) -> io::Result<()> {
        let content = self.found(path)?;
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(content.len());
        if self.effective() {
            self.sent = content.slice(from..);
        }
        Ok(())
    }

    fn fill(&mut self, path: &str, size: u64, seed: u64) -> io::Result<()> {
        if size > MAX_FILES_BYTES as u64 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.put(path, junk(size, seed).flatten().collect::<Vec<u8>>().into())
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.view.environment.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
    }

    fn serve(&mut self, port: u16, text: &str) -> io::Result<()> {
        self.serving.push((port, text.to_owned()));
        self.waited = true;
        Ok(())
    }

    fn pause(&mut self) {
        self.waited = true;
    }

    fn collect(&mut self, from: &Collection<'_>) -> Result<usize, String> {
        if !self.effective() {
            return Ok(0);
        }
        let prefix = self.dir_prefix(from.dir);
        let files: Vec<(String, u64)> = self
            .files
            .iter()
            .filter_map(|(key, content)| Some((key.strip_prefix(&prefix)?.to_owned(), content.len() as u64)))
            .collect();
        let at = if self.stop.is_some() { Duration::ZERO } else { self.offset };
        let found = |path: &str| {
            let found = self.files.get(&format!("{prefix}{path}")).cloned();
            found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        };
        let read = |path: &str| found(path).map(Vec::from);
        let digest = |path: &str| {
            found(path).map(|content| (content.len() as u64, workflow::collect::digest(&content)))
        };
        let lines = &mut self.lines;
        frames::print(from, &files, read, digest, |line| lines.push((at, line.to_owned())))
    }

    fn run(&mut self, run: &Run) -> RunEnd {
        if !self.effective() {
            return if self.waited { RunEnd::Stopped } else { RunEnd::Code(0) };
        }
        let mut view = self.view.clone();
        for (name, value) in &run.env {
            view.environment.retain(|(own, _)| own != name);
            view.environment.push((name.clone(), value.clone()));
        }
        let container = Container { view, ..Container::default() };
        // What the simulation does not understand ends well at once, as a container of it would.
        let Some(outcome) = images::commanded(&run.command, &container, self.files) else {
            return RunEnd::Code(0);
        };
        let base = self.lines.len();
        self.errors.extend(outcome.errors.iter().map(|index| base + index));
        let begun = self.offset;
        let in_time = outcome.lines.into_iter().filter(|(at, _)| *at <= run.timeout);
        self.lines.extend(in_time.map(|(at, line)| (begun.saturating_add(at), line)));
        let end = outcome.end.filter(|(after, _)| *after <= run.timeout);
        let until = begun.saturating_add(end.map_or(run.timeout, |(after, _)| after));
        if self.stop.is_some_and(|stop| stop < until) {
            self.waited = true;
            return RunEnd::Stopped;
        }
        self.offset = until;
        end.map_or(RunEnd::TimedOut, |(_, code)| RunEnd::Code(i32::from(code)))
    }

    fn list(&mut self, dir: &str, levels: usize, most: usize) -> Listing {
        let prefix = self.dir_prefix(dir);
        let found = self.files.iter().filter_map(|(key, content)| {
            let path = key.strip_prefix(&prefix)?;
            (path.matches('/').count() < levels).then(|| (path.to_owned(), content.len() as u64))
        });
        Listing::of(found.collect(), most)
    }

    fn remove(&mut self, path: &str) {
        if self.effective() {
            self.files.remove(&self.view.key(path));
        }
    }

    fn set_mode(&mut self, _: &str, _: u32) -> io::Result<()> {
        Ok(())
    }

    fn make_dirs(&mut self, _: &[&str]) -> io::Result<()> {
        Ok(())
    }

    fn variables(&self) -> Vec<(String, String)> {
        self.view.environment.clone()
    }

    fn elapsed_millis(&self) -> u64 {
        u64::try_from(self.offset.as_millis()).unwrap_or(u64::MAX)
    }

    fn clock_millis(&self) -> u64 {
        self.elapsed_millis()
    }

    fn date(&self) -> String {
        jiff::Timestamp::UNIX_EPOCH.to_string()
    }

    /// Containers of the simulation know the program by its name.
    fn install(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// What a container tells by its last message.
pub(super) fn message(container: &str, files: &Files) -> String {
    let found = files.get(&format!("container/{container}/dev/termination-log"));
    found.map(|content| String::from_utf8_lossy(content).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> ToolCommand {
        ToolCommand::from_words(&tool_image::command::words(text).expect("words")).expect("a command")
    }

    #[test]
    fn a_collector_sees_what_a_step_wrote_once_it_is_stopped() {
        let mut files = Files::new();
        let mounts = vec![("/workspace".to_owned(), "shared".to_owned())];
        let step = View { container: "step".into(), mounts: mounts.clone(), environment: Vec::new() };
        let collector = View { container: "collector".into(), mounts, environment: Vec::new() };
        let collect = words("collect --junit '*.xml'");
        let waiting = start(&collect, &collector, &mut files);
        assert!(waiting.end.is_none() && waiting.lines.is_empty());
        let outcome = start(&words("junit /workspace/a.xml --pass one --fail two"), &step, &mut files);
        assert_eq!(outcome.end, Some((Duration::ZERO, 1)));
        let stopped = stop(&collect, &collector, &mut files, Duration::from_secs(1));
        assert_eq!(stopped.end, Some((Duration::ZERO, 0)));
        let mut decoder = workflow::collect::Decoder::default();
        for (_, line) in &stopped.lines {
            decoder.line(line).expect("a frame");
        }
        let (found, skipped) = decoder.finish().expect("whole");
        assert_eq!((found.len(), skipped.len()), (1, 0));
        assert!(found[0].artifact.junit);
    }

    #[test]
    fn time_passes_as_the_command_line_says() {
        let mut files = Files::new();
        let view = View::default();
        let command = words("do 'print a' 'sleep 2s' 'print b' 'exit 3'");
        let outcome = start(&command, &view, &mut files);
        let second = Duration::from_secs(2);
        assert_eq!(outcome.lines, vec![(Duration::ZERO, "a".to_owned()), (second, "b".to_owned())]);
        assert_eq!(outcome.end, Some((second, 3)));
        let stopped = stop(&command, &view, &mut files, Duration::from_secs(1));
        assert_eq!(stopped.end, Some((Duration::ZERO, 143)));
    }
}
