//! Probes and lifecycle hooks.

use std::fmt::Display;

use serde_json::Value;

use crate::json::{given, integer, list, number, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

/// The three probes of a container.
pub(super) fn all(problems: &mut Problems, at: &Path<'_>, container: &Value) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = given(container, key) else { continue };
        let at = at.field(key);
        handler(problems, &at, probe, &["exec", "httpGet", "tcpSocket", "grpc"], None);
        for key in
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            problems.not_negative(at.field(key), probe.get(key));
        }
        let grace = number(probe, "terminationGracePeriodSeconds");
        if let Some(seconds) = grace.filter(|seconds| *seconds <= 0) {
            problems.invalid(at.field("terminationGracePeriodSeconds"), seconds, "must be greater than 0");
        }
        if key == "readinessProbe" {
            if let Some(seconds) = grace {
                let why = "must not be set for readinessProbes";
                problems.invalid(at.field("terminationGracePeriodSeconds"), seconds, why);
            }
        } else if integer(probe, "successThreshold") != 1 {
            problems.invalid(at.field("successThreshold"), integer(probe, "successThreshold"), "must be 1");
        }
    }
}

/// `lifecycle`.
pub(super) fn lifecycle(problems: &mut Problems, at: &Path<'_>, container: &Value, spec: &Value) {
    let Some(lifecycle) = given(container, "lifecycle") else { return };
    let grace = number(spec, "terminationGracePeriodSeconds");
    for key in ["postStart", "preStop"] {
        if let Some(hook) = given(lifecycle, key) {
            handler(problems, &at.field(key), hook, &["exec", "httpGet", "tcpSocket", "sleep"], grace);
        }
    }
}

fn handler(problems: &mut Problems, at: &Path<'_>, holder: &Value, kinds: &[&str], grace: Option<i64>) {
    let mut found = false;
    for kind in kinds {
        let Some(action) = given(holder, kind) else { continue };
        let at = at.field(kind);
        if found {
            problems.forbidden(at, "may not specify more than 1 handler type");
            continue;
        }
        found = true;
        match *kind {
            "exec" => {
                if list(action, "command").is_empty() {
                    problems.required(at.field("command"), "");
                }
            }
            "httpGet" => http(problems, &at, action),
            "sleep" => sleep(problems, &at, action, grace),
            _ => port_or_name(problems, at.field("port"), &action["port"]),
        }
    }
    if !found {
        problems.required(at, "must specify a handler type");
    }
}

fn http(problems: &mut Problems, at: &Path<'_>, action: &Value) {
    if text(action, "path").is_empty() {
        problems.required(at.field("path"), "");
    }
    port_or_name(problems, at.field("port"), &action["port"]);
    let scheme = text(action, "scheme");
    if !matches!(scheme, "HTTP" | "HTTPS") {
        problems.unsupported(at.field("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in list(action, "httpHeaders") {
        problems.check(at.field("httpHeaders"), text(header, "name"), names::http_header_name);
    }
}

fn sleep(problems: &mut Problems, at: &Path<'_>, action: &Value, grace: Option<i64>) {
    let seconds = integer(action, "seconds");
    if let Some(grace) = grace
        && (seconds < 0 || seconds > grace)
    {
        let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        problems.invalid(at, seconds, &why);
    }
}

/// A port by number or name (upstream's `ValidatePortNumOrName`); what is not there is 0.
pub fn port_or_name(problems: &mut Problems, at: impl Display, port: &Value) {
    match port {
        Value::String(name) => problems.check(at, name, names::port_name),
        number => problems.in_range(at, number.as_i64().unwrap_or_default(), 1, 65_535),
    }
}
