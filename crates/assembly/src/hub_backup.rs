//! A whole hub in one file: a snapshot of its store, its authority and keys, its content and its inbox.
//!
//! The file is a gzip-compressed tar archive whose last entry lists every other with its digest, sealed piece by piece
//! when a key is given. It is there whole or not at all, and it is restored whole or not at all. A restored hub is
//! another life of the hub: agents see another epoch, keep what they hold and report it.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use sealing::Key;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::backup::{self, Place};
use crate::error::{AssemblyError, Cause};

/// What a hub is made of besides its store. What is not named here is made anew.
const PARTS: [&str; 2] = ["pki", "data"];
const SNAPSHOT: &str = "store.snap";
const LIST: &str = "backup.json";
const FORMAT: u32 = 1;
/// Bytes that are sealed together.
const PIECE: usize = 1 << 20;
/// Entries of a backup at most: content is one file each.
const MAX_ENTRIES: usize = 1_000_000;
/// Bytes of the list at most, some 150 each.
const MAX_LIST: u64 = 256 << 20;

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// How it is written.
    pub format: u32,
    /// When it was begun, RFC 3339.
    pub taken: String,
    /// Its files.
    pub files: Vec<Entry>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path below the hub's directory.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// Writes a backup of the hub in `directory`, whose store's snapshot was just taken to the file `snapshot`. The hub may
/// run: its content never changes, and what is appended to its inbox meanwhile belongs to the next backup.
///
/// # Errors
/// When something cannot be read, or the file not written.
pub async fn write(
    directory: &Path,
    snapshot: &Path,
    file: &Path,
    key: Option<Key>,
) -> Result<Contents, AssemblyError> {
    let (directory, snapshot, out) = (directory.to_owned(), snapshot.to_owned(), file.to_owned());
    let written = blocking(move || {
        let mut name = out.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let done = write_part(&directory, &snapshot, &part, key);
        let kept = done.and_then(|contents| {
            std::fs::rename(&part, &out)?;
            Ok(contents)
        });
        if kept.is_err() {
            // Of no use; if it cannot be removed the first error still says why.
            let _ = std::fs::remove_file(&part);
        }
        kept
    });
    written.await.map_err(|cause| AssemblyError::new(format!("failed to write `{}`", file.display()), cause))
}

/// Makes a hub of a backup in `directory`, where there is nothing yet. Everything is checked before anything is kept.
///
/// # Errors
/// When the file is damaged or of another key, or the directory is not empty.
pub async fn restore(file: &Path, directory: &Path, key: Option<Key>) -> Result<Contents, AssemblyError> {
    let failed = |cause: Cause| {
        let what = format!("failed to restore `{}` into `{}`", file.display(), directory.display());
        AssemblyError::new(what, cause)
    };
    if std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(failed("the directory is not empty".into()));
    }
    let mut name = directory.as_os_str().to_owned();
    name.push(".restoring");
    let beside = PathBuf::from(name);
    let (from, to) = (file.to_owned(), beside.clone());
    let unpacked = blocking(move || {
        // Left by a restore that was cut short.
        match std::fs::remove_dir_all(&to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        unpack(&from, &to, key)
    });
    let done = async {
        let contents = unpacked.await.map_err(failed)?;
        let snapshot = beside.join(SNAPSHOT);
        backup::restore(&snapshot, &Place::Directory(beside.clone())).await?;
        let moved = std::fs::remove_file(&snapshot).and_then(|()| match std::fs::remove_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => std::fs::rename(&beside, directory),
        });
        moved.map_err(|error| failed(error.into()))?;
        Ok(contents)
    };
    let done = done.await;
    if done.is_err() {
        let _ = std::fs::remove_dir_all(&beside);
    }
    done
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Cause> + Send + 'static,
) -> Result<T, Cause> {
    tokio::task::spawn_blocking(work).await?
}

fn write_part(directory: &Path, snapshot: &Path, part: &Path, key: Option<Key>) -> Result<Contents, Cause> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let _ = std::fs::remove_file(part);
    // It holds the hub's keys.
    let file = File::options().write(true).create_new(true).mode(0o600).open(part)?;
    let out = BufWriter::new(Pieces { out: file, key, buffer: Vec::new(), index: 0 });
    let mut archive = tar::Builder::new(GzEncoder::new(out, Compression::fast()));
    let taken = jiff::Timestamp::now();
    let mut contents = Contents { format: FORMAT, taken: taken.to_string(), files: Vec::new() };
    contents.files.push(append(&mut archive, snapshot, SNAPSHOT)?);
    for name in PARTS {
        let mut found = Vec::new();
        files(&directory.join(name), name, &mut found)?;
        for path in found {
            match append(&mut archive, &directory.join(&path), &path) {
                Ok(entry) => contents.files.push(entry),
                // Acknowledged and forgotten meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let list = serde_json::to_vec(&contents)?;
    append_bytes(&mut archive, LIST, &list)?;
    let out = archive.into_inner()?.finish()?;
    let mut pieces = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    pieces.finish()?;
    pieces.out.sync_all()?;
    Ok(contents)
}

/// Every file below a directory, by its path below the hub's, in order; files that are being written are left out.
fn files(directory: &Path, prefix: &str, into: &mut Vec<String>) -> Result<(), Cause> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut entries = entries.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().map_err(|_| "a file's name is not UTF-8")?;
        let path = format!("{prefix}/{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files(&entry.path(), &path, into)?;
        } else if kind.is_file() && !name.starts_with('.') && !name.ends_with(".tmp") {
            into.push(path);
        }
    }
    Ok(())
}

fn append<W: Write>(archive: &mut tar::Builder<W>, file: &Path, path: &str) -> io::Result<Entry> {
    let file = File::open(file)?;
    // As long as it is now: a log may grow while it is read.
    let size = file.metadata()?.len();
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o600);
    let mut hashed = Hashed { inner: BufReader::new(file).take(size), digest: Sha256::new(), read: 0 };
    archive.append_data(&mut header, path, &mut hashed)?;
    if hashed.read != size {
        return Err(io::Error::other(format!("{path} became shorter while it was read")));
    }
    Ok(Entry { path: path.to_owned(), size, sha256: hex::encode(hashed.digest.finalize()) })
}

fn append_bytes<W: Write>(archive: &mut tar::Builder<W>, path: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    archive.append_data(&mut header, path, bytes)
}

fn unpack(file: &Path, directory: &Path, key: Option<Key>) -> Result<Contents, Cause> {
    use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
    let make = |path: &Path| std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    make(directory)?;
    let mut archive = tar::Archive::new(GzDecoder::new(Opened::new(BufReader::new(File::open(file)?), key)?));
    let (mut found, mut list) = (Vec::new(), None);
    for entry in archive.entries()? {
        let mut entry = entry?;
        if list.is_some() || found.len() >= MAX_ENTRIES || !entry.header().entry_type().is_file() {
            return Err("it holds something that no backup holds".into());
        }
        let path = entry.path()?.to_str().ok_or("a path is not UTF-8")?.to_owned();
        if path == LIST {
            let mut text = Vec::new();
            entry.take(MAX_LIST).read_to_end(&mut text)?;
            list = Some(serde_json::from_slice::<Contents>(&text)?);
            continue;
        }
        if !is_ours(&path) {
            return Err(format!("{path:?} does not belong into a hub's directory").into());
        }
        let target = directory.join(&path);
        target.parent().map_or(Ok(()), make)?;
        let mut out = File::options().write(true).create_new(true).mode(0o600).open(&target)?;
        let mut hashed = Hashed { inner: &mut entry, digest: Sha256::new(), read: 0 };
        io::copy(&mut hashed, &mut out)?;
        out.sync_all()?;
        found.push(Entry { path, size: hashed.read, sha256: hex::encode(hashed.digest.finalize()) });
    }
    let contents = list.ok_or("it ends before its list: it is not whole")?;
    if contents.format > FORMAT {
        return Err(format!("format {} is newer than {FORMAT}", contents.format).into());
    }
    if contents.files != found {
        return Err("its files are not those of its list: it is damaged".into());
    }
    // What follows the archive is checked, too: the last sealed piece says that it is the last.
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(contents)
}

/// Whether a path is one of a backup and stays below the directory.
fn is_ours(path: &str) -> bool {
    let mut components = Path::new(path).components();
    let first = components.next();
    let inside = matches!(first, Some(Component::Normal(first)) if PARTS.iter().any(|part| first == *part));
    path == SNAPSHOT || (inside && components.all(|one| matches!(one, Component::Normal(_))))
}

/// Notes what passes.
struct Hashed<R> {
    inner: R,
    digest: Sha256,
    read: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.digest.update(&buffer[..count]);
        self.read += count as u64;
        Ok(count)
    }
}

/// Seals what is written piece by piece, each with its number and whether it is the last, so that pieces cannot be left
/// out, repeated or moved. Without a key everything passes as it is.
struct Pieces<W> {
    out: W,
    key: Option<Key>,
    buffer: Vec<u8>,
    index: u64,
}

/// For what a piece is sealed.
fn place(index: u64, last: bool) -> Vec<u8> {
    format!("fairlead hub backup {index} {}", if last { "last" } else { "more" }).into_bytes()
}

impl<W: Write> Pieces<W> {
    fn piece(&mut self, last: bool) -> io::Result<()> {
        let Some(key) = &self.key else { return Ok(()) };
        let sealed = key.seal(&place(self.index, last), &self.buffer).map_err(io::Error::other)?;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(&sealed)?;
        self.buffer.clear();
        self.index += 1;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.piece(true)?;
        self.out.flush()
    }
}

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.key.is_none() {
            return self.out.write(bytes);
        }
        let count = bytes.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        if self.buffer.len() == PIECE {
            self.piece(false)?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads what [`Pieces`] wrote.
struct Opened<R> {
    from: R,
    key: Option<Key>,
    piece: Vec<u8>,
    at: usize,
    index: u64,
    ended: bool,
}

impl<R: io::BufRead> Opened<R> {
    fn new(mut from: R, key: Option<Key>) -> io::Result<Self> {
        // gzip begins with 1f 8b, a piece with its length.
        let plain = from.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        match (plain, &key) {
            (true, Some(_)) => Err(io::Error::other("it is not encrypted; restore it without a key")),
            (false, None) => Err(io::Error::other("it is encrypted, or no backup; restore it with its key")),
            _ => Ok(Self { from, key, piece: Vec::new(), at: 0, index: 0, ended: false }),
        }
    }

    fn next(&mut self, key: &Key) -> io::Result<()> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > PIECE + sealing::OVERHEAD {
            return Err(io::Error::other("a piece is longer than pieces are: it is damaged"));
        }
        let mut sealed = vec![0; length];
        self.from.read_exact(&mut sealed)?;
        let last = self.from.fill_buf()?.is_empty();
        self.piece = key.unseal(&place(self.index, last), &sealed).map_err(io::Error::other)?;
        (self.at, self.ended) = (0, last);
        self.index += 1;
        Ok(())
    }
}

impl<R: io::BufRead> Read for Opened<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(key) = self.key.take() else { return self.from.read(buffer) };
        while self.at == self.piece.len() && !self.ended {
            if let Err(error) = self.next(&key) {
                self.key = Some(key);
                return Err(error);
            }
        }
        self.key = Some(key);
        let count = buffer.len().min(self.piece.len() - self.at);
        buffer[..count].copy_from_slice(&self.piece[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
