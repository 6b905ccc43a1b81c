//! `rbac.authorization.k8s.io/v1`: nobody grants what they do not hold. The rules are `kind_rules::rbac`.

use access::authorization::{PolicyRule, RoleReference};
use async_trait::async_trait;
use jiff::Timestamp;
use kind_rules::columns::Column;
use kind_rules::json::{present, text};
use kind_rules::names::NameRule;
use kind_rules::rules::KindRules;
use kube_objects::{Status, StatusCause};
use serde_json::Value;

use super::plain::Plain;
use super::strategy::{RequestContext, Strategy};

/// Role or ClusterRole, by its rules.
pub(crate) struct Role(pub(crate) &'static KindRules);

/// RoleBinding or ClusterRoleBinding, by its rules.
pub(crate) struct Binding(pub(crate) &'static KindRules);

fn rules(object: &Value) -> Result<Vec<PolicyRule>, Status> {
    match object.get("rules") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(rules) => serde_json::from_value(rules.clone()).map_err(|error| {
            Status::new(
                kube_objects::Reason::BadRequest,
                format!("the role's rules are not readable: {error}"),
            )
        }),
    }
}

/// What both strategies take from their kind's rules.
macro_rules! by_the_rules {
    () => {
        fn name_rule(&self) -> NameRule {
            self.0.names
        }

        fn default_fields(&self, object: &mut Value) {
            (self.0.defaults)(object);
        }

        fn validate(&self, cx: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
            Plain(*self.0).validate(cx, object)
        }

        fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
            Plain(*self.0).validate_update(cx, object, old)
        }

        fn columns(&self) -> Vec<Column> {
            (self.0.columns)()
        }

        fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
            Plain(*self.0).cells(object, now)
        }

        fn allows_create_on_update(&self) -> bool {
            true
        }
    };
}

#[async_trait]
impl Strategy for Role {
    by_the_rules!();

    async fn authorize(
        &self,
        cx: &RequestContext<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let Some(authorizer) = cx.authorizer else { return Ok(()) };
        let unchanged = old.is_some_and(|old| {
            old.get("rules") == object.get("rules")
                && old.get("aggregationRule") == object.get("aggregationRule")
        });
        // Metadata alone grants nothing.
        if unchanged {
            return Ok(());
        }
        let role = RoleReference { kind: cx.resource.kind.clone(), name: cx.name.to_owned() };
        let aggregates = present(object, "aggregationRule")
            && old.is_none_or(|old| old.get("aggregationRule") != object.get("aggregationRule"));
        authorizer.check_escalation(cx.user, &role, cx.namespace, &rules(object)?, aggregates)
    }
}

#[async_trait]
impl Strategy for Binding {
    by_the_rules!();

    async fn authorize(
        &self,
        cx: &RequestContext<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let Some(authorizer) = cx.authorizer else { return Ok(()) };
        if old.is_some_and(|old| {
            old.get("subjects") == object.get("subjects") && old["roleRef"] == object["roleRef"]
        }) {
            return Ok(());
        }
        let role = &object["roleRef"];
        let role = RoleReference { kind: text(role, "kind").to_owned(), name: text(role, "name").to_owned() };
        authorizer.check_bind(cx.user, &role, cx.namespace, cx.name)
    }
}
