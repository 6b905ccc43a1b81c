//! The three patches: JSON patch, JSON merge patch, strategic merge patch. (The fourth, server-side apply, is not a
//! patch of a document but of ownership.)
//!
//! Each takes an object and gives a new one; failures are `Status` values as upstream's patch handler answers.

mod json;
mod merge;
mod strategic;

pub use json::{MAX_OPERATIONS, json_patch};
pub use merge::merge_patch;
pub use strategic::strategic_merge_patch;
