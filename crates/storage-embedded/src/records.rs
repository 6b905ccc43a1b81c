//! How a version of a key is written. Pure; shared by the database and the snapshot file.
//!
//! ```text
//! record: crc32c of id and the rest u32, kind u8, key length u32, create revision u64, version u64, lease i64 (0: none),
//!         key, value
//! ```
//! All little-endian. The id (revision u64, position u32) is the database's key, big-endian so that it sorts.

use bytes::Bytes;
use storage::mvcc::{RecordId, Stored, StoredVersion};
use storage::{Event, EventKind, KeyValue, LeaseId, Revision};

const HEADER: usize = 33;
const PUT: u8 = 1;
const DELETE: u8 = 2;

pub(crate) const ID_BYTES: usize = 12;

pub(crate) fn encode_id(id: RecordId) -> [u8; ID_BYTES] {
    let mut bytes = [0; ID_BYTES];
    bytes[..8].copy_from_slice(&id.0.0.to_be_bytes());
    bytes[8..].copy_from_slice(&id.1.to_be_bytes());
    bytes
}

pub(crate) fn decode_id(bytes: &[u8]) -> Option<RecordId> {
    let revision = bytes.get(..8)?.try_into().ok()?;
    let position = bytes.get(8..)?.try_into().ok()?;
    Some((Revision(u64::from_be_bytes(revision)), u32::from_be_bytes(position)))
}

pub(crate) fn encode_event(position: u32, event: &Event) -> Vec<u8> {
    let kind = match event.kind {
        EventKind::Put => PUT,
        EventKind::Delete => DELETE,
    };
    encode(kind, (event.kv.mod_revision, position), &event.kv)
}

pub(crate) fn encode_key_value(position: u32, kv: &KeyValue) -> Vec<u8> {
    encode(PUT, (kv.mod_revision, position), kv)
}

fn encode(kind: u8, id: RecordId, kv: &KeyValue) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + kv.key.len() + kv.value.len());
    out.extend_from_slice(&[0; 4]);
    out.push(kind);
    // Keys are at most storage::mvcc::MAX_KEY_BYTES.
    out.extend_from_slice(&u32::try_from(kv.key.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&kv.create_revision.0.to_le_bytes());
    out.extend_from_slice(&kv.version.to_le_bytes());
    out.extend_from_slice(&kv.lease.map_or(0, |lease| lease.0).to_le_bytes());
    out.extend_from_slice(&kv.key);
    out.extend_from_slice(&kv.value);
    let crc = checksum(id, &out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out
}

fn checksum(id: RecordId, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&encode_id(id)), rest)
}

pub(crate) fn decode(id: RecordId, bytes: &Bytes) -> Result<Stored, &'static str> {
    let header = bytes.get(..HEADER).ok_or("a record is cut short")?;
    if u32::from_le_bytes(array(header, 0)) != checksum(id, &bytes[4..]) {
        return Err("a record's checksum is wrong");
    }
    let key_length = u32::from_le_bytes(array(header, 5)) as usize;
    let key_end = HEADER.checked_add(key_length).filter(|end| *end <= bytes.len());
    let key_end = key_end.ok_or("a record's key is cut short")?;
    // A copy of its own: a slice would keep the value of every old version alive with the key.
    let key = Bytes::copy_from_slice(&bytes[HEADER..key_end]);
    let lease = i64::from_le_bytes(array(header, 25));
    let put = match header[4] {
        PUT => Some(StoredVersion {
            value: bytes.slice(key_end..),
            create_revision: Revision(u64::from_le_bytes(array(header, 9))),
            version: u64::from_le_bytes(array(header, 17)),
            lease: (lease != 0).then_some(LeaseId(lease)),
        }),
        DELETE => None,
        _ => return Err("a record is of an unknown kind"),
    };
    Ok(Stored { id, key, put })
}

pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
