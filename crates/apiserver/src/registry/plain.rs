//! Kinds whose rules are pure: a [`KindRules`] as a [`Strategy`].

use async_trait::async_trait;
use jiff::Timestamp;
use kind_rules::columns::Column;
use kind_rules::names::NameRule;
use kind_rules::problems::Problems;
use kind_rules::rules::KindRules;
use kube_objects::{Status, StatusCause};
use serde_json::Value;

use super::strategy::{RequestContext, Strategy, field_at};

/// A kind that has nothing beyond its rules.
pub(crate) struct Plain(pub(crate) KindRules);

#[async_trait]
impl Strategy for Plain {
    fn name_rule(&self) -> NameRule {
        self.0.names
    }

    fn default_fields(&self, object: &mut Value) {
        (self.0.defaults)(object);
    }

    async fn prepare_for_create(&self, _: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        (self.0.prepare_create)(object);
        Ok(())
    }

    async fn prepare_for_update(
        &self,
        _: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        (self.0.prepare_update)(object, old);
        Ok(())
    }

    async fn prepare_for_status_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if cx.subresource == Some("status") {
            (self.0.prepare_status)(object, old);
        }
        Ok(())
    }

    fn validate(&self, _: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        (self.0.validate)(&mut problems, object);
        problems.into_causes()
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        if cx.subresource == Some("status") {
            // A status update cannot mend the spec, so it is not held against it.
            (self.0.validate_status)(&mut problems, object, old);
        } else {
            if self.0.validates_updates {
                (self.0.validate)(&mut problems, object);
            }
            (self.0.validate_update)(&mut problems, object, old);
        }
        problems.into_causes()
    }

    fn checks_finalizers(&self) -> bool {
        self.0.checks_finalizers
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        (self.0.warnings)(object, None)
    }

    fn update_warnings(&self, object: &Value, old: &Value) -> Vec<String> {
        (self.0.warnings)(object, Some(old))
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        self.0.selectable
    }

    fn field_value(&self, object: &Value, path: &str) -> String {
        (self.0.field_value)(object, path).unwrap_or_else(|| field_at(object, path))
    }

    fn orphans_by_default(&self) -> bool {
        self.0.orphans_by_default
    }

    fn counts_annotations(&self) -> bool {
        self.0.counts_annotations
    }

    fn columns(&self) -> Vec<Column> {
        (self.0.columns)()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![(self.0.shown_name)(object)];
        cells.extend((self.0.cells)(object, now));
        cells
    }

    fn counts_generation(&self) -> bool {
        self.0.counts_generation
    }

    fn allows_unconditional_update(&self) -> bool {
        self.0.unconditional_update
    }

    async fn authorize(
        &self,
        cx: &RequestContext<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        super::admissionregistration::authorize_parameters(cx, object, old).await
    }

    async fn after_create(&self, cx: &RequestContext<'_>, object: &Value) {
        super::admissionregistration::check_types(cx, object).await;
    }

    async fn after_update(&self, cx: &RequestContext<'_>, object: &Value, _old: &Value) {
        super::admissionregistration::check_types(cx, object).await;
    }

    fn allows_create_on_update(&self) -> bool {
        self.0.create_on_update
    }
}
