//! Reads a profile's uploaded source into texts. Bounded: an archive cannot make the hub read more than it should.

use std::io::Read;

use flate2::read::GzDecoder;
use fleet_objects::ContentFormat;

use crate::error::Error;

/// What an archive may unpack to.
const MAX_UNPACKED: u64 = 64 << 20;
/// Files in an archive.
const MAX_FILES: usize = 10_000;

/// The texts of an uploaded source, in the order of their names.
///
/// # Errors
/// What cannot be read of it, or that it is too large.
pub fn read_source(format: ContentFormat, bytes: &[u8]) -> Result<Vec<(String, String)>, Error> {
    match format {
        ContentFormat::Yaml => {
            let text = std::str::from_utf8(bytes)
                .map_err(|_| Error::Invalid("source: not UTF-8 text".to_owned()))?;
            Ok(vec![("source".to_owned(), text.to_owned())])
        }
        ContentFormat::TarGz => read_archive(bytes),
    }
}

fn read_archive(bytes: &[u8]) -> Result<Vec<(String, String)>, Error> {
    let invalid =
        |error: std::io::Error| Error::Invalid(format!("source: not a readable tar.gz archive: {error}"));
    // One byte above the bound tells "too large" from "just fits".
    let mut archive = tar::Archive::new(GzDecoder::new(bytes).take(MAX_UNPACKED + 1));
    let mut files = Vec::new();
    let mut total = 0_u64;
    for (index, entry) in archive.entries().map_err(invalid)?.enumerate() {
        let mut entry = entry.map_err(invalid)?;
        total = total.saturating_add(entry.size());
        if total > MAX_UNPACKED || index >= MAX_FILES {
            return Err(Error::Invalid(format!(
                "source: unpacks to more than {MAX_UNPACKED} bytes or {MAX_FILES} files"
            )));
        }
        let name = entry.path().map_err(invalid)?.to_string_lossy().into_owned();
        // Names are only labels in messages: nothing is ever written where they point.
        let wanted = [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending));
        if !entry.header().entry_type().is_file() || !wanted {
            continue;
        }
        let mut text = String::new();
        entry
            .read_to_string(&mut text)
            .map_err(|_| Error::Invalid(format!("source: {name} is not UTF-8 text")))?;
        files.push((name, text));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_cksum();
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn only_manifests_in_order() {
        let files = read_source(
            ContentFormat::TarGz,
            &archive(&[("b.yaml", "b: 1"), ("README.md", "x"), ("a/a.json", "{}")]),
        )
        .unwrap();
        assert_eq!(files.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a/a.json", "b.yaml"]);
        assert!(read_source(ContentFormat::TarGz, b"nonsense").is_err());
        assert!(read_source(ContentFormat::Yaml, b"\xff").is_err());
    }
}
