//! Commands and ports through the runtime's streaming server.

use streams::{Duplex, RemoteCommand, StreamError, Streams, runtime};
use tokio::net::TcpStream;

use super::{CALL, Inner, v1};
use crate::runtime::RuntimeError;

fn failed(operation: &'static str) -> impl Fn(StreamError) -> RuntimeError {
    move |error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        RuntimeError::Refused { operation, message: format!("{error}{cause}") }
    }
}

/// Runs a command.
pub(super) async fn exec(
    inner: &Inner,
    uid: &str,
    id: &str,
    command: &[String],
    streams: Streams,
) -> Result<RemoteCommand, RuntimeError> {
    own(inner, uid, id).await?;
    let request = v1::ExecRequest {
        container_id: id.to_owned(),
        cmd: command.to_vec(),
        tty: streams.tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let url = inner.call("run a command", CALL, inner.runtime().exec(request)).await?.url;
    runtime::command(&url, streams).await.map_err(failed("run a command"))
}

/// Joins a container's own streams.
pub(super) async fn attach(
    inner: &Inner,
    uid: &str,
    id: &str,
    streams: Streams,
) -> Result<RemoteCommand, RuntimeError> {
    own(inner, uid, id).await?;
    let request = v1::AttachRequest {
        container_id: id.to_owned(),
        tty: streams.tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let url = inner.call("attach", CALL, inner.runtime().attach(request)).await?.url;
    runtime::command(&url, streams).await.map_err(failed("attach"))
}

/// A container is only reached through its own pod.
async fn own(inner: &Inner, uid: &str, id: &str) -> Result<(), RuntimeError> {
    let pod = inner.observe(uid).await?;
    if pod.containers.iter().any(|container| container.id == id) {
        return Ok(());
    }
    Err(RuntimeError::NotFound(format!("container {id}")))
}

/// A port inside of a pod's network.
pub(super) async fn port_forward(inner: &Inner, uid: &str, port: u16) -> Result<Duplex, RuntimeError> {
    let pod = inner.observe(uid).await?;
    let sandbox = pod.sandbox.filter(|sandbox| sandbox.ready);
    let sandbox = sandbox.ok_or_else(|| RuntimeError::NotFound("the pod's sandbox".to_owned()))?;
    let request = v1::PortForwardRequest { pod_sandbox_id: sandbox.id, port: vec![i32::from(port)] };
    let url = inner.call("forward a port", CALL, inner.runtime().port_forward(request)).await?.url;
    let connection = runtime::port_forward(&url, port).await.map_err(failed("forward a port"))?;
    Ok(Box::new(connection))
}

/// A port of a pod's address; of the machine's own for a pod on its network.
pub(super) async fn connect(inner: &Inner, uid: &str, port: u16) -> Result<Duplex, RuntimeError> {
    let pod = inner.observe(uid).await?;
    let sandbox = pod.sandbox.filter(|sandbox| sandbox.ready);
    let sandbox = sandbox.ok_or_else(|| RuntimeError::NotFound("the pod's sandbox".to_owned()))?;
    let ip = sandbox.ips.first().map_or("127.0.0.1", String::as_str);
    let connected = TcpStream::connect((ip, port)).await.and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok(stream)
    });
    let stream = connected.map_err(|error| RuntimeError::Refused {
        operation: "dial tcp",
        message: format!("{ip}:{port}: {error}"),
    })?;
    Ok(Box::new(stream))
}
