//! `v1.ReplicationController`: a replica set whose selector is a bare map, by default the template's labels.

use serde_json::{Value, json};

use crate::apps::replica_set;
use crate::json::{default, entries, existing, given, integer, set};
use crate::names;
use crate::path::Path;
use crate::pod_spec::{Template, validate_template};
use crate::problems::Problems;
use crate::rules::KindRules;
use crate::workload::{self, counts};

/// What Kubernetes demands of replication controllers.
pub const RULES: KindRules = KindRules {
    defaults: |object| {
        let labels = given(&object["spec"]["template"]["metadata"], "labels").cloned();
        workload::in_spec(object, |spec| {
            default(spec, "replicas", 1);
            if let Some(labels) = &labels
                && entries(spec, "selector").next().is_none()
            {
                set(spec, "selector", labels.clone());
            }
        });
        if let Some(labels) = labels
            && entries(&object["metadata"], "labels").next().is_none()
            && let Some(metadata) = existing(object, "metadata")
        {
            set(metadata, "labels", labels);
        }
    },
    prepare_create: |object| workload::prepare_counted(object, &["replicas"]),
    prepare_update: workload::prepare_update,
    validate: |problems, object| validate_spec(problems, &object["spec"], None),
    validates_updates: false,
    validate_update: |problems, object, old| validate_spec(problems, &object["spec"], Some(&old["spec"])),
    validate_status: |problems, object, _| replica_set::validate_status(problems, &object["status"]),
    warnings: |object, old| workload::warnings(object, old, true),
    columns: || replica_set::columns("ReplicationControllerSpec", "ReplicationControllerStatus"),
    cells: |object, now| replica_set::cells(object, now, names::shown_labels(&object["spec"], "selector")),
    selectable: &["status.replicas"],
    field_value: |object, _| Some(integer(&object["status"], "replicas").to_string()),
    ..KindRules::NEW
};

fn validate_spec(problems: &mut Problems, spec: &Value, old: Option<&Value>) {
    let at = Path::new("spec");
    counts(problems, &at, spec, &["minReadySeconds"]);
    if entries(spec, "selector").next().is_none() {
        problems.required(at.field("selector"), "");
    }
    if given(spec, "replicas").is_none() {
        problems.required(at.field("replicas"), "");
    }
    counts(problems, &at, spec, &["replicas"]);
    let Some(template) = given(spec, "template") else { return problems.required(at.field("template"), "") };
    let at = at.field("template");
    workload::selected(problems, &at, &json!({"matchLabels": spec["selector"]}), template);
    validate_template(problems, &at, template, Template { old: old.map(|old| &old["template"]) });
    Template::restart_policy(problems, &at, template, &["Always"]);
    Template::no_deadline(problems, &at, template, "ReplicationController");
}
