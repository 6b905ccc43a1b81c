//! A file without values of secrets, written piece by piece.

use std::io::{self, Read as _, Write as _};
use std::path::Path;

use sealing::{Files, Input};
use sha2::{Digest as _, Sha256};
use workflow::mask::Mask;

use super::PLACE;

/// Bytes that are looked at once.
const WINDOW: usize = 1 << 20;

/// Writes the file without the values and answers what it is then; `None`, and nothing is left behind, where there is none
/// in it or it is no text: in other files a value of another length would break what they are.
///
/// # Errors
/// When the disk fails.
pub(super) fn copy(mask: &Mask, files: &Files, from: &Path, to: &Path) -> io::Result<Option<(String, u64)>> {
    if mask.is_empty() || !is_text(files.read(from, PLACE)?)? {
        return Ok(None);
    }
    let mut source = files.read(from, PLACE)?;
    // Left by a crash.
    let _ = std::fs::remove_file(to);
    let mut target = files.append(to, PLACE)?;
    let (mut hash, mut size, mut changed) = (Sha256::new(), 0, false);
    // The first `context` bytes were given out before.
    let (mut bytes, mut context, mut more) = (Vec::new(), 0, true);
    while more || context < bytes.len() {
        if more {
            let known = bytes.len();
            bytes.resize(known + WINDOW, 0);
            let read = fill(&mut source, &mut bytes[known..])?;
            bytes.truncate(known + read);
            more = read == WINDOW;
        }
        let (out, end) = mask.release(&bytes, context, bytes.len(), more);
        changed |= out != bytes[context..end];
        target.write_all(&out)?;
        hash.update(&out);
        size += out.len() as u64;
        let start = end.saturating_sub(mask.context());
        bytes.drain(..start);
        context = end - start;
    }
    target.sync()?;
    if !changed {
        std::fs::remove_file(to)?;
        return Ok(None);
    }
    Ok(Some((hex::encode(hash.finalize()), size)))
}

/// Reads until the buffer is full or the file ends.
fn fill(source: &mut Input, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn is_text(mut source: Input) -> io::Result<bool> {
    let mut bytes = vec![0; WINDOW];
    // A character that the last piece cut.
    let mut kept = 0;
    loop {
        let read = fill(&mut source, &mut bytes[kept..])?;
        let length = kept + read;
        let valid = match std::str::from_utf8(&bytes[..length]) {
            Ok(_) => length,
            Err(error) if error.error_len().is_none() && read > 0 => error.valid_up_to(),
            Err(_) => return Ok(false),
        };
        if read == 0 {
            return Ok(true);
        }
        bytes.copy_within(valid..length, 0);
        kept = length - valid;
    }
}
