//! Events, in whichever group they are written; rules see the stored form, core `v1`.

use api_machinery::names;
use jiff::Timestamp;
use serde_json::Value;

use crate::columns::{Column, human_duration};
use crate::json::{alike, integer, present, text};
use crate::problems::{IMMUTABLE, Problems, Verbatim, go_form};

/// Field selectors besides the metadata's.
pub const SELECTABLE: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// Greatest lengths in bytes.
const SHORT_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

/// An ObjectReference as upstream shows it.
const REFERENCE: [(&str, &str, &str); 7] = [
    ("kind", "Kind", "\"\""),
    ("namespace", "Namespace", "\"\""),
    ("name", "Name", "\"\""),
    ("uid", "UID", "\"\""),
    ("apiVersion", "APIVersion", "\"\""),
    ("resourceVersion", "ResourceVersion", "\"\""),
    ("fieldPath", "FieldPath", "\"\""),
];

/// Times that Go writes out as `null` when there are none.
pub fn default_times(event: &mut Value) {
    for key in ["eventTime", "firstTimestamp", "lastTimestamp"] {
        crate::json::default(event, key, Value::Null);
    }
}

/// The stored field that a label of a field selector means; the newer API has names of its own.
#[must_use]
pub fn field_label(label: &str, newer: bool) -> Option<String> {
    let stored = match label {
        _ if !newer => label.to_owned(),
        "reportingController" => "reportingComponent".to_owned(),
        "reason" | "type" => label.to_owned(),
        _ => format!("involvedObject.{}", label.strip_prefix("regarding.")?),
    };
    SELECTABLE.contains(&stored.as_str()).then_some(stored)
}

/// The value of a selectable field.
#[must_use]
pub fn field_value(event: &Value, path: &str) -> String {
    if path == "source" {
        let source = text(&event["source"], "component");
        return if source.is_empty() { text(event, "reportingComponent") } else { source }.to_owned();
    }
    let found = path.split('.').try_fold(event, |value, key| value.get(key));
    found.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What is wrong with a new event; `strict` when it comes by `events.k8s.io/v1`.
pub fn validate(problems: &mut Problems, event: &Value, strict: bool) {
    legacy(problems, event, strict);
    if !strict {
        return;
    }
    series(problems, event);
    if text(event, "eventTime").is_empty() {
        problems.required("eventTime", "");
    }
    let kind = text(event, "type");
    if !matches!(kind, "Normal" | "Warning") {
        problems.invalid("type", "", &format!("has invalid value: {kind}"));
    }
    let source = &event["source"];
    for (field, given) in [
        ("firstTimestamp", !text(event, "firstTimestamp").is_empty()),
        ("lastTimestamp", !text(event, "lastTimestamp").is_empty()),
        ("count", integer(event, "count") != 0),
        ("source", !text(source, "component").is_empty() || !text(source, "host").is_empty()),
    ] {
        if given {
            problems.invalid(field, "", "needs to be unset");
        }
    }
}

/// What is wrong with a changed event.
pub fn validate_update(problems: &mut Problems, event: &Value, old: &Value, strict: bool) {
    legacy(problems, event, strict);
    if !strict {
        return;
    }
    if event.get("series") != old.get("series") {
        series(problems, event);
    }
    for (key, shown) in [
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        // Upstream asks twice.
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        if !alike(event.get(key), old.get(key)) {
            let value = event.get(key).unwrap_or(&Value::Null);
            let form = go_form(value, &REFERENCE);
            if matches!(key, "involvedObject" | "related") && value.is_object() {
                problems.invalid(shown, Verbatim(&form), IMMUTABLE);
            } else {
                problems.invalid(shown, value, IMMUTABLE);
            }
        }
    }
}

fn series(problems: &mut Problems, event: &Value) {
    if !present(event, "series") {
        return;
    }
    if integer(&event["series"], "count") < 2 {
        problems.invalid("series.count", "", "should be at least 2");
    }
    if text(&event["series"], "lastObservedTime").is_empty() {
        problems.required("series.lastObservedTime", "");
    }
}

fn legacy(problems: &mut Problems, event: &Value, strict: bool) {
    let own = text(&event["metadata"], "namespace");
    let involved = text(&event["involvedObject"], "namespace");
    let mut mismatch =
        || problems.invalid("involvedObject.namespace", involved, "does not match event.namespace");
    if text(event, "eventTime").is_empty() {
        let fits = if involved.is_empty() { matches!(own, "" | "default") } else { own == involved };
        if !fits {
            mismatch();
        }
    } else {
        if involved.is_empty() && !matches!(own, "default" | "kube-system") {
            mismatch();
        }
        modern(problems, event, strict);
    }
    problems.check("namespace", own, names::dns1123_subdomain);
}

/// An event with an `eventTime` says who reports it.
fn modern(problems: &mut Problems, event: &Value, strict: bool) {
    let shown = if strict { "reportingController" } else { "reportingComponent" };
    let controller = text(event, "reportingComponent");
    if controller.is_empty() {
        problems.required(shown, "");
    }
    problems.check(shown, controller, names::qualified_name);
    for key in ["reportingInstance", "action", "reason"] {
        let value = text(event, key);
        if value.is_empty() {
            problems.required(key, "");
        }
        if value.len() > SHORT_MAX {
            problems.invalid(key, "", &format!("can have at most {SHORT_MAX} characters"));
        }
    }
    if text(event, "message").len() > NOTE_MAX {
        problems.invalid("message", "", &format!("can have at most {NOTE_MAX} characters"));
    }
}

/// Columns; the name comes last.
#[must_use]
pub fn columns() -> Vec<Column> {
    let mut columns = vec![Column::new("Last Seen"), Column::new("Type"), Column::new("Reason")];
    columns.extend([Column::new("Object"), Column::wide("Subobject"), Column::wide("Source")]);
    columns.extend([Column::new("Message"), Column::wide("First Seen"), Column::wide("Count")]);
    columns.push(Column { format: "name".to_owned(), ..Column::wide("Name") });
    columns
}

/// All cells of a row.
#[must_use]
pub fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let since = |text: &str| text.parse().ok().map(|then| human_duration(then, now));
    let unknown = || "<unknown>".to_owned();
    let first = since(text(event, "firstTimestamp"))
        .or_else(|| since(text(event, "eventTime")))
        .unwrap_or_else(unknown);
    let mut last = since(text(event, "lastTimestamp")).unwrap_or_else(|| first.clone());
    let mut count = integer(event, "count").max(1);
    let series = &event["series"];
    if series.is_object() {
        last = since(text(series, "lastObservedTime")).unwrap_or_else(unknown);
        count = integer(series, "count");
    }
    let about = &event["involvedObject"];
    let kind = text(about, "kind").to_lowercase();
    let object = match text(about, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.into(),
        text(event, "type").into(),
        text(event, "reason").into(),
        object.into(),
        text(about, "fieldPath").into(),
        source(event).into(),
        text(event, "message").trim().into(),
        first.into(),
        count.into(),
        event["metadata"]["name"].clone(),
    ]
}

fn source(event: &Value) -> String {
    let source = &event["source"];
    let (component, host) = match (text(source, "component"), text(source, "host")) {
        ("", _) => (text(event, "reportingComponent"), text(event, "reportingInstance")),
        found => found,
    };
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(event: &Value, strict: bool) -> Vec<String> {
        let mut problems = Problems::default();
        validate(&mut problems, event, strict);
        problems
            .into_causes()
            .into_iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect()
    }

    #[test]
    fn each_api_selects_by_its_own_names() {
        assert_eq!(field_label("regarding.name", true).as_deref(), Some("involvedObject.name"));
        assert_eq!(field_label("reportingController", true).as_deref(), Some("reportingComponent"));
        assert_eq!(field_label("source", false).as_deref(), Some("source"));
        for unknown in ["involvedObject.name", "source", "reportingComponent", "regarding.x"] {
            assert_eq!(field_label(unknown, true), None, "{unknown}");
        }
    }

    #[test]
    fn a_row() {
        let event = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": " done ",
            "involvedObject": {"kind": "Pod", "name": "p"}, "lastTimestamp": "2026-01-01T00:00:00Z",
            "source": {"component": "kubelet", "host": "n"}, "count": 2});
        let row = cells(&event, "2026-01-01T00:00:30Z".parse().unwrap());
        assert_eq!(row[..4], [json!("30s"), json!("Normal"), json!("Pulled"), json!("pod/p")]);
        assert_eq!(row[5..7], [json!("kubelet, n"), json!("done")]);
    }

    #[test]
    fn the_newer_api_is_stricter() {
        let event = json!({"metadata": {"namespace": "n"}, "involvedObject": {"namespace": "n"}});
        assert!(found(&event, false).is_empty());
        assert_eq!(
            found(&event, true),
            ["eventTime: Required value", "type: Invalid value: \"\": has invalid value: "]
        );
        let other = json!({"metadata": {"namespace": "n"}, "involvedObject": {"namespace": "m"}});
        assert_eq!(
            found(&other, false),
            ["involvedObject.namespace: Invalid value: \"m\": does not match event.namespace"]
        );
        let full = json!({"metadata": {"namespace": "n"}, "involvedObject": {"namespace": "n"}, "eventTime": "t", "type": "Normal",
            "reportingComponent": "a.b/c", "reportingInstance": "i", "action": "a", "reason": "r"});
        assert!(found(&full, true).is_empty());
        let mut changed = full.clone();
        changed["reason"] = "x".into();
        let mut problems = Problems::default();
        validate_update(&mut problems, &changed, &full, true);
        assert_eq!(problems.len(), 2);
    }
}
