//! `rbac.authorization.k8s.io/v1`: nobody grants what they do not hold, and a binding's role never changes.

use access::authorization::{PolicyRule, RoleReference};
use async_trait::async_trait;
use jiff::Timestamp;
use kube_objects::{Status, StatusCause};
use serde_json::Value;

use super::strategy::{RequestContext, Strategy};
use kind_rules::columns::{Column, age};
use kind_rules::json::{default_text, existing, list, list_mut, present, text};
use kind_rules::names::NameRule;
use kind_rules::problems::Problems;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Role or ClusterRole.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) cluster_wide: bool,
}

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

#[async_trait]
impl Strategy for Role {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate(&self, _: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        for (index, rule) in list(object, "rules").iter().enumerate() {
            validate_rule(&mut problems, &format!("rules[{index}]"), rule, self.cluster_wide);
        }
        if self.cluster_wide {
            let selectors = &object["aggregationRule"];
            if selectors.is_object() && list(selectors, "clusterRoleSelectors").is_empty() {
                problems.required(
                    "aggregationRule.clusterRoleSelectors",
                    "at least one clusterRoleSelector required if aggregationRule is non-nil",
                );
            }
        }
        problems.into_causes()
    }

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
        let kind = if self.cluster_wide { "ClusterRole" } else { "Role" };
        let role = RoleReference { kind: kind.to_owned(), name: cx.name.to_owned() };
        let aggregates = present(object, "aggregationRule")
            && old.is_none_or(|old| old.get("aggregationRule") != object.get("aggregationRule"));
        authorizer.check_escalation(cx.user, &role, cx.namespace, &rules(object)?, aggregates)
    }

    fn columns(&self) -> Vec<Column> {
        vec![Column::object_name(), Column::new("Created At").of("date")]
    }

    fn cells(&self, object: &Value, _: Timestamp) -> Vec<Value> {
        // Upstream shows these two kinds with the moment instead of the age.
        vec![object["metadata"]["name"].clone(), object["metadata"]["creationTimestamp"].clone()]
    }
}

fn validate_rule(problems: &mut Problems, at: &str, rule: &Value, cluster_wide: bool) {
    if list(rule, "verbs").is_empty() {
        problems.required(&format!("{at}.verbs"), "verbs must contain at least one value");
    }
    let urls = list(rule, "nonResourceURLs");
    let (groups, resources) = (list(rule, "apiGroups"), list(rule, "resources"));
    if urls.is_empty() {
        if groups.is_empty() {
            problems
                .required(&format!("{at}.apiGroups"), "resource rules must supply at least one api group");
        }
        if resources.is_empty() {
            problems.required(&format!("{at}.resources"), "resource rules must supply at least one resource");
        }
        return;
    }
    let field = format!("{at}.nonResourceURLs");
    if !cluster_wide {
        problems.invalid(
            &field,
            &rule["nonResourceURLs"],
            "namespaced rules cannot apply to non-resource URLs",
        );
    }
    if !groups.is_empty() || !resources.is_empty() || !list(rule, "resourceNames").is_empty() {
        let detail = "rules cannot apply to both regular resources and non-resource URLs";
        problems.invalid(&field, &rule["nonResourceURLs"], detail);
    }
}

/// RoleBinding or ClusterRoleBinding.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) cluster_wide: bool,
}

#[async_trait]
impl Strategy for Binding {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn default_fields(&self, object: &mut Value) {
        if let Some(role) = existing(object, "roleRef") {
            default_text(role, "apiGroup", GROUP);
        }
        for subject in list_mut(object, "subjects") {
            if matches!(text(subject, "kind"), "User" | "Group") {
                default_text(subject, "apiGroup", GROUP);
            }
        }
    }

    fn validate(&self, _: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        let role = &object["roleRef"];
        let kinds: &[&str] = if self.cluster_wide { &["ClusterRole"] } else { &["ClusterRole", "Role"] };
        problems.choice("roleRef.apiGroup", role.get("apiGroup"), &[GROUP], false);
        problems.choice("roleRef.kind", role.get("kind"), kinds, false);
        if text(role, "name").is_empty() {
            problems.required("roleRef.name", "");
        }
        for (index, subject) in list(object, "subjects").iter().enumerate() {
            let at = format!("subjects[{index}]");
            if text(subject, "name").is_empty() {
                problems.required(&format!("{at}.name"), "");
            }
            let kinds = ["User", "Group", "ServiceAccount"];
            problems.choice(&format!("{at}.kind"), subject.get("kind"), &kinds, false);
            let service_account = text(subject, "kind") == "ServiceAccount";
            if service_account && self.cluster_wide && text(subject, "namespace").is_empty() {
                problems.required(&format!("{at}.namespace"), "");
            }
        }
        problems.into_causes()
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        let mut causes = self.validate(cx, object);
        if object["roleRef"] != old["roleRef"] {
            let mut problems = Problems::default();
            problems.invalid("roleRef", &object["roleRef"], "cannot change roleRef");
            causes.extend(problems.into_causes());
        }
        causes
    }

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

    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![Column::object_name(), Column::new("Role"), Column::age()];
        columns.extend(["Users", "Groups", "ServiceAccounts"].map(Column::wide));
        columns
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let role = &object["roleRef"];
        let subjects = |kind: &str| {
            let found: Vec<String> = list(object, "subjects")
                .iter()
                .filter(|subject| text(subject, "kind") == kind)
                .map(|subject| match (kind, text(subject, "namespace")) {
                    ("ServiceAccount", namespace) if !namespace.is_empty() => {
                        format!("{namespace}/{}", text(subject, "name"))
                    }
                    _ => text(subject, "name").to_owned(),
                })
                .collect();
            Value::from(found.join(", "))
        };
        vec![
            object["metadata"]["name"].clone(),
            format!("{}/{}", text(role, "kind"), text(role, "name")).into(),
            age(object, now),
            subjects("User"),
            subjects("Group"),
            subjects("ServiceAccount"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_about_resources_or_about_paths() {
        let fields = |rule: Value, cluster_wide: bool| {
            let mut problems = Problems::default();
            validate_rule(&mut problems, "rules[0]", &rule, cluster_wide);
            problems.into_causes().into_iter().map(|cause| cause.field).collect::<Vec<_>>()
        };
        let fine = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]});
        assert!(fields(fine, false).is_empty());
        let path = json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]});
        assert!(fields(path.clone(), true).is_empty());
        assert_eq!(fields(path, false), ["rules[0].nonResourceURLs"]);
        assert_eq!(fields(json!({}), true), ["rules[0].verbs", "rules[0].apiGroups", "rules[0].resources"]);
    }

    #[test]
    fn bindings_are_completed() {
        let mut binding = json!({"roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]});
        Binding { cluster_wide: false }.default_fields(&mut binding);
        assert_eq!(binding["roleRef"]["apiGroup"], GROUP);
        assert_eq!(binding["subjects"][0]["apiGroup"], GROUP);
        assert!(binding["subjects"][1].get("apiGroup").is_none());
        let cells = Binding { cluster_wide: false }.cells(&binding, Timestamp::UNIX_EPOCH);
        assert_eq!(cells[1], "Role/r");
        assert_eq!(cells[5], "n/s");
    }
}
