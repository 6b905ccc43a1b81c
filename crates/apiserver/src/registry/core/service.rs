//! `v1.Service`, with its addresses from the service network.

pub(crate) mod addresses;

use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::{Status, StatusCause};
use serde_json::{Value, json};

use self::addresses::{Addresses, Cidr};
use crate::registry::strategy::{RequestContext, Strategy};
use kind_rules::columns::{Column, age};
use kind_rules::json::{
    default, default_text, existing, integer, list, list_mut, present, remove, set, text,
};
use kind_rules::names;
use kind_rules::names::NameRule;
use kind_rules::problems::Problems;
use kind_rules::rules::or;

const TYPES: [&str; 4] = ["ExternalName", "ClusterIP", "NodePort", "LoadBalancer"];

/// Services; holds which addresses and node ports are taken.
#[derive(Debug, Default)]
pub(crate) struct Service {
    addresses: Addresses,
}

fn has_address(spec: &Value) -> bool {
    !matches!(text(spec, "clusterIP"), "" | "None")
}

fn takes_node_ports(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

#[async_trait]
impl Strategy for Service {
    fn name_rule(&self) -> NameRule {
        NameRule::DnsLabel
    }

    fn default_fields(&self, object: &mut Value) {
        let Some(spec) = existing(object, "spec") else { return };
        default_text(spec, "sessionAffinity", "None");
        if text(spec, "sessionAffinity") == "ClientIP" {
            default(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
        } else {
            remove(spec, "sessionAffinityConfig");
        }
        default_text(spec, "type", "ClusterIP");
        for port in list_mut(spec, "ports") {
            default_text(port, "protocol", "TCP");
            let number = port.get("port").cloned().unwrap_or(Value::Null);
            if matches!(port.get("targetPort"), None | Some(Value::Null))
                || port["targetPort"] == 0
                || port["targetPort"] == ""
            {
                set(port, "targetPort", number);
            }
        }
        let kind = text(spec, "type").to_owned();
        if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            default_text(spec, "externalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            default(spec, "allocateLoadBalancerNodePorts", true);
        }
        if kind != "ExternalName" {
            default_text(spec, "internalTrafficPolicy", "Cluster");
        }
        // The two spellings of the address are kept in step.
        if !text(spec, "clusterIP").is_empty() && list(spec, "clusterIPs").is_empty() {
            let address = spec["clusterIP"].clone();
            set(spec, "clusterIPs", json!([address]));
        } else if let Some(first) = list(spec, "clusterIPs").first().cloned() {
            default_text(spec, "clusterIP", first.as_str().unwrap_or_default());
        }
    }

    async fn prepare_for_create(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        set(object, "status", json!({"loadBalancer": {}}));
        self.allocate(cx, object).await
    }

    async fn prepare_for_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        set(object, "status", old["status"].clone());
        let was_external = text(&old["spec"], "type") == "ExternalName";
        if let Some(spec) = existing(object, "spec") {
            let external = text(spec, "type") == "ExternalName";
            if external && !was_external {
                for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                    remove(spec, key);
                }
            } else if !external && !was_external {
                // A PUT without the address keeps it.
                for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                    if present(&old["spec"], key) {
                        default(spec, key, old["spec"][key].clone());
                    }
                }
                if text(spec, "clusterIP").is_empty() {
                    for key in ["clusterIP", "clusterIPs"] {
                        set(spec, key, old["spec"][key].clone());
                    }
                }
            }
            if takes_node_ports(spec) {
                keep_node_ports(spec, &old["spec"]);
            } else {
                list_mut(spec, "ports").iter_mut().for_each(|port| drop(remove(port, "nodePort")));
            }
        }
        self.allocate(cx, object).await?;
        if !cx.dry_run {
            self.addresses.release_difference(old, object);
        }
        Ok(())
    }

    fn validate(&self, cx: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        validate_spec(&mut problems, &object["spec"], cx.facts.service_cidr.as_deref());
        problems.into_causes()
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        if cx.subresource == Some("status") {
            return Vec::new();
        }
        let mut problems = Problems::default();
        let (new, before) = (&object["spec"], &old["spec"]);
        validate_spec(&mut problems, new, cx.facts.service_cidr.as_deref());
        let external = |spec: &Value| text(spec, "type") == "ExternalName";
        if !external(new) && !external(before) && !text(before, "clusterIP").is_empty() {
            problems.immutable("spec.clusterIP", new.get("clusterIP"), before.get("clusterIP"));
            if before["clusterIP"] != new["clusterIP"] {
                problems.invalid("spec.clusterIPs[0]", &new["clusterIPs"][0], "may not change once set");
            }
        }
        problems.into_causes()
    }

    async fn abandon_create(&self, cx: &RequestContext<'_>, object: &Value) {
        if cx.dry_run {
            return;
        }
        // A Service of that name may be there already and hold the very address this one asked for. If that cannot be
        // found out, nothing is freed: an address lost until the next start harms less than one given twice.
        let name = text(&object["metadata"], "name");
        if let Ok(existing) = cx.objects.get("", "services", cx.namespace, name).await {
            self.addresses.release_difference(object, &existing.unwrap_or_default());
        }
    }

    async fn after_delete(&self, _: &RequestContext<'_>, object: &Value) {
        self.addresses.release(object);
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn counts_generation(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![Column::object_name()];
        columns.extend(["Type", "Cluster-IP", "External-IP", "Port(s)"].map(Column::new));
        columns.extend([Column::age(), Column::wide("Selector")]);
        columns
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let spec = &object["spec"];
        let address =
            list(spec, "clusterIPs").first().and_then(Value::as_str).unwrap_or(text(spec, "clusterIP"));
        vec![
            object["metadata"]["name"].clone(),
            spec["type"].clone(),
            or(address, "<none>"),
            external_address(object).into(),
            or(&shown_ports(spec), "<none>"),
            age(object, now),
            names::shown_labels(spec, "selector").into(),
        ]
    }
}

impl Service {
    /// Gives the service what it lacks. On a dry run it gets what it would get, and nothing is kept.
    async fn allocate(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        let kind = text(&object["spec"], "type").to_owned();
        if kind == "ExternalName" || !object["spec"].is_object() {
            return Ok(());
        }
        let Some(cidr) = cx.facts.service_cidr.as_deref().and_then(Cidr::parse) else { return Ok(()) };
        self.addresses.load(cx.objects).await?;
        // A name still to be generated leaves the allocation to its namespace; see `Addresses::release`.
        let name = match text(&object["metadata"], "name") {
            "" => cx.name.to_owned(),
            name => name.to_owned(),
        };
        let Some(spec) = existing(object, "spec") else { return Ok(()) };
        default_text(spec, "ipFamilyPolicy", "SingleStack");
        default(spec, "ipFamilies", json!(["IPv4"]));
        let identity = format!("{}/{name}", cx.namespace);
        self.addresses.assign(cidr, &identity, spec, has_address, takes_node_ports, cx.dry_run).map_err(
            |(field, value, why)| {
                let mut problems = Problems::default();
                problems.invalid(field, &value, &why);
                Status::invalid("", "Service", cx.name, problems.into_causes())
            },
        )
    }
}

/// Ports that stay keep their node ports.
fn keep_node_ports(spec: &mut Value, old: &Value) {
    for port in list_mut(spec, "ports") {
        if integer(port, "nodePort") != 0 {
            continue;
        }
        let same = list(old, "ports")
            .iter()
            .find(|other| other["port"] == port["port"] && other["protocol"] == port["protocol"]);
        if let Some(node_port) = same.map(|other| integer(other, "nodePort")).filter(|number| *number != 0) {
            set(port, "nodePort", node_port);
        }
    }
}

fn validate_spec(problems: &mut Problems, spec: &Value, cidr: Option<&str>) {
    problems.choice("spec.type", spec.get("type"), &TYPES, false);
    let affinities = ["ClientIP", "None"];
    problems.choice("spec.sessionAffinity", spec.get("sessionAffinity"), &affinities, false);
    let kind = text(spec, "type");
    let headless = text(spec, "clusterIP") == "None";
    let ports = list(spec, "ports");
    if kind == "ExternalName" {
        names::subdomain(problems, "spec.externalName", &spec["externalName"]);
        if has_address(spec) || headless {
            problems.forbidden("spec.clusterIPs", "may not be set when type is 'ExternalName'");
        }
    } else if ports.is_empty() && !headless {
        problems.required("spec.ports", "");
    }
    if headless && matches!(kind, "NodePort" | "LoadBalancer") {
        let detail = format!("may not be set to 'None' for {kind} services");
        problems.invalid("spec.clusterIPs[0]", &spec["clusterIP"], &detail);
    }
    if has_address(spec) {
        let address = text(spec, "clusterIP").parse::<std::net::IpAddr>();
        match (address, cidr.and_then(Cidr::parse)) {
            (Err(_), _) => problems.invalid(
                "spec.clusterIPs",
                &json!([spec["clusterIP"]]),
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (Ok(std::net::IpAddr::V4(address)), Some(cidr)) if !cidr.contains(address) => {
                let detail = format!(
                    "failed to allocate IP {address}: the provided IP is not in the valid range. The range of valid IPs is {}",
                    cidr.text()
                );
                problems.invalid("spec.clusterIPs", &json!([spec["clusterIP"]]), &detail);
            }
            _ => {}
        }
    }
    validate_ports(problems, ports, headless);
    names::labels(problems, "spec.selector", spec, "selector");
}

fn validate_ports(problems: &mut Problems, ports: &[Value], headless: bool) {
    let mut seen_names = Vec::new();
    let mut seen = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        let name = text(port, "name");
        if name.is_empty() {
            if ports.len() > 1 {
                problems.required(&format!("{at}.name"), "");
            }
        } else if !names::is_label(name) {
            problems.check(format_args!("{at}.name"), name, names::dns1123_label);
        } else if seen_names.contains(&name) {
            problems.duplicate(&format!("{at}.name"), &port["name"]);
        }
        seen_names.push(name);
        names::port(problems, &format!("{at}.port"), &port["port"]);
        problems.choice(&format!("{at}.protocol"), port.get("protocol"), &["TCP", "UDP", "SCTP"], false);
        if present(port, "targetPort") {
            names::port_reference(problems, &format!("{at}.targetPort"), &port["targetPort"]);
        }
        let key = (port["port"].as_i64(), text(port, "protocol"));
        if !headless && seen.contains(&key) {
            problems.duplicate(&at, &json!({"port": port["port"], "protocol": port["protocol"]}));
        }
        seen.push(key);
    }
}

fn shown_ports(spec: &Value) -> String {
    let each: Vec<String> = list(spec, "ports")
        .iter()
        .map(|port| match integer(port, "nodePort") {
            0 => format!("{}/{}", integer(port, "port"), text(port, "protocol")),
            node => format!("{}:{node}/{}", integer(port, "port"), text(port, "protocol")),
        })
        .collect();
    each.join(",")
}

/// Addresses of a load balancer's status, sorted, each once.
pub(crate) fn load_balancer_addresses(object: &Value) -> Vec<String> {
    let found: std::collections::BTreeSet<String> = list(&object["status"]["loadBalancer"], "ingress")
        .iter()
        .map(|ingress| match text(ingress, "ip") {
            "" => text(ingress, "hostname").to_owned(),
            ip => ip.to_owned(),
        })
        .filter(|address| !address.is_empty())
        .collect();
    found.into_iter().collect()
}

fn external_address(object: &Value) -> String {
    let spec = &object["spec"];
    let given = list(spec, "externalIPs").iter().filter_map(Value::as_str).map(str::to_owned);
    match text(spec, "type") {
        "ExternalName" => text(spec, "externalName").to_owned(),
        "LoadBalancer" => {
            let all: Vec<String> = load_balancer_addresses(object).into_iter().chain(given).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ => {
            let all: Vec<String> = given.collect();
            if all.is_empty() { "<none>".to_owned() } else { all.join(",") }
        }
    }
}

#[cfg(test)]
mod tests;
