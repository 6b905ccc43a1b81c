//! Ports that are named or numbered twice.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::json::{integer, list, text};
use crate::path::Path;
use crate::pod_spec::visit_containers;
use crate::problems::quoted;

/// Where a port was seen: its path, the address on the host and the port there.
type Seen = (String, String, i64);

pub(super) fn warn(found: &mut Vec<String>, at: &Path<'_>, spec: &Value) {
    let mut numbers: BTreeMap<(i64, String), Vec<Seen>> = BTreeMap::new();
    visit_containers(at, spec, |at, container| {
        let at = at.field("ports");
        for (index, port) in list(container, "ports").iter().enumerate() {
            let at = at.index(index);
            let (ip, host) = (text(port, "hostIP"), integer(port, "hostPort"));
            if !ip.is_empty() && host == 0 {
                found.push(format!("{at}: hostIP set without hostPort: {}", as_go(port)));
            }
            let key = (integer(port, "containerPort"), text(port, "protocol").to_owned());
            let others = numbers.entry(key).or_default();
            for (other, other_ip, other_host) in others.iter() {
                if ip == other_ip && host == *other_host {
                    found.push(format!("{at}: duplicate port definition with {other}"));
                } else if host == 0 || *other_host == 0 {
                    found.push(format!("{at}: overlapping port definition with {other}"));
                } else if host == *other_host && (ip.is_empty() != other_ip.is_empty()) {
                    found.push(format!("{at}: dangerously ambiguous port definition with {other}"));
                }
            }
            others.push((at.to_string(), ip.to_owned(), host));
        }
    });
    let mut by_name: BTreeMap<String, String> = BTreeMap::new();
    visit_containers(at, spec, |at, container| {
        let at = at.field("ports");
        for (index, port) in list(container, "ports").iter().enumerate() {
            let (at, name) = (at.index(index), text(port, "name"));
            if name.is_empty() {
                continue;
            }
            if let Some(other) = by_name.get(name) {
                found.push(format!(
                    "{at}: duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                    quoted(name)
                ));
            } else {
                by_name.insert(name.to_owned(), at.to_string());
            }
        }
    });
}

/// A port as Go prints its structure.
fn as_go(port: &Value) -> String {
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        text(port, "name"),
        integer(port, "hostPort"),
        integer(port, "containerPort"),
        text(port, "protocol"),
        text(port, "hostIP")
    )
}
