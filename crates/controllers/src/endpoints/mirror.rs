//! The EndpointSlices that mirror Endpoints which somebody else writes. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::{
    core::v1::{EndpointAddress, Endpoints},
    discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
};

use super::plan::{MANAGED_BY, SERVICE_NAME, SLICE};
use crate::objects::{Labels, controller_reference};

pub(super) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints that are a lock of leader election serve nobody.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations of the Endpoints that mean nothing on a slice.
const NOT_COPIED: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// Addresses of one subset that are mirrored at most (upstream's `maxEndpointsPerSubset`).
const SUBSET: usize = 1_000;

/// Ports, and the addresses that have all of them.
type Group = (Vec<EndpointPort>, Vec<Endpoint>);

/// The slices that say what `endpoints` say; none for those that are not to be mirrored.
pub(super) fn wanted(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let labels = endpoints.metadata.labels.as_ref();
    let skipped = labels.and_then(|labels| labels.get(SKIP)).is_some_and(|value| value == "true");
    let is_lock = endpoints.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(LEADER));
    if skipped || is_lock || endpoints.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let mut groups: BTreeMap<(&str, String), Group> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        for (address, ready) in ready.chain(unready).take(SUBSET) {
            let Some((family, endpoint)) = endpoint(address, ready) else { continue };
            let group =
                groups.entry((family, format!("{ports:?}"))).or_insert_with(|| (ports.clone(), Vec::new()));
            if !group.1.contains(&endpoint) {
                group.1.push(endpoint);
            }
        }
    }
    groups
        .into_iter()
        .flat_map(|((family, _), (ports, all))| {
            let parts: Vec<Vec<Endpoint>> = all.chunks(SLICE).map(<[Endpoint]>::to_vec).collect();
            parts.into_iter().map(move |part| slice(endpoints, family, ports.clone(), part))
        })
        .collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Option<(&'static str, Endpoint)> {
    let ip: IpAddr = address.ip.parse().ok()?;
    let endpoint = Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    };
    Some((if ip.is_ipv4() { "IPv4" } else { "IPv6" }, endpoint))
}

fn slice(
    endpoints: &Endpoints,
    family: &str,
    ports: Vec<EndpointPort>,
    part: Vec<Endpoint>,
) -> EndpointSlice {
    let mut slice = EndpointSlice { address_type: family.to_owned(), ..EndpointSlice::default() };
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels: Labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
    slice.metadata.generate_name = Some(format!("{name}-"));
    slice.metadata.namespace.clone_from(&endpoints.metadata.namespace);
    slice.metadata.labels = Some(labels);
    slice.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    slice.metadata.owner_references =
        Some(vec![controller_reference("v1", "Endpoints", &endpoints.metadata)]);
    slice.ports = Some(ports);
    slice.endpoints = Some(part);
    slice
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn endpoints(metadata: Value) -> Endpoints {
        let mut object = json!({"metadata": {"name": "db", "namespace": "ns", "uid": "e"},
            "subsets": [{"addresses": [{"ip": "10.1.2.3"}, {"ip": "2001:db8::1"}, {"ip": "10.1.2.3"}],
                "notReadyAddresses": [{"ip": "10.1.2.4"}], "ports": [{"port": 80}]}]});
        for (key, value) in metadata.as_object().cloned().unwrap_or_default() {
            object["metadata"][key] = value;
        }
        serde_json::from_value(object).expect("Endpoints")
    }

    #[test]
    fn each_family_gets_a_slice_and_no_address_comes_twice() {
        let slices = wanted(&endpoints(json!({"annotations": {"own": "x", NOT_COPIED[1]: "{}"}})));
        assert_eq!(slices.iter().map(|own| own.address_type.as_str()).collect::<Vec<_>>(), ["IPv4", "IPv6"]);
        let addresses: Vec<_> =
            slices[0].endpoints.iter().flatten().map(|own| own.addresses[0].as_str()).collect();
        assert_eq!(addresses, ["10.1.2.3", "10.1.2.4"]);
        assert_eq!(slices[0].ports.as_ref().and_then(|ports| ports[0].port), Some(80));
        assert_eq!(slices[0].metadata.annotations.as_ref().map(|own| own.len()), Some(1));
    }

    #[test]
    fn some_are_left_alone() {
        assert!(wanted(&endpoints(json!({"labels": {SKIP: "true"}}))).is_empty());
        assert!(wanted(&endpoints(json!({"annotations": {LEADER: "{}"}}))).is_empty());
    }
}
