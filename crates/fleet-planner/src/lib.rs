//! Pure decisions about the fleet: which cluster gets what and why, in which waves, what a profile means for one cluster,
//! what an agent may take over from a hub and when, and which deletions need a person.
//!
//! Hub and agent call these functions with what they know; the same input gives the same answer. There is no I/O, no
//! clock and no async here, and deletion is never concluded from absence.

pub mod admission;
pub mod alerts;
pub mod assignment;
pub mod breaker;
pub mod bundle;
pub mod ceiling;
pub mod cluster_view;
pub mod compare;
pub mod drift;
pub mod expressions;
pub mod health;
pub mod maintenance;
pub mod placement;
pub mod preview;
pub mod release;
pub mod render;
pub mod rollout;
mod share;
pub mod validation;
pub mod values;
pub mod variables;
pub mod yaml;

use sha2::{Digest, Sha256};

/// SHA-256 as 64 lower-case hexadecimal digits: how content is named.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Whether a text can be a digest: exactly 64 lower-case hexadecimal digits.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
