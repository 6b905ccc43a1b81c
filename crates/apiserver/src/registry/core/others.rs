//! Small core kinds: Events, Endpoints, ServiceAccounts, ResourceQuotas, PodTemplates.

use jiff::Timestamp;
use serde_json::Value;

use kind_rules::columns::{Column, age, human_duration};
use kind_rules::json::{entries, integer, list, text};
use kind_rules::names;
use kind_rules::pod_spec::default_template;
use kind_rules::rules::{KindRules, container_cells, or};

/// `v1.Event`, in whichever group it is written.
pub(crate) const EVENT: KindRules = KindRules {
    selectable: &[
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
    ],
    validate: |problems, object| {
        let (involved, own) = (&object["involvedObject"]["namespace"], &object["metadata"]["namespace"]);
        let fine = match involved.as_str().unwrap_or_default() {
            "" => matches!(own.as_str().unwrap_or_default(), "" | "default" | "kube-system"),
            namespace => own == namespace,
        };
        if !fine && !own.is_null() {
            problems.invalid("involvedObject.namespace", involved, "does not match event.namespace");
        }
    },
    columns: || {
        let mut columns = vec![Column::new("Last Seen"), Column::new("Type"), Column::new("Reason")];
        columns.extend([Column::new("Object"), Column::wide("Subobject"), Column::wide("Source")]);
        columns.extend([Column::new("Message"), Column::wide("First Seen"), Column::wide("Count")]);
        columns.push(Column { format: "name".to_owned(), ..Column::wide("Name") });
        columns
    },
    ..KindRules::NEW
};

/// An Event's row has no name in front.
pub(crate) fn event_cells(event: &Value, now: Timestamp) -> Vec<Value> {
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
    let source = &event["source"];
    let (component, host) = match (text(source, "component"), text(source, "host")) {
        ("", _) => (text(event, "reportingComponent"), text(event, "reportingInstance")),
        found => found,
    };
    let source = if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    vec![
        last.into(),
        event["type"].clone(),
        event["reason"].clone(),
        object.into(),
        text(about, "fieldPath").into(),
        source.into(),
        text(event, "message").trim().into(),
        first.into(),
        count.to_string().into(),
        event["metadata"]["name"].clone(),
    ]
}

/// `v1.Endpoints`.
pub(crate) const ENDPOINTS: KindRules = KindRules {
    columns: || vec![Column::object_name(), Column::new("Endpoints"), Column::age()],
    cells: |object, now| {
        let mut all = Vec::new();
        for subset in list(object, "subsets") {
            let addresses = list(subset, "addresses").iter().map(|address| text(address, "ip"));
            let ports = list(subset, "ports");
            for address in addresses {
                if ports.is_empty() {
                    all.push(address.to_owned());
                }
                all.extend(ports.iter().map(|port| format!("{address}:{}", integer(port, "port"))));
            }
        }
        vec![or(&at_most_three(&all), "<none>"), age(object, now)]
    },
    ..KindRules::NEW
};

fn at_most_three(all: &[String]) -> String {
    match all.len() {
        0..=3 => all.join(","),
        many => format!("{} + {} more...", all[..3].join(","), many - 3),
    }
}

/// `v1.ResourceQuota`.
pub(crate) const RESOURCE_QUOTA: KindRules = KindRules {
    columns: || vec![Column::object_name(), Column::new("Request"), Column::new("Limit"), Column::age()],
    cells: |object, now| {
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (name, hard) in entries(&object["status"], "hard") {
            let used = text(&object["status"]["used"], name);
            let part = format!("{name}: {used}/{}", hard.as_str().unwrap_or_default());
            if name.starts_with("limits.") { limits.push(part) } else { requests.push(part) }
        }
        vec![requests.join(", ").into(), limits.join(", ").into(), age(object, now)]
    },
    ..KindRules::NEW
};

/// `v1.PodTemplate`.
pub(crate) const POD_TEMPLATE: KindRules = KindRules {
    defaults: default_template,
    columns: || {
        let mut columns = vec![Column::object_name()];
        columns.extend(["Containers", "Images", "Pod Labels"].map(Column::new));
        columns
    },
    cells: |object, _| {
        let [containers, images] = container_cells(&object["template"]);
        vec![containers, images, names::shown_labels(&object["template"]["metadata"], "labels").into()]
    },
    ..KindRules::NEW
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_of_events_and_endpoints() {
        let event = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": " done ",
            "involvedObject": {"kind": "Pod", "name": "p"}, "lastTimestamp": "2026-01-01T00:00:00Z",
            "source": {"component": "kubelet", "host": "n"}, "count": 2});
        let cells = event_cells(&event, "2026-01-01T00:00:30Z".parse().unwrap());
        assert_eq!(
            cells[0..7],
            [
                json!("30s"),
                json!("Normal"),
                json!("Pulled"),
                json!("pod/p"),
                json!(""),
                json!("kubelet, n"),
                json!("done")
            ]
        );
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}],
            "ports": [{"port": 80}, {"port": 81}]}]});
        let cells = (ENDPOINTS.cells)(&endpoints, Timestamp::UNIX_EPOCH);
        assert_eq!(cells[0], "1.1.1.1:80,1.1.1.1:81,1.1.1.2:80 + 1 more...");
    }
}
