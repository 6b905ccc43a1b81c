//! `admissionregistration.k8s.io`: webhook configurations and admission policies with their bindings. That expressions
//! compile is checked by the CEL engine, which is no part of this crate.

mod matching;
mod mutating_policy;
mod policy;
mod policy_binding;
mod validating_policy;
mod webhook;

use serde_json::Value;

pub use mutating_policy::MUTATING_ADMISSION_POLICY;
pub use policy_binding::{MUTATING_ADMISSION_POLICY_BINDING, VALIDATING_ADMISSION_POLICY_BINDING};
pub use validating_policy::VALIDATING_ADMISSION_POLICY;
pub use webhook::{MUTATING_WEBHOOK_CONFIGURATION, VALIDATING_WEBHOOK_CONFIGURATION};

use crate::checks::{count_generation, first_generation};
use crate::json::text;
use crate::rules::KindRules;

/// What the four kinds without a status share: a generation that counts `spec`.
const COUNTED: KindRules = KindRules {
    prepare_create: first_generation,
    prepare_update: |object, old| count_generation(object, old, "spec"),
    warnings: static_suffix_warning,
    unconditional_update: false,
    ..KindRules::NEW
};

/// Names that end so are kept for objects from files.
fn static_suffix_warning(object: &Value, _: Option<&Value>) -> Vec<String> {
    const SUFFIX: &str = ".static.k8s.io";
    let name = text(&object["metadata"], "name");
    if !name.ends_with(SUFFIX) {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: names ending with \"{SUFFIX}\" are reserved for static manifest-based configurations and cannot \
         be managed via the API"
    )]
}
