//! `pods/exec` and `pods/attach`.

use http::Response;
use kube_objects::{Reason, Status};
use streams::remote_command::{self, SPDY_PROTOCOLS, WEBSOCKET_PROTOCOLS};
use streams::upgrade::{self, Upgrade};
use streams::{Idle, Streams};

use super::{Incoming, ended, pods, refused, switching, upgrade_required};
use crate::extension::Body;
use crate::handlers::Call;

/// Serves one.
pub(super) async fn serve(call: &Call, incoming: Incoming) -> Result<Response<Body>, Status> {
    call.authorize_create(incoming.verb)?;
    let target = pods::Target::of(call).await?;
    let container = target.container(call.query.text("container"))?;
    let target = target.bound()?;
    let (Some(wanted), Some(connection)) = (upgrade::requested(&call.headers), incoming.upgrade) else {
        return Err(upgrade_required());
    };
    let flag = |name| call.query.flag(name);
    let streams =
        Streams { stdin: flag("stdin"), stdout: flag("stdout"), stderr: flag("stderr"), tty: flag("tty") };
    let streams = streams.checked().map_err(|why| Status::new(Reason::BadRequest, why))?;
    let (head, protocol) = match wanted {
        Upgrade::Spdy => match upgrade::negotiate_spdy(&call.headers, &SPDY_PROTOCOLS) {
            Ok(protocol) => (upgrade::spdy_response(protocol), protocol),
            Err(refusal) => return Ok(refused(&refusal)),
        },
        Upgrade::WebSocket => {
            let answer = upgrade::negotiate_websocket(&call.headers, &WEBSOCKET_PROTOCOLS)
                .and_then(|protocol| Ok((upgrade::websocket_response(&call.headers, protocol)?, protocol)));
            match answer {
                Ok(answer) => answer,
                Err(refusal) => return Ok(refused(&refusal)),
            }
        }
    };
    let nodes = call.nodes()?;
    let exec = call.path.subresource == "exec";
    let session = if exec {
        let command: Vec<String> = call.query.all("command").map(str::to_owned).collect();
        nodes.exec(&target.reference, &container, &command, streams).await?
    } else {
        nodes.attach(&target.reference, &container, streams).await?
    };
    call.server.sessions.start(connection, move |io| async move {
        let idle = Idle::default();
        let outcome = match wanted {
            Upgrade::Spdy => remote_command::serve_spdy(io, protocol, streams, session, &idle).await,
            Upgrade::WebSocket => {
                remote_command::serve_websocket(io, protocol, streams, session, &idle).await
            }
        };
        ended(if exec { "exec" } else { "attach" }, &target, outcome);
    })?;
    Ok(switching(head))
}
