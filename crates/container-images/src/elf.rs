//! What an ELF executable needs to run, and its smallest form.
//!
//! Only 64-bit little-endian files are read: every machine Fairlead is built for has those.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_RUNPATH: u64 = 29;

/// Libraries of one executable, at most: a guard against circles that aren't.
const MAX_LIBRARIES: usize = 256;

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
    loaded_end: usize,
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
        let content = read(&path)?;
        let needs = needs(&path, &content)?;
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
            let place = dirs.iter().map(|dir| dir.join(library)).find(|place| {
                place.is_file()
                    && read(place).is_ok_and(|content| content.get(..6) == Some(b"\x7fELF\x02\x01"))
            });
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

/// The file without what is not loaded: section headers are dropped, and everything behind the last segment.
///
/// # Errors
/// When it cannot be read.
pub fn stripped(path: &Path) -> Result<Vec<u8>, ElfError> {
    let mut content = read(path)?;
    let end = needs(path, &content)?.loaded_end;
    content.truncate(end);
    // e_shoff, then e_shentsize, e_shnum and e_shstrndx: no section headers any more.
    for range in [0x28..0x30, 0x3A..0x40] {
        if let Some(field) = content.get_mut(range) {
            field.fill(0);
        }
    }
    Ok(content)
}

fn read(path: &Path) -> Result<Vec<u8>, ElfError> {
    std::fs::read(path).map_err(|source| ElfError::Read { path: path.to_path_buf(), source })
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

fn needs(path: &Path, content: &[u8]) -> Result<Needs, ElfError> {
    let wrong = |what| ElfError::Format { path: path.to_path_buf(), what };
    if content.get(..6) != Some(b"\x7fELF\x02\x01") {
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
        |segment: &Segment| slice(content, segment.offset, segment.size).ok_or_else(|| wrong("a segment"));
    let mut needs = Needs::default();
    let table_end = table.saturating_add(count * entry_size);
    let end = segments.iter().map(|segment| segment.offset.saturating_add(segment.size)).max();
    needs.loaded_end =
        usize::try_from(end.unwrap_or(0).max(table_end)).unwrap_or(usize::MAX).min(content.len());
    for segment in &segments {
        if segment.kind == PT_INTERP {
            needs.interpreter = Some(text(bytes(segment)?, 0));
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
    let strings = slice(content, home.offset, home.size)
        .and_then(|bytes| bytes.get(usize::try_from(strings - home.address).ok()?..))
        .ok_or_else(|| wrong("its string table"))?;
    for (tag, offset) in entries {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        match tag {
            DT_NEEDED => needs.libraries.push(text(strings, offset)),
            DT_RUNPATH => needs.run_path.extend(text(strings, offset).split(':').map(str::to_owned)),
            _ => {}
        }
    }
    Ok(needs)
}

fn slice(content: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    content.get(start..start.checked_add(usize::try_from(size).ok()?)?)
}

/// A little-endian number of 2, 4 or 8 bytes.
fn number(content: &[u8], at: u64, size: u64) -> Option<u64> {
    slice(content, at, size)
        .map(|bytes| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
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
        let content = read(&own).expect("readable");
        for cut in [0, 5, 16, 0x30, 0x40, 0x60, 0x200] {
            let _ = needs(&own, &content[..cut.min(content.len())]);
        }
        for at in 0..0x400.min(content.len()) {
            let mut damaged = content[..content.len().min(0x4000)].to_vec();
            damaged[at] ^= 0xFF;
            let _ = needs(&own, &damaged);
        }
        assert!(matches!(needs(&own, b"#!/bin/sh"), Err(ElfError::Format { .. })));
    }

    #[test]
    fn a_stripped_executable_still_runs() {
        let own = std::env::current_exe().expect("own path");
        let dir = tempfile::tempdir().expect("a directory");
        let copy = dir.path().join("copy");
        let small = stripped(&own).expect("stripped");
        assert!(small.len() as u64 <= std::fs::metadata(&own).expect("there").len());
        std::fs::write(&copy, small).expect("written");
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
