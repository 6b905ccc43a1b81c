//! `EndpointSlice`.

use api_machinery::names;
use serde_json::Value;

use crate::checks::{at_most_three, columns, each, first_generation, fully_qualified_domain_name, labels};
use crate::columns::age;
use crate::json::{default, default_text, entries, existing, integer, list, list_mut, remove, set, text};
use crate::net;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;

const ADDRESSES_MAX: usize = 100;
const ENDPOINTS_MAX: usize = 1000;
const PORTS_MAX: usize = 20_000;
const HINTS_MAX: usize = 8;
const TOPOLOGY_MAX: usize = 16;
const HOST_LABEL: &str = "kubernetes.io/hostname";

/// `discovery.k8s.io/v1.EndpointSlice`.
pub const ENDPOINT_SLICE: KindRules = KindRules {
    defaults: |object| {
        for port in list_mut(object, "ports") {
            default(port, "name", "");
            default_text(port, "protocol", "TCP");
        }
    },
    prepare_create: |object| {
        first_generation(object);
        drop_topology(object, None);
    },
    prepare_update: |object, old| {
        count_generation(object, old);
        // Unchanged endpoints keep what v1beta1 wrote.
        if object.get("endpoints") != old.get("endpoints") {
            drop_topology(object, Some(old));
        }
    },
    validate: |problems, object| validate(problems, object, None),
    validates_updates: false,
    validate_update: |problems, object, old| {
        validate(problems, object, Some(old));
        problems.immutable("addressType", object.get("addressType"), old.get("addressType"));
    },
    warnings: |object, old| {
        let mut warnings = Vec::new();
        if old.is_none() && text(object, "addressType") == "FQDN" {
            warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
        }
        let manager = &object["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"];
        // These two mend what they were given.
        if manager != "endpointslice-controller.k8s.io"
            && manager != "endpointslicemirroring-controller.k8s.io"
        {
            let at = Path::new("endpoints");
            for (index, endpoint) in list(object, "endpoints").iter().enumerate() {
                for (number, address) in list(endpoint, "addresses").iter().enumerate() {
                    let at = at.index(index);
                    let address = address.as_str().unwrap_or_default();
                    warnings.extend(net::ip_warning(at.field("addresses").index(number), address));
                }
            }
        }
        warnings
    },
    columns: || columns(&["AddressType", "Ports", "Endpoints", "Age"]),
    cells: |object, now| {
        let port = |port: &Value| match port["port"].as_i64() {
            Some(number) => number.to_string(),
            None => port["name"].as_str().unwrap_or("*").to_owned(),
        };
        let ports: Vec<String> = list(object, "ports").iter().map(port).collect();
        let addresses: Vec<String> = list(object, "endpoints")
            .iter()
            .flat_map(|endpoint| list(endpoint, "addresses"))
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        vec![
            text(object, "addressType").into(),
            at_most_three(&ports).into(),
            at_most_three(&addresses).into(),
            age(object, now),
        ]
    },
    ..KindRules::NEW
};

/// Everything but metadata counts, and of metadata the labels.
fn count_generation(object: &mut Value, old: &Value) {
    let differs =
        ["addressType", "endpoints", "ports"].into_iter().any(|key| object.get(key) != old.get(key))
            || object["metadata"].get("labels") != old["metadata"].get("labels");
    if differs {
        let next = integer(&old["metadata"], "generation") + 1;
        if let Some(metadata) = existing(object, "metadata") {
            set(metadata, "generation", next);
        }
    }
}

/// `deprecatedTopology` cannot be written through v1; a node name that v1beta1 kept there moves to its field.
fn drop_topology(object: &mut Value, old: Option<&Value>) {
    let known: Vec<&str> = old
        .map(|old| list(old, "endpoints"))
        .unwrap_or_default()
        .iter()
        .map(|endpoint| text(&endpoint["deprecatedTopology"], HOST_LABEL))
        .filter(|name| !name.is_empty())
        .collect();
    for endpoint in list_mut(object, "endpoints") {
        let Some(topology) = remove(endpoint, "deprecatedTopology") else { continue };
        let node = text(&topology, HOST_LABEL);
        if known.contains(&node) && names::dns1123_subdomain(node).is_empty() {
            default(endpoint, "nodeName", node);
        }
    }
}

fn validate(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let kind = text(object, "addressType");
    match kind {
        "" => problems.required("addressType", ""),
        "IPv4" | "IPv6" | "FQDN" => {}
        other => problems.unsupported("addressType", other, &["FQDN", "IPv4", "IPv6"]),
    }
    ports(problems, list(object, "ports"));
    // Older servers took more: what did not change is not held against the object.
    if old.is_none_or(|old| old.get("endpoints") != object.get("endpoints")) {
        endpoints(problems, list(object, "endpoints"), kind);
    }
}

fn ports(problems: &mut Problems, ports: &[Value]) {
    let at = Path::new("ports");
    if ports.len() > PORTS_MAX {
        return problems.too_many(at, ports.len(), PORTS_MAX);
    }
    for (index, port) in ports.iter().enumerate() {
        let here = at.index(index);
        let name = text(port, "name");
        if !name.is_empty() {
            each(problems, here.field("name"), name, names::dns1123_label(name));
        }
        if ports[..index].iter().any(|earlier| text(earlier, "name") == name) {
            problems.duplicate(here.field("name"), name);
        }
        match port["protocol"].as_str() {
            None => problems.required(here.field("protocol"), ""),
            Some("TCP" | "UDP" | "SCTP") => {}
            Some(other) => problems.unsupported(here.field("protocol"), other, &["SCTP", "TCP", "UDP"]),
        }
        if let Some(protocol) = port["appProtocol"].as_str() {
            each(problems, here.field("appProtocol"), protocol, names::qualified_name(protocol));
        }
    }
}

fn endpoints(problems: &mut Problems, endpoints: &[Value], kind: &str) {
    let at = Path::new("endpoints");
    if endpoints.len() > ENDPOINTS_MAX {
        return problems.too_many(at, endpoints.len(), ENDPOINTS_MAX);
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let here = at.index(index);
        addresses(problems, &here.field("addresses"), list(endpoint, "addresses"), kind);
        if let Some(node) = endpoint["nodeName"].as_str() {
            each(problems, here.field("nodeName"), node, names::dns1123_subdomain(node));
        }
        let topology = entries(endpoint, "deprecatedTopology").count();
        if topology > TOPOLOGY_MAX {
            problems.too_many(here.field("deprecatedTopology"), topology, TOPOLOGY_MAX);
        }
        labels(problems, here.field("deprecatedTopology"), endpoint, "deprecatedTopology");
        if let Some(host) = endpoint["hostname"].as_str() {
            each(problems, here.field("hostname"), host, names::dns1123_label(host));
        }
        let hints_at = here.field("hints");
        hints(
            problems,
            &hints_at.field("forZones"),
            list(&endpoint["hints"], "forZones"),
            names::label_value,
        );
        hints(
            problems,
            &hints_at.field("forNodes"),
            list(&endpoint["hints"], "forNodes"),
            names::dns1123_subdomain,
        );
    }
}

fn addresses(problems: &mut Problems, at: &Path<'_>, addresses: &[Value], kind: &str) {
    if addresses.is_empty() {
        problems.required(at, "must contain at least 1 address");
    } else if addresses.len() > ADDRESSES_MAX {
        problems.too_many(at, addresses.len(), ADDRESSES_MAX);
    }
    for (index, address) in addresses.iter().enumerate() {
        let address = address.as_str().unwrap_or_default();
        let here = at.index(index);
        let fits = match kind {
            "IPv4" => net::legacy_ip(problems, here, address, &[]),
            "IPv6" => net::ip(problems, here, address),
            "FQDN" => {
                fully_qualified_domain_name(problems, here, address);
                false
            }
            _ => false,
        };
        if fits {
            if net::is_ipv4(address) != (kind == "IPv4") {
                // Upstream names the list here, not the item.
                problems.invalid(at, address, &format!("must be an {kind} address"));
            }
            net::endpoint_ip(problems, here, address);
        }
    }
}

fn hints(problems: &mut Problems, at: &Path<'_>, hints: &[Value], rule: fn(&str) -> Vec<String>) {
    if hints.len() > HINTS_MAX {
        return problems.too_many(at, hints.len(), HINTS_MAX);
    }
    for (index, hint) in hints.iter().enumerate() {
        let here = at.index(index);
        let name = text(hint, "name");
        if hints[..index].iter().any(|earlier| text(earlier, "name") == name) {
            problems.duplicate(here.field("name"), name);
        }
        each(problems, here.field("name"), name, rule(name));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn bad_slices_are_refused_where_upstream_refuses_them() {
        let of = |endpoint: Value| json!({"addressType": "IPv4", "endpoints": [endpoint]});
        for (object, wanted) in [
            (
                json!({"addressType": "X"}),
                "addressType: Unsupported value: \"X\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            ),
            (
                of(json!({"addresses": []})),
                "endpoints[0].addresses: Required value: must contain at least 1 address",
            ),
            (
                of(json!({"addresses": ["127.0.0.1"]})),
                "endpoints[0].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                of(json!({"addresses": ["fd00::1"]})),
                "endpoints[0].addresses: Invalid value: \"fd00::1\": must be an IPv4 address",
            ),
            (
                of(json!({"addresses": ["10.0.0.1"], "hostname": "A"})),
                "endpoints[0].hostname: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (
                json!({"addressType": "IPv4", "ports": [{"name": "a", "protocol": "TCP"}, {"name": "a", "protocol": "TCP"}]}),
                "ports[1].name: Duplicate value: \"a\"",
            ),
            (
                json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a"]}]}),
                "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
            ),
        ] {
            assert_eq!(findings(&ENDPOINT_SLICE, &object), [wanted]);
        }
        let (old, new) = (json!({"addressType": "IPv4"}), json!({"addressType": "IPv6"}));
        assert_eq!(
            update_findings(&ENDPOINT_SLICE, &new, &old),
            ["addressType: Invalid value: \"IPv6\": field is immutable"]
        );
    }

    #[test]
    fn labels_count_as_a_generation_and_topology_moves() {
        let old =
            json!({"metadata": {"generation": 1}, "endpoints": [{"deprecatedTopology": {HOST_LABEL: "n"}}]});
        let mut new = json!({"metadata": {"generation": 1, "labels": {"a": "b"}}, "endpoints": [{"deprecatedTopology": {HOST_LABEL: "n"}, "addresses": []}]});
        (ENDPOINT_SLICE.prepare_update)(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 2);
        assert_eq!(new["endpoints"][0], json!({"addresses": [], "nodeName": "n"}));
    }
}
