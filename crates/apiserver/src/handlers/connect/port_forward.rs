//! `pods/portforward`.

use std::sync::Arc;

use futures::FutureExt as _;
use http::Response;
use kube_objects::{Reason, Status};
use streams::Idle;
use streams::port_forward::{self, Dial, SPDY_PROTOCOLS, TUNNEL_PROTOCOL, WEBSOCKET_PROTOCOLS};
use streams::upgrade::{self, Refusal, Upgrade};
use streams::websocket::Tunnel;

use super::{Incoming, ended, pods, refused, switching, upgrade_required};
use crate::extension::Body;
use crate::handlers::Call;
use crate::node_connection::{NodeConnection, PodReference};

/// How the client speaks.
enum Protocol {
    Spdy(Option<&'static str>),
    Tunnel,
    Channels(Option<&'static str>, Vec<u16>),
}

/// Serves one.
pub(super) async fn serve(call: &Call, incoming: Incoming) -> Result<Response<Body>, Status> {
    call.authorize_create(incoming.verb)?;
    let target = pods::Target::of(call).await?.bound()?;
    let Some(connection) = incoming.upgrade else { return Err(upgrade_required()) };
    let protocol = match protocol(call)? {
        Ok(protocol) => protocol,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let websocket = |name| upgrade::websocket_response(&call.headers, name);
    let head = match &protocol {
        Protocol::Spdy(name) => Ok(upgrade::spdy_response(*name)),
        Protocol::Tunnel => websocket(Some(TUNNEL_PROTOCOL)),
        Protocol::Channels(name, _) => websocket(*name),
    };
    let head = match head {
        Ok(head) => head,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let dial = dial(call.nodes()?, target.reference.clone());
    // How upstream's kubelet names a pod in its messages.
    let reference = &target.reference;
    let pod = format!("{}_{}, uid {}", reference.name, reference.namespace, reference.uid);
    call.server.sessions.start(connection, move |io| async move {
        let idle = Idle::default();
        let outcome = match protocol {
            Protocol::Spdy(_) => port_forward::serve_spdy(io, &pod, dial, &idle).await,
            Protocol::Tunnel => port_forward::serve_spdy(Tunnel::new(io).await, &pod, dial, &idle).await,
            Protocol::Channels(name, ports) => {
                port_forward::serve_websocket(io, name, &ports, &pod, &dial, &idle).await
            }
        };
        ended("portforward", &target, outcome);
    })?;
    Ok(switching(head))
}

fn protocol(call: &Call) -> Result<Result<Protocol, Refusal>, Status> {
    let wanted = upgrade::requested(&call.headers).ok_or_else(upgrade_required)?;
    if wanted == Upgrade::Spdy {
        return Ok(upgrade::negotiate_spdy(&call.headers, &SPDY_PROTOCOLS).map(Protocol::Spdy));
    }
    if upgrade::subprotocols(&call.headers).iter().any(|offered| offered == TUNNEL_PROTOCOL) {
        return Ok(Ok(Protocol::Tunnel));
    }
    let bad = |why| Status::new(Reason::BadRequest, why);
    let ports = port_forward::ports(call.query.all("ports")).map_err(bad)?;
    let name = upgrade::negotiate_websocket(&call.headers, &WEBSOCKET_PROTOCOLS);
    Ok(name.map(|name| Protocol::Channels(name, ports)))
}

fn dial(nodes: Arc<dyn NodeConnection>, pod: PodReference) -> Dial {
    Arc::new(move |port| {
        let (nodes, pod) = (Arc::clone(&nodes), pod.clone());
        async move { nodes.port_forward(&pod, port).await.map_err(|status| status.message) }.boxed()
    })
}
