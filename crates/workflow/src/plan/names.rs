//! Names for steps and groups: unique in a plan and fit for containers.

use std::collections::BTreeSet;

use crate::collect::digest;

/// Characters of a made name before a number is added.
const LENGTH: usize = 48;
/// Characters of what tells longer names apart.
const DIGEST: usize = 6;

/// Gives names away once.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// The wanted name, made fit, with a number when it is taken. Instances of `parallel` have names of their own each, whose
    /// prefixes tell them apart: what is cut off of a long name must not make two of them one.
    pub(super) fn give(&mut self, prefix: &str, wanted: &str) -> String {
        let mut base = slug(wanted);
        if !prefix.is_empty() {
            base = format!("{prefix}-{base}");
        }
        if base.len() > LENGTH {
            let whole = digest(base.as_bytes());
            base.truncate(LENGTH - 1 - DIGEST);
            base = format!("{}-{}", base.trim_end_matches('-'), &whole[..DIGEST]);
        }
        let base = base.trim_matches('-').to_owned();
        let mut name = base.clone();
        let mut number = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{base}-{number}");
            number += 1;
        }
        name
    }
}

/// Lower-case letters, digits and dashes.
pub(super) fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    let out = out.trim_matches('-');
    if out.is_empty() { "step".to_owned() } else { out.to_owned() }
}
