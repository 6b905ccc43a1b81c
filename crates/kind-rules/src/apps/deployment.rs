//! `apps/v1.Deployment`.

use serde_json::Value;

use crate::columns::{Column, age};
use crate::json::{child, default, default_text, given, number, text};
use crate::names;
use crate::path::Path;
use crate::problems::{Problems, Verbatim, quoted};
use crate::rules::{KindRules, container_cells, number as cell};
use crate::workload::{self, at_most, at_most_all, count_of, counts, int_or_percent};

/// What Kubernetes demands of deployments.
pub const RULES: KindRules = KindRules {
    defaults: |object| {
        workload::in_spec(object, |spec| {
            default(spec, "replicas", 1);
            default(spec, "revisionHistoryLimit", 10);
            default(spec, "progressDeadlineSeconds", 600);
            let Some(strategy) = child(spec, "strategy") else { return };
            default_text(strategy, "type", "RollingUpdate");
            if text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = child(strategy, "rollingUpdate")
            {
                default(rolling, "maxUnavailable", "25%");
                default(rolling, "maxSurge", "25%");
            }
        });
    },
    prepare_create: workload::prepare_create,
    prepare_update: workload::prepare_update,
    prepare_status: |object, old| {
        if let Some(metadata) = child(object, "metadata") {
            match given(&old["metadata"], "labels") {
                Some(labels) => crate::json::set(metadata, "labels", labels.clone()),
                None => drop(crate::json::remove(metadata, "labels")),
            }
        }
    },
    validate: |problems, object| validate_spec(problems, &object["spec"], None),
    validates_updates: false,
    validate_update: |problems, object, old| {
        validate_spec(problems, &object["spec"], Some(&old["spec"]));
        workload::same_selector(problems, object, old);
    },
    validate_status: |problems, object, old| {
        let status = &object["status"];
        let keys = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ];
        counts(problems, &Path::new("status"), status, &keys);
        let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
        at_most(problems, status, &parts, "replicas", "cannot be greater than status.replicas");
        let why = "cannot be greater than readyReplicas";
        at_most(problems, status, &["availableReplicas"], "readyReplicas", why);
        workload::not_decremented(problems, object, old);
    },
    warnings: |object, old| workload::warnings(object, old, true),
    counts_annotations: true,
    columns: || {
        let mut columns = vec![
            Column::object_name(),
            Column::new("Ready").saying("Number of the pod with ready state"),
            Column::described("Up-to-date", "DeploymentStatus", "updatedReplicas"),
            Column::described("Available", "DeploymentStatus", "availableReplicas"),
            Column::age(),
        ];
        columns.extend(workload::wide_columns("DeploymentSpec"));
        columns
    },
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let [names, images] = container_cells(&spec["template"]);
        vec![
            format!("{}/{}", cell(status, "readyReplicas"), cell(spec, "replicas")).into(),
            cell(status, "updatedReplicas"),
            cell(status, "availableReplicas"),
            age(object, now),
            names,
            images,
            names::shown_selector(&spec["selector"]).into(),
        ]
    },
    ..KindRules::NEW
};

fn validate_spec(problems: &mut Problems, spec: &Value, old: Option<&Value>) {
    let at = Path::new("spec");
    counts(problems, &at, spec, &["replicas"]);
    workload::selector(problems, spec, "deployment");
    if workload::is_usable(&spec["selector"]) {
        workload::template(problems, &at.field("template"), spec, old, "ReplicaSet");
    } else {
        problems.invalid(at.field("selector"), &spec["selector"], "invalid label selector");
    }
    strategy(problems, &at.field("strategy"), &spec["strategy"]);
    counts(problems, &at, spec, &["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"]);
    if let Some(progress) = number(spec, "progressDeadlineSeconds")
        && progress <= number(spec, "minReadySeconds").unwrap_or_default()
    {
        problems.invalid(
            at.field("progressDeadlineSeconds"),
            progress,
            "must be greater than minReadySeconds",
        );
    }
}

fn strategy(problems: &mut Problems, at: &Path<'_>, strategy: &Value) {
    let rolling = at.field("rollingUpdate");
    match (text(strategy, "type"), given(strategy, "rollingUpdate")) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => {
            problems.forbidden(rolling, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("RollingUpdate", None) => problems.required(rolling, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(update)) => {
            let (unavailable, surge) = (&update["maxUnavailable"], &update["maxSurge"]);
            let first = rolling.field("maxUnavailable");
            int_or_percent(problems, first, unavailable);
            int_or_percent(problems, rolling.field("maxSurge"), surge);
            if count_of(unavailable) == 0 && count_of(surge) == 0 {
                problems.invalid(first, unavailable, "may not be 0 when `maxSurge` is 0");
            }
            at_most_all(problems, first, unavailable);
        }
        (kind, update) => {
            let rolling = update.map_or_else(|| "null".to_owned(), Value::to_string);
            let shown = format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", quoted(kind));
            problems.unsupported_of(at, Verbatim(&shown), &["Recreate", "RollingUpdate"]);
        }
    }
}
