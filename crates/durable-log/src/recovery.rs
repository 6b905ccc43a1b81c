//! Opening: reads every segment, checks it whole, and cuts a torn tail.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::directory::{self, ACKNOWLEDGED, segment_path};
use crate::error::LogError;
use crate::format::{self, SEGMENT_HEADER};

/// One offset is remembered about every this many bytes; a read skips at most so much.
const INDEX_EVERY: u64 = 16 << 10;

/// One segment file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// Its first sequence.
    pub(crate) first: u64,
    /// The sequence after its last.
    pub(crate) next: u64,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// Some sequences with their offsets, ascending.
    index: Vec<(u64, u64)>,
}

impl Segment {
    pub(crate) fn new(dir: &Path, first: u64) -> Self {
        let bytes = SEGMENT_HEADER as u64;
        Self { path: segment_path(dir, first), first, next: first, bytes, index: Vec::new() }
    }

    /// Takes note of a record of `length` bytes at the end.
    pub(crate) fn grow(&mut self, length: u64) {
        if self.index.last().is_none_or(|(_, offset)| self.bytes - offset >= INDEX_EVERY) {
            self.index.push((self.next, self.bytes));
        }
        self.next += 1;
        self.bytes += length;
    }

    /// An offset from where the record `sequence` is found by reading on.
    pub(crate) fn offset_before(&self, sequence: u64) -> u64 {
        let after = self.index.partition_point(|(indexed, _)| *indexed <= sequence);
        after.checked_sub(1).map_or(SEGMENT_HEADER as u64, |at| self.index[at].1)
    }
}

/// What a log's directory holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Segment>,
    pub(crate) acknowledged: u64,
    /// The slot of the file of acknowledgements that holds it.
    pub(crate) slot: usize,
}

pub(crate) fn recover(dir: &Path) -> Result<Recovered, LogError> {
    let files = directory::segments(dir)?;
    let (acknowledged, slot) = read_acknowledged(dir, files.is_empty())?;
    let mut segments: Vec<Segment> = Vec::with_capacity(files.len());
    let last = files.len().saturating_sub(1);
    for (at, (first, path)) in files.into_iter().enumerate() {
        if let Some(before) = segments.last()
            && before.next != first
        {
            let reason =
                format!("records {} to {} are missing before it", before.next, first.saturating_sub(1));
            return Err(LogError::Damaged { path, offset: 0, reason });
        }
        segments.push(scan(dir, path, first, at == last)?);
    }
    check_edges(dir, &segments, acknowledged)?;
    Ok(Recovered { segments, acknowledged, slot })
}

fn check_edges(dir: &Path, segments: &[Segment], acknowledged: u64) -> Result<(), LogError> {
    let damaged = |path: PathBuf, reason: String| Err(LogError::Damaged { path, offset: 0, reason });
    let Some((oldest, newest)) = segments.first().zip(segments.last()) else { return Ok(()) };
    if oldest.first > acknowledged + 1 {
        let missing = format!("records {} to {} are missing before it", acknowledged + 1, oldest.first - 1);
        return damaged(oldest.path.clone(), missing);
    }
    if newest.next <= acknowledged {
        let reason = format!("record {acknowledged} was acknowledged, yet the log ends before it");
        return damaged(dir.join(ACKNOWLEDGED), reason);
    }
    Ok(())
}

fn read_acknowledged(dir: &Path, fresh: bool) -> Result<(u64, usize), LogError> {
    let path = dir.join(ACKNOWLEDGED);
    let damaged =
        |reason: &str| LogError::Damaged { path: path.clone(), offset: 0, reason: reason.to_owned() };
    match fs::read(&path) {
        // Written before the first segment, and never removed: without it only an empty directory is a new log.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            if fresh {
                Ok((0, 0))
            } else {
                Err(damaged("it is missing, though there are segments"))
            }
        }
        Err(e) => Err(LogError::io("read", &path, e)),
        Ok(bytes) => {
            let (through, slot) = format::parse_acknowledgements(&bytes).map_err(damaged)?;
            // A log always keeps its newest segment. Only the very first start can die between the two files.
            if fresh && through > 0 {
                Err(damaged("the log's segments are missing"))
            } else {
                Ok((through, slot))
            }
        }
    }
}

fn scan(dir: &Path, path: PathBuf, first: u64, last: bool) -> Result<Segment, LogError> {
    let bytes = Bytes::from(fs::read(&path).map_err(|e| LogError::io("read", &path, e))?);
    let damaged = |offset: usize, reason: &str| {
        Err(LogError::Damaged { path: path.clone(), offset: offset as u64, reason: reason.to_owned() })
    };
    match format::parse_segment_header(&bytes) {
        Ok(named) if named == first => {}
        Ok(_) => return damaged(0, "it is named for another sequence"),
        Err(reason) => return damaged(0, reason),
    }
    let mut segment = Segment::new(dir, first);
    let mut offset = SEGMENT_HEADER;
    while offset < bytes.len() {
        match format::decode_record(&bytes, offset) {
            Ok(record) if record.sequence == segment.next => {
                segment.grow((record.end - offset) as u64);
                offset = record.end;
            }
            Ok(_) => return damaged(offset, "the record has another one's sequence"),
            Err(reason) if !last => return damaged(offset, reason),
            Err(reason) => {
                let mut after = offset + 1;
                while let Some(record) = format::resynchronise(&bytes, after) {
                    if record.durable >= segment.next {
                        return damaged(offset, reason);
                    }
                    after = record.end;
                }
                cut(&path, offset as u64)?;
                break;
            }
        }
    }
    Ok(segment)
}

fn cut(path: &Path, length: u64) -> Result<(), LogError> {
    tracing::warn!(path = %path.display(), length, "cutting off a torn tail that was never acknowledged");
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(length).and_then(|()| file.sync_all()))
        .map_err(|e| LogError::io("truncate", path, e))
}
