//! Kinds of the core group.

pub(crate) mod config;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod others;
pub(crate) mod pod;
pub(crate) mod service;
pub(crate) mod storage;
