//! Which pod and port `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT` stands for.

use std::net::IpAddr;

use kube_objects::{Reason, Status};
use rand::seq::SliceRandom;
use serde_json::Value;

use super::{first_port, pods, unreachable};
use crate::handlers::Call;
use crate::node_connection::PodReference;
use crate::registry::strategy::Objects as _;

/// The label that names a slice's service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Where a request goes.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) pod: PodReference,
    /// The pod's address.
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl Target {
    /// `address:port`, as in URLs.
    pub(super) fn authority(&self) -> String {
        std::net::SocketAddr::new(self.ip, self.port).to_string()
    }
}

/// A name with what stands before and behind it (upstream `SplitSchemeNamePort`).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    pub(super) tls: bool,
    pub(super) name: &'a str,
    /// "" for none.
    pub(super) port: &'a str,
}

/// Reads it; `None` for what is no such name.
pub(super) fn split(text: &str) -> Option<Named<'_>> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    let valid = !name.is_empty() && matches!(scheme, "" | "http" | "https");
    valid.then_some(Named { tls: scheme == "https", name, port })
}

fn invalid(kind: &str, text: &str) -> Status {
    Status::new(Reason::BadRequest, format!("invalid {kind} request {text:?}"))
}

/// A pod's own port, or the first it declares.
pub(super) async fn of_pod(call: &Call) -> Result<Target, Status> {
    let named = split(&call.path.name).ok_or_else(|| invalid("pod", &call.path.name))?;
    let found = pods::Target::named(call, named.name).await?;
    let ip = allowed(found.pod["status"]["podIPs"][0]["ip"].as_str())?;
    let port = match named.port {
        "" => first_port(&found.pod).unwrap_or(if named.tls { 443 } else { 80 }),
        text => {
            text.parse().map_err(|_| unreachable(format!("dial tcp: lookup tcp/{text}: unknown port")))?
        }
    };
    Ok(Target { pod: found.reference, ip, port, tls: named.tls })
}

/// Not the machine's own addresses, nor those that mean nothing elsewhere.
fn allowed(ip: Option<&str>) -> Result<IpAddr, Status> {
    let ip = ip.and_then(|text| text.parse::<IpAddr>().ok());
    let global = |ip: &IpAddr| {
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
    };
    ip.filter(global).ok_or_else(|| Status::new(Reason::BadRequest, "address not allowed"))
}

/// A ready pod of a service that has the port, at random.
pub(super) async fn of_service(call: &Call) -> Result<Target, Status> {
    let whole = &call.path.name;
    let named = split(whole).ok_or_else(|| invalid("service", whole))?;
    let objects = call.server.objects.as_ref();
    let namespace = call.namespace();
    let service = objects.get("", "services", namespace, named.name).await?;
    let service = service.ok_or_else(|| Status::not_found("", "services", named.name))?;
    let port = port_name(&service, &named)?;
    let slices = objects.list("discovery.k8s.io", "endpointslices", namespace).await?;
    let own = slices
        .iter()
        .map(AsRef::as_ref)
        .filter(|slice: &&Value| slice["metadata"]["labels"][SERVICE_NAME] == named.name);
    let mut candidates = candidates(own, &port);
    candidates.shuffle(&mut rand::rng());
    for (pod, ip, port) in candidates {
        // Only pods are proxied to: an address that nobody vouches for could be anything.
        let Ok(found) = pods::Target::named(call, &pod).await else { continue };
        let ips = found.pod["status"]["podIPs"].as_array().into_iter().flatten();
        if ips.filter_map(|own| own["ip"].as_str()).any(|own| own.parse() == Ok(ip)) {
            return Ok(Target { pod: found.reference, ip, port, tls: named.tls });
        }
    }
    let message = format!("no endpoints available for service {whole:?}");
    Err(Status::new(Reason::ServiceUnavailable, message))
}

/// The name of the service port that is asked for by name or number; the port without a name for none.
fn port_name(service: &Value, named: &Named<'_>) -> Result<String, Status> {
    let Ok(number) = named.port.parse::<i64>() else { return Ok(named.port.to_owned()) };
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let found = ports.find(|port| port["port"] == number);
    found.map(|port| port["name"].as_str().unwrap_or_default().to_owned()).ok_or_else(|| {
        let message = format!("no service port {number} found for service {:?}", named.name);
        Status::new(Reason::ServiceUnavailable, message)
    })
}

/// Pods, addresses and ports of the ready endpoints with that port.
fn candidates<'a>(slices: impl Iterator<Item = &'a Value>, port: &str) -> Vec<(String, IpAddr, u16)> {
    let mut found = Vec::new();
    for slice in slices {
        let mut ports = slice["ports"].as_array().into_iter().flatten();
        let number = ports
            .find(|own| own["name"].as_str().unwrap_or_default() == port)
            .and_then(|own| own["port"].as_u64())
            .and_then(|number| u16::try_from(number).ok());
        let Some(number) = number else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let ready = endpoint["conditions"]["ready"] != false;
            let is_pod = endpoint["targetRef"]["kind"] == "Pod";
            let pod = endpoint["targetRef"]["name"].as_str().filter(|_| ready && is_pod);
            let ip = endpoint["addresses"][0].as_str().and_then(|ip| ip.parse().ok());
            if let (Some(pod), Some(ip)) = (pod, ip) {
                found.push((pod.to_owned(), ip, number));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_split_as_upstream_splits_them() {
        let named = |tls, name, port| Some(Named { tls, name, port });
        assert_eq!(split("web"), named(false, "web", ""));
        assert_eq!(split("web:80"), named(false, "web", "80"));
        assert_eq!(split("http:web:"), named(false, "web", ""));
        assert_eq!(split("https:web:tls"), named(true, "web", "tls"));
        for bad in ["", ":80", "ftp:web:80", "a:b:c:d"] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_of_the_machine_are_not_allowed() {
        assert!(allowed(Some("10.1.2.3")).is_ok());
        assert!(allowed(Some("fd00::1")).is_ok());
        for bad in
            [None, Some("127.0.0.1"), Some("169.254.169.254"), Some("0.0.0.0"), Some("fe80::1"), Some("x")]
        {
            assert_eq!(allowed(bad).expect_err("not allowed").message, "address not allowed", "{bad:?}");
        }
    }

    #[test]
    fn only_ready_pods_with_the_port_are_candidates() {
        let slice = json!({
            "ports": [{"name": "web", "port": 8080}, {"name": "", "port": 1}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": "a"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "b"}},
                {"addresses": ["10.0.0.3"]},
            ],
        });
        let of = |port| candidates([&slice].into_iter(), port);
        let ip: IpAddr = [10, 0, 0, 1].into();
        assert_eq!(of("web"), [("a".to_owned(), ip, 8080)]);
        assert_eq!(of(""), [("a".to_owned(), ip, 1)]);
        assert!(of("other").is_empty());
        let service = json!({"spec": {"ports": [{"name": "web", "port": 80}]}});
        let name = |text| port_name(&service, &split(text).expect("a name"));
        assert_eq!(name("s:80"), Ok("web".to_owned()));
        assert_eq!(name("s:web"), Ok("web".to_owned()));
        assert_eq!(
            name("s:81").expect_err("no such port").message,
            "no service port 81 found for service \"s\""
        );
    }
}
