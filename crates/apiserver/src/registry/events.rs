//! Events of both groups: one storage, whose rules depend on the group that writes. The rules are `kind_rules::events`.

use jiff::Timestamp;
use kind_rules::columns::Column;
use kind_rules::events;
use kind_rules::problems::Problems;
use kube_objects::StatusCause;
use serde_json::Value;

use super::strategy::{RequestContext, Strategy};

/// `Event`.
pub(crate) struct Event;

fn strict(cx: &RequestContext<'_>) -> bool {
    cx.resource.gvr.group == "events.k8s.io"
}

impl Strategy for Event {
    fn default_fields(&self, object: &mut Value) {
        events::default_times(object);
    }

    fn validate(&self, cx: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        events::validate(&mut problems, object, strict(cx));
        problems.into_causes()
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        events::validate_update(&mut problems, object, old, strict(cx));
        problems.into_causes()
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        events::SELECTABLE
    }

    fn field_label(&self, group: &str, label: &str) -> Option<String> {
        events::field_label(label, group == "events.k8s.io")
    }

    fn field_value(&self, object: &Value, path: &str) -> String {
        events::field_value(object, path)
    }

    fn columns(&self) -> Vec<Column> {
        events::columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        events::cells(object, now)
    }

    fn allows_create_on_update(&self) -> bool {
        true
    }
}
