//! Objects over the store, and what single kinds do beyond the engine.
//!
//! * [`strategy`]: the seam a kind fills in; every method has the engine's ordinary behaviour as its default.
//! * [`kinds`]: which kind has which strategy.
//! * [`custom`]: what a CustomResourceDefinition says of its kind.
//! * [`bootstrap`]: objects that have to be there when the server is ready.

mod admissionregistration;
mod apiregistration;
pub mod bootstrap;
mod certificates;
pub(crate) mod core;
#[cfg(test)]
mod coverage;
pub(crate) mod custom;
mod definitions;
mod events;
pub(crate) mod fence;
pub mod kinds;
pub(crate) mod objects;
pub(crate) mod parsed;
mod plain;
mod rbac;
#[cfg(test)]
mod reference;
pub mod reviews;
pub mod strategy;
pub mod subresources;
pub(crate) mod versions;
