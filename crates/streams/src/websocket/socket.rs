//! Channels over a WebSocket, as the server.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, SelectAll, SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Codec, Inbound};
use crate::idle::Idle;
use crate::session::StreamError;

/// How long the peer has to answer the closing handshake.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// The channels of one socket.
#[derive(Debug)]
pub struct Channels {
    /// How they stand in messages.
    pub codec: Codec,
    /// Whether a client can end a channel.
    pub with_end: bool,
    /// Where data of a channel goes; `None` passes it over. Dropped when the client ends the channel.
    pub inputs: Vec<Option<mpsc::Sender<Bytes>>>,
    /// What goes out, by channel. An empty chunk is sent too.
    pub outputs: Vec<(u8, mpsc::Receiver<Bytes>)>,
}

/// Moves the channels of a socket whose handshake is done. Returns when the client has gone, or after the closing
/// handshake once all outputs have ended.
///
/// # Errors
/// When the socket breaks or the client breaks the protocol.
pub async fn serve<IO>(io: IO, channels: Channels, idle: &Idle) -> Result<(), StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Channels { codec, with_end, inputs, outputs } = channels;
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(super::config())).await;
    let (mut sink, mut stream) = socket.split();
    {
        let reading = read(&mut stream, codec, with_end, inputs, idle);
        let writing = write(&mut sink, codec, outputs, idle);
        tokio::select! {
            read = reading => return read,
            written = writing => written?,
        }
    }
    let close = async {
        // Go's clients take every other end for a failure.
        sink.send(Message::Close(Some(super::normal()))).await?;
        while let Some(Ok(_)) = stream.next().await {}
        Ok::<(), Error>(())
    };
    // A client that does not answer is left.
    let _ = tokio::time::timeout(CLOSE_LIMIT, close).await;
    Ok(())
}

async fn read<IO: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut SplitStream<WebSocketStream<IO>>,
    codec: Codec,
    with_end: bool,
    mut inputs: Vec<Option<mpsc::Sender<Bytes>>>,
    idle: &Idle,
) -> Result<(), StreamError> {
    while let Some(message) = stream.next().await {
        let content = match message {
            Ok(message @ (Message::Binary(_) | Message::Text(_))) => message.into_data(),
            Ok(Message::Close(_)) => return Ok(()),
            Ok(_) => continue,
            Err(error) => return gone(error),
        };
        idle.touch();
        let inbound = codec.read(content, with_end).map_err(|why| StreamError::Protocol(why.to_owned()))?;
        match inbound {
            Inbound::Data(channel, data) => {
                if let Some(Some(input)) = inputs.get(usize::from(channel)) {
                    let _ = input.send(data).await;
                }
            }
            Inbound::End(channel) => match inputs.get_mut(usize::from(channel)) {
                Some(input) => *input = None,
                None => {
                    return Err(StreamError::Protocol(format!(
                        "the end of channel {channel}, which is none"
                    )));
                }
            },
            Inbound::Nothing => {}
        }
    }
    Ok(())
}

/// A connection that just ends is no failure.
fn gone(error: Error) -> Result<(), StreamError> {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => Ok(()),
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => Ok(()),
        Error::Io(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            Ok(())
        }
        error => Err(StreamError::WebSocket(Box::new(error))),
    }
}

async fn write<IO: AsyncRead + AsyncWrite + Unpin>(
    sink: &mut SplitSink<WebSocketStream<IO>, Message>,
    codec: Codec,
    outputs: Vec<(u8, mpsc::Receiver<Bytes>)>,
    idle: &Idle,
) -> Result<(), StreamError> {
    let mut merged: SelectAll<BoxStream<'static, (u8, Bytes)>> = outputs
        .into_iter()
        .map(|(channel, output)| ReceiverStream::new(output).map(move |data| (channel, data)).boxed())
        .collect();
    while let Some((channel, data)) = merged.next().await {
        idle.touch();
        let sent = sink.send(codec.write(channel, &data)).await;
        if let Err(error) = sent {
            return gone(error);
        }
    }
    Ok(())
}
