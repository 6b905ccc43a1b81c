//! Whether a rule wants a request (upstream `predicates/rules`). Pure.

use kind_rules::json::{list, text};
use kube_objects::GroupVersionResource;
use serde_json::Value;

use crate::admission::Operation;

/// One of a webhook's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource ("" for the resource itself).
    resources: Vec<(String, String)>,
    scope: Scope,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    #[default]
    All,
    Namespaced,
    Cluster,
    /// Neither word of the API: wants nothing.
    Nothing,
}

/// What of a request a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) operation: Operation,
    pub(super) resource: &'a GroupVersionResource,
    pub(super) subresource: &'a str,
    /// Whether it is in a namespace; a namespace itself is not.
    pub(super) namespaced: bool,
}

impl Rule {
    pub(super) fn of(rule: &Value) -> Self {
        let texts = |key: &str| -> Vec<String> {
            list(rule, key).iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
        };
        let split = |resource: String| match resource.split_once('/') {
            Some((resource, sub)) => (resource.to_owned(), sub.to_owned()),
            None => (resource, String::new()),
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources").into_iter().map(split).collect(),
            scope: match text(rule, "scope") {
                "" | "*" => Scope::All,
                "Namespaced" => Scope::Namespaced,
                "Cluster" => Scope::Cluster,
                _ => Scope::Nothing,
            },
        }
    }

    pub(super) fn wants(&self, asked: &Asked<'_>) -> bool {
        let any = |list: &[String], wanted: &str| list.iter().any(|own| own == "*" || own == wanted);
        let scope = match self.scope {
            Scope::All => true,
            Scope::Namespaced => asked.namespaced,
            Scope::Cluster => !asked.namespaced,
            Scope::Nothing => false,
        };
        scope
            && any(&self.operations, asked.operation.as_str())
            && any(&self.groups, &asked.resource.group)
            && any(&self.versions, &asked.resource.version)
            && self.resources.iter().any(|(resource, sub)| {
                (resource == "*" || *resource == asked.resource.resource)
                    && (sub == "*" || sub == asked.subresource)
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_want_what_upstreams_want() {
        let pods = GroupVersionResource::new("", "v1", "pods");
        let deployments = GroupVersionResource::new("apps", "v1", "deployments");
        let rule = |resources: &[&str], scope: &str| {
            Rule::of(&json!({"operations": ["CREATE", "CONNECT"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": resources, "scope": scope}))
        };
        for (resources, scope, resource, subresource, namespaced, operation, wanted) in [
            (&["pods"][..], "*", &pods, "", true, Operation::Create, true),
            (&["pods"], "*", &pods, "", true, Operation::Update, false),
            (&["pods"], "*", &pods, "status", true, Operation::Create, false),
            (&["pods/*"], "*", &pods, "", true, Operation::Create, true),
            (&["pods/*"], "*", &pods, "exec", true, Operation::Connect, true),
            (&["*"], "*", &pods, "exec", true, Operation::Connect, false),
            (&["*/*"], "*", &pods, "exec", true, Operation::Connect, true),
            (&["*/exec"], "*", &pods, "exec", true, Operation::Connect, true),
            (&["pods"], "Namespaced", &pods, "", true, Operation::Create, true),
            (&["pods"], "Cluster", &pods, "", true, Operation::Create, false),
            (&["*"], "Cluster", &pods, "", false, Operation::Create, true),
            (&["*"], "*", &deployments, "", true, Operation::Create, false),
        ] {
            let asked = Asked { operation, resource, subresource, namespaced };
            assert_eq!(rule(resources, scope).wants(&asked), wanted, "{resources:?} {scope} {asked:?}");
        }
    }
}
