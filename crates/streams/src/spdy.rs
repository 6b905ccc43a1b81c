//! SPDY/3.1 (draft-mbelshe-httpbis-spdy-00 with the changes of 3.1) as far as Kubernetes' clients and container
//! runtimes use it: streams, their ends and resets, pings, going away.
//!
//! Flow-control windows are neither kept nor granted: the library on the other side of every such connection
//! (`moby/spdystream`) has none, and a sender that waited for a window would wait for ever. What holds back a fast
//! sender is the connection itself: while a stream's queue is full nothing more is read.

mod connection;
pub mod frame;
pub mod headers;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Control, Driver, Role, Stream};
pub use frame::{FrameError, Headers};
