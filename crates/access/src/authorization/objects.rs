//! Roles and bindings, from their JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::PolicyRule;

/// A document is no role or binding.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RbacError {
    /// It is of another kind.
    #[error("an object of kind {kind:?} is no role or binding")]
    Kind {
        /// The kind it says it is.
        kind: String,
    },
    /// Its fields are not those of its kind.
    #[error("cannot read a {kind}")]
    Malformed {
        /// Its kind.
        kind: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// The kinds that grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the Kubernetes kind of that name")]
pub enum RbacKind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl RbacKind {
    /// The kind of a resource's objects: `roles` …; `None` for others.
    #[must_use]
    pub fn of_resource(resource: &str) -> Option<Self> {
        Some(match resource {
            "roles" => Self::Role,
            "clusterroles" => Self::ClusterRole,
            "rolebindings" => Self::RoleBinding,
            "clusterrolebindings" => Self::ClusterRoleBinding,
            _ => return None,
        })
    }
}

/// A role as a binding names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RoleReference {
    /// `Role` or `ClusterRole`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl RoleReference {
    /// The resource of its kind.
    #[must_use]
    pub fn resource(&self) -> &'static str {
        if self.kind == "ClusterRole" { "clusterroles" } else { "roles" }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub name: String,
    pub namespace: String,
    pub labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subject {
    pub kind: String,
    pub name: String,
    pub namespace: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Selector {
    pub match_labels: Option<BTreeMap<String, String>>,
    pub match_expressions: Option<Vec<Expression>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Expression {
    pub key: String,
    pub operator: String,
    pub values: Option<Vec<String>>,
}

impl Selector {
    /// An empty selector matches everything, as upstream's does.
    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().flatten().all(|expression| {
                let value = labels.get(&expression.key);
                let listed =
                    value.is_some_and(|value| expression.values.iter().flatten().any(|own| own == value));
                match expression.operator.as_str() {
                    "In" => listed,
                    "NotIn" => !listed,
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AggregationRule {
    pub cluster_role_selectors: Option<Vec<Selector>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    metadata: Metadata,
    rules: Option<Vec<PolicyRule>>,
    aggregation_rule: Option<AggregationRule>,
    subjects: Option<Vec<Subject>>,
    role_ref: RoleReference,
}

#[derive(Debug)]
pub(super) enum Content {
    Role { rules: Vec<PolicyRule>, labels: BTreeMap<String, String>, aggregates: Option<Vec<Selector>> },
    Binding { subjects: Vec<Subject>, role: RoleReference },
}

#[derive(Debug)]
pub(super) struct Object {
    pub kind: RbacKind,
    pub namespace: String,
    pub name: String,
    pub content: Content,
}

pub(super) fn parse(object: &Value) -> Result<Object, RbacError> {
    let kind_name = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let kind = match kind_name {
        "Role" => RbacKind::Role,
        "ClusterRole" => RbacKind::ClusterRole,
        "RoleBinding" => RbacKind::RoleBinding,
        "ClusterRoleBinding" => RbacKind::ClusterRoleBinding,
        other => return Err(RbacError::Kind { kind: other.to_owned() }),
    };
    let document = Document::deserialize(object)
        .map_err(|source| RbacError::Malformed { kind: kind_name.to_owned(), source })?;
    let content = match kind {
        RbacKind::Role | RbacKind::ClusterRole => Content::Role {
            rules: document.rules.unwrap_or_default(),
            labels: document.metadata.labels.unwrap_or_default(),
            aggregates: document
                .aggregation_rule
                .filter(|_| kind == RbacKind::ClusterRole)
                .map(|rule| rule.cluster_role_selectors.unwrap_or_default()),
        },
        RbacKind::RoleBinding | RbacKind::ClusterRoleBinding => {
            Content::Binding { subjects: document.subjects.unwrap_or_default(), role: document.role_ref }
        }
    };
    let cluster_wide = matches!(kind, RbacKind::ClusterRole | RbacKind::ClusterRoleBinding);
    let namespace = if cluster_wide { String::new() } else { document.metadata.namespace };
    Ok(Object { kind, namespace, name: document.metadata.name, content })
}
