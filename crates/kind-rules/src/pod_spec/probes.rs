//! Probes and lifecycle hooks.

use serde_json::Value;

use crate::json::{integer, list, text};
use crate::names;
use crate::problems::Problems;

const HANDLERS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];

pub(super) fn validate_probes(problems: &mut Problems, at: &str, container: &Value) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(name).filter(|probe| probe.is_object()) else { continue };
        let at = format!("{at}.{name}");
        validate_handler(problems, &at, probe);
        for key in
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            problems.not_negative(&format!("{at}.{key}"), probe.get(key));
        }
        if name != "readinessProbe" && integer(probe, "successThreshold") > 1 {
            problems.invalid(&format!("{at}.successThreshold"), &probe["successThreshold"], "must be 1");
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(handler) = container["lifecycle"].get(hook).filter(|handler| handler.is_object()) {
            validate_handler(problems, &format!("{at}.lifecycle.{hook}"), handler);
        }
    }
}

fn validate_handler(problems: &mut Problems, at: &str, handler: &Value) {
    let given: Vec<&str> =
        HANDLERS.into_iter().filter(|key| handler.get(key).is_some_and(Value::is_object)).collect();
    if given.is_empty() {
        problems.required(at, "must specify a handler type");
    }
    for extra in given.iter().skip(1) {
        problems.forbidden(&format!("{at}.{extra}"), "may not specify more than 1 handler type");
    }
    if let Some(exec) = handler.get("exec").filter(|exec| exec.is_object())
        && list(exec, "command").is_empty()
    {
        problems.required(&format!("{at}.exec.command"), "");
    }
    if let Some(http) = handler.get("httpGet").filter(|http| http.is_object()) {
        names::port_reference(problems, &format!("{at}.httpGet.port"), &http["port"]);
        if text(http, "path").is_empty() {
            problems.required(&format!("{at}.httpGet.path"), "");
        }
        problems.choice(&format!("{at}.httpGet.scheme"), http.get("scheme"), &["HTTP", "HTTPS"], false);
    }
    if let Some(tcp) = handler.get("tcpSocket").filter(|tcp| tcp.is_object()) {
        names::port_reference(problems, &format!("{at}.tcpSocket.port"), &tcp["port"]);
    }
    if let Some(grpc) = handler.get("grpc").filter(|grpc| grpc.is_object()) {
        names::port(problems, &format!("{at}.grpc.port"), &grpc["port"]);
    }
}
