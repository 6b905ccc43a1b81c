//! One stream of bytes in messages, from the server alone: logs for browsers (upstream `wsstream.Reader`).

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::idle::Idle;
use crate::session::StreamError;

/// What clients may ask for; without a name it is the first.
pub const PROTOCOLS: [&str; 2] = ["binary.k8s.io", "base64.binary.k8s.io"];

/// Sends the stream, after an empty message that says "it begins", and closes.
///
/// # Errors
/// When the socket or the stream breaks, or nothing is said for too long.
pub async fn send<IO>(
    io: IO,
    protocol: Option<&str>,
    mut stream: BoxStream<'static, io::Result<Bytes>>,
    idle: &Idle,
) -> Result<(), StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin,
{
    let base64 = protocol == Some(PROTOCOLS[1]);
    let message =
        |chunk: Bytes| if base64 { Message::text(STANDARD.encode(chunk)) } else { Message::binary(chunk) };
    let failed = |error: Error| StreamError::WebSocket(Box::new(error));
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(super::config())).await;
    socket.send(message(Bytes::new())).await.map_err(failed)?;
    loop {
        tokio::select! {
            chunk = stream.next() => match chunk {
                Some(chunk) => {
                    idle.touch();
                    socket.send(message(chunk?)).await.map_err(failed)?;
                }
                None => return socket.close(Some(super::normal())).await.map_err(failed),
            },
            said = socket.next() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Ok(()),
                Some(Ok(_)) => idle.touch(),
            },
            () = idle.expired() => return Err(StreamError::Idle),
        }
    }
}
