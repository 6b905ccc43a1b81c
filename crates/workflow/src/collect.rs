//! Taking files out of a pod over its container log.
//!
//! Reading a log is the one way out of a pod that needs neither `exec` nor a route from the pod to anywhere, and that
//! every Kubernetes has. The collector container prints each file as framed lines; whoever reads the log puts them
//! together again and believes only what the digests confirm. Lines that are not frames are ignored.
//!
//! ```text
//! fairlead-collect/1 begin
//! fairlead-collect/1 file {"path":"a.xml","size":3,"sha256":"…","junit":true}
//! fairlead-collect/1 data 0 YWJj
//! fairlead-collect/1 skipped {"path":"core","reason":"…"}
//! fairlead-collect/1 held {"path":"trace.zip","size":1073741824,"sha256":"…"}
//! fairlead-collect/1 end {"files":2,"bytes":3}
//! ```
//!
//! Every `data` line belongs to the last `file` line and carries its offset, so that a lost, repeated or reordered line
//! is noticed at once. What is too large for a log is *held*: named with its digest, and kept by the collector, which
//! goes on running, until somebody has taken it from there (`tool take`, by `exec`).

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet_objects::test_run::Artifact;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where the volume shared with the collector is mounted in both containers.
pub const WORKSPACE: &str = "/workspace";
/// What every frame begins with.
pub const PREFIX: &str = "fairlead-collect/1 ";
/// Bytes of a file per `data` line. A runtime cuts log lines at 16 KiB; in base64 this gives 8 KiB.
pub const CHUNK_BYTES: usize = 6 * 1024;
/// Files of one attempt: their list is part of the run's status.
pub const MAX_FILES: usize = 500;
/// Bytes of one pod's files together that come over the log; what is beyond is held. A kubelet rotates container logs at
/// 10 MiB unless told otherwise and may drop what was not read by then; base64 makes 9.4 MiB out of 7.
pub const MAX_BYTES: u64 = 7 * 1024 * 1024;
/// Characters of a path.
pub const MAX_PATH: usize = 512;

/// Checks a glob: relative to the workspace (or absolute inside it), no `..`.
///
/// # Errors
/// What is wrong, for people.
pub fn check_glob(glob: &str) -> Result<(), String> {
    let relative = relative(glob);
    if relative.is_empty() {
        return Err("a glob like reports/*.xml is required".to_owned());
    }
    if relative.starts_with('/') {
        return Err(format!("{glob:?} lies outside {WORKSPACE}"));
    }
    if relative.split('/').any(|part| part == "..") {
        return Err(format!("{glob:?} leaves {WORKSPACE}"));
    }
    GlobBuilder::new(relative).literal_separator(true).build().map(drop).map_err(|error| error.to_string())
}

/// Checks a glob of files that a step keeps: it may lie anywhere in the step's container.
///
/// # Errors
/// What is wrong, for people.
pub fn check_kept(glob: &str) -> Result<(), String> {
    if glob.trim().is_empty() {
        return Err("a glob like reports/*.xml is required".to_owned());
    }
    if glob.contains("{{") {
        return Ok(());
    }
    GlobBuilder::new(glob).literal_separator(true).build().map(drop).map_err(|error| error.to_string())
}

/// Checks the name of an archive of kept files: a path below what the step keeps.
///
/// # Errors
/// What is wrong, for people.
pub fn check_archive(name: &str) -> Result<(), String> {
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    if name.len() <= MAX_PATH && name.split('/').all(plain) {
        return Ok(());
    }
    Err(format!("{name:?} is no name of an archive; a name like files.tar.gz is required"))
}

fn relative(glob: &str) -> &str {
    glob.strip_prefix(WORKSPACE).and_then(|rest| rest.strip_prefix('/')).unwrap_or(glob)
}

/// Which files a step keeps.
#[derive(Clone, Debug)]
pub struct Globs {
    artifacts: GlobSet,
    junit: GlobSet,
}

/// What a path is to be kept as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// A file to keep.
    Artifact,
    /// A JUnit report; it is kept as a file as well.
    Junit,
    /// Files for another pod of the execution, packed: always held.
    Pack,
}

/// What steps noted for others than those of their own pod, among what is collected: always first, since it steers what
/// comes next.
pub const RECORD: &str = "record/progress.json";
/// Where packs lie among what is collected.
pub const PACKS: &str = "packs/";

impl Globs {
    /// Compiles globs; `*` does not cross a `/`, `**` does.
    ///
    /// # Errors
    /// As [`check_glob`], for the first bad one.
    pub fn new(artifacts: &[String], junit: &[String]) -> Result<Self, String> {
        Ok(Self { artifacts: set(artifacts)?, junit: set(junit)? })
    }

    /// One set of globs over paths of any directory.
    ///
    /// # Errors
    /// What is wrong with the first bad one.
    pub fn anywhere(globs: &[String]) -> Result<GlobSet, String> {
        let mut builder = GlobSetBuilder::new();
        for glob in globs {
            let compiled = GlobBuilder::new(glob).literal_separator(true).build();
            builder.add(compiled.map_err(|error| error.to_string())?);
        }
        builder.build().map_err(|error| error.to_string())
    }

    /// Whether to keep the file at `path`, relative to the workspace, with `/` between its parts.
    #[must_use]
    pub fn matches(&self, path: &str) -> Option<Keep> {
        if self.junit.is_match(path) {
            Some(Keep::Junit)
        } else if self.artifacts.is_match(path) {
            Some(Keep::Artifact)
        } else {
            None
        }
    }
}

fn set(globs: &[String]) -> Result<GlobSet, String> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        check_glob(glob)?;
        let compiled = GlobBuilder::new(relative(glob)).literal_separator(true).build();
        builder.add(compiled.map_err(|error| error.to_string())?);
    }
    builder.build().map_err(|error| error.to_string())
}

/// A file or its absence, as a frame tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileFrame {
    path: String,
    size: u64,
    sha256: String,
    #[serde(default)]
    junit: bool,
}

/// A file that was left where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Relative to the workspace.
    pub path: String,
    /// Why, for people.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EndFrame {
    files: usize,
    bytes: u64,
}

/// Lower-case hexadecimal SHA-256.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// How a file leaves the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over the log.
    Log,
    /// It is taken from the collector.
    Held,
}

/// Turns files into frames, within the bounds of one pod.
#[derive(Debug, Default)]
pub struct Encoder {
    files: usize,
    bytes: u64,
}

impl Encoder {
    /// The first line.
    #[must_use]
    pub fn begin(&self) -> String {
        format!("{PREFIX}begin\n")
    }

    /// Which way a file of `size` bytes at `path` takes. A report is read where it arrives, so that it is never held.
    ///
    /// # Errors
    /// Why it takes none: give it to [`Encoder::skipped`].
    pub fn admit(&self, path: &str, size: u64, keep: Keep) -> Result<Way, String> {
        if path.len() > MAX_PATH {
            return Err(format!("its path is longer than {MAX_PATH} bytes"));
        }
        if self.files >= MAX_FILES {
            return Err(format!("more than {MAX_FILES} files"));
        }
        match (self.bytes.saturating_add(size) > MAX_BYTES, keep) {
            (_, Keep::Pack) | (true, Keep::Artifact) => Ok(Way::Held),
            (false, _) => Ok(Way::Log),
            (true, Keep::Junit) => {
                Err(format!("{size} bytes more than fit; reports may have {MAX_BYTES} bytes in all"))
            }
        }
    }

    /// All lines of one file. Call [`Encoder::admit`] first.
    #[must_use]
    pub fn file(&mut self, path: &str, junit: bool, content: &[u8]) -> String {
        let frame =
            FileFrame { path: path.to_owned(), size: content.len() as u64, sha256: digest(content), junit };
        self.files += 1;
        self.bytes += content.len() as u64;
        let mut lines = format!("{PREFIX}file {}\n", json(&frame));
        for (index, chunk) in content.chunks(CHUNK_BYTES).enumerate() {
            lines.push_str(PREFIX);
            lines.push_str(&format!("data {} ", index * CHUNK_BYTES));
            STANDARD.encode_string(chunk, &mut lines);
            lines.push('\n');
        }
        lines
    }

    /// The line for a file that is held. Call [`Encoder::admit`] first.
    #[must_use]
    pub fn held(&mut self, path: &str, size: u64, sha256: &str) -> String {
        self.files += 1;
        let frame = FileFrame { path: path.to_owned(), size, sha256: sha256.to_owned(), junit: false };
        format!("{PREFIX}held {}\n", json(&frame))
    }

    /// The line for a file left out.
    #[must_use]
    pub fn skipped(&self, path: &str, reason: &str) -> String {
        let path = path.chars().take(MAX_PATH).collect();
        format!("{PREFIX}skipped {}\n", json(&Skipped { path, reason: reason.to_owned() }))
    }

    /// The last line.
    #[must_use]
    pub fn end(&self) -> String {
        format!("{PREFIX}end {}\n", json(&EndFrame { files: self.files, bytes: self.bytes }))
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("structs of strings and numbers always serialise")
}

/// A file that arrived whole, or can be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// What it is.
    pub artifact: Artifact,
    /// Its content, whose digest was checked; nothing where it is held.
    pub content: Vec<u8>,
    /// The collector holds it: what is known of it has not been checked by anybody.
    pub held: bool,
}

/// Why frames cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectError {
    /// A frame cannot be read.
    #[error("the collector's log holds a frame that cannot be read: {0}")]
    Malformed(String),
    /// Part of a file is missing, repeated or out of order.
    #[error("{path}: the collector's log goes on at byte {found} where byte {expected} was due")]
    Gap {
        /// The file.
        path: String,
        /// The offset due.
        expected: u64,
        /// The offset found.
        found: u64,
    },
    /// What arrived is not what was sent.
    #[error("{path}: the content that arrived does not have the digest the collector gave")]
    Digest {
        /// The file.
        path: String,
    },
    /// More than the bounds allow.
    #[error("the collector sent more than {MAX_FILES} files, one twice, or more than {MAX_BYTES} bytes")]
    TooMuch,
    /// The log ended before the last frame.
    #[error("the collector's log ended before its last frame")]
    Incomplete,
}

/// Puts frames together again. Feed it lines; it holds at most [`MAX_BYTES`] of content.
#[derive(Debug, Default)]
pub struct Decoder {
    begun: bool,
    ended: bool,
    open: Option<(FileFrame, Vec<u8>)>,
    files: Vec<Collected>,
    paths: BTreeSet<String>,
    skipped: Vec<Skipped>,
    bytes: u64,
}

impl Decoder {
    /// Reads one line, with or without its line end.
    ///
    /// # Errors
    /// When it is a frame that cannot be believed. The decoder must then be thrown away.
    pub fn line(&mut self, line: &str) -> Result<(), CollectError> {
        let Some(frame) = line.trim_end_matches(['\n', '\r']).strip_prefix(PREFIX) else { return Ok(()) };
        let (kind, rest) = frame.split_once(' ').unwrap_or((frame, ""));
        if self.ended {
            return Ok(());
        }
        match kind {
            "begin" => {
                // A restarted collector starts over.
                *self = Self { begun: true, ..Self::default() };
                Ok(())
            }
            "file" => self.open_file(rest),
            "data" => self.data(rest),
            "held" => self.held(rest),
            "skipped" => {
                if self.skipped.len() < MAX_FILES {
                    self.skipped.push(parse(rest)?);
                }
                Ok(())
            }
            "end" => self.finish_frames(rest),
            _ => Ok(()),
        }
    }

    /// Whether the last frame was read.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Everything that arrived.
    ///
    /// # Errors
    /// When the last frame is missing.
    pub fn finish(self) -> Result<(Vec<Collected>, Vec<Skipped>), CollectError> {
        if self.begun && self.ended { Ok((self.files, self.skipped)) } else { Err(CollectError::Incomplete) }
    }

    fn open_file(&mut self, rest: &str) -> Result<(), CollectError> {
        self.close_file()?;
        let frame = self.frame(rest)?;
        let bytes = self.bytes.saturating_add(frame.size);
        if bytes > MAX_BYTES {
            return Err(CollectError::TooMuch);
        }
        self.bytes = bytes;
        self.open = Some((frame, Vec::new()));
        Ok(())
    }

    fn held(&mut self, rest: &str) -> Result<(), CollectError> {
        self.close_file()?;
        let FileFrame { path, size, sha256, .. } = self.frame(rest)?;
        let artifact = Artifact { path, sha256, size, ..Artifact::default() };
        self.files.push(Collected { artifact, content: Vec::new(), held: true });
        Ok(())
    }

    fn frame(&mut self, rest: &str) -> Result<FileFrame, CollectError> {
        let frame: FileFrame = parse(rest)?;
        check_path(&frame.path)?;
        // It becomes the name of a file.
        if frame.sha256.len() != 64
            || !frame.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(CollectError::Malformed(excerpt(rest)));
        }
        if self.files.len() >= MAX_FILES || !self.paths.insert(frame.path.clone()) {
            return Err(CollectError::TooMuch);
        }
        Ok(frame)
    }

    fn data(&mut self, rest: &str) -> Result<(), CollectError> {
        let malformed = || CollectError::Malformed(excerpt(rest));
        let (frame, content) = self.open.as_mut().ok_or_else(malformed)?;
        let (offset, encoded) = rest.split_once(' ').ok_or_else(malformed)?;
        let found: u64 = offset.parse().map_err(|_| malformed())?;
        let expected = content.len() as u64;
        if found != expected {
            return Err(CollectError::Gap { path: frame.path.clone(), expected, found });
        }
        let chunk = STANDARD.decode(encoded).map_err(|_| malformed())?;
        if expected + chunk.len() as u64 > frame.size {
            return Err(CollectError::Digest { path: frame.path.clone() });
        }
        content.extend_from_slice(&chunk);
        Ok(())
    }

    fn close_file(&mut self) -> Result<(), CollectError> {
        let Some((frame, content)) = self.open.take() else { return Ok(()) };
        if content.len() as u64 != frame.size || digest(&content) != frame.sha256 {
            return Err(CollectError::Digest { path: frame.path });
        }
        let FileFrame { path, size, sha256, junit } = frame;
        self.files.push(Collected {
            artifact: Artifact { path, sha256, size, junit, ..Artifact::default() },
            content,
            held: false,
        });
        Ok(())
    }

    fn finish_frames(&mut self, rest: &str) -> Result<(), CollectError> {
        self.close_file()?;
        let end: EndFrame = parse(rest)?;
        if end.files != self.files.len() || end.bytes != self.bytes {
            return Err(CollectError::Malformed(excerpt(rest)));
        }
        self.ended = true;
        Ok(())
    }
}

/// A path becomes a file name wherever artifacts are saved: it must stay where it is put.
fn check_path(path: &str) -> Result<(), CollectError> {
    let bad = path.is_empty()
        || path.len() > MAX_PATH
        || path.contains(['\\', '\0'])
        || path.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if bad { Err(CollectError::Malformed(excerpt(path))) } else { Ok(()) }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, CollectError> {
    serde_json::from_str(text).map_err(|_| CollectError::Malformed(excerpt(text)))
}

fn excerpt(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(text: &str) -> Result<(Vec<Collected>, Vec<Skipped>), CollectError> {
        let mut decoder = Decoder::default();
        for line in text.lines() {
            decoder.line(line)?;
        }
        decoder.finish()
    }

    #[test]
    fn globs_keep_to_the_workspace() {
        let globs =
            Globs::new(&["out/**/*.log".into()], &["/workspace/reports/*.xml".into()]).expect("valid");
        assert_eq!(globs.matches("reports/a.xml"), Some(Keep::Junit));
        assert_eq!(globs.matches("reports/deep/a.xml"), None);
        assert_eq!(globs.matches("out/a/b/c.log"), Some(Keep::Artifact));
        for bad in ["", "../x", "a/../../x", "/etc/passwd", "[", "/workspace/"] {
            assert!(check_glob(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_among_other_lines(
            contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20_000), 0..5)
        ) {
            let mut encoder = Encoder::default();
            let mut text = format!("starting\n{}", encoder.begin());
            for (index, content) in contents.iter().enumerate() {
                prop_assert_eq!(encoder.admit("x", content.len() as u64, Keep::Junit), Ok(Way::Log));
                text.push_str(&encoder.file(&format!("dir/{index}"), index % 2 == 0, content));
                text.push_str("noise\n");
            }
            text.push_str(&encoder.skipped("core", "too large"));
            text.push_str(&encoder.end());
            let (files, skipped) = decode(&text).expect("whole");
            prop_assert_eq!(skipped.len(), 1);
            prop_assert_eq!(files.iter().map(|file| file.content.clone()).collect::<Vec<_>>(), contents);
        }

        #[test]
        fn a_lost_line_is_never_taken_for_whole(lost in 0usize..8) {
            let mut encoder = Encoder::default();
            let content: Vec<u8> = (0..30_000u32).map(|n| n.to_le_bytes()[0]).collect();
            let text = encoder.begin() + &encoder.file("a", false, &content) + &encoder.end();
            let damaged: String = text.lines().enumerate().filter(|(index, _)| *index != lost)
                .map(|(_, line)| format!("{line}\n")).collect();
            prop_assume!(damaged != text);
            prop_assert!(decode(&damaged).is_err());
        }

        #[test]
        fn no_input_makes_it_panic(lines in proptest::collection::vec("(fairlead-collect/1 )?(begin|file|data|held|end|skipped)? ?.{0,40}", 0..20)) {
            let _ = decode(&lines.join("\n"));
        }
    }

    #[test]
    fn what_is_too_large_for_a_log_is_held_and_named() {
        let mut encoder = Encoder::default();
        let size = MAX_BYTES + 1;
        assert_eq!(encoder.admit("big", size, Keep::Artifact), Ok(Way::Held));
        assert!(encoder.admit("big.xml", size, Keep::Junit).is_err(), "who reads reports has them whole");
        let text = encoder.begin()
            + &encoder.file("a", false, b"abc")
            + &encoder.held("big", size, &digest(b"x"))
            + &encoder.file("b", false, b"")
            + &encoder.end();
        let (files, _) = decode(&text).expect("whole");
        let told: Vec<_> =
            files.iter().map(|file| (file.artifact.path.as_str(), file.artifact.size, file.held)).collect();
        assert_eq!(told, [("a", 3, false), ("big", size, true), ("b", 0, false)]);
        let without: String =
            text.lines().filter(|line| !line.contains("held")).map(|line| format!("{line}\n")).collect();
        assert!(decode(&without).is_err(), "a lost line is noticed");
    }

    #[test]
    fn hostile_frames_are_refused() {
        let begin = Encoder::default().begin();
        for frame in [
            r#"file {"path":"../x","size":0,"sha256":""}"#.to_owned(),
            r#"file {"path":"/etc/x","size":0,"sha256":""}"#.to_owned(),
            format!(r#"file {{"path":"x","size":{},"sha256":""}}"#, u64::MAX),
            format!(r#"held {{"path":"x","size":1,"sha256":"../{}"}}"#, "a".repeat(61)),
            "data 0 AAAA".to_owned(),
            r#"end {"files":3,"bytes":0}"#.to_owned(),
        ] {
            assert!(decode(&format!("{begin}{PREFIX}{frame}\n")).is_err(), "{frame}");
        }
    }
}
