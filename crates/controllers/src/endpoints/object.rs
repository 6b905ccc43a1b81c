//! The Endpoints object of a Service: what clients older than EndpointSlices read. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};

use super::plan::{HEADLESS, address, families, target};
use crate::objects::{Labels, is_ready, phase};

/// Addresses in one object at most (upstream's limit); the rest is left out and an annotation says so.
const CAPACITY: usize = 1_000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// The object to write, with the present one's resource version; none when it stands so already. `pods` are those the
/// Service selects.
pub(super) fn wanted(service: &Service, pods: &[Arc<Pod>], present: Option<&Endpoints>) -> Option<Endpoints> {
    let (subsets, truncated) = limited(subsets(service, pods));
    let mut wanted = present.cloned().unwrap_or_default();
    wanted.metadata.name.clone_from(&service.metadata.name);
    wanted.metadata.namespace.clone_from(&service.metadata.namespace);
    wanted.metadata.labels = Some(labels(service));
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        wanted.metadata.annotations = None;
    }
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    (present != Some(&wanted)).then_some(wanted)
}

fn labels(service: &Service) -> Labels {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let ip = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    if ip.is_empty() || ip == "None" {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    labels.insert(MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    labels
}

/// Addresses that share their ports make one subset.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let spec = service.spec.as_ref();
    let publish = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
    let headless = spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
    let family = families(service)[0];
    let mut pods: Vec<&Arc<Pod>> = pods.iter().collect();
    pods.sort_by_key(|pod| pod.metadata.name.clone());
    let mut groups: BTreeMap<String, EndpointSubset> = BTreeMap::new();
    for pod in pods {
        let ended = matches!(phase(pod), "Succeeded" | "Failed");
        if ended || pod.metadata.deletion_timestamp.is_some() && !publish {
            continue;
        }
        let Some(ip) = address(pod, family) else { continue };
        let ports = ports(service, pod);
        // Only a headless Service may have no ports.
        if ports.is_empty()
            && !(headless && spec.is_some_and(|spec| spec.ports.iter().flatten().count() == 0))
        {
            continue;
        }
        let group = groups.entry(format!("{ports:?}")).or_insert_with(|| EndpointSubset {
            ports: (!ports.is_empty()).then_some(ports),
            ..EndpointSubset::default()
        });
        let serving = publish || is_ready(pod);
        let list = if serving { &mut group.addresses } else { &mut group.not_ready_addresses };
        list.get_or_insert_default().push(endpoint(service, pod, ip));
    }
    groups.into_values().collect()
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut ports: Vec<EndpointPort> = ports
        .iter()
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone().filter(|name| !name.is_empty()),
                port: target(port, pod)?,
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort_by_key(|port| (port.name.clone(), port.port, port.protocol.clone()));
    ports
}

fn endpoint(service: &Service, pod: &Pod, ip: String) -> EndpointAddress {
    let spec = pod.spec.as_ref();
    let in_domain = spec.and_then(|spec| spec.subdomain.as_deref()) == service.metadata.name.as_deref();
    EndpointAddress {
        ip,
        hostname: spec.filter(|_| in_domain).and_then(|spec| spec.hostname.clone()),
        node_name: spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    }
}

/// At most [`CAPACITY`] addresses, those that serve first; whether some were left out.
fn limited(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let (mut left, mut truncated) = (CAPACITY, false);
    for serving in [true, false] {
        for subset in &mut subsets {
            let list = if serving { &mut subset.addresses } else { &mut subset.not_ready_addresses };
            let Some(addresses) = list else { continue };
            truncated |= addresses.len() > left;
            addresses.truncate(left);
            left -= addresses.len();
            if addresses.is_empty() {
                *list = None;
            }
        }
    }
    subsets.retain(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some());
    (subsets, truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(cluster_ip: &str) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "ns", "labels": {"team": "a"}},
            "spec": {"clusterIP": cluster_ip, "selector": {"app": "web"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
        }))
        .expect("a Service")
    }

    fn pod(number: usize, port: i32, ready: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{number:04}"), "namespace": "ns", "uid": number.to_string()},
                "spec": {"nodeName": "n", "containers": [{"name": "c",
                    "ports": [{"name": "web", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIP": format!("10.0.{}.{}", number / 250, number % 250),
                    "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .expect("a pod"),
        )
    }

    #[test]
    fn ready_and_unready_addresses_of_the_same_ports_share_a_subset() {
        let pods = [pod(1, 80, true), pod(2, 80, false), pod(3, 81, true)];
        let made = wanted(&service("10.96.0.9"), &pods, None).expect("new");
        let subsets = made.subsets.clone().expect("subsets");
        assert_eq!(subsets.len(), 2);
        assert_eq!(subsets[0].addresses.as_ref().map(Vec::len), Some(1));
        assert_eq!(subsets[0].not_ready_addresses.as_ref().map(Vec::len), Some(1));
        assert_eq!(
            made.metadata.labels.as_ref().and_then(|own| own.get(MANAGED_BY)).map(String::as_str),
            Some("endpoint-controller")
        );
        assert!(wanted(&service("10.96.0.9"), &pods, Some(&made)).is_none(), "at rest nothing is written");
    }

    #[test]
    fn no_pods_make_an_object_without_subsets() {
        let made = wanted(&service("None"), &[], None).expect("new");
        assert!(made.subsets.is_none() && made.metadata.labels.is_some_and(|own| own.contains_key(HEADLESS)));
    }

    #[test]
    fn more_than_fit_are_left_out_and_that_is_said() {
        let pods: Vec<_> = (0..1_005).map(|number| pod(number, 80, number > 10)).collect();
        let made = wanted(&service("10.96.0.9"), &pods, None).expect("new");
        let subset = &made.subsets.expect("subsets")[0];
        assert_eq!(subset.addresses.as_ref().map(Vec::len), Some(994), "those that serve come first");
        assert_eq!(subset.not_ready_addresses.as_ref().map(Vec::len), Some(6));
        assert_eq!(made.metadata.annotations.expect("annotations")[OVER_CAPACITY], "truncated");
    }
}
