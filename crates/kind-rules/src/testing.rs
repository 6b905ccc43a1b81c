//! What the tests of kinds' rules share.

use serde_json::Value;

use crate::problems::Problems;
use crate::rules::KindRules;

fn shown(problems: Problems) -> Vec<String> {
    problems.into_causes().into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

/// What is wrong with a new object, as `field: message`.
pub(crate) fn findings(rules: &KindRules, object: &Value) -> Vec<String> {
    let mut problems = Problems::default();
    (rules.validate)(&mut problems, object);
    shown(problems)
}

/// What is wrong with an update.
pub(crate) fn update_findings(rules: &KindRules, object: &Value, old: &Value) -> Vec<String> {
    let mut problems = Problems::default();
    if rules.validates_updates {
        (rules.validate)(&mut problems, object);
    }
    (rules.validate_update)(&mut problems, object, old);
    shown(problems)
}

/// What is wrong with a new status.
pub(crate) fn status_findings(rules: &KindRules, object: &Value, old: &Value) -> Vec<String> {
    let mut problems = Problems::default();
    (rules.validate_status)(&mut problems, object, old);
    shown(problems)
}
