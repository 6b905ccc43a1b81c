//! A file without values of secrets, written piece by piece.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use workflow::mask::Mask;

/// Bytes that are looked at once.
const WINDOW: usize = 1 << 20;

/// Writes the file without the values and answers what it is then; `None`, and nothing is left behind, where there is none
/// in it or it is no text: in other files a value of another length would break what they are.
///
/// # Errors
/// When the disk fails.
pub(super) fn copy(mask: &Mask, from: &Path, to: &Path) -> io::Result<Option<(String, u64)>> {
    if mask.is_empty() || !is_text(from)? {
        return Ok(None);
    }
    let mut source = File::open(from)?;
    let mut target = BufWriter::new(File::create(to)?);
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
    target.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    if !changed {
        std::fs::remove_file(to)?;
        return Ok(None);
    }
    Ok(Some((hex::encode(hash.finalize()), size)))
}

/// Reads until the buffer is full or the file ends.
fn fill(source: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn is_text(path: &Path) -> io::Result<bool> {
    let mut source = File::open(path)?;
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
