//! Kinds with nothing but defaults, checks and columns: a table of functions instead of a type each.

use jiff::Timestamp;
use kube_objects::StatusCause;
use serde_json::Value;

use super::problems::Problems;
use super::strategy::{Column, NameRule, RequestContext, Strategy, age};

/// A kind described by its parts.
pub(crate) struct Plain {
    pub defaults: fn(&mut Value),
    pub validate: fn(&mut Problems, &Value),
    /// Beside `validate`, for updates: object, old.
    pub validate_update: fn(&mut Problems, &Value, &Value),
    pub columns: fn() -> Vec<Column>,
    /// The cells after the name.
    pub cells: fn(&Value, Timestamp) -> Vec<Value>,
    pub selectable: &'static [&'static str],
    pub names: NameRule,
}

impl Plain {
    /// Name and age, anything goes.
    pub(crate) const NEW: Self = Self {
        defaults: |_| {},
        validate: |_, _| {},
        validate_update: |_, _, _| {},
        columns: || vec![Column::object_name(), Column::age()],
        cells: |object, now| vec![age(object, now)],
        selectable: &[],
        names: NameRule::DnsSubdomain,
    };
}

impl Strategy for Plain {
    fn name_rule(&self) -> NameRule {
        self.names
    }

    fn default_fields(&self, object: &mut Value) {
        (self.defaults)(object);
    }

    fn validate(&self, _: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        (self.validate)(&mut problems, object);
        problems.into_causes()
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        // A status update cannot mend the spec, so it is not held against it.
        if cx.subresource != Some("status") {
            (self.validate)(&mut problems, object);
            (self.validate_update)(&mut problems, object, old);
        }
        problems.into_causes()
    }

    fn selectable_fields(&self) -> &[&'static str] {
        self.selectable
    }

    fn columns(&self) -> Vec<Column> {
        (self.columns)()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![object["metadata"]["name"].clone()];
        cells.extend((self.cells)(object, now));
        cells
    }
}

/// A text cell; `otherwise` when there is none.
pub(crate) fn or(text: &str, otherwise: &str) -> Value {
    Value::from(if text.is_empty() { otherwise } else { text })
}

/// A number cell; 0 when there is none.
pub(crate) fn number(object: &Value, key: &str) -> Value {
    Value::from(super::json::integer(object, key))
}

/// Names and images of a pod template's containers, for wide output.
pub(crate) fn container_cells(template: &Value) -> [Value; 2] {
    let containers = super::json::list(&template["spec"], "containers");
    let join = |key: &str| {
        containers.iter().map(|container| super::json::text(container, key)).collect::<Vec<_>>().join(",")
    };
    [join("name").into(), join("image").into()]
}
