//! The streaming protocols behind `exec`, `attach` and `port-forward`, as clients and container runtimes speak them.
//!
//! * [`session`]: what a command in a container and a forwarded port are, whoever carries them.
//! * [`remote_command`], [`port_forward`]: serving them to clients, over WebSocket channels or SPDY.
//! * [`output`]: a command as such a client sees it, who wants little more than its output.
//! * [`spdy`]: SPDY/3.1 as far as Kubernetes uses it; [`websocket`]: the channel protocols and the tunnel.
//! * [`upgrade`]: which protocol a request asks for and what it is answered. Pure.
//! * [`runtime`]: the client of a container runtime's streaming server.
//!
//! Nothing here spawns what outlives its future: dropping a session's future ends every part of it. Every queue holds a
//! fixed number of chunks of a fixed size ([`session::CHUNK_BYTES`]), so that a slow reader holds back its writer all
//! the way to the container.
//!
//! It must never know an API object, a node or who is asking: others have decided that before.

pub mod idle;
pub mod output;
pub mod port_forward;
pub mod remote_command;
pub mod runtime;
pub mod session;
pub mod spdy;
pub mod upgrade;
pub mod websocket;

pub use idle::Idle;
pub use session::{Duplex, Ending, RemoteCommand, StreamError, Streams, TerminalSize};
