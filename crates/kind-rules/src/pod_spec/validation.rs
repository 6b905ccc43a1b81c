//! A pod spec as a whole.

use serde_json::Value;

use super::{containers, volumes};
use crate::json::{list, text};
use crate::names;
use crate::problems::Problems;

const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];

/// Checks a pod spec at `at`.
pub fn validate(problems: &mut Problems, at: &str, spec: &Value) {
    let volume_names = volumes::validate_volumes(problems, at, spec);
    containers::validate_containers(problems, at, spec, &volume_names);
    problems.choice(
        &format!("{at}.restartPolicy"),
        spec.get("restartPolicy"),
        &["Always", "OnFailure", "Never"],
        false,
    );
    problems.choice(&format!("{at}.dnsPolicy"), spec.get("dnsPolicy"), &DNS_POLICIES, false);
    problems.not_negative(
        &format!("{at}.terminationGracePeriodSeconds"),
        spec.get("terminationGracePeriodSeconds"),
    );
    if let Some(seconds) = spec.get("activeDeadlineSeconds").filter(|seconds| !seconds.is_null())
        && seconds.as_i64().is_none_or(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds))
    {
        problems.invalid(
            &format!("{at}.activeDeadlineSeconds"),
            seconds,
            "must be between 1 and 2147483647, inclusive",
        );
    }
    names::labels(problems, &format!("{at}.nodeSelector"), spec, "nodeSelector");
    for (key, required_rule) in
        [("serviceAccountName", false), ("nodeName", false), ("priorityClassName", false)]
    {
        let value = &spec[key];
        if required_rule || !value.as_str().unwrap_or_default().is_empty() {
            names::subdomain(problems, &format!("{at}.{key}"), value);
        }
    }
    for key in ["hostname", "subdomain"] {
        if !text(spec, key).is_empty() {
            names::label(problems, &format!("{at}.{key}"), &spec[key]);
        }
    }
    validate_tolerations(problems, at, spec);
    validate_spread(problems, at, spec);
    validate_host_network(problems, at, spec);
}

fn validate_tolerations(problems: &mut Problems, at: &str, spec: &Value) {
    for (index, toleration) in list(spec, "tolerations").iter().enumerate() {
        let at = format!("{at}.tolerations[{index}]");
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        if key.is_empty() && operator != "Exists" {
            problems.invalid(
                &format!("{at}.operator"),
                &Value::from(operator),
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        match operator {
            "" | "Equal" => {}
            "Exists" if !text(toleration, "value").is_empty() => problems.invalid(
                &format!("{at}.operator"),
                &toleration["value"],
                "value must be empty when `operator` is 'Exists'",
            ),
            "Exists" => {}
            _ => {
                problems.unsupported(&format!("{at}.operator"), &toleration["operator"], &["Equal", "Exists"])
            }
        }
        let effect = text(toleration, "effect");
        if !effect.is_empty() {
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            problems.choice(&format!("{at}.effect"), toleration.get("effect"), &effects, true);
        }
        if toleration["tolerationSeconds"].is_number() && effect != "NoExecute" {
            problems.invalid(
                &format!("{at}.effect"),
                &Value::from(effect),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
    }
}

fn validate_spread(problems: &mut Problems, at: &str, spec: &Value) {
    for (index, constraint) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let at = format!("{at}.topologySpreadConstraints[{index}]");
        if constraint["maxSkew"].as_i64().is_none_or(|skew| skew <= 0) {
            problems.invalid(&format!("{at}.maxSkew"), &constraint["maxSkew"], "must be greater than zero");
        }
        if text(constraint, "topologyKey").is_empty() {
            problems.required(&format!("{at}.topologyKey"), "can not be empty");
        }
        problems.choice(
            &format!("{at}.whenUnsatisfiable"),
            constraint.get("whenUnsatisfiable"),
            &["DoNotSchedule", "ScheduleAnyway"],
            false,
        );
    }
}

/// In the host's network a container port has to be the host port.
fn validate_host_network(problems: &mut Problems, at: &str, spec: &Value) {
    if spec["hostNetwork"] != true {
        return;
    }
    for (index, container) in list(spec, "containers").iter().enumerate() {
        for (number, port) in list(container, "ports").iter().enumerate() {
            let (host, inside) = (port["hostPort"].as_i64(), port["containerPort"].as_i64());
            if host.is_some() && host != inside {
                problems.invalid(
                    &format!("{at}.containers[{index}].ports[{number}].hostPort"),
                    &port["hostPort"],
                    "must match `containerPort` when `hostNetwork` is true",
                );
            }
        }
    }
}

/// A workload's `spec.template`: labels that `selector` selects, a valid pod spec, one of `policies` for restarting.
pub fn validate_template(
    problems: &mut Problems,
    template: &Value,
    selector: Option<&Value>,
    policies: &[&str],
) {
    let metadata = &template["metadata"];
    names::labels(problems, "spec.template.labels", metadata, "labels");
    if let Some(selector) = selector
        && !names::is_empty_selector(selector)
        && !names::matches(selector, &metadata["labels"])
    {
        problems.invalid(
            "spec.template.metadata.labels",
            &metadata["labels"],
            "`selector` does not match template `labels`",
        );
    }
    let spec = &template["spec"];
    validate(problems, "spec.template.spec", spec);
    let policy = &spec["restartPolicy"];
    if ["Always", "OnFailure", "Never"].contains(&policy.as_str().unwrap_or_default())
        && !policies.contains(&policy.as_str().unwrap_or_default())
    {
        problems.unsupported("spec.template.spec.restartPolicy", policy, policies);
    }
}
