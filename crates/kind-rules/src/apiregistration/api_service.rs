//! `APIService`.

use api_machinery::names;
use serde_json::Value;

use crate::checks::{columns, each};
use crate::columns::age;
use crate::json::{default, existing, integer, list, present, text, truth};
use crate::names::NameRule;
use crate::path::Path;
use crate::problems::quoted;
use crate::rules::KindRules;
use crate::storage::keep_metadata;

/// `apiregistration.k8s.io/v1.APIService`.
pub const API_SERVICE: KindRules = KindRules {
    names: NameRule::PathSegment,
    defaults: |object| {
        if let Some(service) = existing(object, "spec").and_then(|spec| existing(spec, "service")) {
            default(service, "port", 443);
        }
    },
    prepare_status: keep_metadata,
    validate: |problems, object| {
        let (spec, at) = (&object["spec"], Path::new("spec"));
        let (group, version) = (text(spec, "group"), text(spec, "version"));
        let (name, wanted) = (text(&object["metadata"], "name"), format!("{version}.{group}"));
        if !name.is_empty() && names::path_segment(name).is_empty() && name != wanted {
            let detail = format!("must be `spec.version+\".\"+spec.group`: {}", quoted(&wanted));
            problems.invalid("metadata.name", name, &detail);
        }
        if group.is_empty() {
            if version != "v1" {
                let detail = "only v1 may have an empty group and it better be legacy kube";
                problems.required(at.field("group"), detail);
            }
        } else {
            each(problems, at.field("group"), group, names::dns1123_subdomain(group));
        }
        each(problems, at.field("version"), version, names::dns1035_label(version));
        for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
            let priority = integer(spec, key);
            if !(1..=most).contains(&priority) {
                let detail = format!("must be positive and less than {most}");
                problems.invalid(at.field(key), priority, &detail);
            }
        }
        let (bundle, insecure) = (text(spec, "caBundle"), truth(spec, "insecureSkipTLSVerify"));
        if !present(spec, "service") {
            if !bundle.is_empty() {
                let shown = format!("{} bytes", bytes_of(bundle));
                problems.invalid(at.field("caBundle"), shown, "local APIServices may not have a caBundle");
            }
            if insecure {
                let detail = "local APIServices may not have insecureSkipTLSVerify";
                problems.invalid(at.field("insecureSkipTLSVerify"), true, detail);
            }
            return;
        }
        let (service, service_at) = (&spec["service"], at.field("service"));
        for key in ["namespace", "name"] {
            if text(service, key).is_empty() {
                problems.required(service_at.field(key), "");
            }
        }
        let port = integer(service, "port");
        if !(1..=65_535).contains(&port) {
            let detail = "port is not valid: must be between 1 and 65535, inclusive";
            problems.invalid(service_at.field("port"), port, detail);
        }
        if insecure && !bundle.is_empty() {
            let detail = "may not be true if caBundle is present";
            problems.invalid(at.field("insecureSkipTLSVerify"), true, detail);
        }
    },
    validate_status: |problems, object, _| {
        let at = Path::new("status.conditions");
        for (index, condition) in list(&object["status"], "conditions").iter().enumerate() {
            let status = text(condition, "status");
            let known = ["True", "False", "Unknown"];
            if !known.contains(&status) {
                problems.unsupported_of(at.index(index).field("status"), status, &known);
            }
        }
    },
    counts_generation: false,
    unconditional_update: false,
    columns: || columns(&["Service", "Available", "Age"]),
    cells: |object, now| {
        let service = &object["spec"]["service"];
        let shown = if service.is_object() {
            format!("{}/{}", text(service, "namespace"), text(service, "name"))
        } else {
            "Local".to_owned()
        };
        vec![shown.into(), availability(object).into(), age(object, now)]
    },
    ..KindRules::NEW
};

/// How many bytes base64 stands for.
fn bytes_of(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

fn availability(object: &Value) -> String {
    let available = |condition: &&Value| text(condition, "type") == "Available";
    let Some(condition) = list(&object["status"], "conditions").iter().find(available) else {
        return "Unknown".to_owned();
    };
    match (text(condition, "status"), text(condition, "reason")) {
        ("True", _) => "True".to_owned(),
        (status, "") => status.to_owned(),
        (status, reason) => format!("{status} ({reason})"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::findings;

    #[test]
    fn bad_services_are_refused_where_upstream_refuses_them() {
        let spec = json!({"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1});
        let of = |name: &str, key: &str, value: Value| {
            let mut object = json!({"metadata": {"name": name}, "spec": spec});
            object["spec"][key] = value;
            object
        };
        for (object, wanted) in [
            (
                of("x", "group", json!("a.b")),
                "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.a.b\"",
            ),
            (
                of("v1.a.b", "versionPriority", json!(0)),
                "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
            ),
            (
                of("v1.a.b", "caBundle", json!("YWJj")),
                "spec.caBundle: Invalid value: \"3 bytes\": local APIServices may not have a caBundle",
            ),
            (
                of("v1.a.b", "service", json!({"name": "s", "namespace": "n", "port": 0})),
                "spec.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive",
            ),
        ] {
            assert_eq!(findings(&API_SERVICE, &object), [wanted]);
        }
    }
}
