//! Kinds of the core group.

pub(crate) mod namespace;
pub(crate) mod pod;
pub(crate) mod service;
