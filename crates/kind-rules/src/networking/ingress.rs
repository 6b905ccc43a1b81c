//! `Ingress`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::checks::{columns, each, path_segment, port_number};
use crate::columns::age;
use crate::json::{integer, list, present, text};
use crate::names::{self, port_name, wildcard_subdomain};
use crate::net;
use crate::path::Path;
use crate::problems::{Problems, Verbatim, quoted};
use crate::rules::{KindRules, or};

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// `networking.k8s.io/v1.Ingress`.
pub const INGRESS: KindRules = KindRules {
    validate: |problems, object| {
        validate(problems, object, None);
        let class = &object["spec"]["ingressClassName"];
        let annotation = object["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
        if let (Some(annotation), Some(class)) = (annotation, class.as_str())
            && annotation != class
        {
            let detail = "must match `ingressClassName` when both are specified";
            problems.invalid(format!("annotations.{CLASS_ANNOTATION}"), annotation, detail);
        }
    },
    validates_updates: false,
    validate_update: |problems, object, old| validate(problems, object, Some(old)),
    validate_status: |problems, object, old| {
        let known: Vec<&str> = balancer_ingresses(old).iter().map(|own| text(own, "ip")).collect();
        let at = Path::new("status.loadBalancer.ingress");
        for (index, own) in balancer_ingresses(object).iter().enumerate() {
            let (ip, host) = (text(own, "ip"), text(own, "hostname"));
            if !ip.is_empty() {
                net::legacy_ip(problems, at.index(index).field("ip"), ip, &known);
            }
            if !host.is_empty() {
                let at = at.index(index);
                each(problems, at.field("hostname"), host, names::dns1123_subdomain(host));
                if net::parse_ip(host).is_some() {
                    problems.invalid(at.field("hostname"), host, "must be a DNS name, not an IP address");
                }
            }
        }
    },
    warnings: |object, old| {
        let annotated = object["metadata"]["annotations"].get(CLASS_ANNOTATION).is_some();
        if old.is_none() && annotated && !present(&object["spec"], "ingressClassName") {
            let shown = quoted(CLASS_ANNOTATION);
            return vec![format!(
                "annotation {shown} is deprecated, please use 'spec.ingressClassName' instead"
            )];
        }
        Vec::new()
    },
    columns: || columns(&["Class", "Hosts", "Address", "Ports", "Age"]),
    cells: |object, now| {
        let spec = &object["spec"];
        let ports = if list(spec, "tls").is_empty() { "80" } else { "80, 443" };
        let class = spec["ingressClassName"].as_str().unwrap_or("<none>");
        vec![class.into(), or(&hosts(spec), "*"), addresses(object).into(), ports.into(), age(object, now)]
    },
    ..KindRules::NEW
};

fn balancer_ingresses(object: &Value) -> &[Value] {
    list(&object["status"]["loadBalancer"], "ingress")
}

fn hosts(spec: &Value) -> String {
    let rules = list(spec, "rules");
    let mut shown: Vec<&str> = Vec::new();
    for rule in rules {
        // Beyond three, upstream counts rules, not hosts.
        if shown.len() == 3 {
            return format!("{} + {} more...", shown.join(","), rules.len() - 3);
        }
        shown.extend(Some(text(rule, "host")).filter(|host| !host.is_empty()));
    }
    shown.join(",")
}

fn addresses(object: &Value) -> String {
    let address = |own: &Value| {
        let (ip, host) = (text(own, "ip"), text(own, "hostname"));
        if ip.is_empty() { host.to_owned() } else { ip.to_owned() }
    };
    let all: BTreeSet<String> =
        balancer_ingresses(object).iter().map(address).filter(|address| !address.is_empty()).collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

/// What an older version held, an update may keep.
struct Tolerance {
    secret_names: bool,
    wildcard_rules: bool,
}

fn tolerance(old: Option<&Value>) -> Tolerance {
    let Some(spec) = old.map(|old| &old["spec"]) else {
        return Tolerance { secret_names: false, wildcard_rules: false };
    };
    let bad_rule = |rule: &Value| {
        let mut problems = Problems::default();
        rule_value(&mut problems, &Path::new("rules"), rule);
        text(rule, "host").contains('*') && !problems.is_empty()
    };
    Tolerance {
        secret_names: list(spec, "tls").iter().any(|tls| !secret_name(tls).is_empty()),
        wildcard_rules: list(spec, "rules").iter().any(bad_rule),
    }
}

fn validate(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let tolerance = tolerance(old);
    let (spec, at) = (&object["spec"], Path::new("spec"));
    let rules = list(spec, "rules");
    if rules.is_empty() && !present(spec, "defaultBackend") {
        let shown = if spec["rules"].is_array() { "[]" } else { "null" };
        problems.invalid(at, Verbatim(shown), "either `defaultBackend` or `rules` must be specified");
    }
    if present(spec, "defaultBackend") {
        backend(problems, &at.field("defaultBackend"), &spec["defaultBackend"]);
    }
    for (index, rule) in rules.iter().enumerate() {
        let rules = at.field("rules");
        let at = rules.index(index);
        let wildcard = host(problems, &at, text(rule, "host"));
        if !wildcard || !tolerance.wildcard_rules {
            rule_value(problems, &at, rule);
        }
    }
    for (index, tls) in list(spec, "tls").iter().enumerate() {
        let all = at.field("tls");
        validate_tls(problems, &all.index(index), tls, &tolerance);
    }
    if let Some(class) = spec["ingressClassName"].as_str() {
        each(problems, at.field("ingressClassName"), class, names::dns1123_subdomain(class));
    }
}

fn validate_tls(problems: &mut Problems, at: &Path<'_>, tls: &Value, tolerance: &Tolerance) {
    for (index, host) in list(tls, "hosts").iter().enumerate() {
        let host = host.as_str().unwrap_or_default();
        let why = if host.contains('*') { wildcard_subdomain(host) } else { names::dns1123_subdomain(host) };
        each(problems, at.field("hosts").index(index), host, why);
    }
    if !tolerance.secret_names {
        each(problems, at.field("secretName"), text(tls, "secretName"), secret_name(tls));
    }
}

fn secret_name(tls: &Value) -> Vec<String> {
    let name = text(tls, "secretName");
    if name.is_empty() { Vec::new() } else { names::dns1123_subdomain(name) }
}

/// Whether the host has a wildcard.
fn host(problems: &mut Problems, at: &Path<'_>, host: &str) -> bool {
    if host.is_empty() {
        return false;
    }
    if net::parse_ip(host).is_some() {
        problems.invalid(at.field("host"), host, "must be a DNS name, not an IP address");
    }
    let wildcard = host.contains('*');
    let why = if wildcard { wildcard_subdomain(host) } else { names::dns1123_subdomain(host) };
    each(problems, at.field("host"), host, why);
    wildcard
}

fn rule_value(problems: &mut Problems, at: &Path<'_>, rule: &Value) {
    if !present(rule, "http") {
        return;
    }
    let http = at.field("http");
    let (at, all) = (http.field("paths"), list(&rule["http"], "paths"));
    if all.is_empty() {
        problems.required(at, "");
    }
    for (index, own) in all.iter().enumerate() {
        path(problems, &at.index(index), own);
    }
}

fn path(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    let value = text(own, "path");
    let Some(kind) = own["pathType"].as_str() else {
        return problems.required(at.field("pathType"), "pathType must be specified");
    };
    match kind {
        "Exact" | "Prefix" => {
            if !value.starts_with('/') {
                problems.invalid(at.field("path"), value, "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|part| value.contains(part)) {
                problems.invalid(at.field("path"), value, &format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].into_iter().filter(|end| value.ends_with(end)) {
                problems.invalid(at.field("path"), value, &format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !value.is_empty() && !value.starts_with('/') {
                problems.invalid(at.field("path"), value, "must be an absolute path");
            }
        }
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            problems.unsupported(at.field("pathType"), other, &known);
        }
    }
    backend(problems, &at.field("backend"), &own["backend"]);
}

fn backend(problems: &mut Problems, at: &Path<'_>, backend: &Value) {
    match (present(backend, "resource"), present(backend, "service")) {
        (true, true) => problems.invalid(at, "", "cannot set both resource and service backends"),
        (true, false) => resource(problems, &at.field("resource"), &backend["resource"]),
        (false, true) => service(problems, at, &backend["service"]),
        (false, false) => problems.invalid(at, "", "resource or service backend is required"),
    }
}

fn resource(problems: &mut Problems, at: &Path<'_>, reference: &Value) {
    if let Some(group) = reference["apiGroup"].as_str() {
        each(problems, at.field("apiGroup"), group, names::dns1123_subdomain(group));
    }
    path_segment(problems, at.field("kind"), text(reference, "kind"));
    path_segment(problems, at.field("name"), text(reference, "name"));
}

fn service(problems: &mut Problems, at: &Path<'_>, service: &Value) {
    let service_at = at.field("service");
    let name = text(service, "name");
    if name.is_empty() {
        problems.required(service_at.field("name"), "");
    } else {
        each(problems, service_at.field("name"), name, names::dns1123_label(name));
    }
    let port_at = service_at.field("port");
    match (text(&service["port"], "name"), integer(&service["port"], "number")) {
        ("", 0) => problems.required(at, "port name or number is required"),
        ("", number) => port_number(problems, port_at.field("number"), number),
        (name, 0) => each(problems, port_at.field("name"), name, port_name(name)),
        _ => problems.invalid(at, "", "cannot set both port name & port number"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    #[test]
    fn bad_ingresses_are_refused_where_upstream_refuses_them() {
        let path = |own: Value| json!({"spec": {"rules": [{"http": {"paths": [own]}}]}});
        let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
        for (object, wanted) in [
            (
                json!({"spec": {}}),
                "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified",
            ),
            (
                path(json!({"backend": backend})),
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
            ),
            (
                path(json!({"pathType": "Prefix", "path": "a", "backend": backend})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path",
            ),
            (
                path(json!({"pathType": "Exact", "path": "/a/..", "backend": backend})),
                "spec.rules[0].http.paths[0].path: Invalid value: \"/a/..\": cannot end with '/..'",
            ),
            (
                path(json!({"pathType": "Exact", "path": "/", "backend": {}})),
                "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                path(json!({"pathType": "Exact", "path": "/", "backend": {"service": {"name": "s"}}})),
                "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
            ),
            (
                json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 65_536}}}}}),
                "spec.defaultBackend.service.port.number: Invalid value: 65536: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"spec": {"rules": [{"host": "10.0.0.1"}]}}),
                "spec.rules[0].host: Invalid value: \"10.0.0.1\": must be a DNS name, not an IP address",
            ),
        ] {
            assert_eq!(findings(&INGRESS, &object), [wanted]);
        }
    }

    #[test]
    fn an_update_keeps_what_once_was_allowed() {
        let old = json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"name": "http"}}}, "tls": [{"secretName": "A_b"}]}});
        assert_eq!(findings(&INGRESS, &old).len(), 1);
        assert!(update_findings(&INGRESS, &old, &old).is_empty());
    }

    #[test]
    fn a_row_shows_three_hosts() {
        let object = json!({"spec": {"rules": [{"host": "a"}, {"host": "b"}, {"host": "c"}, {"host": "d"}], "tls": [{}]},
            "status": {"loadBalancer": {"ingress": [{"hostname": "h"}, {"ip": "1.2.3.4"}]}}});
        let cells = (INGRESS.cells)(&object, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(
            cells[..4],
            [json!("<none>"), json!("a,b,c + 1 more..."), json!("1.2.3.4,h"), json!("80, 443")]
        );
    }
}
