//! `v1.Endpoints`.

use serde_json::Value;

use super::service;
use crate::addresses;
use crate::columns::{Column, age};
use crate::json::{default_text, given, integer, list, list_mut, same_field, text};
use crate::names::{dns1123_label, dns1123_subdomain, qualified_name};
use crate::net;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::{KindRules, or};

/// What Kubernetes demands of endpoints.
pub const RULES: KindRules = KindRules {
    defaults: |object| {
        for subset in list_mut(object, "subsets") {
            for port in list_mut(subset, "ports") {
                default_text(port, "protocol", "TCP");
            }
        }
    },
    validate: validate_subsets,
    validates_updates: false,
    validate_update: |problems, object, old| {
        if !same_field(object, old, "subsets") {
            validate_subsets(problems, object);
        }
    },
    warnings: |object, _| {
        let mut found = Vec::new();
        let subsets = Path::new("subsets");
        for (index, subset) in list(object, "subsets").iter().enumerate() {
            let at = subsets.index(index);
            for key in ["addresses", "notReadyAddresses"] {
                let at = at.field(key);
                for (number, address) in list(subset, key).iter().enumerate() {
                    found.extend(addresses::ip_warning(at.index(number).field("ip"), text(address, "ip")));
                }
            }
        }
        found
    },
    columns: || {
        vec![Column::object_name(), Column::described("Endpoints", "Endpoints", "subsets"), Column::age()]
    },
    cells: |object, now| {
        let mut all = Vec::new();
        for subset in list(object, "subsets") {
            let addresses = list(subset, "addresses").iter().map(|address| text(address, "ip"));
            let ports = list(subset, "ports");
            for address in addresses {
                if ports.is_empty() {
                    all.push(address.to_owned());
                }
                let shown = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                all.extend(ports.iter().map(|port| format!("{shown}:{}", integer(port, "port"))));
            }
        }
        vec![or(&at_most_three(&all), "<none>"), age(object, now)]
    },
    ..KindRules::NEW
};

fn at_most_three(all: &[String]) -> String {
    match all.len() {
        0..=3 => all.join(","),
        many => format!("{} + {} more...", all[..3].join(","), many - 3),
    }
}

fn validate_subsets(problems: &mut Problems, object: &Value) {
    let subsets = Path::new("subsets");
    for (index, subset) in list(object, "subsets").iter().enumerate() {
        let at = subsets.index(index);
        if list(subset, "addresses").is_empty() && list(subset, "notReadyAddresses").is_empty() {
            problems.required(at, "must specify `addresses` or `notReadyAddresses`");
        }
        for key in ["addresses", "notReadyAddresses"] {
            let at = at.field(key);
            for (number, address) in list(subset, key).iter().enumerate() {
                validate_address(problems, &at.index(number), address);
            }
        }
        let ports = list(subset, "ports");
        let at = at.field("ports");
        for (number, port) in ports.iter().enumerate() {
            validate_port(problems, &at.index(number), port, ports.len() > 1);
        }
    }
}

fn validate_address(problems: &mut Problems, at: &Path<'_>, address: &Value) {
    let ip = text(address, "ip");
    addresses::legacy_ip(problems, at.field("ip"), ip, &[]);
    problems.check_optional(at.field("hostname"), text(address, "hostname"), dns1123_label);
    if let Some(node) = given(address, "nodeName") {
        problems.check(at.field("nodeName"), node.as_str().unwrap_or_default(), dns1123_subdomain);
    }
    net::endpoint_ip(problems, at.field("ip"), ip);
}

fn validate_port(problems: &mut Problems, at: &Path<'_>, port: &Value, named: bool) {
    let name = text(port, "name");
    if named && name.is_empty() {
        problems.required(at.field("name"), "");
    }
    problems.check_optional(at.field("name"), name, dns1123_label);
    problems.in_range(at.field("port"), integer(port, "port"), 1, 65_535);
    service::protocol(problems, &at.field("protocol"), text(port, "protocol"));
    if let Some(protocol) = given(port, "appProtocol") {
        problems.check(at.field("appProtocol"), protocol.as_str().unwrap_or_default(), qualified_name);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_shows_three_endpoints() {
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}],
            "ports": [{"port": 80}, {"port": 81}]}]});
        let cells = (RULES.cells)(&endpoints, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[0], "1.1.1.1:80,1.1.1.1:81,1.1.1.2:80 + 1 more...");
    }
}
