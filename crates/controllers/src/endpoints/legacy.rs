//! The Endpoints object that older clients read beside EndpointSlices. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// Addresses in one Endpoints object at most; upstream cuts there too and says so in this annotation.
const MAX_ADDRESSES: usize = 1_000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// What the object should be, from slices of the Service's first family. Terminating endpoints stand in no list.
pub(super) fn endpoints<'a>(service: &Service, slices: impl Iterator<Item = &'a EndpointSlice>) -> Endpoints {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    let family = if families.first().is_some_and(|family| family == "IPv6") { "IPv6" } else { "IPv4" };
    let mut subsets: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    let (mut total, mut cut) = (0, false);
    for slice in slices.filter(|slice| slice.address_type == family) {
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            if conditions.terminating == Some(true) {
                continue;
            }
            if total >= MAX_ADDRESSES {
                cut = true;
                break;
            }
            total += 1;
            let subset = subsets.entry(format!("{:?}", slice.ports)).or_insert_with(|| EndpointSubset {
                ports: Some(slice.ports.iter().flatten().map(port).collect()),
                ..EndpointSubset::default()
            });
            let ready = conditions.ready != Some(false);
            let list = if ready { &mut subset.addresses } else { &mut subset.not_ready_addresses };
            list.get_or_insert_default().push(EndpointAddress {
                ip: endpoint.addresses.first().cloned().unwrap_or_default(),
                hostname: endpoint.hostname.clone(),
                node_name: endpoint.node_name.clone(),
                target_ref: endpoint.target_ref.clone(),
            });
        }
    }
    let mut result = Endpoints::default();
    result.metadata.name.clone_from(&service.metadata.name);
    result.metadata.namespace.clone_from(&service.metadata.namespace);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    // Nobody mirrors these back into slices.
    labels.insert("endpointslice.kubernetes.io/skip-mirror".to_owned(), "true".to_owned());
    result.metadata.labels = Some(labels);
    if cut {
        result.metadata.annotations = Some([(OVER_CAPACITY.to_owned(), "truncated".to_owned())].into());
    }
    let mut subsets: Vec<EndpointSubset> = subsets.into_values().collect();
    for subset in &mut subsets {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses].into_iter().flatten() {
            list.sort_by(|one, other| one.ip.cmp(&other.ip));
        }
    }
    result.subsets = (!subsets.is_empty()).then_some(subsets);
    result
}

/// Whether the object says what it should.
pub(super) fn is_same(wanted: &Endpoints, present: &Arc<Endpoints>) -> bool {
    let cut = |object: &Endpoints| {
        object.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(OVER_CAPACITY))
    };
    wanted.subsets.clone().unwrap_or_default() == present.subsets.clone().unwrap_or_default()
        && wanted.metadata.labels == present.metadata.labels
        && cut(wanted) == cut(present)
}

/// Whether this controller wrote it: others write Endpoints too, for Services without a selector.
pub(super) fn is_ours(present: &Endpoints) -> bool {
    let labels = present.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|manager| manager == "endpoint-controller")
}

fn port(port: &k8s_openapi::api::discovery::v1::EndpointPort) -> EndpointPort {
    EndpointPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port.unwrap_or(0),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ready_and_unready_stand_apart_and_terminating_nowhere() {
        let service: Service =
            serde_json::from_value(json!({"metadata": {"name": "web"}})).expect("a Service");
        let endpoint = |ip: &str, ready: bool, terminating: bool| json!({"addresses": [ip], "conditions": {"ready": ready, "terminating": terminating}});
        let slice: EndpointSlice = serde_json::from_value(json!({"metadata": {}, "addressType": "IPv4",
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
            "endpoints": [endpoint("10.0.0.2", true, false), endpoint("10.0.0.1", true, false),
                endpoint("10.0.0.3", false, false), endpoint("10.0.0.4", false, true)]}))
        .expect("a slice");
        let made = endpoints(&service, [&slice].into_iter()).subsets.expect("subsets");
        let ips = |list: &Option<Vec<EndpointAddress>>| -> Vec<String> {
            list.iter().flatten().map(|address| address.ip.clone()).collect()
        };
        assert_eq!(ips(&made[0].addresses), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(ips(&made[0].not_ready_addresses), ["10.0.0.3"]);
        assert_eq!(made[0].ports.as_ref().map(|ports| ports[0].port), Some(80));
    }
}
