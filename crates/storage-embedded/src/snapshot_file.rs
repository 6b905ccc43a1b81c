//! The snapshot file: one store at one revision, checked to the last bit.
//!
//! ```text
//! header:  magic "FAIRSNAP", format u32, incarnation 16 bytes, revision u64, leases u64, keys u64
//! lease:   id i64, milliseconds u64
//! key:     revision u64, position u32, record length u32, record
//! trailer: magic "SNAPEND\n", length of all before it u64, crc32c of all before the checksum u32
//! ```
//! Numbers are little-endian. Records carry a checksum each, so that damage is found before it is believed.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use storage::mvcc::{LeaseGrant, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use storage::{Incarnation, KeyValue, LeaseId, Revision, Snapshot, StoreError};
use uuid::Uuid;

use crate::directory::{io_error, replace_file};
use crate::records;

const MAGIC: &[u8; 8] = b"FAIRSNAP";
const END: &[u8; 8] = b"SNAPEND\n";
const FORMAT: u32 = 1;
/// No record is longer: its header is below 64 bytes.
const MAX_RECORD: usize = MAX_KEY_BYTES + MAX_VALUE_BYTES + 64;

/// Writes `snapshot` to `path`, which is there whole or not at all. Blocks.
///
/// # Errors
/// [`StoreError::NoSpace`], [`StoreError::Unavailable`].
pub fn write(path: &Path, snapshot: &Snapshot) -> Result<(), StoreError> {
    replace_file(path, |file| write_to(file, snapshot))
}

/// Writes `snapshot` into any writer, in pieces of one record. Blocks.
///
/// # Errors
/// The writer's.
pub fn write_to(file: &mut impl Write, snapshot: &Snapshot) -> io::Result<()> {
    let mut out = Summing { inner: file, length: 0, crc: 0 };
    out.write_all(MAGIC)?;
    out.write_all(&FORMAT.to_le_bytes())?;
    out.write_all(snapshot.incarnation.0.as_bytes())?;
    out.write_all(&snapshot.revision.0.to_le_bytes())?;
    out.write_all(&(snapshot.leases.len() as u64).to_le_bytes())?;
    out.write_all(&(snapshot.kvs.len() as u64).to_le_bytes())?;
    for grant in &snapshot.leases {
        out.write_all(&grant.id.0.to_le_bytes())?;
        out.write_all(&u64::try_from(grant.ttl.as_millis()).unwrap_or(u64::MAX).to_le_bytes())?;
    }
    for (position, kv) in (0u32..).zip(&snapshot.kvs) {
        let record = records::encode_key_value(position, kv);
        out.write_all(&kv.mod_revision.0.to_le_bytes())?;
        out.write_all(&position.to_le_bytes())?;
        out.write_all(&u32::try_from(record.len()).map_err(io::Error::other)?.to_le_bytes())?;
        out.write_all(&record)?;
    }
    let length = out.length;
    out.write_all(END)?;
    out.write_all(&length.to_le_bytes())?;
    let crc = out.crc;
    out.write_all(&crc.to_le_bytes())
}

/// Reads and checks a snapshot file. Blocks.
///
/// # Errors
/// [`StoreError::Corrupt`] when one bit is not as written; [`StoreError::Unavailable`] when it cannot be read.
pub fn read(path: &Path) -> Result<Snapshot, StoreError> {
    let file = File::open(path).map_err(|e| io_error("open", path, &e))?;
    let length = fs::metadata(path).map_err(|e| io_error("look at", path, &e))?.len();
    let mut input = Summing { inner: BufReader::with_capacity(256 << 10, file), length: 0, crc: 0 };
    parse(&mut input, length).map_err(|failure| match failure {
        Failure::Io(e) if e.kind() != io::ErrorKind::UnexpectedEof => io_error("read", path, &e),
        Failure::Io(_) => damaged(path, "it is cut short"),
        Failure::Bad(reason) => damaged(path, reason),
    })
}

fn damaged(path: &Path, reason: &str) -> StoreError {
    StoreError::Corrupt { path: path.to_owned(), reason: format!("{reason}; use another snapshot") }
}

enum Failure {
    Io(io::Error),
    Bad(&'static str),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<&'static str> for Failure {
    fn from(reason: &'static str) -> Self {
        Self::Bad(reason)
    }
}

fn parse(input: &mut Summing<impl Read>, file_length: u64) -> Result<Snapshot, Failure> {
    if &input.take::<8>()? != MAGIC {
        return Err("it is not a snapshot of a store".into());
    }
    if u32::from_le_bytes(input.take()?) != FORMAT {
        return Err("it is of a newer format than this program reads".into());
    }
    let incarnation = Incarnation(Uuid::from_bytes(input.take()?));
    let revision = Revision(u64::from_le_bytes(input.take()?));
    let lease_count = u64::from_le_bytes(input.take()?);
    let key_count = u64::from_le_bytes(input.take()?);
    // A damaged count must not make us allocate: every lease and key takes at least 16 bytes of the file.
    if lease_count.saturating_add(key_count) > file_length / 16 {
        return Err("it is shorter than it says".into());
    }
    let mut leases = Vec::new();
    for _ in 0..lease_count {
        let id = LeaseId(i64::from_le_bytes(input.take()?));
        leases.push(LeaseGrant { id, ttl: Duration::from_millis(u64::from_le_bytes(input.take()?)) });
    }
    let mut kvs = Vec::new();
    for _ in 0..key_count {
        kvs.push(parse_key(input)?);
    }
    let length = input.length;
    if &input.take::<8>()? != END || u64::from_le_bytes(input.take()?) != length {
        return Err("its end is not where it should be".into());
    }
    let crc = input.crc;
    if u32::from_le_bytes(input.take()?) != crc {
        return Err("its checksum is wrong".into());
    }
    if input.length != file_length {
        return Err("something follows its end".into());
    }
    Ok(Snapshot { revision, incarnation, kvs, leases })
}

fn parse_key(input: &mut Summing<impl Read>) -> Result<KeyValue, Failure> {
    let id = (Revision(u64::from_le_bytes(input.take()?)), u32::from_le_bytes(input.take()?));
    let length = u32::from_le_bytes(input.take()?) as usize;
    if length > MAX_RECORD {
        return Err("a record's length is impossible".into());
    }
    let mut record = vec![0; length];
    input.read_exact(&mut record)?;
    let stored = records::decode(id, &Bytes::from(record))?;
    let put = stored.put.ok_or("it holds a deletion")?;
    Ok(KeyValue {
        key: stored.key,
        value: put.value,
        create_revision: put.create_revision,
        mod_revision: id.0,
        version: put.version,
        lease: put.lease,
    })
}

/// Counts and sums what passes.
struct Summing<T> {
    inner: T,
    length: u64,
    crc: u32,
}

impl<T> Summing<T> {
    fn pass(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
    }
}

impl<T: Write> Summing<T> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pass(bytes);
        self.inner.write_all(bytes)
    }
}

impl<T: Read> Summing<T> {
    fn read_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(out)?;
        self.pass(out);
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut out = [0; N];
        self.read_exact(&mut out)?;
        Ok(out)
    }
}
