//! `ResourceClaim` and `ResourceClaimTemplate`.

use serde_json::Value;

use super::{CONFIG_MAX, REQUESTS_MAX, configuration, driver, items, selectors, unique};
use crate::checks::columns;
use crate::columns::age;
use crate::json::{default_text, existing, integer, list, list_mut, present, set, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;
use crate::storage::keep_metadata;

const CONSTRAINTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const RESERVED_MAX: usize = 256;
const NOT_A_REQUEST: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// `resource.k8s.io/v1.ResourceClaim`.
pub const RESOURCE_CLAIM: KindRules = KindRules {
    defaults: |object| {
        if let Some(spec) = existing(object, "spec") {
            default_requests(spec);
        }
    },
    prepare_status: keep_metadata,
    validate: |problems, object| claim_spec(problems, &Path::new("spec"), &object["spec"]),
    validates_updates: false,
    validate_update: |problems, object, old| {
        problems.immutable("spec", object.get("spec"), old.get("spec"));
    },
    validate_status: |problems, object, _| {
        let (status, at) = (&object["status"], Path::new("status"));
        let reserved = items(problems, &at, status, "reservedFor", RESERVED_MAX);
        for (index, own) in reserved.iter().enumerate() {
            let all = at.field("reservedFor");
            let here = all.index(index);
            for key in ["resource", "name", "uid"] {
                if text(own, key).is_empty() {
                    problems.required(here.field(key), "");
                }
            }
        }
        unique(problems, &at.field("reservedFor"), reserved, |own| text(own, "uid"));
        if !reserved.is_empty() && !present(status, "allocation") {
            let detail = "may not be specified when `allocated` is not set";
            problems.forbidden(at.field("reservedFor"), detail);
        }
    },
    counts_generation: false,
    columns: || columns(&["State", "Age"]),
    cells: |object, now| vec![state(object).into(), age(object, now)],
    ..KindRules::NEW
};

/// `resource.k8s.io/v1.ResourceClaimTemplate`.
pub const RESOURCE_CLAIM_TEMPLATE: KindRules = KindRules {
    defaults: |object| {
        if let Some(spec) = existing(object, "spec").and_then(|template| existing(template, "spec")) {
            default_requests(spec);
        }
    },
    validate: |problems, object| {
        let at = Path::new("spec.metadata");
        let metadata = &object["spec"]["metadata"];
        names::labels(problems, &at.field("labels"), metadata, "labels");
        crate::meta::annotations(problems, &at.field("annotations"), metadata);
        claim_spec(problems, &Path::new("spec.spec"), &object["spec"]["spec"]);
    },
    validates_updates: false,
    validate_update: |problems, object, old| {
        problems.immutable("spec", object.get("spec"), old.get("spec"));
    },
    ..KindRules::NEW
};

fn default_requests(spec: &mut Value) {
    let Some(devices) = existing(spec, "devices") else { return };
    for request in list_mut(devices, "requests") {
        if let Some(exactly) = existing(request, "exactly") {
            default_amount(exactly);
        }
        list_mut(request, "firstAvailable").iter_mut().for_each(default_amount);
    }
}

fn default_amount(request: &mut Value) {
    default_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" && integer(request, "count") == 0 {
        set(request, "count", 1);
    }
}

fn state(object: &Value) -> String {
    let deleted = present(&object["metadata"], "deletionTimestamp");
    let status = &object["status"];
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if present(status, "allocation") {
        states.push("allocated");
        if !list(status, "reservedFor").is_empty() {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",")
}

fn claim_spec(problems: &mut Problems, spec_at: &Path<'_>, spec: &Value) {
    let (devices, at) = (&spec["devices"], spec_at.field("devices"));
    let requests = items(problems, &at, devices, "requests", REQUESTS_MAX);
    let requests_at = at.field("requests");
    for (index, own) in requests.iter().enumerate() {
        request(problems, &requests_at.index(index), own);
    }
    unique(problems, &requests_at, requests, |own| text(own, "name"));
    for (index, own) in items(problems, &at, devices, "constraints", CONSTRAINTS_MAX).iter().enumerate() {
        let all = at.field("constraints");
        let here = all.index(index);
        references(problems, &here, own, requests);
        match (own["matchAttribute"].as_str(), own["distinctAttribute"].as_str()) {
            (Some(name), _) => attribute(problems, &here.field("matchAttribute"), name),
            (None, Some(name)) => attribute(problems, &here.field("distinctAttribute"), name),
            (None, None) => problems.required(
                here,
                "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            ),
        }
    }
    for (index, own) in items(problems, &at, devices, "config", CONFIG_MAX).iter().enumerate() {
        let all = at.field("config");
        let here = all.index(index);
        references(problems, &here, own, requests);
        configuration(problems, &here, own, false);
    }
}

fn request(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    problems.check(at.field("name"), text(own, "name"), names::dns1123_label);
    let one = "exactly one of `exactly` or `firstAvailable` is required";
    let alternatives = list(own, "firstAvailable");
    match (present(own, "exactly"), alternatives.is_empty()) {
        (false, true) => problems.required(at, one),
        (true, false) => problems.invalid(at, &Value::Null, &format!("{one}, but multiple fields are set")),
        (true, true) => device_request(problems, &at.field("exactly"), &own["exactly"]),
        (false, false) => {
            let here = at.field("firstAvailable");
            let all = items(problems, at, own, "firstAvailable", ALTERNATIVES_MAX);
            for (index, own) in all.iter().enumerate() {
                let here = here.index(index);
                problems.check(here.field("name"), text(own, "name"), names::dns1123_label);
                device_request(problems, &here, own);
            }
            unique(problems, &here, all, |own| text(own, "name"));
        }
    }
}

fn device_request(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    problems.check_required(
        at.field("deviceClassName"),
        text(own, "deviceClassName"),
        names::dns1123_subdomain,
    );
    selectors(problems, at, own);
    let count = integer(own, "count");
    match text(own, "allocationMode") {
        "All" if count != 0 => {
            problems.invalid(at.field("count"), count, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => problems.invalid(at.field("count"), count, "must be greater than zero"),
        "All" | "ExactCount" => {}
        other => problems.unsupported_of(at.field("allocationMode"), other, &["All", "ExactCount"]),
    }
    for (index, toleration) in list(own, "tolerations").iter().enumerate() {
        let all = at.field("tolerations");
        device_toleration(problems, &all.index(index), toleration);
    }
}

fn device_toleration(problems: &mut Problems, at: &Path<'_>, own: &Value) {
    problems.check_optional(at.field("key"), text(own, "key"), names::qualified_name);
    let value = text(own, "value");
    match text(own, "operator") {
        "Exists" if value.is_empty() => {}
        "Exists" => problems.invalid(at.field("value"), value, "must be empty for operator `Exists`"),
        "Equal" => problems.check(at.field("value"), value, names::label_value),
        "" => problems.required(at.field("operator"), ""),
        other => problems.unsupported_of(at.field("operator"), other, &["Equal", "Exists"]),
    }
    let effect = text(own, "effect");
    if !matches!(effect, "" | "None" | "NoExecute" | "NoSchedule") {
        problems.unsupported(at.field("effect"), effect, &["NoExecute", "NoSchedule", "None"]);
    }
}

/// Names of requests, which must be there.
fn references(problems: &mut Problems, at: &Path<'_>, own: &Value, requests: &[Value]) {
    let all = items(problems, at, own, "requests", REQUESTS_MAX);
    let at = at.field("requests");
    for (index, name) in all.iter().enumerate() {
        let name = name.as_str().unwrap_or_default();
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() > 2 {
            problems.invalid(at.index(index), name, NOT_A_REQUEST);
            continue;
        }
        for part in &parts {
            problems.check(at.index(index), part, names::dns1123_label);
        }
        let named = requests.iter().find(|request| text(request, "name") == parts[0]);
        let found = named.is_some_and(|request| {
            let alternatives = list(request, "firstAvailable");
            parts.get(1).is_none_or(|sub| alternatives.iter().any(|own| text(own, "name") == *sub))
        });
        if !found {
            problems.invalid(at.index(index), name, NOT_A_REQUEST);
        }
    }
    unique(problems, &at, all, |name| name.as_str().unwrap_or_default());
}

/// A device's attribute, `domain/identifier`.
fn attribute(problems: &mut Problems, at: &Path<'_>, name: &str) {
    match name.split('/').collect::<Vec<_>>()[..] {
        [id] => problems.check(at, id, names::c_identifier),
        [domain, id] => {
            if domain.is_empty() {
                problems.invalid(at, "", "the domain must not be empty");
            } else {
                driver(problems, at, domain);
            }
            if id.is_empty() {
                problems.invalid(at, "", "the name must not be empty");
            } else {
                problems.check(at, id, names::c_identifier);
            }
        }
        _ => {}
    }
    if !name.contains('/') {
        let detail = "a fully qualified name must be a domain and a name separated by a slash";
        problems.invalid(at, name, detail);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, update_findings};

    fn claim() -> Value {
        json!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}}})
    }

    #[test]
    fn requests_ask_for_one_device_unless_they_say_otherwise() {
        let mut object = claim();
        (RESOURCE_CLAIM.defaults)(&mut object);
        let exactly = &object["spec"]["devices"]["requests"][0]["exactly"];
        assert_eq!(*exactly, json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}));
        assert!(findings(&RESOURCE_CLAIM, &object).is_empty());
        assert_eq!(update_findings(&RESOURCE_CLAIM, &claim(), &object).len(), 1);
        assert_eq!(state(&object), "pending");
    }

    #[test]
    fn bad_claims_are_refused_where_upstream_refuses_them() {
        for (devices, wanted) in [
            (
                json!({"requests": [{"name": "r"}]}),
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
            ),
            (
                json!({"requests": [{"name": "r", "exactly": {"deviceClassName": ""}}]}),
                "spec.devices.requests[0].exactly.deviceClassName: Required value",
            ),
            (
                json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "All", "count": 1}}]}),
                "spec.devices.requests[0].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'",
            ),
            (
                json!({"constraints": [{"requests": ["x"], "matchAttribute": "a.b/c"}]}),
                &format!("spec.devices.constraints[0].requests[0]: Invalid value: \"x\": {NOT_A_REQUEST}"),
            ),
            (
                json!({"constraints": [{"matchAttribute": "c"}]}),
                "spec.devices.constraints[0].matchAttribute: Invalid value: \"c\": a fully qualified name must be a domain and a name separated by a slash",
            ),
        ] {
            let mut object = json!({"spec": {"devices": devices}});
            (RESOURCE_CLAIM.defaults)(&mut object);
            assert_eq!(findings(&RESOURCE_CLAIM, &object), [wanted]);
        }
    }
}
