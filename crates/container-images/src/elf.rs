//! What an ELF executable needs to run, and its smallest form.
//!
//! Only 64-bit little-endian files are read: every machine Fairlead is built for has those.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_STRSZ: u64 = 10;
const DT_RUNPATH: u64 = 29;

/// Libraries of one executable, at most: a guard against circles that aren't.
const MAX_LIBRARIES: usize = 256;

/// Bytes that are read of one part of a file, at most: its tables and names, never its code.
const MAX_PART: u64 = 16 << 20;
/// Bytes of an ELF header.
const HEADER: u64 = 64;

/// Why an executable cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// Not a 64-bit little-endian ELF file, or a damaged one.
    #[error("{path} is not a 64-bit little-endian ELF file that can be read: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// Which part.
        what: &'static str,
    },
    /// A library isn't where the loader would look.
    #[error("{path} needs the library {library}, which is in none of the usual places")]
    Library {
        /// Who needs it.
        path: PathBuf,
        /// Its name.
        library: String,
    },
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// What a file says of itself.
#[derive(Debug, Default)]
struct Needs {
    interpreter: Option<String>,
    libraries: Vec<String>,
    run_path: Vec<String>,
    /// Bytes up to the end of what is loaded: symbols and debug information lie behind.
    loaded_end: u64,
}

/// A file that is read where it is wanted.
trait Content {
    fn length(&self) -> u64;
    /// A part of it, if it is all there and no larger than a table may be.
    fn part(&self, offset: u64, size: u64) -> Option<Cow<'_, [u8]>>;
}

impl Content for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn part(&self, offset: u64, size: u64) -> Option<Cow<'_, [u8]>> {
        let start = usize::try_from(offset).ok()?;
        self.get(start..start.checked_add(usize::try_from(size).ok()?)?).map(Cow::Borrowed)
    }
}

impl Content for File {
    fn length(&self) -> u64 {
        self.metadata().map_or(0, |facts| facts.len())
    }

    fn part(&self, offset: u64, size: u64) -> Option<Cow<'_, [u8]>> {
        if size > MAX_PART || offset.checked_add(size)? > self.length() {
            return None;
        }
        let mut part = vec![0; usize::try_from(size).ok()?];
        self.read_exact_at(&mut part, offset).ok().map(|()| Cow::Owned(part))
    }
}

/// An executable or library without what is not loaded: section headers are dropped, and everything behind the last segment.
#[derive(Clone, Debug)]
pub struct Stripped {
    path: PathBuf,
    length: u64,
}

impl Stripped {
    /// Bytes of it.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Its content, which is never in memory as a whole.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn content(&self) -> io::Result<impl Read + use<>> {
        let mut file = File::open(&self.path)?;
        let mut header = Vec::new();
        (&mut file).take(self.length.min(HEADER)).read_to_end(&mut header)?;
        // e_shoff, then e_shentsize, e_shnum and e_shstrndx: no section headers any more.
        for range in [0x28..0x30, 0x3A..0x40] {
            if let Some(field) = header.get_mut(range) {
                field.fill(0);
            }
        }
        let rest = self.length - header.len() as u64;
        Ok(io::Cursor::new(header).chain(file.take(rest)))
    }
}

/// The interpreter and every library, directly or not, that `executable` needs: paths on this machine, which are the
/// paths the image must have them at.
///
/// # Errors
/// When a file cannot be read or a library is not found.
pub fn libraries(executable: &Path) -> Result<BTreeSet<PathBuf>, ElfError> {
    let mut found = BTreeSet::new();
    let mut queue = vec![executable.to_path_buf()];
    let configured = configured_dirs();
    while let Some(path) = queue.pop() {
        let needs = needs(&path, &open(&path)?)?;
        let interpreter = needs.interpreter.iter().map(PathBuf::from);
        let origin = path.parent().unwrap_or(Path::new("/"));
        let dirs: Vec<PathBuf> = needs
            .run_path
            .iter()
            .map(|dir| PathBuf::from(dir.replace("$ORIGIN", &origin.to_string_lossy())))
            .chain(configured.iter().cloned())
            .collect();
        let mut next: Vec<PathBuf> = interpreter.collect();
        for library in &needs.libraries {
            let place = dirs
                .iter()
                .map(|dir| dir.join(library))
                .find(|place| place.is_file() && open(place).is_ok_and(|file| is_elf(&file)));
            next.push(
                place.ok_or_else(|| ElfError::Library { path: path.clone(), library: library.clone() })?,
            );
        }
        for place in next {
            if found.len() < MAX_LIBRARIES && found.insert(place.clone()) {
                queue.push(place);
            }
        }
    }
    Ok(found)
}

/// Where the loader looks: `/etc/ld.so.conf` with what it includes from one directory, then the usual places.
fn configured_dirs() -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    let mut files: Vec<PathBuf> = vec!["/etc/ld.so.conf".into()];
    if let Ok(entries) = std::fs::read_dir("/etc/ld.so.conf.d") {
        let mut included: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        included.sort();
        files.extend(included);
    }
    for file in files {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        dirs.extend(text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from));
    }
    let machine = std::env::consts::ARCH;
    for dir in [format!("/lib/{machine}-linux-gnu"), format!("/usr/lib/{machine}-linux-gnu")] {
        dirs.push(dir.into());
    }
    dirs.extend(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(PathBuf::from));
    dirs
}

/// The file without what is not loaded.
///
/// # Errors
/// When it cannot be read.
pub fn stripped(path: &Path) -> Result<Stripped, ElfError> {
    let length = needs(path, &open(path)?)?.loaded_end;
    Ok(Stripped { path: path.to_path_buf(), length })
}

fn open(path: &Path) -> Result<File, ElfError> {
    File::open(path).map_err(|source| ElfError::Read { path: path.to_path_buf(), source })
}

fn is_elf(content: &(impl Content + ?Sized)) -> bool {
    content.part(0, 6).as_deref() == Some(b"\x7fELF\x02\x01")
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

fn needs(path: &Path, content: &(impl Content + ?Sized)) -> Result<Needs, ElfError> {
    let wrong = |what| ElfError::Format { path: path.to_path_buf(), what };
    if !is_elf(content) {
        return Err(wrong("its first bytes"));
    }
    let table = number(content, 0x20, 8).ok_or_else(|| wrong("its header"))?;
    let entry_size = number(content, 0x36, 2).ok_or_else(|| wrong("its header"))?;
    let count = number(content, 0x38, 2).ok_or_else(|| wrong("its header"))?;
    let mut segments = Vec::new();
    for index in 0..count {
        let at = table.saturating_add(index * entry_size);
        let field = |offset: u64, size| number(content, at.saturating_add(offset), size);
        let segment = (|| {
            Some(Segment {
                kind: u32::try_from(field(0, 4)?).ok()?,
                offset: field(8, 8)?,
                address: field(16, 8)?,
                size: field(32, 8)?,
            })
        })();
        segments.push(segment.ok_or_else(|| wrong("its program headers"))?);
    }
    let bytes =
        |segment: &Segment| content.part(segment.offset, segment.size).ok_or_else(|| wrong("a segment"));
    let mut needs = Needs::default();
    let table_end = table.saturating_add(count * entry_size);
    let end = segments.iter().map(|segment| segment.offset.saturating_add(segment.size)).max();
    needs.loaded_end = end.unwrap_or(0).max(table_end).min(content.length());
    for segment in &segments {
        if segment.kind == PT_INTERP {
            needs.interpreter = Some(text(&bytes(segment)?, 0));
        }
    }
    let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) else { return Ok(needs) };
    let entries: Vec<(u64, u64)> = bytes(dynamic)?
        .chunks_exact(16)
        .filter_map(|entry| Some((number(entry, 0, 8)?, number(entry, 8, 8)?)))
        .take_while(|(tag, _)| *tag != 0)
        .collect();
    let Some(strings) = entries.iter().find(|(tag, _)| *tag == DT_STRTAB).map(|(_, address)| *address) else {
        return Ok(needs);
    };
    let home = segments.iter().find(|segment| {
        segment.kind == PT_LOAD
            && (segment.address..segment.address.saturating_add(segment.size)).contains(&strings)
    });
    let home = home.ok_or_else(|| wrong("its string table"))?;
    let rest = home.size - (strings - home.address);
    let size = entries.iter().find(|(tag, _)| *tag == DT_STRSZ).map_or(rest, |(_, size)| rest.min(*size));
    let strings = home.offset.checked_add(strings - home.address).and_then(|at| content.part(at, size));
    let strings = strings.ok_or_else(|| wrong("its string table"))?;
    for (tag, offset) in entries {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        match tag {
            DT_NEEDED => needs.libraries.push(text(&strings, offset)),
            DT_RUNPATH => needs.run_path.extend(text(&strings, offset).split(':').map(str::to_owned)),
            _ => {}
        }
    }
    Ok(needs)
}

/// A little-endian number of 2, 4 or 8 bytes.
fn number(content: &(impl Content + ?Sized), at: u64, size: u64) -> Option<u64> {
    let bytes = content.part(at, size)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn text(bytes: &[u8], at: usize) -> String {
    let bytes = bytes.get(at..).unwrap_or_default();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_files_are_refused_and_never_panic() {
        let own = std::env::current_exe().expect("own path");
        let content = std::fs::read(&own).expect("readable");
        for cut in [0, 5, 16, 0x30, 0x40, 0x60, 0x200] {
            let _ = needs(&own, &content[..cut.min(content.len())]);
        }
        for at in 0..0x400.min(content.len()) {
            let mut damaged = content[..content.len().min(0x4000)].to_vec();
            damaged[at] ^= 0xFF;
            let _ = needs(&own, damaged.as_slice());
        }
        assert!(matches!(needs(&own, b"#!/bin/sh".as_slice()), Err(ElfError::Format { .. })));
    }

    #[test]
    fn a_stripped_executable_still_runs() {
        let own = std::env::current_exe().expect("own path");
        let dir = tempfile::tempdir().expect("a directory");
        let copy = dir.path().join("copy");
        let small = stripped(&own).expect("stripped");
        assert!(small.length() <= std::fs::metadata(&own).expect("there").len());
        let written = io::copy(&mut small.content().expect("open"), &mut File::create(&copy).expect("made"));
        assert_eq!(written.expect("written"), small.length());
        std::os::unix::fs::PermissionsExt::set_mode(
            &mut std::fs::metadata(&copy).expect("there").permissions(),
            0o755,
        );
        std::fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("made executable");
        let listed = std::process::Command::new(&copy).arg("--list").output().expect("it runs");
        assert!(String::from_utf8_lossy(&listed.stdout).contains("a_stripped_executable_still_runs"));
    }
}
