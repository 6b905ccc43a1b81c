//! Files of any size that only a key's holder reads: written at their end, read from any byte on, a piece of 64 KiB in memory.
//!
//! A file is a header (magic, a number of its own) and pieces, each sealed for the file's place, its number and its own
//! index, so that pieces cannot change places unnoticed. What was cut off at the end is not noticed here: whoever knows a
//! file's digest compares it. What a crash left torn at the end is dropped when the file is continued.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::rand;

use crate::bulk::{BULK_OVERHEAD, BulkKey};

/// What a sealed file begins with: eight bytes, so that no other file does by chance.
const MAGIC: [u8; 8] = [0xfa, b's', b'f', b'i', b'l', b'e', 0x0d, 1];
const ID_BYTES: usize = 16;
const HEADER: usize = MAGIC.len() + ID_BYTES;
/// Bytes of a piece as they are read.
const PIECE: usize = 64 << 10;
/// Bytes of a whole piece as they are kept.
const KEPT: usize = PIECE + BULK_OVERHEAD;

/// How files are kept: sealed, or as they are where there is no key. Clones share the key.
#[derive(Clone, Debug, Default)]
pub struct Files(Option<Arc<BulkKey>>);

/// A file that is written at its end.
pub enum Output {
    /// As it is.
    Plain(File),
    /// Sealed.
    Sealed(Sealed),
}

/// A file that is read, from where it was last.
pub enum Input {
    /// As it is.
    Plain(File),
    /// Sealed.
    Sealed(Opened),
}

/// A sealed file that is written.
pub struct Sealed {
    file: File,
    key: Arc<BulkKey>,
    place: Vec<u8>,
    /// Whole pieces on the disk.
    pieces: u64,
    /// What comes after them.
    rest: Vec<u8>,
    /// The rest is not on the disk as it is here.
    changed: bool,
}

/// A sealed file that is read.
pub struct Opened {
    file: File,
    key: Arc<BulkKey>,
    place: Vec<u8>,
    bytes: u64,
    position: u64,
    /// The piece read last.
    piece: Option<(u64, Vec<u8>)>,
}

impl Files {
    /// Sealed with a key.
    #[must_use]
    pub fn sealed(key: Arc<BulkKey>) -> Self {
        Self(Some(key))
    }

    /// Makes a file, or goes on with one that is there. `place`: where it belongs, which its readers must name.
    ///
    /// # Errors
    /// As the file system's; [`io::ErrorKind::InvalidData`] when more of it than its last piece, which a crash may have torn, is
    /// damaged, sealed with another key or for another place.
    pub fn append(&self, path: &Path, place: &[u8]) -> io::Result<Output> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let Some(key) = &self.0 else { return at_end(file).map(Output::Plain) };
        match header(&file)? {
            Header::None => Sealed::begin(file, key, place).map(Output::Sealed),
            Header::Sealed(id) => Sealed::go_on(file, key, place, &id).map(Output::Sealed),
            // What an earlier release, or a process without a key, began.
            Header::Plain => at_end(file).map(Output::Plain),
        }
    }

    /// Opens a file, from its beginning.
    ///
    /// # Errors
    /// As the file system's; [`io::ErrorKind::InvalidData`] when it is sealed and there is no key.
    pub fn read(&self, path: &Path, place: &[u8]) -> io::Result<Input> {
        let mut file = File::open(path)?;
        match (header(&file)?, &self.0) {
            (Header::Sealed(id), Some(key)) => {
                let bytes = plain_length(file.metadata()?.len());
                let (key, place) = (Arc::clone(key), own_place(place, &id));
                Ok(Input::Sealed(Opened { file, key, place, bytes, position: 0, piece: None }))
            }
            (Header::Sealed(_), None) => Err(broken("it is sealed, and its key is not there")),
            _ => {
                file.seek(SeekFrom::Start(0))?;
                Ok(Input::Plain(file))
            }
        }
    }

    /// Bytes of a file as its readers see them.
    ///
    /// # Errors
    /// As the file system's.
    pub fn length(&self, path: &Path) -> io::Result<u64> {
        let file = File::open(path)?;
        let kept = file.metadata()?.len();
        Ok(match header(&file)? {
            Header::Sealed(_) => plain_length(kept),
            Header::Plain | Header::None => kept,
        })
    }
}

enum Header {
    /// There is nothing, or less than a header: a crash while it was written.
    None,
    Sealed([u8; ID_BYTES]),
    Plain,
}

fn header(file: &File) -> io::Result<Header> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::with_capacity(HEADER);
    file.take(HEADER as u64).read_to_end(&mut bytes)?;
    let begun = bytes.len().min(MAGIC.len());
    if bytes[..begun] != MAGIC[..begun] {
        return Ok(Header::Plain);
    }
    match bytes.get(MAGIC.len()..HEADER).and_then(|id| id.try_into().ok()) {
        Some(id) => Ok(Header::Sealed(id)),
        None => Ok(Header::None),
    }
}

fn at_end(mut file: File) -> io::Result<File> {
    file.seek(SeekFrom::End(0))?;
    Ok(file)
}

fn own_place(place: &[u8], id: &[u8; ID_BYTES]) -> Vec<u8> {
    [place, id].concat()
}

fn place_of(place: &[u8], index: u64) -> Vec<u8> {
    [place, &index.to_be_bytes()].concat()
}

fn plain_length(kept: u64) -> u64 {
    let pieces = kept.saturating_sub(HEADER as u64);
    let rest = pieces % KEPT as u64;
    pieces / KEPT as u64 * PIECE as u64 + rest.saturating_sub(BULK_OVERHEAD as u64)
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Sealed {
    fn begin(mut file: File, key: &Arc<BulkKey>, place: &[u8]) -> io::Result<Self> {
        let mut id = [0; ID_BYTES];
        rand::fill(&mut id).map_err(|_| io::Error::other("the machine gives no random bytes"))?;
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[MAGIC.as_slice(), &id].concat())?;
        let (key, place) = (Arc::clone(key), own_place(place, &id));
        Ok(Self { file, key, place, pieces: 0, rest: Vec::new(), changed: false })
    }

    fn go_on(file: File, key: &Arc<BulkKey>, place: &[u8], id: &[u8; ID_BYTES]) -> io::Result<Self> {
        let kept = file.metadata()?.len().saturating_sub(HEADER as u64);
        let (mut pieces, short) = (kept / KEPT as u64, kept % KEPT as u64);
        let place = own_place(place, id);
        let mut opened = Opened { file, key: Arc::clone(key), place, bytes: 0, position: 0, piece: None };
        let mut rest = Vec::new();
        // The last one may be torn; the one before it cannot be.
        if short > 0 {
            rest = opened.kept(pieces).unwrap_or_default();
        } else if pieces > 0 && opened.kept(pieces - 1).is_err() {
            pieces -= 1;
        }
        if pieces > 0 {
            opened.kept(pieces - 1)?;
        }
        let Opened { file, key, place, .. } = opened;
        let end = if rest.is_empty() { 0 } else { rest.len() as u64 + BULK_OVERHEAD as u64 };
        file.set_len(HEADER as u64 + pieces * KEPT as u64 + end)?;
        Ok(Self { file, key, place, pieces, rest, changed: false })
    }

    fn length(&self) -> u64 {
        self.pieces * PIECE as u64 + self.rest.len() as u64
    }

    fn put(&mut self, piece: &[u8]) -> io::Result<()> {
        let sealed = self.key.seal(&place_of(&self.place, self.pieces), piece).map_err(io::Error::other)?;
        self.file.seek(SeekFrom::Start(HEADER as u64 + self.pieces * KEPT as u64))?;
        self.file.write_all(&sealed)
    }

    fn write_rest(&mut self) -> io::Result<()> {
        if self.changed && !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            let put = self.put(&rest);
            self.rest = rest;
            put?;
        }
        self.changed = false;
        Ok(())
    }
}

impl Write for Sealed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.rest.len());
        self.rest.extend_from_slice(&bytes[..taken]);
        self.changed |= taken > 0;
        if self.rest.len() == PIECE {
            let piece = std::mem::take(&mut self.rest);
            if let Err(error) = self.put(&piece) {
                self.rest = piece;
                self.rest.truncate(PIECE - taken);
                return Err(error);
            }
            self.pieces += 1;
            self.changed = false;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_rest()
    }
}

impl Opened {
    /// A piece by its index.
    fn kept(&mut self, index: u64) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(HEADER as u64 + index * KEPT as u64))?;
        let mut sealed = Vec::with_capacity(KEPT);
        (&self.file).take(KEPT as u64).read_to_end(&mut sealed)?;
        let opened = self.key.unseal(&place_of(&self.place, index), &sealed);
        opened.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.bytes || buffer.is_empty() {
            return Ok(0);
        }
        let (index, within) = (self.position / PIECE as u64, (self.position % PIECE as u64) as usize);
        if self.piece.as_ref().is_none_or(|(known, _)| *known != index) {
            self.piece = Some((index, self.kept(index)?));
        }
        let piece = self.piece.as_ref().map(|(_, piece)| piece.as_slice()).unwrap_or_default();
        let rest = piece.get(within..).filter(|rest| !rest.is_empty());
        let rest = rest.ok_or_else(|| broken("a piece is shorter than it was"))?;
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        self.position += read as u64;
        Ok(read)
    }
}

impl Output {
    /// Bytes so far, as readers see them once they are flushed.
    ///
    /// # Errors
    /// As the file system's.
    pub fn length(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Sealed(sealed) => Ok(sealed.length()),
        }
    }

    /// Throws away what has come.
    ///
    /// # Errors
    /// As the file system's.
    pub fn clear(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => {
                file.set_len(0)?;
                file.seek(SeekFrom::Start(0)).map(drop)
            }
            Self::Sealed(sealed) => {
                (sealed.pieces, sealed.changed) = (0, false);
                sealed.rest.clear();
                sealed.file.set_len(HEADER as u64)
            }
        }
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// As the file system's.
    pub fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        match self {
            Self::Plain(file) => file.sync_all(),
            Self::Sealed(sealed) => sealed.file.sync_all(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Sealed(sealed) => sealed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Sealed(sealed) => sealed.flush(),
        }
    }
}

impl Input {
    /// Bytes of all of it.
    ///
    /// # Errors
    /// As the file system's.
    pub fn length(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Sealed(opened) => Ok(opened.bytes),
        }
    }

    /// Goes on from this byte.
    ///
    /// # Errors
    /// As the file system's.
    pub fn seek(&mut self, position: u64) -> io::Result<()> {
        match self {
            Self::Plain(file) => file.seek(SeekFrom::Start(position)).map(drop),
            Self::Sealed(opened) => {
                opened.position = position;
                Ok(())
            }
        }
    }

    /// The next bytes, as many as there are up to `most`.
    ///
    /// # Errors
    /// As the file system's; [`io::ErrorKind::InvalidData`] when they were changed.
    pub fn next(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.take(most as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(buffer),
            Self::Sealed(opened) => opened.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::KEY_BYTES;

    fn files(number: u8) -> Files {
        Files::sealed(Arc::new(BulkKey::new(&[number; KEY_BYTES])))
    }

    fn read(files: &Files, path: &Path, from: u64) -> io::Result<Vec<u8>> {
        let mut input = files.read(path, b"spool")?;
        input.seek(from)?;
        input.next(usize::MAX)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn what_is_written_bit_by_bit_and_over_restarts_is_read_from_anywhere(
            lengths in prop::collection::vec((0_usize..150_000, any::<bool>()), 1..6), at in any::<prop::sample::Index>(), sealed in any::<bool>(),
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("file");
            let files = if sealed { files(1) } else { Files::default() };
            let mut whole: Vec<u8> = Vec::new();
            let mut output = files.append(&path, b"spool").expect("made");
            for (number, (length, restart)) in lengths.into_iter().enumerate() {
                let part: Vec<u8> = (0..length).map(|byte| (byte * 31 + number) as u8).collect();
                output.write_all(&part).expect("written");
                whole.extend_from_slice(&part);
                if restart {
                    output.flush().expect("flushed");
                    prop_assert_eq!(files.length(&path).expect("there"), whole.len() as u64);
                    output = files.append(&path, b"spool").expect("found");
                }
                prop_assert_eq!(output.length().expect("known"), whole.len() as u64);
            }
            output.sync().expect("durable");
            let from = if whole.is_empty() { 0 } else { at.index(whole.len()) };
            prop_assert!(read(&files, &path, from as u64).expect("read") == whole[from..]);
            let mut input = files.read(&path, b"spool").expect("opened");
            prop_assert_eq!(input.length().expect("known"), whole.len() as u64);
            prop_assert!(input.next(100).expect("read") == whole[..whole.len().min(100)]);
        }
    }

    #[test]
    fn nobody_reads_or_changes_it_without_the_key_or_elsewhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, other) = (dir.path().join("file"), dir.path().join("other"));
        let text = b"CANARY".repeat(40_000);
        for path in [&path, &other] {
            let mut output = files(1).append(path, b"spool").expect("made");
            output.write_all(&text).expect("written");
            output.sync().expect("durable");
        }
        let kept = std::fs::read(&path).expect("read");
        assert!(!kept.windows(6).any(|window| window == b"CANARY"));
        assert_eq!(read(&files(1), &path, 0).expect("opened"), text);
        assert!(read(&files(2), &path, 0).is_err());
        assert!(files(1).read(&path, b"hub").expect("opened").next(1).is_err());
        assert!(Files::default().read(&path, b"spool").is_err());
        // A bit, two pieces exchanged, a piece of another file.
        let mut changed = kept.clone();
        changed[HEADER + 1000] ^= 1;
        let mut exchanged = kept.clone();
        exchanged[HEADER..HEADER + 2 * KEPT].rotate_left(KEPT);
        let mut foreign = kept.clone();
        foreign[HEADER..HEADER + KEPT]
            .copy_from_slice(&std::fs::read(&other).expect("read")[HEADER..HEADER + KEPT]);
        for bytes in [changed, exchanged, foreign] {
            std::fs::write(&path, bytes).expect("written");
            assert_eq!(read(&files(1), &path, 0).expect_err("changed").kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn what_a_crash_tore_is_written_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        let text: Vec<u8> = (0..200_000_u32).map(|number| number as u8).collect();
        let mut output = files(1).append(&path, b"spool").expect("made");
        output.write_all(&text).expect("written");
        output.flush().expect("flushed");
        let kept = std::fs::read(&path).expect("read");
        for end in [HEADER - 1, HEADER, HEADER + 5, HEADER + KEPT, HEADER + KEPT + 7, kept.len() - 1] {
            std::fs::write(&path, &kept[..end]).expect("written");
            let mut output = files(1).append(&path, b"spool").expect("found");
            let known = usize::try_from(output.length().expect("known")).expect("short");
            assert!(known % PIECE == 0 && known <= end, "{known} of {end}");
            output.write_all(&text[known..]).expect("written");
            output.sync().expect("durable");
            assert_eq!(read(&files(1), &path, 0).expect("opened"), text);
        }
        let mut output = files(1).append(&path, b"spool").expect("found");
        output.clear().expect("empty");
        output.write_all(b"anew").expect("written");
        output.sync().expect("durable");
        assert_eq!(read(&files(1), &path, 0).expect("opened"), b"anew");
        // What was begun without a key goes on without one.
        std::fs::write(&path, b"plain ").expect("written");
        files(1).append(&path, b"spool").expect("found").write_all(b"text").expect("written");
        assert_eq!(read(&files(1), &path, 2).expect("opened"), b"ain text");
    }
}
