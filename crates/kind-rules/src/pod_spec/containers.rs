//! Containers of a pod.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{probes, volumes};
use crate::json::{list, text};
use crate::names;
use crate::problems::Problems;

/// All containers of a pod spec at `at`.
pub(super) fn validate_containers(
    problems: &mut Problems,
    at: &str,
    spec: &Value,
    volumes: &BTreeSet<String>,
) {
    let mut seen = BTreeSet::new();
    if list(spec, "containers").is_empty() {
        problems.required(&format!("{at}.containers"), "");
    }
    for key in ["initContainers", "containers"] {
        let mut host_ports = BTreeSet::new();
        for (index, container) in list(spec, key).iter().enumerate() {
            let at = format!("{at}.{key}[{index}]");
            let name = &container["name"];
            names::label(problems, &format!("{at}.name"), name);
            if let Some(name_text) = name.as_str()
                && !name_text.is_empty()
                && !seen.insert(name_text)
            {
                problems.duplicate(&format!("{at}.name"), name);
            }
            validate_container(problems, &at, container, volumes);
            validate_ports(problems, &at, container, &mut host_ports);
            if key == "initContainers" {
                validate_init(problems, &at, container);
            }
        }
    }
}

fn validate_init(problems: &mut Problems, at: &str, container: &Value) {
    let sidecar = text(container, "restartPolicy") == "Always";
    problems.choice(
        &format!("{at}.restartPolicy"),
        container.get("restartPolicy"),
        &["Always", "OnFailure", "Never"],
        true,
    );
    if !sidecar {
        for key in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.get(key).is_some_and(Value::is_object) {
                problems.forbidden(
                    &format!("{at}.{key}"),
                    "may not be set for init containers without restartPolicy=Always",
                );
            }
        }
    }
}

fn validate_container(problems: &mut Problems, at: &str, container: &Value, volumes: &BTreeSet<String>) {
    let image = text(container, "image");
    if image.is_empty() {
        problems.required(&format!("{at}.image"), "");
    } else if image.trim() != image {
        problems.invalid(
            &format!("{at}.image"),
            &container["image"],
            "must not have leading or trailing whitespace",
        );
    }
    problems.choice(
        &format!("{at}.imagePullPolicy"),
        container.get("imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
        false,
    );
    problems.choice(
        &format!("{at}.terminationMessagePolicy"),
        container.get("terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
        false,
    );
    validate_environment(problems, at, container);
    volumes::validate_mounts(problems, at, container, volumes);
    volumes::validate_resources(problems, &format!("{at}.resources"), &container["resources"]);
    probes::validate_probes(problems, at, container);
}

fn validate_environment(problems: &mut Problems, at: &str, container: &Value) {
    for (index, variable) in list(container, "env").iter().enumerate() {
        let at = format!("{at}.env[{index}]");
        problems.check_required(format_args!("{at}.name"), text(variable, "name"), names::environment_name);
        let Some(source) = variable.get("valueFrom").and_then(Value::as_object) else { continue };
        let at = format!("{at}.valueFrom");
        if !text(variable, "value").is_empty() {
            problems.invalid(&at, &Value::from(""), "may not be specified when `value` is not empty");
        }
        let given: Vec<&String> =
            source.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key).collect();
        match given.len() {
            0 => problems.invalid(
                &at,
                &Value::from(""),
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ),
            1 => {}
            _ => problems.invalid(&at, &Value::from(""), "may not have more than one field specified at a time"),
        }
        for key in ["configMapKeyRef", "secretKeyRef"] {
            if let Some(reference) = source.get(key).filter(|reference| reference.is_object()) {
                if text(reference, "key").is_empty() {
                    problems.required(&format!("{at}.{key}.key"), "");
                }
                if text(reference, "name").is_empty() {
                    problems.required(&format!("{at}.{key}.name"), "");
                }
            }
        }
        if let Some(reference) = source.get("fieldRef").filter(|reference| reference.is_object())
            && text(reference, "fieldPath").is_empty()
        {
            problems.required(&format!("{at}.fieldRef.fieldPath"), "");
        }
    }
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        let at = format!("{at}.envFrom[{index}]");
        let given = ["configMapRef", "secretRef"].into_iter().filter(|key| source[*key].is_object()).count();
        if given == 0 {
            problems.invalid(&at, &Value::from(""), "must specify one of: `configMapRef` or `secretRef`");
        }
    }
}

fn validate_ports<'a>(
    problems: &mut Problems,
    at: &str,
    container: &'a Value,
    host_ports: &mut BTreeSet<(String, String, i64)>,
) {
    let mut port_names: BTreeSet<&'a str> = BTreeSet::new();
    for (index, port) in list(container, "ports").iter().enumerate() {
        let at = format!("{at}.ports[{index}]");
        let name = text(port, "name");
        if !name.is_empty() {
            if !names::is_port_name(name) {
                problems.invalid(
                    &format!("{at}.name"),
                    &port["name"],
                    "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), at least one letter, and be no more than 15 characters",
                );
            } else if !port_names.insert(name) {
                problems.duplicate(&format!("{at}.name"), &port["name"]);
            }
        }
        if port["containerPort"].as_i64().unwrap_or_default() == 0 {
            problems.required(&format!("{at}.containerPort"), "");
        } else {
            names::port(problems, &format!("{at}.containerPort"), &port["containerPort"]);
        }
        problems.choice(&format!("{at}.protocol"), port.get("protocol"), &["TCP", "UDP", "SCTP"], false);
        let host = port["hostPort"].as_i64().unwrap_or_default();
        if host != 0 {
            names::port(problems, &format!("{at}.hostPort"), &port["hostPort"]);
            let key = (text(port, "protocol").to_owned(), text(port, "hostIP").to_owned(), host);
            if !host_ports.insert(key) {
                problems.duplicate(&format!("{at}.hostPort"), &port["hostPort"]);
            }
        }
    }
}
