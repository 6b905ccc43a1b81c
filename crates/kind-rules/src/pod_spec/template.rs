//! A workload's pod template.

use serde_json::Value;

use super::annotations;
use super::validation::{Scope, validate};
use crate::json::{given, list, text};
use crate::meta;
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

/// What a workload asks of its template beyond the pod's own rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Template<'a> {
    /// The template it replaces, or null.
    pub old: Option<&'a Value>,
}

/// `PodTemplateSpec` at `at` (upstream's `ValidatePodTemplateSpec`).
pub fn validate_template(problems: &mut Problems, at: &Path<'_>, template: &Value, around: Template<'_>) {
    let metadata = &template["metadata"];
    names::labels(problems, &at.field("labels"), metadata, "labels");
    let notes = at.field("annotations");
    meta::annotations(problems, &notes, metadata);
    let old = around.old.map(|old| &old["spec"]);
    let scope = Scope { is_pod: false, metadata: None, old };
    annotations::validate(
        problems,
        &notes,
        metadata,
        &template["spec"],
        around.old.map(|old| &old["metadata"]),
    );
    validate(problems, &at.field("spec"), &template["spec"], scope);
    annotations::validate_fields_match(problems, &at.field("spec"), metadata, &template["spec"]);
    if !list(&template["spec"], "ephemeralContainers").is_empty() {
        let why = "ephemeral containers not allowed in pod template";
        problems.forbidden(at.field("spec").field("ephemeralContainers"), why);
    }
}

impl Template<'_> {
    /// The restart policy of a template whose controller allows only some (upstream's order of the supported ones).
    pub fn restart_policy(problems: &mut Problems, at: &Path<'_>, template: &Value, supported: &[&str]) {
        let policy = text(&template["spec"], "restartPolicy");
        if !supported.contains(&policy) {
            let at = at.field("spec");
            problems.unsupported_of(at.field("restartPolicy"), policy, supported);
        }
    }

    /// No deadline for pods that are always replaced.
    pub fn no_deadline(problems: &mut Problems, at: &Path<'_>, template: &Value, controller: &str) {
        if given(&template["spec"], "activeDeadlineSeconds").is_some() {
            let why = format!("activeDeadlineSeconds in {controller} is not Supported");
            let at = at.field("spec");
            problems.forbidden(at.field("activeDeadlineSeconds"), &why);
        }
    }
}
