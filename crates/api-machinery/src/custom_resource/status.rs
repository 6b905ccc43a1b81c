//! Which names of a definition are accepted, and the conditions that say so (upstream's naming, establishing and
//! approval controllers, as one pure step).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Names that the definitions of a group have been given already.
#[derive(Clone, Debug, Default)]
pub struct NamesInUse {
    /// Plurals, singulars and short names.
    pub resources: BTreeSet<String>,
    /// Kinds and list kinds.
    pub kinds: BTreeSet<String>,
}

impl NamesInUse {
    /// Adds a definition's accepted names.
    pub fn add(&mut self, accepted: &Value) {
        let texts = |key: &str| match &accepted[key] {
            Value::String(text) if !text.is_empty() => vec![text.clone()],
            Value::Array(list) => list.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        for key in ["plural", "singular", "shortNames"] {
            self.resources.extend(texts(key));
        }
        for key in ["kind", "listKind"] {
            self.kinds.extend(texts(key));
        }
    }
}

/// Accepts a definition's names as far as nobody else has them, and sets the conditions NamesAccepted, Established and
/// KubernetesAPIApprovalPolicyConformant. `now` is RFC 3339. Twice is the same as once.
pub fn accept(definition: &mut Value, in_use: &NamesInUse, now: &str) {
    let wanted = definition["spec"]["names"].clone();
    let mut accepted = definition["status"]["acceptedNames"].as_object().cloned().unwrap_or_default();
    let refused = take_names(&wanted, &mut accepted, in_use);
    let (status, reason, message) = match &refused {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", *reason, message.clone()),
    };
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    definition["status"]["acceptedNames"] = Value::Object(accepted);
    set_condition(definition, "NamesAccepted", status, reason, &message, now);
    if !is_true(definition, "Established") {
        if refused.is_none() {
            let message = "the initial names have been accepted";
            set_condition(definition, "Established", "True", "InitialNamesAccepted", message, now);
        } else if condition(definition, "Established").is_none() {
            set_condition(
                definition,
                "Established",
                "False",
                "NotAccepted",
                "not all names are accepted",
                now,
            );
        }
    }
    if let Some((state, reason)) = approval(definition) {
        let (status, why) = match state {
            Approval::Missing => ("False", "MissingAnnotation"),
            Approval::Invalid => ("False", "InvalidAnnotation"),
            Approval::Bypassed => ("False", "UnapprovedAnnotation"),
            Approval::Approved => ("True", "ApprovedAnnotation"),
        };
        set_condition(definition, "KubernetesAPIApprovalPolicyConformant", status, why, &reason, now);
    }
}

/// Whether what [`accept`] would say is said already.
#[must_use]
pub fn is_settled(definition: &Value, in_use: &NamesInUse) -> bool {
    let mut settled = definition.clone();
    accept(&mut settled, in_use, "");
    settled["status"] == definition["status"]
}

/// Takes over the wanted names that are free; the last conflict found, as upstream reports it.
fn take_names(
    wanted: &Value,
    accepted: &mut Map<String, Value>,
    in_use: &NamesInUse,
) -> Option<(&'static str, String)> {
    let mut refused = None;
    let single =
        |key: &str, reason: &'static str, used: &BTreeSet<String>, accepted: &mut Map<String, Value>| {
            let name = wanted[key].as_str().unwrap_or_default();
            let own = accepted.get(key).and_then(Value::as_str).unwrap_or_default();
            if name != own && used.contains(name) {
                return Some((reason, in_use_already(name)));
            }
            accepted.insert(key.to_owned(), json!(name));
            None
        };
    for (key, reason) in [("plural", "PluralConflict"), ("singular", "SingularConflict")] {
        refused = single(key, reason, &in_use.resources, accepted).or(refused);
    }
    refused = short_names(wanted, accepted, in_use).or(refused);
    for (key, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        refused = single(key, reason, &in_use.kinds, accepted).or(refused);
    }
    replace(accepted, "categories", &wanted["categories"]);
    refused
}

fn short_names(
    wanted: &Value,
    accepted: &mut Map<String, Value>,
    in_use: &NamesInUse,
) -> Option<(&'static str, String)> {
    let own = accepted.get("shortNames").cloned().unwrap_or_default();
    let is_own = |name: &str| own.as_array().is_some_and(|list| list.iter().any(|each| each == name));
    let names = wanted["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let taken: Vec<String> =
        names.filter(|name| !is_own(name) && in_use.resources.contains(*name)).map(in_use_already).collect();
    match taken.as_slice() {
        [] => {
            replace(accepted, "shortNames", &wanted["shortNames"]);
            None
        }
        [one] => Some(("ShortNamesConflict", one.clone())),
        several => Some(("ShortNamesConflict", format!("[{}]", several.join(", ")))),
    }
}

fn in_use_already(name: &str) -> String {
    format!("{} is already in use", crate::field_path::quote(name))
}

fn replace(map: &mut Map<String, Value>, key: &str, value: &Value) {
    if value.is_null() {
        map.remove(key);
    } else {
        map.insert(key.to_owned(), value.clone());
    }
}

/// A condition of a definition.
#[must_use]
pub fn condition<'v>(definition: &'v Value, kind: &str) -> Option<&'v Value> {
    definition["status"]["conditions"].as_array()?.iter().find(|each| each["type"] == kind)
}

/// Whether a condition is true.
#[must_use]
pub fn is_true(definition: &Value, kind: &str) -> bool {
    condition(definition, kind).is_some_and(|condition| condition["status"] == "True")
}

/// Sets a condition; its lastTransitionTime changes with its status only.
pub fn set_condition(
    definition: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: &str,
) {
    let mut since = now.to_owned();
    if let Some(old) = condition(definition, kind)
        && old["status"] == status
        && let Some(time) = old["lastTransitionTime"].as_str()
    {
        time.clone_into(&mut since);
    }
    let new = json!({
        "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
    });
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    let conditions = &mut definition["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(list) = conditions.as_array_mut() {
        match list.iter_mut().find(|each| each["type"] == kind) {
            Some(old) => *old = new,
            None => list.push(new),
        }
    }
}

/// What the `api-approved.kubernetes.io` annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    /// It is not there.
    Missing,
    /// It is neither a URL nor a known opt-out.
    Invalid,
    /// `unapproved…`: deliberately without approval.
    Bypassed,
    /// The URL of the review.
    Approved,
}

/// The annotation that protected groups need.
pub const APPROVED_ANNOTATION: &str = "api-approved.kubernetes.io";

/// The approval of a definition in a protected group (`*.k8s.io`, `*.kubernetes.io`) and why; `None` for other groups.
#[must_use]
pub fn approval(definition: &Value) -> Option<(Approval, String)> {
    let group = definition["spec"]["group"].as_str()?;
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|own| group == *own || group.strip_suffix(own).is_some_and(|rest| rest.ends_with('.')));
    if !protected {
        return None;
    }
    let annotation = definition["metadata"]["annotations"][APPROVED_ANNOTATION].as_str().unwrap_or_default();
    Some(match annotation {
        "" => (
            Approval::Missing,
            format!(
                "protected groups must have approval annotation {}, see https://github.com/kubernetes/enhancements/pull/1111",
                crate::field_path::quote(APPROVED_ANNOTATION)
            ),
        ),
        text if text.starts_with("unapproved") => {
            (Approval::Bypassed, format!("not approved: {}", crate::field_path::quote(text)))
        }
        text if is_url(text) => (Approval::Approved, format!("approved in {text}")),
        _ => (
            Approval::Invalid,
            format!(
                "protected groups must have approval annotation {} with either a URL or a reason starting with \
                 \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
                crate::field_path::quote(APPROVED_ANNOTATION)
            ),
        ),
    })
}

fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split('/').next().unwrap_or_default();
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric()) && !host.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widgets(short: &str) -> Value {
        json!({ "spec": { "group": "example.com",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList",
                "shortNames": [short] } } })
    }

    #[test]
    fn free_names_are_accepted_and_the_definition_is_established() {
        let mut definition = widgets("wd");
        accept(&mut definition, &NamesInUse::default(), "2026-01-01T00:00:00Z");
        assert!(is_true(&definition, "NamesAccepted") && is_true(&definition, "Established"));
        assert_eq!(definition["status"]["acceptedNames"], definition["spec"]["names"]);
        assert!(is_settled(&definition, &NamesInUse::default()));
    }

    #[test]
    fn a_name_of_another_is_refused_by_name() {
        let mut in_use = NamesInUse::default();
        in_use.add(&json!({ "plural": "others", "shortNames": ["wd"], "kind": "Other" }));
        let mut definition = widgets("wd");
        accept(&mut definition, &in_use, "2026-01-01T00:00:00Z");
        let refused = condition(&definition, "NamesAccepted").unwrap();
        assert_eq!(refused["reason"], "ShortNamesConflict");
        assert_eq!(refused["message"], "\"wd\" is already in use");
        assert_eq!(condition(&definition, "Established").unwrap()["reason"], "NotAccepted");
        accept(&mut definition, &NamesInUse::default(), "2026-01-02T00:00:00Z");
        assert!(is_true(&definition, "Established"), "the name was given back");
    }

    #[test]
    fn an_established_definition_stays_so_when_a_new_name_is_refused() {
        let mut definition = widgets("wd");
        accept(&mut definition, &NamesInUse::default(), "2026-01-01T00:00:00Z");
        definition["spec"]["names"]["shortNames"] = json!(["xx"]);
        let mut in_use = NamesInUse::default();
        in_use.add(&json!({ "shortNames": ["xx"] }));
        accept(&mut definition, &in_use, "2026-01-02T00:00:00Z");
        assert!(is_true(&definition, "Established") && !is_true(&definition, "NamesAccepted"));
        assert_eq!(definition["status"]["acceptedNames"]["shortNames"], json!(["wd"]));
    }

    #[test]
    fn protected_groups_need_their_annotation() {
        for (annotation, wanted) in [
            ("", Approval::Missing),
            ("https://github.com/kubernetes/kubernetes/pull/1", Approval::Approved),
            ("unapproved, experimental", Approval::Bypassed),
            ("yes", Approval::Invalid),
        ] {
            let definition = json!({ "metadata": { "annotations": { APPROVED_ANNOTATION: annotation } },
                "spec": { "group": "x.k8s.io" } });
            assert_eq!(approval(&definition).unwrap().0, wanted, "{annotation}");
        }
        assert_eq!(approval(&json!({ "spec": { "group": "notk8s.io" } })), None);
    }
}
