//! Environment variables and where they come from.

use serde_json::Value;

use crate::json::{given, list, text};
use crate::names;
use crate::path::Path;
use crate::pod_spec::volumes::{downward, paths};
use crate::problems::Problems;

/// What a variable may say of its pod.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// `env` and `envFrom` of a container at `at`.
pub(super) fn validate(problems: &mut Problems, at: &Path<'_>, container: &Value) {
    let env = at.field("env");
    for (index, variable) in list(container, "env").iter().enumerate() {
        let at = env.index(index);
        problems.check_required(at.field("name"), text(variable, "name"), names::environment_name);
        if let Some(source) = given(variable, "valueFrom") {
            value_from(problems, &at.field("valueFrom"), source, !text(variable, "value").is_empty());
        }
    }
    let from = at.field("envFrom");
    for (index, source) in list(container, "envFrom").iter().enumerate() {
        let whole = &from;
        let at = from.index(index);
        problems.check_optional(at.field("prefix"), text(source, "prefix"), names::environment_name);
        let mut sources = 0;
        for key in ["configMapRef", "secretRef"] {
            if let Some(reference) = given(source, key) {
                sources += 1;
                let at = at.field(key);
                let name = text(reference, "name");
                if name.is_empty() {
                    problems.required(at.field("name"), "");
                } else {
                    // Upstream asks of a reference what it asks of a generated name's stem.
                    for why in names::NameRule::DnsSubdomain.check(name, true) {
                        problems.invalid(at.field("name"), name, &why);
                    }
                }
            }
        }
        match sources {
            0 => problems.invalid(whole, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => problems.invalid(whole, "", "may not have more than one field specified at a time"),
        }
    }
}

fn value_from(problems: &mut Problems, at: &Path<'_>, source: &Value, has_value: bool) {
    let mut sources = 0;
    if let Some(reference) = given(source, "fieldRef") {
        sources += 1;
        downward::field(problems, &at.field("fieldRef"), reference, &FIELDS);
    }
    if let Some(reference) = given(source, "resourceFieldRef") {
        sources += 1;
        downward::resource(problems, &at.field("resourceFieldRef"), reference, false);
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(reference) = given(source, key) {
            sources += 1;
            let at = at.field(key);
            problems.check(at.field("name"), text(reference, "name"), names::dns1123_subdomain);
            problems.check_required(at.field("key"), text(reference, "key"), names::config_map_key);
        }
    }
    if let Some(reference) = given(source, "fileKeyRef") {
        sources += 1;
        let at = at.field("fileKeyRef");
        problems.check_required(at.field("key"), text(reference, "key"), names::environment_name);
        problems.check_required(at.field("volumeName"), text(reference, "volumeName"), names::dns1123_label);
        let path = text(reference, "path");
        if path.is_empty() {
            problems.required(at.field("path"), "");
        } else {
            paths::no_backsteps(problems, at.field("path"), path);
        }
    }
    if sources == 0 {
        let why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        problems.invalid(at, "", why);
    } else if has_value {
        problems.invalid(at, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        problems.invalid(at, "", "may not have more than one field specified at a time");
    }
}
