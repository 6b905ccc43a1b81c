//! `apps/v1.DaemonSet`.

use serde_json::Value;

use crate::columns::{Column, age};
use crate::json::{child, default, default_text, existing, given, same_field, set, text};
use crate::names;
use crate::path::Path;
use crate::pod_spec::{Template, validate_template};
use crate::problems::{Problems, Verbatim, quoted};
use crate::rules::{KindRules, container_cells, number as cell};
use crate::workload::{self, at_most_all, count_of, counts, int_or_percent};

/// Where v1 keeps what older versions have in `spec.templateGeneration`.
const GENERATION: &str = "deprecated.daemonset.template.generation";

/// What Kubernetes demands of daemon sets.
pub const RULES: KindRules = KindRules {
    defaults: |object| {
        workload::in_spec(object, |spec| {
            default(spec, "revisionHistoryLimit", 10);
            let Some(strategy) = child(spec, "updateStrategy") else { return };
            default_text(strategy, "type", "RollingUpdate");
            if text(strategy, "type") == "RollingUpdate"
                && let Some(rolling) = child(strategy, "rollingUpdate")
            {
                default(rolling, "maxUnavailable", 1);
                default(rolling, "maxSurge", 0);
            }
        });
    },
    prepare_create: |object| {
        let counts =
            ["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"];
        workload::prepare_counted(object, &counts);
        let generation = generation(object).max(1);
        set_generation(object, generation);
    },
    prepare_update: |object, old| {
        workload::prepare_update(object, old);
        let changed = !same_field(&object["spec"], &old["spec"], "template");
        set_generation(object, generation(old) + i64::from(changed));
    },
    validate: |problems, object| validate_spec(problems, &object["spec"], None),
    validates_updates: false,
    validate_update: |problems, object, old| {
        workload::same_selector(problems, object, old);
        validate_spec(problems, &object["spec"], Some(&old["spec"]));
    },
    validate_status: |problems, object, old| {
        let keys = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        counts(problems, &Path::new("status"), &object["status"], &keys);
        workload::not_decremented(problems, object, old);
    },
    warnings: |object, old| {
        let changed = old.is_none_or(|old| generation(old) != generation(object));
        if changed { workload::warnings(object, None, false) } else { Vec::new() }
    },
    columns: || {
        let count = |name, field| Column::described(name, "DaemonSetStatus", field).of("integer");
        let mut columns = vec![
            Column::object_name(),
            count("Desired", "desiredNumberScheduled"),
            count("Current", "currentNumberScheduled"),
            count("Ready", "numberReady"),
            count("Up-to-date", "updatedNumberScheduled"),
            count("Available", "numberAvailable"),
            Column::described("Node Selector", "PodSpec", "nodeSelector"),
            Column::age(),
        ];
        columns.extend(workload::wide_columns("DaemonSetSpec"));
        columns
    },
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let [names, images] = container_cells(&spec["template"]);
        vec![
            cell(status, "desiredNumberScheduled"),
            cell(status, "currentNumberScheduled"),
            cell(status, "numberReady"),
            cell(status, "updatedNumberScheduled"),
            cell(status, "numberAvailable"),
            names::shown_labels(&spec["template"]["spec"], "nodeSelector").into(),
            age(object, now),
            names,
            images,
            names::shown_selector(&spec["selector"]).into(),
        ]
    },
    ..KindRules::NEW
};

fn generation(object: &Value) -> i64 {
    text(&object["metadata"]["annotations"], GENERATION).parse().unwrap_or_default()
}

fn set_generation(object: &mut Value, generation: i64) {
    let annotations = existing(object, "metadata").and_then(|metadata| child(metadata, "annotations"));
    if let Some(annotations) = annotations {
        set(annotations, GENERATION, generation.to_string());
    }
}

fn validate_spec(problems: &mut Problems, spec: &Value, old: Option<&Value>) {
    let at = Path::new("spec");
    let selector = &spec["selector"];
    let tolerated = old.is_some_and(|old| names::has_bad_selector_value(&old["selector"]));
    names::selector_with(problems, &at.field("selector"), selector, tolerated);
    let template = &spec["template"];
    let within = at.field("template");
    if workload::is_usable(selector) {
        // No selector at all selects nothing.
        let labels = &template["metadata"]["labels"];
        if selector.is_null() || !names::matches(selector, labels) {
            let at = within.field("metadata");
            let why = "`selector` does not match template `labels`";
            problems.invalid(at.field("labels"), template["metadata"].get("labels"), why);
        }
    }
    if given(spec, "selector").is_some() && names::is_empty_selector(selector) {
        problems.invalid(at.field("selector"), selector, "empty selector is invalid for daemonset");
    }
    validate_template(problems, &within, template, Template { old: old.map(|old| &old["template"]) });
    Template::restart_policy(problems, &within, template, &["Always"]);
    Template::no_deadline(problems, &within, template, "DaemonSet");
    counts(problems, &at, spec, &["minReadySeconds"]);
    strategy(problems, &at.field("updateStrategy"), &spec["updateStrategy"]);
    counts(problems, &at, spec, &["revisionHistoryLimit"]);
}

fn strategy(problems: &mut Problems, at: &Path<'_>, strategy: &Value) {
    let rolling = given(strategy, "rollingUpdate");
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let at = at.field("rollingUpdate");
            let Some(rolling) = rolling else { return problems.required(at, "") };
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            let (first, second) = (at.field("maxUnavailable"), at.field("maxSurge"));
            int_or_percent(problems, first, unavailable);
            int_or_percent(problems, second, surge);
            at_most_all(problems, first, unavailable);
            at_most_all(problems, second, surge);
            match (count_of(unavailable) != 0, count_of(surge) != 0) {
                (true, true) => {
                    problems.invalid(second, surge, "may not be set when maxUnavailable is non-zero");
                }
                (false, false) => problems.required(first, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        kind => {
            let rolling = rolling.map_or_else(|| "null".to_owned(), Value::to_string);
            let shown = format!("{{\"Type\":{},\"RollingUpdate\":{rolling}}}", quoted(kind));
            problems.unsupported_of(at, Verbatim(&shown), &["RollingUpdate", "OnDelete"]);
        }
    }
}
