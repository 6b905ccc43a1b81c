//! Kept files as one archive, tar in gzip: the same bytes for the same files, whoever owns them and when they were written.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Writes an archive of `files`, path and name in the archive; `open` answers a file's size and content.
///
/// # Errors
/// When a file cannot be read or became shorter meanwhile, a name is too long for tar, or `out` cannot be written.
pub fn write<R: Read>(
    files: &[(String, String)],
    mut open: impl FnMut(&str) -> io::Result<(u64, R)>,
    out: impl Write,
) -> io::Result<()> {
    let mut tar = tar::Builder::new(GzEncoder::new(out, Compression::default()));
    for (path, name) in files {
        let (size, content) = open(path)?;
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        tar.append_data(&mut header, name, Exactly { content, left: size })?;
    }
    tar.into_inner()?.finish()?.flush()
}

/// So many bytes of a file that may grow or shrink meanwhile.
struct Exactly<R> {
    content: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.content.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn an_archive_holds_the_files_by_their_names() {
        let files =
            [("/data/a".to_owned(), "a.txt".to_owned()), ("/data/b".to_owned(), "deep/b.txt".to_owned())];
        let open = |path: &str| Ok((4, io::Cursor::new(format!("{}56", &path[5..]).into_bytes())));
        let mut out = Vec::new();
        write(&files, open, &mut out).expect("written");
        let mut found = Vec::new();
        for entry in tar::Archive::new(GzDecoder::new(out.as_slice())).entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a path").to_string_lossy().into_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text).expect("read");
            found.push((name, text));
        }
        assert_eq!(
            found,
            [("a.txt".to_owned(), "/a56".to_owned()), ("deep/b.txt".to_owned(), "/b56".to_owned())]
        );
        let short = |_: &str| Ok((9, io::Cursor::new(b"short".to_vec())));
        assert_eq!(write(&files, short, Vec::new()).expect_err("short").kind(), io::ErrorKind::UnexpectedEof);
    }
}
