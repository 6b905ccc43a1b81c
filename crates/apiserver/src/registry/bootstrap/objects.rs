//! Which objects a server starts with.

use serde_json::{Value, json};

use super::{Existing, Facts, Wanted};
use crate::registry::core::service::addresses::first_address;

fn wanted(collection: &str, object: Value, existing: Existing) -> Wanted {
    Wanted { collection: collection.to_owned(), object, existing }
}

/// The namespaces every server has.
pub(super) fn namespaces(facts: &Facts) -> Vec<Wanted> {
    let mut names = vec!["default", "kube-system", "kube-public"];
    if facts.cluster {
        names.push("kube-node-lease");
    }
    let object = |name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    names.into_iter().map(|name| wanted("/api/v1/namespaces", object(name), Existing::Keep)).collect()
}

/// Everything else.
pub(super) fn all(facts: &Facts) -> Vec<Wanted> {
    let mut all: Vec<Wanted> = access::bootstrap::objects().into_iter().map(role_or_binding).collect();
    all.push(client_authority(facts));
    all.push(token_tracking());
    all.extend(kind_rules::flowcontrol::bootstrap_objects().iter().cloned().map(flow_control));
    if facts.cluster {
        all.extend(access::bootstrap::additions().into_iter().map(role_or_binding));
        all.extend(priority_classes());
        all.extend(own_service(facts));
    }
    all
}

fn role_or_binding(object: Value) -> Wanted {
    const ROOT: &str = "/apis/rbac.authorization.k8s.io/v1";
    let resource = format!("{}s", object["kind"].as_str().unwrap_or_default().to_lowercase());
    let collection = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{ROOT}/namespaces/{namespace}/{resource}"),
        None => format!("{ROOT}/{resource}"),
    };
    Wanted { collection, object, existing: Existing::AddMissing }
}

/// FlowSchemas and priority levels: the mandatory and the suggested ones. Who changed one keeps the change, as upstream.
fn flow_control(object: Value) -> Wanted {
    let resource = match object["kind"].as_str() {
        Some("FlowSchema") => "flowschemas",
        _ => "prioritylevelconfigurations",
    };
    wanted(&format!("/apis/flowcontrol.apiserver.k8s.io/v1/{resource}"), object, Existing::Keep)
}

/// Since when unused legacy tokens are noticed: upstream's clients look for this object. The day is that of the first
/// start.
fn token_tracking() -> Wanted {
    let since = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"since": since},
        "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"}});
    wanted("/api/v1/namespaces/kube-system/configmaps", object, Existing::Keep)
}

/// Where extension servers look for whom to trust.
fn client_authority(facts: &Facts) -> Wanted {
    let mut data = serde_json::Map::new();
    if !facts.certificate_authority.is_empty() {
        data.insert("client-ca-file".to_owned(), facts.certificate_authority.clone().into());
    }
    if !facts.front_proxy_authority.is_empty() {
        for (key, value) in [
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#),
            ("requestheader-client-ca-file", &facts.front_proxy_authority),
            ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
            ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
            ("requestheader-uid-headers", r#"["X-Remote-Uid"]"#),
            ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ] {
            data.insert(key.to_owned(), value.into());
        }
    }
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}});
    wanted("/api/v1/namespaces/kube-system/configmaps", object, Existing::Follow)
}

fn priority_classes() -> impl Iterator<Item = Wanted> {
    let classes = [
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
    ];
    classes.into_iter().map(|(name, value, description)| {
        let object = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value, "description": description});
        wanted("/apis/scheduling.k8s.io/v1/priorityclasses", object, Existing::Keep)
    })
}

/// The Service `kubernetes`, by which pods reach this server.
fn own_service(facts: &Facts) -> Vec<Wanted> {
    let Some(address) = facts.service_cidr.as_deref().and_then(first_address) else { return Vec::new() };
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let target = facts.advertise_address.map_or(443, |address| address.port());
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": address.to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": target}]}});
    let mut all = vec![wanted("/api/v1/namespaces/default/services", service, Existing::Follow)];
    let cidr = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": [facts.service_cidr]}});
    all.push(wanted("/apis/networking.k8s.io/v1/servicecidrs", cidr, Existing::Keep));
    // Endpoints may not lie in the loopback range: a server that listens there alone is reached by no pod.
    let Some(advertised) = facts.advertise_address.filter(|address| !address.ip().is_loopback()) else {
        return all;
    };
    let ports = json!([{"name": "https", "port": advertised.port(), "protocol": "TCP"}]);
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": advertised.ip().to_string()}], "ports": ports}]});
    all.push(wanted("/api/v1/namespaces/default/endpoints", endpoints, Existing::Follow));
    let family = if advertised.is_ipv4() { "IPv4" } else { "IPv6" };
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": [advertised.ip().to_string()], "conditions": {"ready": true}}], "ports": ports});
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    all.push(wanted(slices, slice, Existing::Follow));
    all
}

/// `existing` with the contents of `wanted`; `None` when it has them. Only the fields that `wanted` sets are looked at.
pub(super) fn followed(existing: &Value, wanted: &Value) -> Option<Value> {
    let mut result = existing.clone();
    for key in ["data", "spec", "subsets", "endpoints", "ports"] {
        if let Some(value) = wanted.get(key) {
            merge(&mut result[key], value);
        }
    }
    (result != *existing).then_some(result)
}

fn merge(target: &mut Value, wanted: &Value) {
    match (target, wanted) {
        (Value::Object(target), Value::Object(wanted)) => {
            for (key, value) in wanted {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(target), Value::Array(wanted)) if target.len() == wanted.len() => {
            target.iter_mut().zip(wanted).for_each(|(target, wanted)| merge(target, wanted));
        }
        (target, wanted) => *target = wanted.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            service_cidr: Some("10.96.0.0/16".to_owned()),
            advertise_address: "192.0.2.7:6443".parse().ok(),
            certificate_authority: "pem".to_owned(),
            front_proxy_authority: String::new(),
            cluster: true,
        }
    }

    #[test]
    fn a_cluster_is_reached_by_the_first_address_of_its_network() {
        let all = all(&facts());
        let service = all.iter().find(|wanted| wanted.object["kind"] == "Service").unwrap();
        assert_eq!(service.object["spec"]["clusterIP"], "10.96.0.1");
        let role = all.iter().find(|wanted| wanted.object["kind"] == "Role").unwrap();
        assert!(role.collection.contains("/namespaces/kube-"));
    }

    #[test]
    fn a_control_plane_has_no_services_and_no_priorities() {
        let facts = Facts { cluster: false, ..facts() };
        let kinds = ["Service", "Endpoints", "PriorityClass"];
        assert!(all(&facts).iter().all(|wanted| !kinds.contains(&wanted.object["kind"].as_str().unwrap())));
    }

    #[test]
    fn following_changes_only_what_differs() {
        let existing = json!({"metadata": {"uid": "u"}, "spec": {"clusterIP": "10.96.0.1", "type": "ClusterIP",
            "ports": [{"port": 443, "targetPort": 6443, "protocol": "TCP"}]}});
        let wanted = json!({"spec": {"ports": [{"port": 443, "targetPort": 6443}]}});
        assert_eq!(followed(&existing, &wanted), None);
        let wanted = json!({"spec": {"ports": [{"port": 443, "targetPort": 7443}]}});
        let changed = followed(&existing, &wanted).unwrap();
        assert_eq!(changed["spec"]["ports"][0], json!({"port": 443, "targetPort": 7443, "protocol": "TCP"}));
        assert_eq!(changed["metadata"]["uid"], "u");
    }
}
