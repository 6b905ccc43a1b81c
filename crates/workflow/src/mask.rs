//! Hides values of secrets in what leaves a cluster: logs, reports, messages, names of files.
//!
//! A value is hidden as it stands, line by line where it has several, and as base64, JSON, XML and percent encoding write it.
//! A stream is given out piece by piece: what may be the beginning of a secret is kept back until more is known, and a
//! secret that began in an earlier piece is seen in the next. Never prints a value; never gives out a part of one that is
//! known whole.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;

use crate::plan::ExecutionPlan;
use crate::validate::MIN_MASKED;

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What stands for a hidden value.
pub const MASK: &str = "*****";
/// Bytes of one pattern; a longer value or line is hidden in parts of this length.
pub const MAX_PATTERN: usize = 4096;
/// Bytes of all values together: their encodings make an automaton of some 20 MiB.
pub const MAX_VALUES: usize = 128 * 1024;
/// Bytes of a line that is hidden by itself: single brackets and words of a file are no secrets.
const MIN_LINE: usize = 8;

/// A Secret of the namespace tests run in, with the key that is used; without one all of it is.
pub type SecretReference = (String, Option<String>);

/// The Secrets that pods of a plan use: in environments, volumes and whatever else pods may name them in.
///
/// # Errors
/// Never: plans are JSON.
pub fn references(plan: &ExecutionPlan) -> Result<BTreeSet<SecretReference>, serde_json::Error> {
    let mut found = BTreeSet::new();
    walk(&serde_json::to_value(plan)?, &mut found);
    Ok(found)
}

fn walk(value: &Value, found: &mut BTreeSet<SecretReference>) {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
        Value::Object(entries) => {
            for (name, own) in entries {
                let reference = match name.as_str() {
                    "secretKeyRef" => text(&own["name"]).map(|secret| (secret, text(&own["key"]))),
                    "secretRef" | "secret" => {
                        text(&own["name"]).or_else(|| text(&own["secretName"])).map(|secret| (secret, None))
                    }
                    _ => None,
                };
                found.extend(reference);
                walk(own, found);
            }
        }
        _ => {}
    }
}

/// Why values cannot be hidden.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("secrets of more than {} KiB together cannot be masked", MAX_VALUES / 1024)]
pub struct TooLarge;

/// The values to hide.
#[derive(Default)]
pub struct Mask {
    search: Option<AhoCorasick>,
    patterns: Vec<Vec<u8>>,
    longest: usize,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mask(of {} patterns)", self.patterns.len())
    }
}

impl Mask {
    /// Hides these values. Values of fewer than four bytes are not hidden: that would hide half a log.
    ///
    /// # Errors
    /// [`TooLarge`].
    pub fn new<V: AsRef<[u8]>>(values: impl IntoIterator<Item = V>) -> Result<Self, TooLarge> {
        let mut patterns = BTreeSet::new();
        let mut bytes = 0;
        for value in values {
            bytes += value.as_ref().len();
            if bytes > MAX_VALUES {
                return Err(TooLarge);
            }
            writings(value.as_ref(), &mut |pattern| {
                patterns.insert(pattern.to_vec());
            });
        }
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let patterns: Vec<Vec<u8>> = patterns.into_iter().collect();
        let longest = patterns.iter().map(Vec::len).max().unwrap_or_default();
        let search = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns);
        Ok(Self { search: Some(search.map_err(|_| TooLarge)?), patterns, longest })
    }

    /// Nothing is hidden.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.search.is_none()
    }

    /// How many bytes before a piece must be known to hide what began in them.
    #[must_use]
    pub fn context(&self) -> usize {
        self.longest
    }

    /// A text without the values.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.bytes(text.as_bytes())).into_owned()
    }

    /// Bytes without the values; borrowed where there is none in them.
    #[must_use]
    pub fn bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        if self.search.as_ref().is_none_or(|search| !search.is_match(bytes)) {
            return Cow::Borrowed(bytes);
        }
        Cow::Owned(self.release(bytes, 0, bytes.len(), false).0)
    }

    /// The next piece of a stream. The first `context` of `bytes` were given out before, with the same values; the piece
    /// ends at `wanted`, or before what may become a secret when `more` follows. Answers what to give out and where in
    /// `bytes` it ends.
    #[must_use]
    pub fn release(&self, bytes: &[u8], context: usize, wanted: usize, more: bool) -> (Vec<u8>, usize) {
        let mut end = wanted.min(bytes.len());
        if more {
            end = end.min(self.undecided(bytes));
        }
        let end = end.max(context.min(bytes.len()));
        let mut out = Vec::with_capacity(end - context);
        let mut position = context;
        for (from, to) in self.spans(bytes) {
            if to <= position {
                continue;
            }
            if from >= end {
                break;
            }
            if from >= position {
                out.extend_from_slice(&bytes[position..from]);
                out.extend_from_slice(MASK.as_bytes());
            }
            position = to.min(end);
        }
        out.extend_from_slice(&bytes[position..end]);
        (out, end)
    }

    /// Where values stand, in order, those that touch or overlap as one.
    fn spans(&self, bytes: &[u8]) -> Vec<(usize, usize)> {
        let Some(search) = &self.search else { return Vec::new() };
        let mut found: Vec<_> =
            search.find_overlapping_iter(bytes).map(|found| (found.start(), found.end())).collect();
        found.sort_unstable();
        let mut spans: Vec<(usize, usize)> = Vec::new();
        for (from, to) in found {
            match spans.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => spans.push((from, to)),
            }
        }
        spans
    }

    /// Where the longest end begins that may be the beginning of a value.
    fn undecided(&self, bytes: &[u8]) -> usize {
        let longest = |pattern: &Vec<u8>| {
            let most = pattern.len().saturating_sub(1).min(bytes.len());
            (1..=most).rev().find(|length| bytes.ends_with(&pattern[..*length])).unwrap_or_default()
        };
        bytes.len() - self.patterns.iter().map(longest).max().unwrap_or_default()
    }
}

/// Everything a value may look like.
fn writings(value: &[u8], out: &mut dyn FnMut(&[u8])) {
    let value = value.trim_ascii();
    if value.len() < MIN_MASKED {
        return;
    }
    parts(value, out);
    let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    for line in lines.filter(|line| line.len() >= MIN_LINE && line.len() < value.len()) {
        parts(line, out);
    }
    for shift in 0..3 {
        let mut shifted = vec![0; shift];
        shifted.extend_from_slice(value);
        // Characters whose bits are all of the value, wherever in a longer text it stands.
        let (from, to) = ([0, 2, 3][shift], shifted.len() * 8 / 6);
        for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            if to > from + MIN_MASKED {
                parts(&encoded.as_bytes()[from..to], out);
            }
        }
    }
    let Ok(text) = std::str::from_utf8(value) else { return };
    let json = serde_json::Value::from(text).to_string();
    parts(&json.as_bytes()[1..json.len() - 1], out);
    let xml = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    parts(xml.as_bytes(), out);
    parts(xml.replace('\'', "&apos;").as_bytes(), out);
    parts(percent_encode(value, RESERVED).to_string().as_bytes(), out);
}

fn parts(value: &[u8], out: &mut dyn FnMut(&[u8])) {
    for part in value.chunks(MAX_PATTERN) {
        // The rest of a long value that is too short to be told from other text goes by itself.
        if part.len() >= MIN_MASKED {
            out(part);
        }
    }
}

#[cfg(test)]
mod tests;
