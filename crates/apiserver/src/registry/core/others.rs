//! Small core kinds: Events, Endpoints, ServiceAccounts, ResourceQuotas, PodTemplates.

use kind_rules::columns::{Column, age};
use kind_rules::json::{entries, integer, list, text};
use kind_rules::rules::{KindRules, or};

/// `v1.Endpoints`.
pub(crate) const ENDPOINTS: KindRules = KindRules {
    columns: || vec![Column::object_name(), Column::new("Endpoints"), Column::age()],
    cells: |object, now| {
        let mut all = Vec::new();
        for subset in list(object, "subsets") {
            let addresses = list(subset, "addresses").iter().map(|address| text(address, "ip"));
            let ports = list(subset, "ports");
            for address in addresses {
                if ports.is_empty() {
                    all.push(address.to_owned());
                }
                all.extend(ports.iter().map(|port| format!("{address}:{}", integer(port, "port"))));
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

/// `v1.ResourceQuota`.
pub(crate) const RESOURCE_QUOTA: KindRules = KindRules {
    columns: || vec![Column::object_name(), Column::new("Request"), Column::new("Limit"), Column::age()],
    cells: |object, now| {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in entries(&object["status"], "hard") {
            let used = text(&object["status"]["used"], name);
            let part = format!("{name}: {used}/{}", hard.as_str().unwrap_or_default());
            if name.starts_with("limits.") { limits.push(part) } else { requests.push(part) }
        }
        vec![requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
    },
    ..KindRules::NEW
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_of_endpoints() {
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}],
            "ports": [{"port": 80}, {"port": 81}]}]});
        let cells = (ENDPOINTS.cells)(&endpoints, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(cells[0], "1.1.1.1:80,1.1.1.1:81,1.1.1.2:80 + 1 more...");
    }
}
