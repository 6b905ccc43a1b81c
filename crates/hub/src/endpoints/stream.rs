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
    /// The authorities that the agent has heard of, or was told to ask for; by their digest.
    authorities: String,
    /// Changes when somebody waits for a tunnel to the agent's cluster.
    asks: tokio::sync::watch::Receiver<u64>,
}

impl Stream {
    /// What is said when nothing else is: that the hub is there, or once that its authorities have changed.
    fn tell(&mut self, shared: &Shared) -> StreamMessage {
        let now = authorities(shared);
        if std::mem::replace(&mut self.authorities, now.clone()) == now {
            StreamMessage::Ping
        } else {
            StreamMessage::Authority
        }
    }
}

fn authorities(shared: &Shared) -> String {
    fleet_planner::digest(shared.issuer.ca_bundle().as_bytes())
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
    let authorities = authorities(shared);
    let guard = shared.presence.open(&agent.name);
    let state = Box::new(Stream { guard, hello: Some(hello), every, authorities, asks });
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
                        () = tokio::time::sleep(state.every) => state.tell(&shared),
                    };
                    // A cluster that was revoked or removed loses its stream with the next line.
                    Box::pin(shared.check_member(&agent)).await.ok()?;
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
