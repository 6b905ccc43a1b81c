//! The tool image, made of an executable that has the `tool` subcommand.
//!
//! The image holds the executable as `/fairlead` and the loader and libraries it needs at the paths where they lie on
//! this machine, each without symbols and debug information. Nothing else: no shell, no users. It is as large as the
//! executable's loaded part, a few MB in a release build and some tens in a debug build.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use tool_image::{EXECUTABLE, TOOL_IMAGE};

use crate::archive::{self, Config, Entry};
use crate::elf::{self, ElfError};

/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;

/// Why the image was not made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The executable cannot be packed.
    #[error("the executable cannot be made an image")]
    Elf(#[from] ElfError),
    /// The archive could not be written.
    #[error("cannot write the image archive {path}")]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// This machine's architecture as images name it.
#[must_use]
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// What the tool image holds, by path.
///
/// # Errors
/// When the executable or a library of it cannot be read.
pub fn tool_files(executable: &Path) -> Result<BTreeMap<String, Entry>, BuildError> {
    let mut entries = BTreeMap::new();
    for (dir, mode) in [
        ("tmp", 0o1777),
        ("workspace", 0o777),
        ("etc", 0o755),
        ("proc", 0o755),
        ("sys", 0o755),
        ("dev", 0o755),
    ] {
        entries.insert(dir.to_owned(), Entry::Directory { mode });
    }
    let executable_name = EXECUTABLE.trim_start_matches('/');
    entries
        .insert(executable_name.to_owned(), Entry::Program { file: elf::stripped(executable)?, mode: 0o755 });
    for library in elf::libraries(executable)? {
        let path = library.to_string_lossy().trim_start_matches('/').to_owned();
        add_parents(&mut entries, &path);
        entries.insert(path, Entry::Program { file: elf::stripped(&library)?, mode: 0o755 });
    }
    Ok(entries)
}

fn add_parents(entries: &mut BTreeMap<String, Entry>, path: &str) {
    for (at, _) in path.match_indices('/') {
        entries.entry(path[..at].to_owned()).or_insert(Entry::Directory { mode: 0o755 });
    }
}

/// Makes the tool image of `executable` as an archive, which appears whole or not at all.
///
/// # Errors
/// When the executable or a library of it cannot be read, or the file not be written.
pub fn write_tool_image(executable: &Path, archive: &Path) -> Result<(), BuildError> {
    let config = Config {
        reference: TOOL_IMAGE.to_owned(),
        entrypoint: vec![EXECUTABLE.to_owned(), "tool".to_owned()],
        command: vec!["pause".to_owned()],
        architecture: architecture().to_owned(),
    };
    let entries = tool_files(executable)?;
    let partial = archive.with_extension("partial");
    let write = || -> io::Result<()> {
        let out = BufWriter::with_capacity(BUFFER, File::create(&partial)?);
        archive::write(&config, &entries, out)?.flush()?;
        std::fs::rename(&partial, archive)
    };
    write().map_err(|source| BuildError::Write { path: archive.to_path_buf(), source })
}
