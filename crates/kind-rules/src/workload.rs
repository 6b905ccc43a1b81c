//! What workloads share: a selector that never changes, a pod template whose labels it selects, counts, percentages.

use std::fmt::Display;

use serde_json::{Value, json};

use crate::columns::Column;
use crate::json::{existing, given, integer, number, remove, set, text};
use crate::names::{self, percent};
use crate::path::Path;
use crate::pod_spec::{self, Template, default_template, validate_template};
use crate::problems::{NOT_NEGATIVE, Problems};

/// The wide columns of every workload; `kind` is the type whose selector the last one describes.
pub(crate) fn wide_columns(kind: &'static str) -> [Column; 3] {
    let [containers, images] = container_columns();
    [containers, images, Column::described("Selector", kind, "selector").in_wide()]
}

/// Names and images of a template's containers.
pub(crate) fn container_columns() -> [Column; 2] {
    [
        Column::wide("Containers").saying("Names of each container in the template."),
        Column::wide("Images").saying("Images referenced by each container in the template."),
    ]
}

/// Defaults in `spec`, the template's included.
pub(crate) fn in_spec(object: &mut Value, fill: impl FnOnce(&mut Value)) {
    if let Some(spec) = existing(object, "spec") {
        fill(spec);
        default_template(spec);
    }
}

/// A new workload has no status, and nothing of features that are off.
pub(crate) fn prepare_create(object: &mut Value) {
    set(object, "status", json!({}));
    drop_disabled(object, &Value::Null);
}

/// The same, with a status that counts nothing yet.
pub(crate) fn prepare_counted(object: &mut Value, counts: &[&str]) {
    prepare_create(object);
    let counts = counts.iter().map(|key| ((*key).to_owned(), Value::from(0)));
    set(object, "status", Value::Object(counts.collect()));
}

/// An update keeps the status.
pub(crate) fn prepare_update(object: &mut Value, old: &Value) {
    drop_disabled(object, old);
}

fn drop_disabled(object: &mut Value, old: &Value) {
    let template = existing(object, "spec").and_then(|spec| existing(spec, "template"));
    if let Some(spec) = template.and_then(|template| existing(template, "spec")) {
        pod_spec::drop_disabled(spec, &old["spec"]["template"]["spec"]);
    }
}

/// A label selector that must be there and say something.
pub(crate) fn selector(problems: &mut Problems, spec: &Value, what: &str) {
    let at = Path::new("spec.selector");
    match given(spec, "selector") {
        None => problems.required(at, ""),
        Some(selector) => {
            names::selector(problems, &at, selector);
            if names::is_empty_selector(selector) {
                problems.invalid(at, selector, &format!("empty selector is invalid for {what}"));
            }
        }
    }
}

/// Whether a selector can be turned into a query at all; if not, upstream says so and looks no further.
pub(crate) fn is_usable(selector: &Value) -> bool {
    let mut problems = Problems::default();
    names::selector(&mut problems, "", selector);
    problems.is_empty()
}

/// A template at `at` that `selector` has to match, of pods that are always restarted (upstream's
/// `ValidatePodTemplateSpecForReplicaSet`); `controller` is named in the message.
pub(crate) fn template(
    problems: &mut Problems,
    at: &Path<'_>,
    spec: &Value,
    old: Option<&Value>,
    controller: &str,
) {
    let template = &spec["template"];
    selected(problems, at, &spec["selector"], template);
    let old = old.map(|old| &old["template"]);
    validate_template(problems, at, template, Template { old });
    Template::restart_policy(problems, at, template, &["Always"]);
    Template::no_deadline(problems, at, template, controller);
}

/// The template's labels have to be what the selector selects.
pub(crate) fn selected(problems: &mut Problems, at: &Path<'_>, selector: &Value, template: &Value) {
    let labels = &template["metadata"]["labels"];
    // No selector at all selects nothing.
    if selector.is_null() || (!names::is_empty_selector(selector) && !names::matches(selector, labels)) {
        let at = at.field("metadata");
        let why = "`selector` does not match template `labels`";
        problems.invalid(at.field("labels"), template["metadata"].get("labels"), why);
    }
}

/// Integers of `holder` that must not be negative.
pub(crate) fn counts(problems: &mut Problems, at: &Path<'_>, holder: &Value, keys: &[&str]) {
    for key in keys {
        if let Some(count) = number(holder, key).filter(|count| *count < 0) {
            problems.invalid(at.field(key), count, NOT_NEGATIVE);
        }
    }
}

/// Counts of a status that must not exceed another.
pub(crate) fn at_most(problems: &mut Problems, status: &Value, keys: &[&str], bound: &str, why: &str) {
    let at = Path::new("status");
    for key in keys {
        let count = integer(status, key);
        if count > integer(status, bound) {
            problems.invalid(at.field(key), count, why);
        }
    }
}

/// `status.collisionCount` only grows.
pub(crate) fn not_decremented(problems: &mut Problems, object: &Value, old: &Value) {
    let count = |object: &Value| number(&object["status"], "collisionCount");
    if let Some(before) = count(old)
        && count(object).is_none_or(|now| now < before)
    {
        problems.invalid("status.collisionCount", count(object).unwrap_or_default(), "cannot be decremented");
    }
}

/// The selector of an existing workload.
pub(crate) fn same_selector(problems: &mut Problems, object: &Value, old: &Value) {
    if !crate::json::same_field(&object["spec"], &old["spec"], "selector") {
        problems.invalid("spec.selector", object["spec"].get("selector"), crate::problems::IMMUTABLE);
    }
}

/// A number that is not negative, or a percentage (upstream's `ValidatePositiveIntOrPercent`).
pub(crate) fn int_or_percent(problems: &mut Problems, at: impl Display, value: &Value) {
    match value {
        Value::String(text) => {
            for why in percent(text) {
                problems.invalid(&at, text, &why);
            }
        }
        value => {
            let count = value.as_i64().unwrap_or_default();
            if count < 0 {
                problems.invalid(at, count, NOT_NEGATIVE);
            }
        }
    }
}

/// The number in a count or percentage; what is neither counts as the number it begins with, or none.
pub(crate) fn count_of(value: &Value) -> i64 {
    match value {
        Value::String(text) => text.strip_suffix('%').unwrap_or(text).parse().unwrap_or_default(),
        value => value.as_i64().unwrap_or_default(),
    }
}

/// A percentage beyond the whole.
pub(crate) fn at_most_all(problems: &mut Problems, at: impl Display, value: &Value) {
    if let Value::String(text) = value
        && percent(text).is_empty()
        && count_of(value) > 100
    {
        problems.invalid(at, text, "must not be greater than 100%");
    }
}

/// Warnings of a workload: about its name where pods are named after it, and about its template when that is new.
pub(crate) fn warnings(object: &Value, old: Option<&Value>, names_pods: bool) -> Vec<String> {
    let mut found = Vec::new();
    if old.is_none() && names_pods {
        found.extend(name_warning(object));
    }
    let changed = old.is_none_or(|old| !crate::json::same(&object["spec"], &old["spec"]));
    if changed {
        found.extend(pod_spec::warnings(&Path::new("spec.template"), &object["spec"]["template"], true));
    }
    found
}

/// What is said of a name that makes odd host names.
pub(crate) fn name_warning(object: &Value) -> Option<String> {
    let odd = names::dns1123_label(text(&object["metadata"], "name"));
    (!odd.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
            odd.join(" ")
        )
    })
}

/// Takes a field out unless the old object has it.
pub(crate) fn drop_unless_used(holder: &mut Value, old: &Value, key: &str) {
    if given(old, key).is_none() {
        remove(holder, key);
    }
}
