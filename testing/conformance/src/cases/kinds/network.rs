//! Kinds of the network.

use serde_json::json;

use super::{condition, kind};
use crate::case::Case;
use crate::operations::Kind;

/// An address of the range for benchmarks that follows from a case's namespace, so that cases at once take different ones.
fn address(space: &str, index: usize) -> String {
    let digits = space.rsplit('-').next().unwrap_or_default();
    let seed = u32::from_str_radix(digits, 16).unwrap_or_default();
    let [_, a, b, c] = seed.to_be_bytes();
    // Below 4 objects for each of 64 networks: 198.18.0.0/15 holds them.
    format!("198.{}.{b}.{}", 18 + (a & 1), usize::from(c & 0xf8) + index)
}

/// A range of the same.
fn range(space: &str, index: usize) -> String {
    format!("{space}-{index}")
}

pub(super) const CASES: &[Case] = &[
    kind!(
        "kinds/endpoint slices",
        ["EndpointSlice should support creating EndpointSlice API operations"],
        Kind::namespaced(
            "discovery.k8s.io/v1",
            "endpointslices",
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "endpoints": [{"addresses": ["1.2.3.4", "5.6.7.8"]}, {"addresses": ["2.2.3.4", "6.6.7.8"]}],
            })
        )
    ),
    kind!(
        "kinds/ingresses",
        ["Ingress API should support creating Ingress API operations"],
        Kind::namespaced(
            "networking.k8s.io/v1",
            "ingresses",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {
                "defaultBackend": {"service": {"name": "default-backend", "port": {"number": 80}}},
                "rules": [{"host": "host.example.com", "http": {"paths": [
                    {"path": "/", "pathType": "ImplementationSpecific", "backend": {"service": {"name": "b", "port": {"number": 80}}}},
                ]}}],
            }})
        )
        .with_status(json!({"loadBalancer": {"ingress": [{"ip": "169.1.1.1"}]}}))
    ),
    kind!(
        "kinds/ingress classes",
        ["IngressClass API should support creating IngressClass API operations"],
        Kind::of_cluster(
            "networking.k8s.io/v1",
            "ingressclasses",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "spec": {"controller": "example.com/controller"}})
        )
    ),
    kind!(
        "kinds/network policies",
        [],
        Kind::namespaced(
            "networking.k8s.io/v1",
            "networkpolicies",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {
                "podSelector": {"matchLabels": {"pod-name": "test-pod"}}, "policyTypes": ["Ingress"],
                "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"ns-name": "pod-b"}}}]}],
            }})
        )
        .with_change(json!({"spec": {"policyTypes": ["Ingress", "Egress"]}}))
    ),
    kind!(
        "kinds/addresses",
        ["ServiceCIDR and IPAddress API should support IPAddress API operations"],
        Kind::of_cluster(
            "networking.k8s.io/v1",
            "ipaddresses",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "spec": {
                "parentRef": {"group": "mygroup", "resource": "myresources", "namespace": "foo", "name": "bar"},
            }})
        )
        .named(address)
    ),
    kind!(
        "kinds/ranges of service addresses",
        ["ServiceCIDR and IPAddress API should support ServiceCIDR API operations"],
        Kind::of_cluster(
            "networking.k8s.io/v1",
            "servicecidrs",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "spec": {"cidrs": ["198.51.100.0/24"]}})
        )
        .named(range)
        .with_status_alone(json!({"conditions": [condition()]}))
    ),
];
