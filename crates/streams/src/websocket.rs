//! WebSockets: channels of bytes in messages (upstream `wsstream`), and a tunnel for another protocol.

pub mod channels;
pub mod reader;
mod socket;
mod tunnel;

use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

pub use channels::{Codec, Inbound};
pub use socket::{Channels, serve};
pub use tunnel::Tunnel;

/// Bytes of one message, at most. Clients send what they read at once, tens of kilobytes; upstream's bound for frames
/// of its clients is 32 MB, a seat for a whole SPDY frame is enough here.
pub const MAX_MESSAGE_BYTES: usize = 1 << 20;

/// The end of a session that went well.
pub(crate) fn normal() -> CloseFrame {
    CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }
}

pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        // Two full messages: a peer that does not read must not make us keep more.
        .max_write_buffer_size(2 * MAX_MESSAGE_BYTES)
        .write_buffer_size(0)
}
