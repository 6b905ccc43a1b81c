//! `v1.Namespace`: it goes only when its finalizer has gone.

use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::{Status, StatusCause};
use serde_json::{Value, json};

use crate::registry::plain::Plain;
use crate::registry::strategy::{RequestContext, Strategy};
use kind_rules::columns::Column;
use kind_rules::core::namespace::{RULES, label, validate_finalizers};
use kind_rules::json::set;
use kind_rules::names::NameRule;
use kind_rules::problems::Problems;

/// The strategy.
#[derive(Debug)]
pub(crate) struct Namespace;

const PLAIN: Plain = Plain(RULES);

#[async_trait]
impl Strategy for Namespace {
    fn name_rule(&self) -> NameRule {
        PLAIN.name_rule()
    }

    fn default_fields(&self, object: &mut Value) {
        PLAIN.default_fields(object);
    }

    async fn prepare_for_create(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        label(object, cx.name);
        PLAIN.prepare_for_create(cx, object).await
    }

    async fn prepare_for_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if cx.subresource == Some("finalize") {
            set(object, "status", old.get("status").cloned().unwrap_or(json!({})));
            return Ok(());
        }
        PLAIN.prepare_for_update(cx, object, old).await
    }

    fn validate(&self, cx: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        PLAIN.validate(cx, object)
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        if cx.subresource == Some("finalize") {
            let mut problems = Problems::default();
            validate_finalizers(&mut problems, object);
            return problems.into_causes();
        }
        PLAIN.validate_update(cx, object, old)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        RULES.selectable
    }

    fn counts_generation(&self) -> bool {
        RULES.counts_generation
    }

    fn columns(&self) -> Vec<Column> {
        PLAIN.columns()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        PLAIN.cells(object, now)
    }
}
