//! Typed and dynamic Kubernetes client over HTTP or in process.
//!
//! A thin layer over `kube`: what every component needs and `kube` leaves open. Components take a `kube::Client` and
//! never learn what server is behind it.
//!
//! | task | where |
//! |---|---|
//! | get a client | [`connect`] |
//! | know what an error means | [`error`] |
//! | hold objects in memory, indexed, and hear of changes | [`cache`] |
//! | reach kinds known only at run time | [`dynamic`] |
//! | server-side apply and patches | [`apply`] |
//! | tell people what happened | [`events`] |
//!
//! Nothing here decides anything about objects, and nothing here knows this project's own kinds.

pub mod apply;
pub mod cache;
pub mod connect;
pub mod dynamic;
pub mod error;
pub mod events;

pub use cache::{CacheOptions, Cached, Change, ObjectCache, ObjectKey};
