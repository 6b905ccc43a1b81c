//! The bytes of a segment file. Pure.
//!
//! ```text
//! segment: magic "FAIRLOG\x01", first sequence u64, crc32c of both u32
//! record:  marker u32, payload length u32, sequence u64, durable u64, crc32c of the four and the payload u32, payload
//! ```
//! All little-endian. `durable` is the newest sequence that was durable when the record was written: it lets recovery tell
//! a torn tail from damage. If a record is unreadable, yet a later one says that it was durable, the disk lost it.

use bytes::Bytes;

/// The largest record.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

pub(crate) const SEGMENT_HEADER: usize = 20;
pub(crate) const RECORD_HEADER: usize = 28;
const MAGIC: &[u8; 8] = b"FAIRLOG\x01";
const MARKER: u32 = 0xF1A1_D10C;

pub(crate) fn segment_header(first: u64) -> [u8; SEGMENT_HEADER] {
    let mut header = [0; SEGMENT_HEADER];
    header[..8].copy_from_slice(MAGIC);
    header[8..16].copy_from_slice(&first.to_le_bytes());
    let crc = crc32c::crc32c(&header[..16]);
    header[16..].copy_from_slice(&crc.to_le_bytes());
    header
}

pub(crate) fn parse_segment_header(bytes: &[u8]) -> Result<u64, &'static str> {
    let header = bytes.get(..SEGMENT_HEADER).ok_or("the header is cut short")?;
    if &header[..8] != MAGIC {
        return Err("it is not a segment of this format");
    }
    if read_u32(header, 16) != crc32c::crc32c(&header[..16]) {
        return Err("the header's checksum is wrong");
    }
    Ok(read_u64(header, 8))
}

pub(crate) fn encode_record(sequence: u64, durable: u64, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("append refuses more than MAX_RECORD_BYTES");
    let start = out.len();
    out.extend_from_slice(&MARKER.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[start..]), payload);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(payload);
}

/// A whole, checked record.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) sequence: u64,
    pub(crate) durable: u64,
    pub(crate) payload: Bytes,
    pub(crate) end: usize,
}

/// The record at `offset`, or why there is none.
pub(crate) fn decode_record(bytes: &Bytes, offset: usize) -> Result<Decoded, &'static str> {
    let rest = bytes.get(offset..).ok_or("the record lies after the end of the file")?;
    let header = rest.get(..RECORD_HEADER).ok_or("the record's header is cut short")?;
    if read_u32(header, 0) != MARKER {
        return Err("there is no record where one must begin");
    }
    let length = read_u32(header, 4) as usize;
    if length > MAX_RECORD_BYTES {
        return Err("the record's length is impossible");
    }
    let payload = rest.get(RECORD_HEADER..RECORD_HEADER + length).ok_or("the record is cut short")?;
    if read_u32(header, 24) != crc32c::crc32c_append(crc32c::crc32c(&header[..24]), payload) {
        return Err("the record's checksum is wrong");
    }
    Ok(Decoded {
        sequence: read_u64(header, 8),
        durable: read_u64(header, 16),
        payload: bytes.slice_ref(payload),
        end: offset + RECORD_HEADER + length,
    })
}

/// The next whole record anywhere after `offset`.
pub(crate) fn resynchronise(bytes: &Bytes, offset: usize) -> Option<Decoded> {
    let marker = MARKER.to_le_bytes();
    let mut at = offset;
    while let Some(window) = bytes.get(at..).filter(|rest| rest.len() >= RECORD_HEADER) {
        let found = window.windows(4).position(|four| four == marker)?;
        if let Ok(record) = decode_record(bytes, at + found) {
            return Some(record);
        }
        at += found + 1;
    }
    None
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

pub(crate) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

const ACKNOWLEDGED_MAGIC: &[u8; 8] = b"FAIRACK\x01";
/// One slot a sector, so that a torn write cannot touch the other.
pub(crate) const SLOT: usize = 512;
/// The length of the file of acknowledgements.
pub(crate) const ACKNOWLEDGED_BYTES: usize = 2 * SLOT;

/// One slot of the file of acknowledgements: magic, sequence u64, crc32c of both, zeros. There are two, written in turn, in
/// place: an acknowledgement must not need space, for on a full disk it is what makes some.
pub(crate) fn acknowledgement(through: u64) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    slot[..8].copy_from_slice(ACKNOWLEDGED_MAGIC);
    slot[8..16].copy_from_slice(&through.to_le_bytes());
    let crc = crc32c::crc32c(&slot[..16]);
    slot[16..20].copy_from_slice(&crc.to_le_bytes());
    slot
}

/// The newest acknowledgement, and which slot it is in.
pub(crate) fn parse_acknowledgements(bytes: &[u8]) -> Result<(u64, usize), &'static str> {
    if bytes.len() != ACKNOWLEDGED_BYTES {
        return Err("it is not a file of acknowledgements of this format");
    }
    let slots = bytes.chunks_exact(SLOT).enumerate();
    let whole = slots.filter(|(_, slot)| {
        &slot[..8] == ACKNOWLEDGED_MAGIC && read_u32(slot, 16) == crc32c::crc32c(&slot[..16])
    });
    // Equal slots: the second; either will do.
    whole.map(|(at, slot)| (read_u64(slot, 8), at)).max().ok_or("neither of its two slots is whole")
}
