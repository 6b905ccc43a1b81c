//! Probes against real containers.

use std::time::Duration;

use k8s_openapi::api::core::v1::{HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Inner, v1};
use crate::runtime::{ProbeOutcome, ProbeTarget};

/// Carries out one probe; the caller limits its time.
pub(super) async fn run(inner: &Inner, target: &ProbeTarget, probe: &Probe) -> ProbeOutcome {
    let outcome = if let Some(exec) = &probe.exec {
        exec_probe(inner, target, exec.command.clone().unwrap_or_default(), probe).await
    } else if let Some(get) = &probe.http_get {
        http(target, get).await
    } else if let Some(socket) = &probe.tcp_socket {
        tcp(target, socket.host.as_deref(), &socket.port).await.map(drop)
    } else {
        Err("this kind of probe is not supported by this node".to_owned())
    };
    outcome.map_or_else(ProbeOutcome::Failure, |()| ProbeOutcome::Success)
}

async fn exec_probe(
    inner: &Inner,
    target: &ProbeTarget,
    cmd: Vec<String>,
    probe: &Probe,
) -> Result<(), String> {
    let timeout = i64::from(probe.timeout_seconds.unwrap_or(1).max(1));
    let request = v1::ExecSyncRequest { container_id: target.container_id.clone(), cmd, timeout };
    let limit = Duration::from_secs(u64::try_from(timeout).unwrap_or(1) + 5);
    let answer = inner
        .call("run a probe", limit, inner.runtime().exec_sync(request))
        .await
        .map_err(|error| error.to_string())?;
    if answer.exit_code == 0 {
        return Ok(());
    }
    let output = String::from_utf8_lossy(&answer.stderr).chars().take(256).collect::<String>();
    Err(format!("the command ended with {}: {output}", answer.exit_code))
}

async fn tcp(target: &ProbeTarget, host: Option<&str>, port: &IntOrString) -> Result<TcpStream, String> {
    let port = match port {
        IntOrString::Int(port) => u16::try_from(*port).ok(),
        IntOrString::String(name) => {
            let named = target.ports.iter().find(|(own, _)| own == name).map(|(_, port)| *port);
            named.or_else(|| name.parse().ok())
        }
    };
    let port = port.ok_or("its port is none of the container's")?;
    let host = host.filter(|host| !host.is_empty()).unwrap_or(&target.ip);
    TcpStream::connect((host, port)).await.map_err(|error| format!("dial tcp {host}:{port}: {error}"))
}

/// One request; 200 to 399 is success. Certificates are not checked, as upstream's probes don't: `https` is only
/// supported as far as a connection can be made.
async fn http(target: &ProbeTarget, get: &HTTPGetAction) -> Result<(), String> {
    let mut stream = tcp(target, get.host.as_deref(), &get.port).await?;
    if get.scheme.as_deref() == Some("HTTPS") {
        return Ok(());
    }
    let path = get.path.as_deref().filter(|path| path.starts_with('/')).unwrap_or("/");
    let clean = |text: &str| text.chars().filter(|c| !c.is_control() && *c != ' ').collect::<String>();
    let mut host = target.ip.clone();
    let mut headers = String::new();
    for header in get.http_headers.iter().flatten() {
        let value: String = header.value.chars().filter(|c| !c.is_control()).collect();
        if header.name.eq_ignore_ascii_case("host") {
            host = value;
        } else {
            headers.push_str(&format!("{}: {value}\r\n", clean(&header.name)));
        }
    }
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nConnection: close\r\n{headers}\r\n",
        clean(path)
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut head = Vec::new();
    // The status line is all that counts.
    stream.take(64).read_to_end(&mut head).await.map_err(|error| error.to_string())?;
    let line = String::from_utf8_lossy(&head);
    let code: u16 = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok())
        .ok_or("the answer is no HTTP")?;
    if (200..400).contains(&code) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {code}"))
    }
}
