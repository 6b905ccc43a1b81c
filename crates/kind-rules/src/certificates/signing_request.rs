//! `CertificateSigningRequest`. Whether its request is one is checked by who can read certificates.

use jiff::Timestamp;
use serde_json::Value;

use crate::checks::{columns, signer_name};
use crate::columns::{age, human_duration};
use crate::json::{default, integer, list, list_mut, present, text};
use crate::names::NameRule;
use crate::path::Path;
use crate::problems::{Problems, quoted};
use crate::rules::{KindRules, or};

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// Conditions that are decisions, and final.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

/// `certificates.k8s.io/v1.CertificateSigningRequest`.
pub const CERTIFICATE_SIGNING_REQUEST: KindRules = KindRules {
    names: NameRule::Any,
    validate: |problems, object| validate(problems, object, None),
    validates_updates: false,
    validate_update: |problems, object, old| validate_update(problems, object, old, Part::Whole),
    validate_status: |problems, object, old| validate_update(problems, object, old, Part::Status),
    counts_generation: false,
    selectable: &["spec.signerName"],
    columns: || columns(&["Age", "SignerName", "Requestor", "RequestedDuration", "Condition"]),
    cells: |object, now| {
        let spec = &object["spec"];
        let asked =
            spec["expirationSeconds"].as_i64().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let asked = asked.map_or("<none>".to_owned(), |end| human_duration(Timestamp::UNIX_EPOCH, end));
        vec![
            age(object, now),
            or(text(spec, "signerName"), "<none>"),
            text(spec, "username").into(),
            asked.into(),
            state(object).into(),
        ]
    },
    ..KindRules::NEW
};

/// Which part of a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The object itself: metadata, in truth.
    Whole,
    /// `approval`: its conditions.
    Approval,
    /// `status`: certificate and other conditions.
    Status,
}

fn conditions(object: &Value) -> &[Value] {
    list(&object["status"], "conditions")
}

fn of_type<'v>(object: &'v Value, kind: &str) -> Vec<&'v Value> {
    conditions(object).iter().filter(|condition| text(condition, "type") == kind).collect()
}

fn state(object: &Value) -> String {
    let holds = |kind: &str| !of_type(object, kind).is_empty();
    let mut state = match (holds("Denied"), holds("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }
    .to_owned();
    if holds("Failed") {
        state.push_str(",Failed");
    }
    if !text(&object["status"], "certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

/// A status writer's decisions stay what they were (upstream's `preserveConditionInstances`); adding or removing some
/// is left to be refused.
pub fn preserve_decisions(object: &mut Value, old: &Value) {
    for kind in DECISIONS {
        let before: Vec<Value> = of_type(old, kind).into_iter().cloned().collect();
        if before.len() != of_type(object, kind).len() {
            continue;
        }
        let Some(status) = crate::json::existing(object, "status") else { return };
        let now = list_mut(status, "conditions").iter_mut().filter(|own| text(own, "type") == kind);
        now.zip(before).for_each(|(now, before)| *now = before);
    }
}

/// Gives conditions without times the moment `now` (RFC 3339); a transition that was none keeps its old time.
pub fn populate_condition_times(object: &mut Value, old: &Value, now: &str) {
    let Some(status) = crate::json::existing(object, "status") else { return };
    for condition in list_mut(status, "conditions") {
        let same = |before: &&Value| {
            ["type", "status"].iter().all(|key| text(before, key) == text(condition, key))
                && !text(before, "lastTransitionTime").is_empty()
        };
        let since =
            conditions(old).iter().find(same).map(|before| text(before, "lastTransitionTime").to_owned());
        default(condition, "lastUpdateTime", now);
        default(condition, "lastTransitionTime", since.unwrap_or_else(|| now.to_owned()));
    }
}

/// What is wrong with a step.
pub fn validate_update(problems: &mut Problems, object: &Value, old: &Value, part: Part) {
    validate(problems, object, Some(old));
    let at = Path::new("status.conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        if of_type(object, kind).len() < of_type(old, kind).len() {
            problems.forbidden(at, &format!("updates may not remove a condition of type {}", quoted(kind)));
        }
    }
    if part != Part::Approval {
        for kind in DECISIONS {
            let (new, before) = (of_type(object, kind), of_type(old, kind));
            if new.len() > before.len() {
                problems.forbidden(at, &format!("updates may not add a condition of type {}", quoted(kind)));
            } else if new.len() == before.len() && new != before {
                problems
                    .forbidden(at, &format!("updates may not modify a condition of type {}", quoted(kind)));
            }
        }
    }
    let certificate = |object: &Value| text(&object["status"], "certificate").to_owned();
    if certificate(object) != certificate(old) {
        if part != Part::Status {
            problems.forbidden("status.certificate", "updates may not set certificate content");
        } else if !certificate(old).is_empty() {
            problems.forbidden("status.certificate", "updates may not modify existing certificate content");
        }
    }
}

fn validate(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let (spec, at) = (&object["spec"], Path::new("spec"));
    usages(problems, &at, list(spec, "usages"), old);
    let signer = text(spec, "signerName");
    let was_legacy = old.is_some_and(|old| text(&old["spec"], "signerName") == LEGACY_SIGNER);
    if signer == LEGACY_SIGNER && !was_legacy {
        let detail = "the legacy signerName is not allowed via this API version";
        problems.invalid(at.field("signerName"), signer, detail);
    } else {
        signer_name(problems, at.field("signerName"), signer);
    }
    if present(spec, "expirationSeconds") && integer(spec, "expirationSeconds") < 600 {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        problems.invalid(at.field("expirationSeconds"), integer(spec, "expirationSeconds"), detail);
    }
    validate_conditions(problems, conditions(object), old);
}

fn repeats(list: &[Value], key: impl Fn(&Value) -> &Value) -> bool {
    list.iter().enumerate().any(|(index, own)| list[..index].iter().any(|earlier| key(earlier) == key(own)))
}

fn usages(problems: &mut Problems, at: &Path<'_>, all: &[Value], old: Option<&Value>) {
    let at = at.field("usages");
    let before = old.map(|old| list(&old["spec"], "usages")).unwrap_or_default();
    let known = |usage: &Value| USAGES.iter().any(|known| usage == known);
    if all.is_empty() {
        problems.required(at, "");
    }
    if before.iter().all(known) {
        for (index, usage) in all.iter().enumerate().filter(|(_, usage)| !known(usage)) {
            problems.unsupported(at.index(index), usage, &USAGES);
        }
    }
    if !repeats(before, |usage| usage) {
        for (index, usage) in all.iter().enumerate() {
            if all[..index].contains(usage) {
                problems.duplicate(at.index(index), usage);
            }
        }
    }
}

fn validate_conditions(problems: &mut Problems, all: &[Value], old: Option<&Value>) {
    let at = Path::new("status.conditions");
    let before = old.map(conditions).unwrap_or_default();
    let had = |kind: &str| before.iter().any(|condition| text(condition, "type") == kind);
    let (mut approved, mut denied) = (false, false);
    for (index, condition) in all.iter().enumerate() {
        let here = at.index(index);
        let (kind, status) = (text(condition, "type"), text(condition, "status"));
        if kind.is_empty() && !had("") {
            problems.required(here.field("type"), "");
        }
        let final_only = matches!(kind, "Approved" | "Denied" | "Failed");
        let allowed: &[&str] = if final_only { &["True"] } else { &["False", "True", "Unknown"] };
        if status.is_empty() {
            problems.required(here.field("status"), "");
        } else if !allowed.contains(&status) {
            problems.unsupported(here.field("status"), status, allowed);
        }
        approved |= kind == "Approved";
        denied |= kind == "Denied";
        let decides = DECISIONS.contains(&kind);
        if decides && approved && denied && !(had("Approved") && had("Denied")) {
            problems.invalid(at, kind, "Approved and Denied conditions are mutually exclusive");
        }
        let repeated = all[..index].iter().any(|earlier| text(earlier, "type") == kind);
        if repeated && !repeats(before, |condition| &condition["type"]) {
            problems.duplicate(here.field("type"), kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{findings, status_findings, update_findings};

    fn request() -> Value {
        json!({"spec": {"usages": ["client auth"], "signerName": "a.b/c"}})
    }

    #[test]
    fn bad_requests_are_refused_where_upstream_refuses_them() {
        for (key, value, wanted) in [
            ("usages", json!([]), "spec.usages: Required value".to_owned()),
            ("usages", json!(["signing", "signing"]), "spec.usages[1]: Duplicate value: \"signing\"".to_owned()),
            ("signerName", json!("a"), "spec.signerName: Invalid value: \"a\": must be a fully qualified domain and path of the form 'example.com/signer-name'".to_owned()),
            ("signerName", json!(LEGACY_SIGNER), format!("spec.signerName: Invalid value: \"{LEGACY_SIGNER}\": the legacy signerName is not allowed via this API version")),
            ("expirationSeconds", json!(1), "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)".to_owned()),
        ] {
            let mut object = request();
            object["spec"][key] = value;
            assert_eq!(findings(&CERTIFICATE_SIGNING_REQUEST, &object), [wanted]);
        }
    }

    #[test]
    fn only_approval_decides_and_decisions_stay() {
        let mut approved = request();
        approved["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
        assert_eq!(
            status_findings(&CERTIFICATE_SIGNING_REQUEST, &approved, &request()),
            ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]
        );
        let mut problems = Problems::default();
        validate_update(&mut problems, &approved, &request(), Part::Approval);
        assert!(problems.is_empty());
        assert_eq!(
            update_findings(&CERTIFICATE_SIGNING_REQUEST, &request(), &approved),
            ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
        );
        let mut both = approved.clone();
        both["status"]["conditions"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "Denied", "status": "True"}));
        let mut problems = Problems::default();
        validate_update(&mut problems, &both, &approved, Part::Approval);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn conditions_get_times() {
        let old = json!({"status": {"conditions": [{"type": "A", "status": "True", "lastTransitionTime": "then"}]}});
        let mut new = json!({"status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}});
        populate_condition_times(&mut new, &old, "now");
        assert_eq!(new["status"]["conditions"][0]["lastTransitionTime"], "then");
        assert_eq!(new["status"]["conditions"][0]["lastUpdateTime"], "now");
        assert_eq!(new["status"]["conditions"][1]["lastTransitionTime"], "now");
        assert_eq!(
            state(&json!({"status": {"conditions": [{"type": "Approved"}], "certificate": "x"}})),
            "Approved,Issued"
        );
    }
}
