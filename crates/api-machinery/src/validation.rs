//! Whether values have the types and meet the limits of their schema.
//!
//! Native kinds: a wrong type is a decoding error, 400, in Go's words. Custom resources: wrong types and violated
//! limits are findings per field, 422. Validation of native values beyond types is code in the kind's strategy.

mod custom;
mod native;

pub use custom::custom_resource;
pub use native::decode_error;
