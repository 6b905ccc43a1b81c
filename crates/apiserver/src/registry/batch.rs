//! `batch/v1`: Jobs and CronJobs.

use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::{Status, StatusCause};
use serde_json::{Value, json};

use super::strategy::{RequestContext, Strategy};
use kind_rules::columns::{Column, age, human_duration};
use kind_rules::json::{child, default, default_text, existing, integer, list, present, set, text, truth};
use kind_rules::names;
use kind_rules::pod_spec::{default_template, validate_template};
use kind_rules::problems::Problems;
use kind_rules::rules::{KindRules, container_cells, or};

const POLICIES: [&str; 2] = ["OnFailure", "Never"];

/// The labels by which a Job knows its pods; the short ones are older and still read.
const UID_LABELS: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
const NAME_LABELS: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];

/// `batch/v1.Job`.
#[derive(Debug)]
pub(crate) struct Job;

fn default_job_spec(spec: &mut Value) {
    // Neither given: one pod once. Only parallelism given: a work queue, which has no completions.
    if !present(spec, "completions") && !present(spec, "parallelism") {
        default(spec, "completions", 1);
    }
    default(spec, "parallelism", 1);
    let by_index = present(spec, "backoffLimitPerIndex");
    default(spec, "backoffLimit", if by_index { i64::from(i32::MAX) } else { 6 });
    default_text(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    default(spec, "manualSelector", false);
    let replacement = if present(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    default_text(spec, "podReplacementPolicy", replacement);
    if let Some(policy) = existing(spec, "podFailurePolicy") {
        for rule in kind_rules::json::list_mut(policy, "rules") {
            for pattern in kind_rules::json::list_mut(rule, "onPodConditions") {
                default_text(pattern, "status", "True");
            }
        }
    }
    default_template(spec);
}

fn validate_job_spec(problems: &mut Problems, at: &str, spec: &Value) {
    for key in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "backoffLimitPerIndex",
        "ttlSecondsAfterFinished",
        "maxFailedIndexes",
    ] {
        problems.not_negative(&format!("{at}.{key}"), spec.get(key));
    }
    let modes = ["NonIndexed", "Indexed"];
    problems.choice(&format!("{at}.completionMode"), spec.get("completionMode"), &modes, false);
    if text(spec, "completionMode") == "Indexed" && !present(spec, "completions") {
        problems.required(&format!("{at}.completions"), "when completion mode is Indexed");
    }
    let replacements = ["Failed", "TerminatingOrFailed"];
    let replacement = spec.get("podReplacementPolicy");
    problems.choice(&format!("{at}.podReplacementPolicy"), replacement, &replacements, false);
}

#[async_trait]
impl Strategy for Job {
    fn default_fields(&self, object: &mut Value) {
        let labels = object["spec"]["template"]["metadata"]["labels"].clone();
        if let Some(spec) = existing(object, "spec") {
            default_job_spec(spec);
        }
        if labels.is_object()
            && object["metadata"]["labels"].as_object().is_none_or(serde_json::Map::is_empty)
            && let Some(metadata) = child(object, "metadata")
        {
            set(metadata, "labels", labels);
        }
    }

    async fn prepare_for_create(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        if truth(&object["spec"], "manualSelector") {
            return Ok(());
        }
        let uid = text(&object["metadata"], "uid").to_owned();
        let name = match text(&object["metadata"], "name") {
            "" => cx.name.to_owned(),
            name => name.to_owned(),
        };
        let Some(spec) = existing(object, "spec") else { return Ok(()) };
        if let Some(labels) = child(spec, "template")
            .and_then(|template| child(template, "metadata"))
            .and_then(|metadata| child(metadata, "labels"))
        {
            for label in UID_LABELS {
                set(labels, label, uid.as_str());
            }
            for label in NAME_LABELS {
                set(labels, label, name.as_str());
            }
        }
        if !present(spec, "selector") {
            set(spec, "selector", json!({"matchLabels": {UID_LABELS[0]: uid}}));
        }
        Ok(())
    }

    fn validate(&self, _: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        let spec = &object["spec"];
        validate_job_spec(&mut problems, "spec", spec);
        if spec["selector"].is_null() {
            problems.required("spec.selector", "");
        } else {
            names::selector(&mut problems, "spec.selector", &spec["selector"]);
        }
        validate_template(&mut problems, &spec["template"], Some(&spec["selector"]), &POLICIES);
        problems.into_causes()
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        if cx.subresource == Some("status") {
            return Vec::new();
        }
        let mut problems = Problems::default();
        let (new, before) = (&object["spec"], &old["spec"]);
        validate_job_spec(&mut problems, "spec", new);
        for key in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy"] {
            problems.immutable(&format!("spec.{key}"), new.get(key), before.get(key));
        }
        // Only an Indexed job may change completions, and only together with parallelism.
        let elastic = text(new, "completionMode") == "Indexed" && new["completions"] == new["parallelism"];
        if !elastic {
            problems.immutable("spec.completions", new.get("completions"), before.get("completions"));
        }
        let suspended = truth(before, "suspend") && old["status"]["startTime"].is_null();
        if !suspended {
            problems.immutable("spec.template", new.get("template"), before.get("template"));
        }
        problems.into_causes()
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["status.successful"]
    }

    fn field_value(&self, object: &Value, _: &str) -> String {
        // The label's name differs from the field's: upstream kept the old one.
        integer(&object["status"], "succeeded").to_string()
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![Column::object_name()];
        columns.extend(["Status", "Completions", "Duration"].map(Column::new));
        columns.push(Column::age());
        columns.extend(["Containers", "Images", "Selector"].map(Column::wide));
        columns
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let (spec, status) = (&object["spec"], &object["status"]);
        let succeeded = integer(status, "succeeded");
        let completions = match (spec["completions"].as_i64(), integer(spec, "parallelism")) {
            (Some(wanted), _) => format!("{succeeded}/{wanted}"),
            (None, many) if many > 1 => format!("{succeeded}/1 of {many}"),
            (None, _) => format!("{succeeded}/1"),
        };
        let time = |key: &str| text(status, key).parse::<Timestamp>().ok();
        let duration = time("startTime")
            .map_or(String::new(), |start| human_duration(start, time("completionTime").unwrap_or(now)));
        let [names, images] = container_cells(&spec["template"]);
        vec![
            object["metadata"]["name"].clone(),
            job_status(object).into(),
            completions.into(),
            duration.into(),
            age(object, now),
            names,
            images,
            names::shown_selector(&spec["selector"]).into(),
        ]
    }
}

fn job_status(object: &Value) -> &'static str {
    let holds = |kind: &str| {
        list(&object["status"], "conditions")
            .iter()
            .any(|condition| text(condition, "type") == kind && text(condition, "status") == "True")
    };
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if present(&object["metadata"], "deletionTimestamp") => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

/// `batch/v1.CronJob`.
pub(crate) const CRON_JOB: KindRules = KindRules {
    defaults: |object| {
        let Some(spec) = existing(object, "spec") else { return };
        default_text(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
        if let Some(template) = existing(spec, "jobTemplate").and_then(|template| existing(template, "spec"))
        {
            // A template gets the pod's defaults; the job's own come when a job is made.
            default_template(template);
        }
    },
    validate: |problems, object| {
        let spec = &object["spec"];
        let schedule = text(spec, "schedule");
        if schedule.is_empty() {
            problems.required("spec.schedule", "");
        } else if !schedule.starts_with('@') && schedule.split_whitespace().count() != 5 {
            let detail = format!(
                "expected exactly 5 fields, found {}: [{schedule}]",
                schedule.split_whitespace().count()
            );
            problems.invalid("spec.schedule", &spec["schedule"], &detail);
        }
        if schedule.contains("TZ") {
            problems.invalid(
                "spec.schedule",
                &spec["schedule"],
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            );
        }
        let policies = ["Allow", "Forbid", "Replace"];
        problems.choice("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), &policies, false);
        for key in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
            problems.not_negative(&format!("spec.{key}"), spec.get(key));
        }
        let mut inner = Problems::default();
        let template = &spec["jobTemplate"]["spec"]["template"];
        validate_template(&mut inner, template, None, &POLICIES);
        problems.extend_under("spec.jobTemplate", inner);
    },
    columns: || {
        let mut columns = vec![Column::object_name(), Column::new("Schedule"), Column::new("Timezone")];
        columns.push(Column::new("Suspend").of("boolean"));
        columns.push(Column::new("Active").of("integer"));
        columns.extend([Column::new("Last Schedule"), Column::age()]);
        columns.extend(["Containers", "Images", "Selector"].map(Column::wide));
        columns
    },
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let last = text(status, "lastScheduleTime").parse().ok();
        let last = last.map_or_else(|| "<none>".to_owned(), |last| human_duration(last, now));
        let job = &spec["jobTemplate"]["spec"];
        let [names, images] = container_cells(&job["template"]);
        let suspend = if truth(spec, "suspend") { "True" } else { "False" };
        vec![
            spec["schedule"].clone(),
            or(text(spec, "timeZone"), "<none>"),
            suspend.into(),
            list(status, "active").len().into(),
            last.into(),
            age(object, now),
            names,
            images,
            names::shown_selector(&job["selector"]).into(),
        ]
    },
    ..KindRules::NEW
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_and_cronjobs_are_completed() {
        let template =
            json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i:1"}]}});
        let mut job = json!({"metadata": {}, "spec": {"template": template}});
        Job.default_fields(&mut job);
        let spec = &job["spec"];
        assert_eq!(
            (&spec["completions"], &spec["parallelism"], &spec["backoffLimit"]),
            (&json!(1), &json!(1), &json!(6))
        );
        assert_eq!(spec["podReplacementPolicy"], "TerminatingOrFailed");
        let mut queue = json!({"spec": {"parallelism": 2, "template": template}});
        Job.default_fields(&mut queue);
        assert!(queue["spec"]["completions"].is_null(), "a work queue has no completions");
        let mut cron =
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}});
        (CRON_JOB.defaults)(&mut cron);
        let mut problems = Problems::default();
        (CRON_JOB.validate)(&mut problems, &cron);
        assert_eq!(problems.into_causes(), []);
        cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] = json!("Always");
        cron["spec"]["schedule"] = json!("* *");
        let mut problems = Problems::default();
        (CRON_JOB.validate)(&mut problems, &cron);
        let fields: Vec<String> = problems.into_causes().into_iter().map(|cause| cause.field).collect();
        assert_eq!(fields, ["spec.schedule", "spec.jobTemplate.spec.template.spec.restartPolicy"]);
    }

    #[test]
    fn a_jobs_row_says_how_far_it_is() {
        let job = json!({"metadata": {"name": "j"}, "spec": {"completions": 3},
            "status": {"succeeded": 1, "startTime": "2026-01-01T00:00:00Z"}});
        let cells = Job.cells(&job, "2026-01-01T00:01:00Z".parse().unwrap());
        assert_eq!(cells[1..4], [json!("Running"), json!("1/3"), json!("60s")]);
    }
}
