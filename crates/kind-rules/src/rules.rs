//! [`KindRules`]: what a kind demands, as a table of pure functions; and cells that several kinds share.

use jiff::Timestamp;
use serde_json::Value;

use crate::columns::{Column, age};
use crate::names::NameRule;
use crate::problems::Problems;

/// A kind described by its parts. Objects come whole, as JSON in the storage version; every function bears any shape.
///
/// Order of a create: `defaults`, admission, `prepare_create`, `validate`. Of an update: `defaults`, admission,
/// `prepare_update`, `validate` (where `validates_updates`), `validate_update`. Of a status update: `prepare_status`,
/// `validate_status`. Metadata (names, labels, owners, immutable fields) is checked by the caller, for all kinds alike.
#[derive(Clone, Copy, Debug)]
pub struct KindRules {
    /// What its names look like.
    pub names: NameRule,
    /// Whether a finalizer without a group has to be one of the standard ones.
    pub checks_finalizers: bool,
    /// What upstream's `SetDefaults_…` functions fill in beyond the schema's defaults.
    pub defaults: fn(&mut Value),
    /// Clears and sets what a new object may not bring along (upstream's `PrepareForCreate`, without what needs other
    /// objects).
    pub prepare_create: fn(&mut Value),
    /// Carries over what an update may not change: object, old (upstream's `PrepareForUpdate`; status is kept by the
    /// caller).
    pub prepare_update: fn(&mut Value, &Value),
    /// The same for the subresource `status`: object, old.
    pub prepare_status: fn(&mut Value, &Value),
    /// What is wrong with an object by itself.
    pub validate: fn(&mut Problems, &Value),
    /// Whether an updated object is held to `validate` too.
    pub validates_updates: bool,
    /// What is wrong with the step: object, old.
    pub validate_update: fn(&mut Problems, &Value, &Value),
    /// What is wrong with a new status: object, old.
    pub validate_status: fn(&mut Problems, &Value, &Value),
    /// Told to the client in `Warning` headers: object, old if there is one.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// The cell of the name, which a few kinds add to.
    pub shown_name: fn(&Value) -> Value,
    /// Columns of a Table; the first is the name.
    pub columns: fn() -> Vec<Column>,
    /// The cells after the name.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
    /// Field selectors besides metadata.name and metadata.namespace, as paths.
    pub selectable: &'static [&'static str],
    /// The value of a selectable field that is not simply what stands at its path.
    pub field_value: fn(&Value, &str) -> Option<String>,
    /// A DELETE that names no propagation policy leaves dependents (jobs).
    pub orphans_by_default: bool,
    /// Whether a change of annotations counts in `metadata.generation` too (deployments).
    pub counts_annotations: bool,
    /// Whether a change outside metadata and status counts in `metadata.generation`.
    pub counts_generation: bool,
    /// Whether a PUT without resourceVersion may overwrite.
    pub unconditional_update: bool,
    /// Whether a PUT of an object that is not there creates it.
    pub create_on_update: bool,
}

impl KindRules {
    /// Name and age, anything goes.
    pub const NEW: Self = Self {
        names: NameRule::DnsSubdomain,
        checks_finalizers: true,
        defaults: |_| {},
        prepare_create: |_| {},
        prepare_update: |_, _| {},
        prepare_status: |_, _| {},
        validate: |_, _| {},
        validates_updates: true,
        validate_update: |_, _, _| {},
        validate_status: |_, _, _| {},
        warnings: |_, _| Vec::new(),
        shown_name: |object| object["metadata"]["name"].clone(),
        columns: || vec![Column::object_name(), Column::age()],
        cells: |object, now| vec![age(object, now)],
        selectable: &[],
        field_value: |_, _| None,
        orphans_by_default: false,
        counts_annotations: false,
        counts_generation: true,
        unconditional_update: true,
        create_on_update: false,
    };
}

/// A text cell; `otherwise` when there is none.
#[must_use]
pub fn or(text: &str, otherwise: &str) -> Value {
    Value::from(if text.is_empty() { otherwise } else { text })
}

/// A number cell; 0 when there is none.
#[must_use]
pub fn number(object: &Value, key: &str) -> Value {
    Value::from(crate::json::integer(object, key))
}

/// Names and images of a pod template's containers, for wide output.
#[must_use]
pub fn container_cells(template: &Value) -> [Value; 2] {
    let containers = crate::json::list(&template["spec"], "containers");
    let join = |key: &str| {
        containers.iter().map(|container| crate::json::text(container, key)).collect::<Vec<_>>().join(",")
    };
    [join("name").into(), join("image").into()]
}

/// A name cell that says whether an annotation makes the object the default of its kind.
#[must_use]
pub fn name_with_default(object: &Value, annotation: &str) -> Value {
    let metadata = &object["metadata"];
    let name = crate::json::text(metadata, "name");
    let beta = annotation.replacen(".kubernetes.io", ".beta.kubernetes.io", 1);
    let is_default = [annotation, &beta].iter().any(|key| metadata["annotations"][*key] == "true");
    Value::from(if is_default { format!("{name} (default)") } else { name.to_owned() })
}
