//! Reviews of `authorization.k8s.io`: what a question has to look like.

use serde_json::Value;

use crate::checks::each;
use crate::json::{list, present, text};
use crate::names;
use crate::path::Path;
use crate::problems::{Problems, Verbatim, go_form};

/// Whose access a review asks about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Review {
    /// SubjectAccessReview.
    Subject,
    /// SelfSubjectAccessReview.
    Oneself,
    /// LocalSubjectAccessReview.
    Local,
}

/// What is wrong with a review.
pub fn validate(problems: &mut Problems, review: &Value, kind: Review) {
    let (spec, at) = (&review["spec"], Path::new("spec"));
    let (resource, path) = (present(spec, "resourceAttributes"), present(spec, "nonResourceAttributes"));
    let path_form =
        go_form(&spec["nonResourceAttributes"], &[("path", "Path", "\"\""), ("verb", "Verb", "\"\"")]);
    if resource && path {
        let detail = "cannot be specified in combination with resourceAttributes";
        problems.invalid(at.field("nonResourceAttributes"), Verbatim(&path_form), detail);
    }
    if !resource && !path {
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        problems.invalid(at.field("resourceAttributes"), &Value::Null, detail);
    }
    if kind != Review::Oneself && text(spec, "user").is_empty() && list(spec, "groups").is_empty() {
        problems.invalid(at.field("user"), "", "at least one of user or group must be specified");
    }
    let attributes_at = at.field("resourceAttributes");
    for key in ["fieldSelector", "labelSelector"] {
        if present(&spec["resourceAttributes"], key) {
            selector(
                problems,
                &attributes_at.field(key),
                &spec["resourceAttributes"][key],
                key == "labelSelector",
            );
        }
    }
    metadata(problems, review, kind);
    if kind == Review::Local {
        let (own, asked) =
            (text(&review["metadata"], "namespace"), text(&spec["resourceAttributes"], "namespace"));
        if resource && own != asked {
            problems.invalid(attributes_at.field("namespace"), asked, "must match metadata.namespace");
        }
        if path {
            let detail = "disallowed on this kind of request";
            problems.invalid(at.field("nonResourceAttributes"), Verbatim(&path_form), detail);
        }
    }
}

fn metadata(problems: &mut Problems, review: &Value, kind: Review) {
    let said = |(key, value): (&String, &Value)| {
        let empty = match value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        !empty && key != "managedFields" && !(key == "namespace" && kind == Review::Local)
    };
    if review["metadata"].as_object().is_some_and(|metadata| metadata.iter().any(said)) {
        let detail =
            if kind == Review::Local { "must be empty except for namespace" } else { "must be empty" };
        problems.invalid("metadata", &review["metadata"], detail);
    }
}

fn selector(problems: &mut Problems, at: &Path<'_>, own: &Value, labels: bool) {
    let (raw, requirements) = (text(own, "rawSelector"), list(own, "requirements"));
    if !raw.is_empty() && !requirements.is_empty() {
        let detail = "may not specified at the same time as requirements";
        problems.invalid(at.field("rawSelector"), raw, detail);
    }
    if raw.is_empty() && requirements.is_empty() {
        let detail = format!("when {at} is specified, requirements or rawSelector is required");
        problems.required(at.field("requirements"), &detail);
    }
    for (index, own) in requirements.iter().enumerate() {
        let all = at.field("requirements");
        requirement(problems, &all.index(index), own, labels);
    }
}

/// Operators of newer clients pass: they are not understood, and narrow nothing.
fn requirement(problems: &mut Problems, at: &Path<'_>, own: &Value, labels: bool) {
    let key = text(own, "key");
    if !labels && key.is_empty() {
        problems.required(at.field("key"), "must be specified");
    }
    let values = list(own, "values");
    match text(own, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            problems.required(at.field("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => problems.forbidden(
            at.field("values"),
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        _ => {}
    }
    if labels {
        each(problems, at.field("key"), key, names::qualified_name(key));
        for (index, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            each(problems, at.field("values").index(index), value, names::label_value(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_review_asks_exactly_one_thing_about_somebody() {
        let found = |review: Value, kind: Review| {
            let mut problems = Problems::default();
            validate(&mut problems, &review, kind);
            problems.into_causes().into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        let one = json!({"spec": {"resourceAttributes": {"verb": "get"}}});
        assert!(found(one.clone(), Review::Oneself).is_empty());
        assert_eq!(found(one, Review::Subject), ["spec.user"]);
        assert_eq!(found(json!({"spec": {}}), Review::Oneself), ["spec.resourceAttributes"]);
        let local = json!({"metadata": {"namespace": "n"}, "spec": {"user": "u", "resourceAttributes": {"namespace": "m"}}});
        assert_eq!(found(local, Review::Local), ["spec.resourceAttributes.namespace"]);
        let named = json!({"metadata": {"name": "n"}, "spec": {"nonResourceAttributes": {}}});
        assert_eq!(found(named, Review::Oneself), ["metadata"]);
    }
}
