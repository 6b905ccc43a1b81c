//! What a Kubernetes API server knows about objects, as pure functions over JSON: schemas of built-in and custom kinds,
//! defaulting, pruning, validation, the three patches, server-side apply, selectors, quantities, names.
//!
//! One engine serves built-in kinds (schemas from committed tables, see `cargo xtask codegen`) and custom resources
//! (schemas from their definitions): everything here asks a [`schema::Schema`], never a type.
//!
//! Must never do I/O, wait, read a clock or draw randomness: callers pass the time and the random numbers in. Must never
//! panic on any input.

pub mod apply;
pub mod custom_resource;
pub mod defaulting;
pub mod field_path;
pub mod json;
pub mod json_path;
pub mod name_generator;
pub mod names;
pub mod openapi;
pub mod patch;
pub mod protobuf;
pub mod quantity;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod strictness;
pub mod validation;
