//! Unpacks what a registry holds: files and directories below one place, and nothing else.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::error::Error;

/// Files and bytes of an artifact at most, unpacked: a small archive can say a great deal.
const MAX_FILES: usize = 50_000;
const MAX_BYTES: u64 = 256 << 20;

/// Unpacks a tar archive, compressed by gzip or not, into an empty directory.
///
/// # Errors
/// When it is no archive, too large, or names a place outside.
pub(crate) fn unpack(bytes: &[u8], into: &Path) -> Result<(), Error> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        entries(flate2::read::GzDecoder::new(bytes), into)
    } else {
        entries(bytes, into)
    }
}

/// Where the content of an unpacked archive is: a chart's has a directory of the chart's name.
pub(crate) fn content(into: &Path) -> PathBuf {
    let mut entries = std::fs::read_dir(into).into_iter().flatten().flatten();
    match (entries.next(), entries.next()) {
        (Some(only), None) if only.path().join("Chart.yaml").is_file() => only.path(),
        _ => into.to_owned(),
    }
}

fn entries(bytes: impl Read, into: &Path) -> Result<(), Error> {
    let unreadable = |error: std::io::Error| Error::Invalid(format!("it is no readable archive: {error}"));
    // One byte above the bound tells "too large" from "just fits".
    let mut archive = tar::Archive::new(bytes.take(MAX_BYTES + 1));
    let mut left = MAX_BYTES;
    for (index, entry) in archive.entries().map_err(unreadable)?.enumerate() {
        let mut entry = entry.map_err(unreadable)?;
        let path = entry.path().map_err(unreadable)?.into_owned();
        let fits = left.checked_sub(entry.size()).filter(|_| index < MAX_FILES);
        left = fits.ok_or_else(|| {
            Error::Invalid(format!("it unpacks to more than {MAX_BYTES} bytes or {MAX_FILES} files"))
        })?;
        let stays = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !stays {
            return Err(Error::Invalid(format!("it names {}, which leads out", path.display())));
        }
        let target = into.join(&path);
        match entry.header().entry_type() {
            tar::EntryType::Directory => {
                std::fs::create_dir_all(&target).map_err(Error::file("create", &target))?;
            }
            tar::EntryType::Regular => {
                if let Some(parent) = target.parent() {
                    std::fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
                }
                let mut file = std::fs::File::create(&target).map_err(Error::file("write", &target))?;
                std::io::copy(&mut entry, &mut file).map_err(Error::file("write", &target))?;
            }
            // Links, devices and what formats say about themselves hold no manifest.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(name: &str, content: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        // By hand: the builder itself refuses what leads out.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
        builder.into_inner().unwrap()
    }

    #[test]
    fn files_come_out_and_nothing_leaves() {
        let into = tempfile::tempdir().unwrap();
        unpack(&archive("a/map.yaml", "kind: A"), into.path()).unwrap();
        assert_eq!(std::fs::read_to_string(into.path().join("a/map.yaml")).unwrap(), "kind: A");
        unpack(&crate::fixture::packed(&[("b.yaml", "kind: B")]), into.path()).unwrap();
        assert!(into.path().join("b.yaml").is_file());
        for bad in ["../out.yaml", "/out.yaml"] {
            let said = unpack(&archive(bad, "x"), into.path()).unwrap_err().to_string();
            assert!(said.contains("leads out"), "{said}");
        }
        assert!(unpack(b"nonsense that is no archive at all", into.path()).is_err());
    }
}
