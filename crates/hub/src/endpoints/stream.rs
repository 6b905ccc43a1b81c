//! The presence stream: lines the agent reads; its being read is what presence is made of.

use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{PROTOCOL, StreamMessage};
use bytes::Bytes;
use fleet_objects::AgentIdentity;
use futures::stream;
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tower::BoxError;

use super::Body;
use crate::presence::StreamGuard;
use crate::service::Shared;

struct Stream {
    guard: StreamGuard,
    hello: Option<StreamMessage>,
    every: Duration,
    /// Changes when somebody waits for a tunnel to the agent's cluster.
    asks: tokio::sync::watch::Receiver<u64>,
}

pub(super) fn open(shared: &Arc<Shared>, agent: &AgentIdentity) -> Response<Body> {
    let every = shared.presence_timeout / 3;
    let hello = StreamMessage::Hello {
        protocol: PROTOCOL,
        hub_epoch: shared.epoch.clone(),
        hub_version: shared.version.clone(),
        ping_millis: u64::try_from(every.as_millis()).unwrap_or(5000),
    };
    let asks = shared.tunnels.asks(&agent.name);
    let state = Stream { guard: shared.presence.open(&agent.name), hello: Some(hello), every, asks };
    let shared = shared.clone();
    let agent = agent.clone();
    let lines = stream::unfold(state, move |mut state| {
        let (shared, agent) = (shared.clone(), agent.clone());
        async move {
            let message = match state.hello.take() {
                Some(hello) => hello,
                None => {
                    let message = tokio::select! {
                        () = shared.stopping.cancelled() => return None,
                        Ok(()) = state.asks.changed() => StreamMessage::OpenTunnel,
                        () = tokio::time::sleep(state.every) => StreamMessage::Ping,
                    };
                    // A cluster that was revoked or removed loses its stream with the next line.
                    shared.check_member(&agent).await.ok()?;
                    message
                }
            };
            let mut line = serde_json::to_vec(&message).ok()?;
            line.push(b'\n');
            let _ = &state.guard;
            Some((Ok::<_, BoxError>(Frame::data(Bytes::from(line))), state))
        }
    });
    let mut response = Response::new(StreamBody::new(lines).boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    let lines = header::HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, lines);
    response
}
