//! Whether values have the types and meet the limits of their schema.
//!
//! A wrong type is a decoding error, 400, in Go's words; values beyond types are judged by the kind's rules. Custom
//! resources are judged in [`crate::custom_resource::values`].

mod native;

pub use native::decode_error;
