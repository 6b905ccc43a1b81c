//! Names for steps and groups: unique in a plan and fit for containers.

use std::collections::BTreeSet;

/// Characters of a made name before a number is added.
const LENGTH: usize = 48;

/// Gives names away once.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// The wanted name, made fit, with a number when it is taken.
    pub(super) fn give(&mut self, prefix: &str, wanted: &str) -> String {
        let mut base = slug(wanted);
        if !prefix.is_empty() {
            base = format!("{prefix}-{base}");
        }
        base.truncate(LENGTH);
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
