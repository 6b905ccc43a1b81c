//! `pods/log` over a WebSocket.

use futures::{FutureExt as _, StreamExt as _};
use http::Response;
use kube_objects::Status;
use streams::Idle;
use streams::upgrade;
use streams::websocket::reader::{self, PROTOCOLS};

use super::{Incoming, refused, switching, upgrade_required};
use crate::extension::Body;
use crate::handlers::{Call, log};

/// Serves it.
pub(super) async fn serve(call: &Call, incoming: Incoming) -> Result<Response<Body>, Status> {
    let connection = incoming.upgrade.ok_or_else(upgrade_required)?;
    let stream = log::open(call).await?.unwrap_or_else(|| futures::stream::empty().boxed());
    let answer = upgrade::negotiate_websocket(&call.headers, &PROTOCOLS)
        .and_then(|protocol| Ok((upgrade::websocket_response(&call.headers, protocol)?, protocol)));
    let (head, protocol) = match answer {
        Ok(answer) => answer,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    call.server.sessions.start(connection, move |io| {
        async move {
            if let Err(error) = reader::send(io, protocol, stream, &Idle::default()).await {
                tracing::debug!(%error, "a log over a WebSocket ended early");
            }
        }
        .boxed()
    })?;
    Ok(switching(head))
}
