//! Which endpoints a Service has and how they are cut into slices. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::objects::{controller_reference, is_ready, phase};

/// Endpoints in one slice at most (upstream's default).
pub(super) const SLICE: usize = 100;
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";

/// What to do for one Service.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    /// Whole slices with their present names.
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

/// `pods` are those the Service selects; `slices` those it has, ours only.
pub(super) fn plan(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Plan {
    let mut wanted = Vec::new();
    for family in families(service) {
        for (ports, endpoints) in groups(service, pods, family) {
            for part in endpoints.chunks(SLICE) {
                wanted.push(slice(service, family, ports.clone(), part.to_vec()));
            }
        }
        let none = !wanted.iter().any(|slice: &EndpointSlice| slice.address_type == family);
        if none {
            // An empty slice tells "no endpoints" from "not looked at yet".
            wanted.push(slice(service, family, Vec::new(), Vec::new()));
        }
    }
    changes(wanted, slices)
}

/// What makes `slices` what is `wanted`, with as few writes as a simple pairing finds.
pub(super) fn changes(mut wanted: Vec<EndpointSlice>, slices: &[Arc<EndpointSlice>]) -> Plan {
    let mut present: Vec<Arc<EndpointSlice>> = slices.to_vec();
    present.sort_by_key(|slice| slice.metadata.name.clone());
    let mut plan = Plan::default();
    wanted.retain(|slice| {
        let same = present.iter().position(|other| is_same(slice, other));
        same.map(|place| present.remove(place)).is_none()
    });
    for mut slice in wanted {
        // A slice with the same ports most likely differs in few endpoints.
        let place = present
            .iter()
            .position(|other| {
                other.address_type == slice.address_type
                    && other.ports.clone().unwrap_or_default() == slice.ports.clone().unwrap_or_default()
            })
            .or_else(|| present.iter().position(|other| other.address_type == slice.address_type));
        match place {
            Some(place) => {
                let old = present.remove(place);
                slice.metadata.name.clone_from(&old.metadata.name);
                slice.metadata.generate_name.clone_from(&old.metadata.generate_name);
                slice.metadata.resource_version.clone_from(&old.metadata.resource_version);
                slice.metadata.uid.clone_from(&old.metadata.uid);
                plan.update.push(slice);
            }
            None => plan.create.push(slice),
        }
    }
    plan.delete = present;
    plan
}

fn is_same(wanted: &EndpointSlice, present: &EndpointSlice) -> bool {
    wanted.address_type == present.address_type
        && wanted.endpoints.clone().unwrap_or_default() == present.endpoints.clone().unwrap_or_default()
        && wanted.ports.clone().unwrap_or_default() == present.ports.clone().unwrap_or_default()
        && wanted.metadata.labels == present.metadata.labels
}

pub(super) fn families(service: &Service) -> Vec<&'static str> {
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.clone()).unwrap_or_default();
    let mut known: Vec<&'static str> =
        families.iter().map(|family| if family == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    known.dedup();
    if known.is_empty() { vec!["IPv4"] } else { known }
}

/// Endpoints that share their port numbers (a named target port may differ between pods).
fn groups(service: &Service, pods: &[Arc<Pod>], family: &str) -> Vec<(Vec<EndpointPort>, Vec<Endpoint>)> {
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    let mut pods: Vec<&Arc<Pod>> = pods.iter().filter(|pod| is_reachable(pod)).collect();
    pods.sort_by_key(|pod| pod.metadata.name.clone());
    for pod in pods {
        let Some(address) = address(pod, family) else { continue };
        let ports = ports(service, pod);
        let group = groups.entry(format!("{ports:?}")).or_insert_with(|| (ports, Vec::new()));
        group.1.push(endpoint(service, pod, address));
    }
    groups.into_values().collect()
}

fn is_reachable(pod: &Pod) -> bool {
    !matches!(phase(pod), "Succeeded" | "Failed")
        && pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty())
}

pub(super) fn address(pod: &Pod, family: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(status.pod_ip.iter());
    let mut fitting = all.filter(|ip| ip.contains(':') == (family == "IPv6") && !ip.is_empty());
    fitting.next().cloned()
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.clone()).unwrap_or_default();
    ports
        .into_iter()
        .filter_map(|port| {
            let number = target(&port, pod)?;
            Some(EndpointPort {
                name: Some(port.name.unwrap_or_default()),
                port: Some(number),
                protocol: Some(port.protocol.unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol,
            })
        })
        .collect()
}

pub(super) fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let found = ports.find(|own| {
                own.name.as_ref() == Some(name) && own.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            found.map(|own| own.container_port)
        }
    }
}

fn endpoint(service: &Service, pod: &Pod, address: String) -> Endpoint {
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let publish = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let serving = publish || is_ready(pod);
    let spec = pod.spec.as_ref();
    let name = service.metadata.name.as_deref();
    let in_domain = spec.and_then(|spec| spec.subdomain.as_deref()) == name;
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(publish || serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec.filter(|_| in_domain).and_then(|spec| spec.hostname.clone()),
        node_name: spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn slice(
    service: &Service,
    family: &str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let mut slice = EndpointSlice { address_type: family.to_owned(), ..EndpointSlice::default() };
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.remove(HEADLESS);
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    slice.metadata.generate_name = Some(format!("{name}-"));
    slice.metadata.namespace.clone_from(&service.metadata.namespace);
    slice.metadata.labels = Some(labels);
    slice.metadata.owner_references = Some(vec![controller_reference("v1", "Service", &service.metadata)]);
    slice.ports = Some(ports);
    slice.endpoints = Some(endpoints);
    slice
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "s"},
            "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
        }))
        .expect("a Service")
    }

    fn pod(number: usize, port: i32, ready: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{number:03}"), "namespace": "ns", "uid": number.to_string()},
                "spec": {"nodeName": "n", "containers": [{"name": "c",
                    "ports": [{"name": "web", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIP": format!("10.0.{}.{}", number / 250, number % 250),
                    "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .expect("a pod"),
        )
    }

    #[test]
    fn cuts_many_endpoints_into_slices_and_then_rests() {
        let pods: Vec<_> = (0..250).map(|number| pod(number, 8080, true)).collect();
        let made = plan(&service(), &pods, &[]).create;
        assert_eq!(
            made.iter().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).collect::<Vec<_>>(),
            [100, 100, 50]
        );
        assert_eq!(made[0].ports.as_ref().and_then(|ports| ports[0].port), Some(8080));
        let made: Vec<_> = made.into_iter().map(Arc::new).collect();
        let again = plan(&service(), &pods, &made);
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
    }

    #[test]
    fn a_change_of_readiness_changes_one_slice_in_place() {
        let before: Vec<_> =
            plan(&service(), &[pod(1, 80, false)], &[]).create.into_iter().map(Arc::new).collect();
        let after = plan(&service(), &[pod(1, 80, true)], &before);
        assert_eq!((after.update.len(), after.create.len(), after.delete.len()), (1, 0, 0));
        let endpoint = &after.update[0].endpoints.as_ref().expect("endpoints")[0];
        assert_eq!(endpoint.conditions.as_ref().and_then(|conditions| conditions.ready), Some(true));
    }

    #[test]
    fn differing_port_numbers_get_slices_of_their_own() {
        assert_eq!(plan(&service(), &[pod(1, 80, true), pod(2, 81, true)], &[]).create.len(), 2);
    }

    #[test]
    fn no_pods_make_one_empty_slice() {
        let made = plan(&service(), &[], &[]).create;
        assert_eq!((made.len(), made[0].endpoints.clone()), (1, Some(Vec::new())));
    }
}
