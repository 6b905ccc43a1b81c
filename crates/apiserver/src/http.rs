//! HTTP: bodies with bounds, media types, answers, and the listener.

pub(crate) mod body;
pub(crate) mod negotiation;
pub(crate) mod response;
pub(crate) mod server;
mod severable;
