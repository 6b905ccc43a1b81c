//! From a Service to an address that can be dialled: for webhooks and aggregated API servers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use kind_rules::json::{list, text};
use rand::seq::IndexedRandom as _;
use serde_json::Value;

use crate::registry::strategy::Objects;

/// An address of the Service's port: a ready endpoint, else its cluster address. Endpoints come first because the
/// server's own machine need not be part of the service network. The messages are those of upstream's resolvers
/// (apiserver `pkg/util/proxy`).
///
/// # Errors
/// A sentence for the client.
pub(crate) async fn resolve(
    objects: &dyn Objects,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Destination, String> {
    let service = objects.get("", "services", namespace, name).await.map_err(|status| status.message)?;
    let service = service.ok_or_else(|| format!("service \"{name}\" not found"))?;
    let spec = &service["spec"];
    if text(spec, "type") == "ExternalName" {
        return Ok(Destination::Name(text(spec, "externalName").to_owned(), port));
    }
    let served = list(spec, "ports").iter().find(|own| own["port"].as_u64() == Some(u64::from(port)));
    let served = served.ok_or_else(|| format!("no service port {port} found for service \"{name}\""))?;
    let slices = objects
        .list("discovery.k8s.io", "endpointslices", namespace)
        .await
        .map_err(|status| status.message)?;
    if let Some(address) = endpoint(&slices, name, text(served, "name")) {
        return Ok(Destination::Address(address));
    }
    let cluster: Option<IpAddr> = text(spec, "clusterIP").parse().ok();
    match cluster {
        // Nobody may listen there either, but then the failure names the address.
        Some(address) => Ok(Destination::Address(SocketAddr::new(address, port))),
        None => Err(format!("no endpoints available for service \"{name}\"")),
    }
}

/// Where a Service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// An endpoint or the Service's own address.
    Address(SocketAddr),
    /// An ExternalName's host and the port asked for.
    Name(String, u16),
}

/// One of the ready endpoints at random.
fn endpoint(slices: &[Arc<Value>], service: &str, port_name: &str) -> Option<SocketAddr> {
    let mut found = Vec::new();
    let own =
        |slice: &&Arc<Value>| text(&slice["metadata"]["labels"], "kubernetes.io/service-name") == service;
    for slice in slices.iter().filter(own) {
        let port = list(slice, "ports").iter().find(|port| text(port, "name") == port_name);
        let Some(port) =
            port.and_then(|port| port["port"].as_u64()).and_then(|port| u16::try_from(port).ok())
        else {
            continue;
        };
        for each in list(slice, "endpoints") {
            let ready = each["conditions"]["ready"].as_bool().unwrap_or(true);
            let address = list(each, "addresses").first().and_then(Value::as_str);
            if let Some(address) = address.and_then(|text| text.parse().ok()).filter(|_| ready) {
                found.push(SocketAddr::new(address, port));
            }
        }
    }
    found.choose(&mut rand::rng()).copied()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_ready_endpoints_of_the_service_and_port_are_dialled() {
        let slices = [
            json!({"metadata": {"labels": {"kubernetes.io/service-name": "hook"}},
                "ports": [{"name": "https", "port": 8443}, {"name": "metrics", "port": 9090}],
                "endpoints": [{"addresses": ["10.1.0.1"], "conditions": {"ready": false}},
                    {"addresses": ["10.1.0.2"], "conditions": {"ready": true}}]}),
            json!({"metadata": {"labels": {"kubernetes.io/service-name": "other"}},
                "ports": [{"name": "https", "port": 1}], "endpoints": [{"addresses": ["10.1.0.9"]}]}),
        ]
        .map(Arc::new);
        for _ in 0..20 {
            assert_eq!(endpoint(&slices, "hook", "https"), Some("10.1.0.2:8443".parse().unwrap()));
        }
        assert_eq!(endpoint(&slices, "hook", "none"), None);
        assert_eq!(endpoint(&slices, "missing", "https"), None);
    }
}
