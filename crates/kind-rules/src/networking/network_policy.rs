//! `NetworkPolicy`.

use serde_json::{Value, json};

use crate::checks::{
    columns, count_generation, each, first_generation, port_number, selector, selector_is_sound,
};
use crate::columns::age;
use crate::json::{default_text, existing, integer, list, list_mut, present, set, text};
use crate::path::Path;
use crate::problems::{Problems, Verbatim};
use crate::rules::KindRules;
use crate::{names, net};

const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
/// Where rules of each direction name their peers.
const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// `networking.k8s.io/v1.NetworkPolicy`.
pub const NETWORK_POLICY: KindRules = KindRules {
    defaults: |object| {
        let Some(spec) = existing(object, "spec") else { return };
        for (direction, _) in DIRECTIONS {
            for rule in list_mut(spec, direction) {
                list_mut(rule, "ports").iter_mut().for_each(|port| default_text(port, "protocol", "TCP"));
            }
        }
        if list(spec, "policyTypes").is_empty() {
            let egress = !list(spec, "egress").is_empty();
            set(spec, "policyTypes", if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
        }
    },
    prepare_create: first_generation,
    prepare_update: |object, old| count_generation(object, old, "spec"),
    validate: |problems, object| validate(problems, object, None),
    validates_updates: false,
    validate_update: |problems, object, old| validate(problems, object, Some(old)),
    warnings: |object, _| {
        let mut warnings = Vec::new();
        for_each_block(&object["spec"], |at, block| {
            warnings.extend(net::cidr_warnings(at.field("cidr"), text(block, "cidr")));
            for (index, except) in list(block, "except").iter().enumerate() {
                let except = except.as_str().unwrap_or_default();
                warnings.extend(net::cidr_warnings(at.field("except").index(index), except));
            }
        });
        warnings
    },
    columns: || columns(&["Pod-Selector", "Age"]),
    cells: |object, now| vec![names::shown_selector(&object["spec"]["podSelector"]).into(), age(object, now)],
    ..KindRules::NEW
};

fn for_each_block<'v>(spec: &'v Value, mut found: impl FnMut(&Path<'_>, &'v Value)) {
    let at = Path::new("spec");
    for (direction, peers) in DIRECTIONS {
        for (number, rule) in list(spec, direction).iter().enumerate() {
            for (index, peer) in list(rule, peers).iter().enumerate() {
                if present(peer, "ipBlock") {
                    let all = at.field(direction);
                    let rule = all.index(number);
                    let peers = rule.field(peers);
                    found(&peers.index(index).field("ipBlock"), &peer["ipBlock"]);
                }
            }
        }
    }
}

/// What an older version held, an update may keep: networks and selectors.
#[derive(Default)]
struct Tolerance<'v> {
    networks: Vec<&'v str>,
    selectors: bool,
}

fn validate(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let mut tolerance = Tolerance::default();
    if let Some(old) = old {
        tolerance.selectors = !selector_is_sound(&old["spec"]["podSelector"]);
        for_each_block(&old["spec"], |_, block| {
            tolerance.networks.push(text(block, "cidr"));
            tolerance.networks.extend(list(block, "except").iter().filter_map(Value::as_str));
        });
    }
    let (spec, at) = (&object["spec"], Path::new("spec"));
    selector(problems, &at.field("podSelector"), &spec["podSelector"], tolerance.selectors);
    for (direction, peers) in DIRECTIONS {
        for (index, own) in list(spec, direction).iter().enumerate() {
            let all = at.field(direction);
            let at = all.index(index);
            for (index, own) in list(own, "ports").iter().enumerate() {
                port(problems, &at.field("ports").index(index), own);
            }
            for (index, own) in list(own, peers).iter().enumerate() {
                peer(problems, &at.field(peers).index(index), own, &tolerance);
            }
        }
    }
    let types = list(spec, "policyTypes");
    let at = at.field("policyTypes");
    if types.len() > 2 {
        let shown = spec["policyTypes"].to_string();
        return problems.invalid(at, Verbatim(&shown), "may not specify more than two policyTypes");
    }
    for (index, kind) in types.iter().enumerate() {
        if kind != "Ingress" && kind != "Egress" {
            problems.unsupported_of(at.index(index), kind, &["Ingress", "Egress"]);
        }
    }
}

fn port(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    if let Some(protocol) = own["protocol"].as_str().filter(|protocol| !PROTOCOLS.contains(protocol)) {
        problems.unsupported_of(at.field("protocol"), protocol, &PROTOCOLS);
    }
    let end = own["endPort"].as_i64();
    match (&own["port"], end) {
        (Value::Number(_), _) => {
            let first = integer(own, "port");
            port_number(problems, at.field("port"), first);
            if let Some(end) = end {
                if end < first {
                    let detail = "must be greater than or equal to `port`";
                    problems.invalid(at.field("endPort"), first, detail);
                }
                port_number(problems, at.field("endPort"), end);
            }
        }
        (Value::String(name), end) => {
            if let Some(end) = end {
                let detail = "may not be specified when `port` is non-numeric";
                problems.invalid(at.field("endPort"), end, detail);
            }
            each(problems, at.field("port"), name, names::port_name(name));
        }
        (_, Some(end)) => {
            let detail = "may not be specified when `port` is not specified";
            problems.invalid(at.field("endPort"), end, detail);
        }
        _ => {}
    }
}

fn peer(problems: &mut Problems, at: &Path<'_>, own: &Value, tolerance: &Tolerance<'_>) {
    let mut given = 0;
    for key in ["podSelector", "namespaceSelector"] {
        if present(own, key) {
            given += 1;
            selector(problems, &at.field(key), &own[key], tolerance.selectors);
        }
    }
    if present(own, "ipBlock") {
        block(problems, &at.field("ipBlock"), &own["ipBlock"], tolerance);
        if given > 0 {
            problems.forbidden(at, "may not specify both ipBlock and another peer");
        }
    } else if given == 0 {
        problems.required(at, "must specify a peer");
    }
}

fn block(problems: &mut Problems, at: &Path<'_>, block: &Value, tolerance: &Tolerance<'_>) {
    let own = text(block, "cidr");
    if own.is_empty() {
        return problems.required(at.field("cidr"), "");
    }
    net::legacy_cidr(problems, at.field("cidr"), own, &tolerance.networks);
    let Some(own) = net::parse_cidr(own) else { return };
    for (index, except) in list(block, "except").iter().enumerate() {
        let except = except.as_str().unwrap_or_default();
        let excepts = at.field("except");
        let at = excepts.index(index);
        net::legacy_cidr(problems, at, except, &tolerance.networks);
        let Some(part) = net::parse_cidr(except) else { continue };
        if !own.has_within(&part) {
            problems.invalid(at, except, "must be a strict subset of `cidr`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn a_policy_knows_its_directions() {
        let mut policy = json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}});
        (NETWORK_POLICY.defaults)(&mut policy);
        assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
        assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    }

    #[test]
    fn bad_policies_are_refused_where_upstream_refuses_them() {
        let port = |own: Value| json!({"spec": {"podSelector": {}, "ingress": [{"ports": [own]}]}});
        let peer = |own: Value| json!({"spec": {"podSelector": {}, "egress": [{"to": [own]}]}});
        for (object, wanted) in [
            (
                port(json!({"protocol": "X", "port": 1})),
                "spec.ingress[0].ports[0].protocol: Unsupported value: \"X\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
            ),
            (
                port(json!({"port": 9, "endPort": 8})),
                "spec.ingress[0].ports[0].endPort: Invalid value: 9: must be greater than or equal to `port`",
            ),
            (
                port(json!({"endPort": 8})),
                "spec.ingress[0].ports[0].endPort: Invalid value: 8: may not be specified when `port` is not specified",
            ),
            (peer(json!({})), "spec.egress[0].to[0]: Required value: must specify a peer"),
            (
                peer(json!({"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}})),
                "spec.egress[0].to[0]: Forbidden: may not specify both ipBlock and another peer",
            ),
            (peer(json!({"ipBlock": {}})), "spec.egress[0].to[0].ipBlock.cidr: Required value"),
            (
                peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}})),
                "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/9\": must be a strict subset of `cidr`",
            ),
            (
                json!({"spec": {"podSelector": {}, "policyTypes": ["In"]}}),
                "spec.policyTypes[0]: Unsupported value: \"In\": supported values: \"Ingress\", \"Egress\"",
            ),
        ] {
            assert_eq!(findings(&NETWORK_POLICY, &object), [wanted]);
        }
        let old = peer(json!({"ipBlock": {"cidr": "10.0.0.1/8"}}));
        assert_eq!(findings(&NETWORK_POLICY, &old).len(), 1);
        assert!(update_findings(&NETWORK_POLICY, &old, &old).is_empty());
    }
}
