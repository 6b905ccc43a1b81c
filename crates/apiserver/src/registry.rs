//! Objects over the store, and what single kinds do beyond the engine.
//!
//! * [`strategy`]: the seam a kind fills in; every method has the engine's ordinary behaviour as its default.
//! * [`kinds`]: which kind has which strategy.
//! * [`bootstrap`]: objects that have to be there when the server is ready.

pub mod bootstrap;
pub mod kinds;
pub mod strategy;
