//! `apps/v1.ReplicaSet`.

use jiff::Timestamp;
use serde_json::Value;

use crate::columns::{Column, age};
use crate::json::{default, integer};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::{KindRules, container_cells, number as cell};
use crate::workload::{self, at_most, counts};

/// What Kubernetes demands of replica sets.
pub const RULES: KindRules = KindRules {
    defaults: |object| workload::in_spec(object, |spec| default(spec, "replicas", 1)),
    prepare_create: |object| workload::prepare_counted(object, &["replicas"]),
    prepare_update: workload::prepare_update,
    validate: |problems, object| validate_spec(problems, &object["spec"], None),
    validates_updates: false,
    validate_update: |problems, object, old| {
        validate_spec(problems, &object["spec"], Some(&old["spec"]));
        workload::same_selector(problems, object, old);
    },
    validate_status: |problems, object, _| validate_status(problems, &object["status"]),
    warnings: |object, old| workload::warnings(object, old, true),
    columns: || columns("ReplicaSetSpec", "ReplicaSetStatus"),
    cells: |object, now| cells(object, now, names::shown_selector(&object["spec"]["selector"])),
    selectable: &["status.replicas"],
    field_value: |object, _| Some(integer(&object["status"], "replicas").to_string()),
    ..KindRules::NEW
};

fn validate_spec(problems: &mut Problems, spec: &Value, old: Option<&Value>) {
    let at = Path::new("spec");
    counts(problems, &at, spec, &["replicas", "minReadySeconds"]);
    // Upstream's word here is "deployment" too.
    workload::selector(problems, spec, "deployment");
    if workload::is_usable(&spec["selector"]) {
        workload::template(problems, &at.field("template"), spec, old, "ReplicaSet");
    } else {
        problems.invalid(at.field("selector"), &spec["selector"], "invalid label selector");
    }
}

/// Of replica sets and replication controllers.
pub(crate) fn validate_status(problems: &mut Problems, status: &Value) {
    let keys = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ];
    counts(problems, &Path::new("status"), status, &keys);
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    at_most(problems, status, &parts, "replicas", "cannot be greater than status.replicas");
    let why = "cannot be greater than readyReplicas";
    at_most(problems, status, &["availableReplicas"], "readyReplicas", why);
}

/// Columns of kinds that keep a number of pods.
pub(crate) fn columns(spec: &'static str, status: &'static str) -> Vec<Column> {
    let mut columns = vec![
        Column::object_name(),
        Column::described("Desired", spec, "replicas").of("integer"),
        Column::described("Current", status, "replicas").of("integer"),
        Column::described("Ready", status, "readyReplicas").of("integer"),
        Column::age(),
    ];
    columns.extend(workload::wide_columns(spec));
    columns
}

/// Their cells.
pub(crate) fn cells(object: &Value, now: Timestamp, selector: String) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let [names, images] = container_cells(&spec["template"]);
    vec![
        cell(spec, "replicas"),
        cell(status, "replicas"),
        cell(status, "readyReplicas"),
        age(object, now),
        names,
        images,
        selector.into(),
    ]
}
