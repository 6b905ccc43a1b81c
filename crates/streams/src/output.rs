//! A command in a container as a client of an API server: over a WebSocket (`v4.channel.k8s.io`), mostly for its output.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, header, request};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::session::StreamError;
use crate::websocket::{self, Codec, Inbound};

/// What is spoken: every Kubernetes of the last years does, and the end of an input, which later versions are for, is not wanted.
const PROTOCOL: &str = "v4.channel.k8s.io";
/// The numbers of the channels.
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;

/// What a command says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Bytes of its standard output.
    Stdout(Bytes),
    /// Bytes of its standard error.
    Stderr(Bytes),
    /// It ended; why not well, for people. The last of its output may still follow.
    Ended(Result<(), String>),
}

/// The head of a request for `pods/exec` of this path and query; `key` is random.
#[must_use]
pub fn request(path_and_query: &str, key: [u8; 16]) -> request::Builder {
    http::Request::get(path_and_query)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, STANDARD.encode(key))
        .header(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL)
}

/// Checks the headers of the answer that switched protocols.
///
/// # Errors
/// When it is not the answer to the request with this key.
pub fn check(headers: &HeaderMap, key: [u8; 16]) -> Result<(), StreamError> {
    let is = |name: header::HeaderName, wanted: &str| headers.get(name).is_some_and(|found| found == wanted);
    let accept = derive_accept_key(STANDARD.encode(key).as_bytes());
    if !is(header::SEC_WEBSOCKET_ACCEPT, &accept) {
        return Err(StreamError::Protocol("the answer is to another handshake".to_owned()));
    }
    if !is(header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL) {
        return Err(StreamError::Protocol(format!("the server does not speak {PROTOCOL}")));
    }
    Ok(())
}

/// The output of a command, piece by piece. Who does not read holds back the command; dropping it lets go of the command.
#[derive(Debug)]
pub struct CommandOutput<IO> {
    socket: WebSocketStream<IO>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> CommandOutput<IO> {
    /// Over a connection whose handshake is done.
    pub async fn new(io: IO) -> Self {
        let config = Some(websocket::config());
        Self { socket: WebSocketStream::from_raw_socket(io, Role::Client, config).await }
    }

    /// Hands bytes to its standard input. There is no way to say that no more follows: the command must know.
    ///
    /// # Errors
    /// When the socket breaks.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), StreamError> {
        let sent = self.socket.send(Codec::Binary.write(STDIN, bytes)).await;
        sent.map_err(|error| StreamError::WebSocket(Box::new(error)))
    }

    /// The next piece; `None` when the connection ended before the command did.
    ///
    /// # Errors
    /// When the socket breaks or the server breaks the protocol.
    pub async fn next(&mut self) -> Result<Option<Output>, StreamError> {
        while let Some(message) = self.socket.next().await {
            let message = message.map_err(|error| StreamError::WebSocket(Box::new(error)))?;
            if message.is_close() {
                return Ok(None);
            }
            if !message.is_binary() && !message.is_text() {
                continue;
            }
            let inbound = Codec::Binary.read(message.into_data(), false);
            match inbound.map_err(|why| StreamError::Protocol(why.to_owned()))? {
                Inbound::Data(STDOUT, data) if !data.is_empty() => return Ok(Some(Output::Stdout(data))),
                Inbound::Data(STDERR, data) if !data.is_empty() => return Ok(Some(Output::Stderr(data))),
                Inbound::Data(ERROR, data) if !data.is_empty() => {
                    return Ok(Some(Output::Ended(ending(&data))));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// What the status document of a command's end says.
fn ending(document: &[u8]) -> Result<(), String> {
    let status: Value = serde_json::from_slice(document).unwrap_or_default();
    if status["status"] == "Success" {
        return Ok(());
    }
    Err(status["message"]
        .as_str()
        .map_or_else(|| String::from_utf8_lossy(document).into_owned(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_command::serve_websocket;
    use crate::session::{CommandSide, Ending, RemoteCommand, Streams};
    use crate::{Idle, upgrade};

    #[tokio::test]
    async fn a_client_reads_what_a_server_sends() {
        let streams = Streams { stdout: true, stderr: true, ..Streams::default() };
        let command = RemoteCommand::new(streams, |side: CommandSide| async move {
            let _ = side.stdout.expect("asked for").send(Bytes::from_static(b"out")).await;
            let _ = side.stderr.expect("asked for").send(Bytes::from_static(b"err")).await;
            Ending::exited(3)
        });
        let (near, far) = tokio::io::duplex(64 << 10);
        let serving = tokio::spawn(async move {
            serve_websocket(far, Some(PROTOCOL), streams, command, &Idle::default()).await
        });
        let mut output = CommandOutput::new(near).await;
        let mut told = Vec::new();
        // Each stream has its own way: the end may be told before the last of the output.
        while told.len() < 3 {
            told.push(output.next().await.expect("speaks the protocol").expect("there is more to come"));
        }
        drop(output);
        assert!(told.contains(&Output::Stdout(Bytes::from_static(b"out"))), "{told:?}");
        assert!(told.contains(&Output::Stderr(Bytes::from_static(b"err"))), "{told:?}");
        let ended = |own: &Output| matches!(own, Output::Ended(Err(why)) if why.contains("exit status 3"));
        assert!(told.iter().any(ended), "{told:?}");
        let _ = serving.await;
    }

    #[test]
    fn an_answer_belongs_to_its_request() {
        let key = [7; 16];
        let request = request("/x?y=z", key).body(()).expect("a request");
        let answer = upgrade::websocket_response(request.headers(), Some(PROTOCOL)).expect("accepted");
        check(answer.headers(), key).expect("its answer");
        assert!(check(answer.headers(), [8; 16]).is_err());
        let other =
            upgrade::websocket_response(request.headers(), Some("v5.channel.k8s.io")).expect("accepted");
        assert!(check(other.headers(), key).is_err());
    }
}
