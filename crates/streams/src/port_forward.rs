//! `port-forward`, served to a client: SPDY (plain or tunnelled through a WebSocket) and WebSocket channels.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::idle::Idle;
use crate::session::{CHUNKS, Duplex, StreamError, pump};
use crate::spdy::{Connection, Control, Role, Stream};
use crate::websocket::{self, Channels, Codec};

mod pairs;
#[cfg(test)]
mod tests;

use pairs::{Pairs, Purpose};

/// What SPDY clients ask for.
pub const SPDY_PROTOCOLS: [&str; 1] = ["portforward.k8s.io"];
/// What clients that tunnel SPDY through a WebSocket ask for.
pub const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
/// WebSocket channels: two for each port.
pub const WEBSOCKET_PROTOCOLS: [&str; 2] = ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"];
/// How long the second stream of a connection may take (upstream's `DefaultStreamCreationTimeout`).
const STREAM_CREATION_LIMIT: Duration = Duration::from_secs(30);

/// Connects to a port of the pod; the error is told to the client.
pub type Dial = Arc<dyn Fn(u16) -> BoxFuture<'static, Result<Duplex, String>> + Send + Sync>;

/// Serves forwarded connections over SPDY until the client goes.
///
/// # Errors
/// When the connection breaks, the client breaks the protocol, or nobody says anything for too long.
pub async fn serve_spdy<IO>(io: IO, pod: &str, dial: Dial, idle: &Idle) -> Result<(), StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Connection { control, incoming, driver } = Connection::new(io, Role::Server, idle.clone());
    let session = accept(incoming, control, pod.into(), dial, idle.clone());
    tokio::select! {
        ended = driver.run() => ended,
        () = session => Ok(()),
        () = idle.expired() => Err(StreamError::Idle),
    }
}

async fn accept(
    mut incoming: mpsc::Receiver<Stream>,
    control: Control,
    pod: Arc<str>,
    dial: Dial,
    idle: Idle,
) {
    let mut pairs = Pairs::<Stream>::default();
    // Dropped with this future, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            stream = incoming.recv() => {
                let Some(stream) = stream else { return };
                let purpose = match Purpose::of(stream.id, &stream.headers) {
                    Ok(purpose) => purpose,
                    Err(why) => {
                        tracing::debug!(why, "a stream for no port is refused");
                        control.reset(stream.id).await;
                        continue;
                    }
                };
                match pairs.add(&purpose, stream) {
                    Ok(Some((data, error))) => {
                        let connection = connection(purpose.port, data, error, pod.clone(), dial.clone(), idle.clone());
                        connections.spawn(connection);
                    }
                    Ok(None) => {}
                    Err(twice) => control.reset(twice.id).await,
                }
            }
            () = pairs.expired(STREAM_CREATION_LIMIT) => {
                for stream in pairs.take_expired(STREAM_CREATION_LIMIT) {
                    control.reset(stream.id).await;
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One forwarded connection. Its streams end when this does.
async fn connection(port: u16, data: Stream, error: Stream, pod: Arc<str>, dial: Dial, idle: Idle) {
    let Stream { reader, writer, .. } = data;
    let outcome = match dial(port).await {
        Ok(io) => pump(io, reader, writer, &idle).await.map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    if let Err(why) = outcome {
        let message = format!("error forwarding port {port} to pod {pod}: {why}");
        let _ = error.writer.send(message.into()).await;
    }
}

/// Serves one connection to each port over WebSocket channels: 2n for data, 2n+1 for errors, each beginning with the
/// port in two bytes, the lower first.
///
/// # Errors
/// As [`serve_spdy`].
pub async fn serve_websocket<IO>(
    io: IO,
    protocol: Option<&str>,
    ports: &[u16],
    pod: &str,
    dial: &Dial,
    idle: &Idle,
) -> Result<(), StreamError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    let mut connections = JoinSet::new();
    for port in ports {
        let number =
            u8::try_from(inputs.len()).map_err(|_| StreamError::Protocol("too many ports".to_owned()))?;
        let (input, reader) = mpsc::channel(CHUNKS);
        let (writer, output) = mpsc::channel(CHUNKS);
        let (error, error_output) = mpsc::channel(CHUNKS);
        let head = Bytes::copy_from_slice(&port.to_le_bytes());
        let _ = writer.try_send(head.clone());
        let _ = error.try_send(head);
        inputs.extend([Some(input), None]);
        outputs.extend([(number, output), (number + 1, error_output)]);
        let (port, pod, dial, idle) = (*port, pod.to_owned(), dial.clone(), idle.clone());
        connections.spawn(async move {
            let outcome = match dial(port).await {
                Ok(io) => pump(io, reader, writer, &idle).await.map_err(|error| error.to_string()),
                Err(why) => Err(why),
            };
            if let Err(why) = outcome {
                let message = format!("error forwarding port {port} to pod {pod}: {why}");
                let _ = error.send(message.into()).await;
            }
        });
    }
    let codec =
        if protocol.is_some_and(|name| name.contains("base64")) { Codec::Base64 } else { Codec::Binary };
    let channels = Channels { codec, with_end: false, inputs, outputs };
    tokio::select! {
        ended = websocket::serve(io, channels, idle) => ended,
        () = idle.expired() => Err(StreamError::Idle),
    }
}

/// The ports a WebSocket client names: each `ports` parameter holds some, parted by commas.
///
/// # Errors
/// In upstream's words.
pub fn ports<'a>(parameters: impl Iterator<Item = &'a str>) -> Result<Vec<u16>, String> {
    let mut found = Vec::new();
    for parameter in parameters {
        if parameter.is_empty() {
            return Err("query parameter \"ports\" cannot be empty".to_owned());
        }
        for text in parameter.split(',') {
            match text.parse::<u16>() {
                Ok(0) => return Err(format!("port {parameter:?} must be > 0")),
                Ok(port) => found.push(port),
                Err(_) => return Err(format!("unable to parse {parameter:?} as a port")),
            }
        }
    }
    if found.is_empty() {
        return Err("query parameter \"ports\" is required".to_owned());
    }
    if found.len() > usize::from(u8::MAX / 2) {
        return Err("too many ports".to_owned());
    }
    Ok(found)
}
