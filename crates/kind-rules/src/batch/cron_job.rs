//! `batch/v1.CronJob`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{job, schedule};
use crate::columns::{Column, age, human_duration};
use crate::json::{default, default_text, existing, given, list, same, set, text, truth};
use crate::names;
use crate::path::Path;
use crate::pod_spec;
use crate::problems::Problems;
use crate::rules::{KindRules, container_cells, or};
use crate::workload::{self, counts};

/// A job's name is its cron job's with eleven characters more.
const NAME_BYTES: usize = 52;

/// What Kubernetes demands of cron jobs.
pub const RULES: KindRules = KindRules {
    defaults: |object| {
        let Some(spec) = existing(object, "spec") else { return };
        default_text(spec, "concurrencyPolicy", "Allow");
        default(spec, "suspend", false);
        default(spec, "successfulJobsHistoryLimit", 3);
        default(spec, "failedJobsHistoryLimit", 1);
        // A template gets the pod's defaults; the job's own come when a job is made.
        if let Some(spec) = existing(spec, "jobTemplate").and_then(|template| existing(template, "spec")) {
            job::default_nested(spec);
        }
    },
    prepare_create: |object| {
        set(object, "status", json!({}));
        drop_disabled(object, &Value::Null);
    },
    prepare_update: drop_disabled,
    validate: |problems, object| {
        validate_spec(problems, &object["spec"], None);
        let name = text(&object["metadata"], "name");
        if name.len() > NAME_BYTES {
            problems.invalid("metadata.name", name, &format!("must be no more than {NAME_BYTES} characters"));
        }
    },
    validates_updates: false,
    validate_update: |problems, object, old| validate_spec(problems, &object["spec"], Some(&old["spec"])),
    warnings: |object, old| {
        let mut found = Vec::new();
        if old.is_none() {
            found.extend(workload::name_warning(object));
        }
        if old.is_none_or(|old| !same(&object["spec"], &old["spec"])) {
            let template = &object["spec"]["jobTemplate"];
            found.extend(job::spec_warnings(&Path::new("spec.jobTemplate.spec"), &template["spec"]));
        }
        if old.is_some() && text(&object["spec"], "schedule").contains("TZ") {
            // Upstream's own spelling of the path.
            found.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_owned());
        }
        found
    },
    columns: || {
        let mut columns = vec![
            Column::object_name(),
            Column::described("Schedule", "CronJobSpec", "schedule"),
            Column::described("Timezone", "CronJobSpec", "timeZone"),
            Column::described("Suspend", "CronJobSpec", "suspend").of("boolean"),
            Column::described("Active", "CronJobStatus", "active").of("integer"),
            Column::described("Last Schedule", "CronJobStatus", "lastScheduleTime"),
            Column::age(),
        ];
        columns.extend(workload::wide_columns("JobSpec"));
        columns
    },
    cells,
    ..KindRules::NEW
};

fn drop_disabled(object: &mut Value, old: &Value) {
    let job = existing(object, "spec").and_then(|spec| existing(spec, "jobTemplate"));
    let template = job.and_then(|job| existing(job, "spec")).and_then(|spec| existing(spec, "template"));
    if let Some(spec) = template.and_then(|template| existing(template, "spec")) {
        pod_spec::drop_disabled(spec, &old["spec"]["jobTemplate"]["spec"]["template"]["spec"]);
    }
}

fn validate_spec(problems: &mut Problems, spec: &Value, old: Option<&Value>) {
    let at = Path::new("spec");
    schedule_field(problems, spec, old);
    counts(problems, &at, spec, &["startingDeadlineSeconds"]);
    let zone = given(spec, "timeZone");
    if old.is_none_or(|old| given(old, "timeZone") != zone)
        && let Some(zone) = zone.and_then(Value::as_str)
    {
        for why in schedule::zone_problem(zone) {
            problems.invalid(at.field("timeZone"), zone, &why);
        }
    }
    match text(spec, "concurrencyPolicy") {
        "" => problems.required(at.field("concurrencyPolicy"), ""),
        "Allow" | "Forbid" | "Replace" => {}
        policy => {
            let supported = ["Allow", "Forbid", "Replace"];
            problems.unsupported_of(at.field("concurrencyPolicy"), policy, &supported);
        }
    }
    let template = at.field("jobTemplate");
    let job = &spec["jobTemplate"]["spec"];
    let within = template.field("spec");
    job::validate_common(problems, &within, job, old.map(|old| &old["jobTemplate"]["spec"]));
    if let Some(selector) = given(job, "selector") {
        problems.invalid(within.field("selector"), selector, "`selector` will be auto-generated");
    }
    if truth(job, "manualSelector") {
        problems.unsupported_of(within.field("manualSelector"), true, &["nil", "false"]);
    }
    counts(problems, &at, spec, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"]);
}

fn schedule_field(problems: &mut Problems, spec: &Value, old: Option<&Value>) {
    let own = text(spec, "schedule");
    if own.is_empty() {
        return problems.required("spec.schedule", "");
    }
    if let Err(why) = schedule::check(own) {
        problems.invalid("spec.schedule", own, &why);
    }
    let tolerated = old.is_some_and(|old| text(old, "schedule").contains("TZ"));
    if own.contains("TZ") {
        if !tolerated {
            let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            problems.invalid("spec.schedule", own, why);
        } else if given(spec, "timeZone").is_some() {
            let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            problems.invalid("spec.schedule", own, why);
        }
    }
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let last = text(status, "lastScheduleTime").parse().ok();
    let last = last.map_or_else(|| "<none>".to_owned(), |last| human_duration(last, now));
    let job = &spec["jobTemplate"]["spec"];
    let [names, images] = container_cells(&job["template"]);
    let suspend = if truth(spec, "suspend") { "True" } else { "False" };
    vec![
        text(spec, "schedule").into(),
        or(text(spec, "timeZone"), "<none>"),
        suspend.into(),
        list(status, "active").len().into(),
        last.into(),
        age(object, now),
        names,
        images,
        names::shown_selector(&job["selector"]).into(),
    ]
}
