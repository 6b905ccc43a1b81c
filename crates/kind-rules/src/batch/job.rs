//! `batch/v1.Job`.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::columns::{Column, age, human_duration};
use crate::json::{
    child, default, entries, existing, given, integer, list, list_mut, number, same_field, set, text,
};
use crate::names::{self, dns1123_label};
use crate::path::Path;
use crate::pod_spec;
use crate::problems::{IMMUTABLE, Problems, Verbatim};
use crate::rules::{KindRules, container_cells};
use crate::workload::{self, counts};

mod indexes;
mod policies;
mod status;

/// Beyond this an indexed job has to say how it bounds what it tracks.
const SOFT_LIMIT: i64 = 100_000;
const HIGH_PARALLELISM: i64 = 10_000;
const MANAGER_BYTES: usize = 63;
const UID_LABELS: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];
const NAME_LABELS: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];

/// What Kubernetes demands of jobs.
pub const RULES: KindRules = KindRules {
    defaults: |object| {
        let labels = given(&object["spec"]["template"]["metadata"], "labels").cloned();
        if let Some(spec) = existing(object, "spec") {
            default_spec(spec);
        }
        if let Some(labels) = labels
            && entries(&object["metadata"], "labels").next().is_none()
            && let Some(metadata) = existing(object, "metadata")
        {
            set(metadata, "labels", labels);
        }
    },
    prepare_create: |object| {
        workload::prepare_create(object);
        generate_selector(object);
        let labels = object["spec"]["template"]["metadata"]["labels"].clone();
        if entries(&object["metadata"], "labels").next().is_none()
            && !labels.is_null()
            && let Some(metadata) = existing(object, "metadata")
        {
            set(metadata, "labels", labels);
        }
    },
    prepare_update: workload::prepare_update,
    validate: |problems, object| validate(problems, object, None),
    validates_updates: false,
    validate_update: |problems, object, old| {
        validate(problems, object, Some(old));
        validate_step(problems, object, old);
    },
    validate_status: status::validate,
    warnings: |object, old| {
        let mut found = Vec::new();
        if old.is_none() {
            found.extend(workload::name_warning(object));
        }
        if old.is_none_or(|old| !crate::json::same(&object["spec"], &old["spec"])) {
            found.extend(spec_warnings(&Path::new("spec"), &object["spec"]));
        }
        found
    },
    columns: || {
        let mut columns = vec![
            Column::object_name(),
            Column::new("Status").saying("Status of the job."),
            Column::described("Completions", "JobStatus", "succeeded"),
            Column::new("Duration").saying("Time required to complete the job."),
            Column::age(),
        ];
        columns.extend(workload::wide_columns("JobSpec"));
        columns
    },
    cells,
    selectable: &["status.successful"],
    // The selector's name differs from the field's: upstream kept the old one.
    field_value: |object, _| Some(integer(&object["status"], "succeeded").to_string()),
    orphans_by_default: true,
    ..KindRules::NEW
};

/// A job's spec; templates of cron jobs get only the pod's part.
fn default_spec(spec: &mut Value) {
    let parallel = given(spec, "parallelism").is_some();
    if !parallel {
        default(spec, "completions", 1);
        default(spec, "parallelism", 1);
    }
    let per_index = given(spec, "backoffLimitPerIndex").is_some();
    default(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    default(spec, "completionMode", "NonIndexed");
    default(spec, "suspend", false);
    let policy = given(spec, "podFailurePolicy").is_some();
    default(spec, "podReplacementPolicy", if policy { "Failed" } else { "TerminatingOrFailed" });
    default(spec, "manualSelector", false);
    default_nested(spec);
}

/// What a cron job's template gets too.
pub(crate) fn default_nested(spec: &mut Value) {
    if let Some(policy) = existing(spec, "podFailurePolicy") {
        for rule in list_mut(policy, "rules") {
            for pattern in list_mut(rule, "onPodConditions") {
                crate::json::default_text(pattern, "status", "True");
            }
        }
    }
    pod_spec::default_template(spec);
}

/// A job finds its pods by its uid.
fn generate_selector(object: &mut Value) {
    if object["spec"]["manualSelector"] == true {
        return;
    }
    let name = text(&object["metadata"], "name").to_owned();
    let uid = text(&object["metadata"], "uid").to_owned();
    let Some(spec) = existing(object, "spec") else { return };
    let template = child(spec, "template").and_then(|template| child(template, "metadata"));
    if let Some(labels) = template.and_then(|metadata| child(metadata, "labels")) {
        for key in NAME_LABELS {
            default(labels, key, name.as_str());
        }
        for key in UID_LABELS {
            default(labels, key, uid.as_str());
        }
    }
    if let Some(labels) = child(spec, "selector").and_then(|selector| child(selector, "matchLabels")) {
        default(labels, UID_LABELS[1], uid);
    }
}

fn validate(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let spec = &object["spec"];
    generated_selector(problems, object, old);
    validate_spec(problems, spec, old.map(|old| &old["spec"]));
    if let Some(count) = number(spec, "completions").filter(|count| *count > 0)
        && text(spec, "completionMode") == "Indexed"
    {
        let name = text(&object["metadata"], "name");
        let last = format!("{name}-{}", count - 1);
        if !dns1123_label(&last).is_empty() {
            let why = format!("will not able to create pod with invalid DNS label: {last}");
            problems.invalid("metadata.name", name, &why);
        }
    }
}

fn generated_selector(problems: &mut Problems, object: &Value, old: Option<&Value>) {
    let spec = &object["spec"];
    if spec["manualSelector"] == true || given(spec, "selector").is_none() {
        return;
    }
    let (name, uid) = (text(&object["metadata"], "name"), text(&object["metadata"], "uid"));
    if uid.is_empty() {
        problems.required("metadata.uid", "");
    }
    let had = |key: &str| {
        old.is_none_or(|old| given(&old["spec"]["template"]["metadata"]["labels"], key).is_some())
    };
    let prefixed = had(NAME_LABELS[1]) && had(UID_LABELS[1]);
    let mut expected = json!({});
    let mut need = |index: usize| {
        for (keys, value) in [(UID_LABELS, uid), (NAME_LABELS, name)] {
            has_label(problems, &spec["template"]["metadata"], keys[index], value);
            set(&mut expected, keys[index], value);
        }
    };
    need(0);
    if prefixed {
        need(1);
    }
    let selector = &spec["selector"];
    if workload::is_usable(selector) && !names::matches(selector, &expected) {
        problems.invalid("spec.selector", selector, "`selector` not auto-generated");
    }
}

fn has_label(problems: &mut Problems, metadata: &Value, key: &str, value: &str) {
    let at = Path::new("spec.template.metadata.labels");
    let why = format!("must be '{value}'");
    match metadata["labels"].get(key) {
        None => problems.required(at.key(key), &why),
        Some(own) if own != value => problems.invalid(at.key(key), metadata.get("labels"), &why),
        Some(_) => {}
    }
}

/// Upstream's `ValidateJobSpec`.
fn validate_spec(problems: &mut Problems, spec: &Value, old: Option<&Value>) {
    let at = Path::new("spec");
    validate_common(problems, &at, spec, old);
    let selector = &spec["selector"];
    if selector.is_null() {
        problems.required(at.field("selector"), "");
    } else {
        let tolerated = old.is_some_and(|old| names::has_bad_selector_value(&old["selector"]));
        names::selector_with(problems, &at.field("selector"), selector, tolerated);
    }
    let labels = &spec["template"]["metadata"]["labels"];
    if workload::is_usable(selector) && (selector.is_null() || !names::matches(selector, labels)) {
        let why = "`selector` does not match template `labels`";
        problems.invalid("spec.template.metadata.labels", spec["template"]["metadata"].get("labels"), why);
    }
}

/// What jobs and cron jobs' templates share (upstream's `validateJobSpec`).
pub(crate) fn validate_common(problems: &mut Problems, at: &Path<'_>, spec: &Value, old: Option<&Value>) {
    let keys = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    counts(problems, at, spec, &keys);
    if given(spec, "maxFailedIndexes").is_some() && given(spec, "backoffLimitPerIndex").is_none() {
        problems.required(at.field("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if let Some(manager) = given(spec, "managedBy").and_then(Value::as_str) {
        names::domain_prefixed_path(problems, at.field("managedBy"), manager);
        if manager.len() > MANAGER_BYTES {
            problems.too_many_bytes(at.field("managedBy"), MANAGER_BYTES);
        }
    }
    completion_mode(problems, at, spec);
    policies::failure(problems, &at.field("podFailurePolicy"), spec);
    policies::success(problems, &at.field("successPolicy"), spec);
    policies::replacement(problems, &at.field("podReplacementPolicy"), spec);
    let template = &spec["template"];
    let old = old.map(|old| &old["template"]);
    let within = at.field("template");
    pod_spec::validate_template(problems, &within, template, pod_spec::Template { old });
    let inside = within.field("spec");
    let field = inside.field("restartPolicy");
    match text(&template["spec"], "restartPolicy") {
        "" | "Always" => problems.required(field, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if given(spec, "podFailurePolicy").is_some() => {
            let why = "only \"Never\" is supported when podFailurePolicy is specified";
            problems.invalid(field, "OnFailure", why);
        }
        "OnFailure" | "Never" => {}
        policy => problems.unsupported_of(field, policy, &["OnFailure", "Never"]),
    }
}

fn completion_mode(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let mode = given(spec, "completionMode").and_then(Value::as_str);
    match mode {
        None | Some("NonIndexed") => {
            for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(limit) = number(spec, key) {
                    problems.invalid(at.field(key), limit, "requires indexed completion mode");
                }
            }
        }
        Some("Indexed") => indexed(problems, at, spec),
        Some(mode) => {
            problems.unsupported_of(at.field("completionMode"), mode, &["NonIndexed", "Indexed"]);
        }
    }
}

fn indexed(problems: &mut Problems, at: &Path<'_>, spec: &Value) {
    let completions = number(spec, "completions");
    let parallelism = number(spec, "parallelism");
    let failed = number(spec, "maxFailedIndexes");
    if completions.is_none() {
        problems.required(at.field("completions"), "when completion mode is Indexed");
    }
    if let Some(many) = parallelism.filter(|many| *many > SOFT_LIMIT) {
        let why = format!("must be less than or equal to {SOFT_LIMIT} when completion mode is Indexed");
        problems.invalid(at.field("parallelism"), many, &why);
    }
    if let (Some(failed), Some(completions)) = (failed, completions)
        && failed > completions
    {
        problems.invalid(at.field("maxFailedIndexes"), failed, "must be less than or equal to completions");
    }
    if let Some(failed) = failed.filter(|failed| *failed > SOFT_LIMIT) {
        let why = format!("must be less than or equal to {SOFT_LIMIT}");
        problems.invalid(at.field("maxFailedIndexes"), failed, &why);
    }
    if completions.is_none_or(|count| count <= SOFT_LIMIT) || given(spec, "backoffLimitPerIndex").is_none() {
        return;
    }
    if failed.is_none() {
        let why = format!("must be specified when completions is above {SOFT_LIMIT}");
        problems.required(at.field("maxFailedIndexes"), &why);
    }
    for (key, value) in [("parallelism", parallelism), ("maxFailedIndexes", failed)] {
        if let Some(many) = value.filter(|many| *many > HIGH_PARALLELISM) {
            let why = format!(
                "must be less than or equal to {HIGH_PARALLELISM} when completions are above {SOFT_LIMIT} and used with backoff limit per index"
            );
            problems.invalid(at.field(key), many, &why);
        }
    }
}

/// What may change in a job (upstream's `ValidateJobSpecUpdate`, which asks all of [`validate_spec`] once more).
fn validate_step(problems: &mut Problems, object: &Value, old: &Value) {
    let (new, before) = (&object["spec"], &old["spec"]);
    validate_spec(problems, new, Some(before));
    let immutable = |problems: &mut Problems, key: &str| {
        if !same_field(new, before, key) {
            problems.invalid(format_args!("spec.{key}"), new.get(key), IMMUTABLE);
        }
    };
    if text(new, "completionMode") != "Indexed" {
        immutable(problems, "completions");
    } else if let Some(count) = number(new, "completions")
        && number(before, "completions") != Some(count)
        && number(new, "parallelism") != Some(count)
    {
        let why = "can only be modified in tandem with spec.parallelism";
        problems.invalid("spec.completions", count, why);
    }
    immutable(problems, "selector");
    template_step(problems, object, old);
    for key in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(problems, key);
    }
}

/// A suspended job without pods may be placed and sized anew.
fn template_step(problems: &mut Problems, object: &Value, old: &Value) {
    let suspended = old["spec"]["suspend"] == true;
    let idle = given(&old["status"], "startTime").is_none() || status::holds(old, "Suspended");
    let mutable = suspended && idle && integer(&old["status"], "active") == 0;
    let new = &object["spec"]["template"];
    let mut before = old["spec"]["template"].clone();
    if !mutable {
        if !crate::json::same(new, &before) {
            let shown = crate::go_structures::shown("PodTemplateSpec", new);
            problems.invalid("spec.template", Verbatim(&shown), IMMUTABLE);
        }
        return;
    }
    if let Some(metadata) = child(&mut before, "metadata") {
        for key in ["annotations", "labels"] {
            take(metadata, &new["metadata"], key);
        }
    }
    if let Some(spec) = existing(&mut before, "spec") {
        for key in ["nodeSelector", "tolerations", "schedulingGates"] {
            take(spec, &new["spec"], key);
        }
        if let Some(affinity) = child(spec, "affinity") {
            take(affinity, &new["spec"]["affinity"], "nodeAffinity");
        }
        for key in ["containers", "initContainers"] {
            let wanted = list(&new["spec"], key);
            if wanted.len() != list(spec, key).len() {
                continue;
            }
            for (container, now) in list_mut(spec, key).iter_mut().zip(wanted) {
                if text(container, "name") == text(now, "name") {
                    take(container, now, "resources");
                }
            }
        }
    }
    if !crate::json::same(&new["spec"], &before["spec"]) {
        // Upstream's own spelling of the path.
        let shown = crate::go_structures::shown("PodSpec", &new["spec"]);
        problems.invalid("spec.template.spec", Verbatim(&shown), IMMUTABLE);
    }
}

fn take(holder: &mut Value, from: &Value, key: &str) {
    match given(from, key) {
        Some(value) => set(holder, key, value.clone()),
        None => drop(crate::json::remove(holder, key)),
    }
}

/// Of a job's spec and its template.
pub(crate) fn spec_warnings(at: &Path<'_>, spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let many = |key: &str, limit: i64| number(spec, key).is_some_and(|count| count > limit);
    if text(spec, "completionMode") == "Indexed"
        && many("completions", SOFT_LIMIT)
        && many("parallelism", HIGH_PARALLELISM)
    {
        found.push(format!("{at}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"));
    }
    found.extend(pod_spec::warnings(&at.field("template"), &spec["template"], true));
    found
}

fn cells(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let succeeded = integer(status, "succeeded");
    let completions = match (number(spec, "completions"), integer(spec, "parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, many) if many > 1 => format!("{succeeded}/1 of {many}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let time = |key: &str| text(status, key).parse::<Timestamp>().ok();
    let duration = time("startTime")
        .map_or(String::new(), |start| human_duration(start, time("completionTime").unwrap_or(now)));
    let [names, images] = container_cells(&spec["template"]);
    vec![
        status::shown(object).into(),
        completions.into(),
        duration.into(),
        age(object, now),
        names,
        images,
        names::shown_selector(&spec["selector"]).into(),
    ]
}
