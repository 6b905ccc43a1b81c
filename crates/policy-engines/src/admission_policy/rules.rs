//! Whether a rule of a policy or webhook wants a request (upstream `predicates/rules`).

use kind_rules::json::{list, text};
use kube_objects::GroupVersionResource;
use serde_json::Value;

/// One rule of a policy's constraints or of a webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource ("" for the resource itself).
    resources: Vec<(String, String)>,
    /// Objects by name, which only policies' rules have; empty for all.
    names: Vec<String>,
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
pub struct Asked<'a> {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'a str,
    /// What it is about.
    pub resource: &'a GroupVersionResource,
    /// "" for the resource itself.
    pub subresource: &'a str,
    /// Whether it is in a namespace; a namespace itself is not.
    pub namespaced: bool,
    /// The object's name; "" while it is still to be generated.
    pub name: &'a str,
}

fn any(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == "*" || own == wanted)
}

impl Rule {
    /// As a policy or a webhook writes it.
    #[must_use]
    pub fn of(rule: &Value) -> Self {
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
            names: texts("resourceNames"),
            scope: match text(rule, "scope") {
                "" | "*" => Scope::All,
                "Namespaced" => Scope::Namespaced,
                "Cluster" => Scope::Cluster,
                _ => Scope::Nothing,
            },
        }
    }

    /// Whether it wants a request.
    #[must_use]
    pub fn wants(&self, asked: &Asked<'_>) -> bool {
        let scope = match self.scope {
            Scope::All => true,
            Scope::Namespaced => asked.namespaced,
            Scope::Cluster => !asked.namespaced,
            Scope::Nothing => false,
        };
        scope
            && any(&self.operations, asked.operation)
            && self.wants_resource(asked.resource, asked.subresource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }

    /// Whether it wants any request about the resource by one of these operations, whatever object it is about.
    pub(super) fn may_want(&self, operations: &[&str], resource: &GroupVersionResource) -> bool {
        operations.iter().any(|operation| any(&self.operations, operation))
            && self.wants_resource(resource, "")
    }

    fn wants_resource(&self, asked: &GroupVersionResource, subresource: &str) -> bool {
        any(&self.groups, &asked.group)
            && any(&self.versions, &asked.version)
            && self.resources.iter().any(|(resource, sub)| {
                (resource == "*" || *resource == asked.resource) && (sub == "*" || sub == subresource)
            })
    }
}

/// The resource as which rules want a request: its own, or else the first of `equivalents` that the earliest rule wants
/// (upstream `matchesResourceRules`, `ShouldCallHook`). `None`: they do not want it.
#[must_use]
pub fn wanted_as(
    rules: &[Rule],
    asked: &Asked<'_>,
    equivalents: impl FnOnce() -> Vec<GroupVersionResource>,
) -> Option<GroupVersionResource> {
    if rules.iter().any(|rule| rule.wants(asked)) {
        return Some(asked.resource.clone());
    }
    if rules.is_empty() {
        return None;
    }
    let others = equivalents();
    let wants = |rule: &Rule, resource| rule.wants(&Asked { resource, ..*asked });
    rules.iter().find_map(|rule| others.iter().find(|other| wants(rule, other))).cloned()
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
            (&["pods"][..], "*", &pods, "", true, "CREATE", true),
            (&["pods"], "*", &pods, "", true, "UPDATE", false),
            (&["pods"], "*", &pods, "status", true, "CREATE", false),
            (&["pods/*"], "*", &pods, "", true, "CREATE", true),
            (&["pods/*"], "*", &pods, "exec", true, "CONNECT", true),
            (&["*"], "*", &pods, "exec", true, "CONNECT", false),
            (&["*/*"], "*", &pods, "exec", true, "CONNECT", true),
            (&["*/exec"], "*", &pods, "exec", true, "CONNECT", true),
            (&["pods"], "Namespaced", &pods, "", true, "CREATE", true),
            (&["pods"], "Cluster", &pods, "", true, "CREATE", false),
            (&["*"], "Cluster", &pods, "", false, "CREATE", true),
            (&["*"], "*", &deployments, "", true, "CREATE", false),
        ] {
            let asked = Asked { operation, resource, subresource, namespaced, name: "x" };
            assert_eq!(rule(resources, scope).wants(&asked), wanted, "{resources:?} {scope} {asked:?}");
        }
    }

    #[test]
    fn the_earliest_rule_says_as_what_a_request_is_wanted() {
        let resource = |version| GroupVersionResource::new("example.com", version, "things");
        let rule = |version: &str| {
            Rule::of(
                &json!({"operations": ["*"], "apiGroups": ["example.com"], "apiVersions": [version], "resources": ["things"]}),
            )
        };
        let own = resource("v1");
        let asked =
            Asked { operation: "CREATE", resource: &own, subresource: "", namespaced: true, name: "x" };
        let as_of = |versions: &[&str]| {
            let rules: Vec<Rule> = versions.iter().map(|version| rule(version)).collect();
            wanted_as(&rules, &asked, || vec![resource("v2"), resource("v3")]).map(|found| found.version)
        };
        for (versions, wanted) in [
            (&["v3", "v1"][..], Some("v1")),
            (&["v3", "v2"], Some("v3")),
            (&["v9", "v2"], Some("v2")),
            (&["*"], Some("v1")),
            (&["v9"], None),
            (&[], None),
        ] {
            assert_eq!(as_of(versions).as_deref(), wanted, "{versions:?}");
        }
    }

    #[test]
    fn names_narrow_a_policys_rule() {
        let pods = GroupVersionResource::new("", "v1", "pods");
        let rule = Rule::of(&json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
            "resources": ["pods"], "resourceNames": ["a"]}));
        let asked =
            |name| Asked { operation: "CREATE", resource: &pods, subresource: "", namespaced: true, name };
        assert!(rule.wants(&asked("a")) && !rule.wants(&asked("b")) && !rule.wants(&asked("")));
        assert!(rule.may_want(&["UPDATE"], &pods));
    }
}
