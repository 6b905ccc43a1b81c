//! `Role` and `ClusterRole`.

use serde_json::Value;

use crate::checks::{selector, selector_is_sound};
use crate::columns::Column;
use crate::json::{list, present};
use crate::names::NameRule;
use crate::path::Path;
use crate::problems::Problems;
use crate::rules::KindRules;

/// `rbac.authorization.k8s.io/v1.Role`.
pub const ROLE: KindRules = KindRules {
    names: NameRule::PathSegment,
    validate: |problems, object| rules(problems, object, true),
    // Upstream shows these two kinds with the moment instead of the age.
    columns: || vec![Column::object_name(), Column::new("Created At").of("date")],
    cells: |object, _| vec![object["metadata"]["creationTimestamp"].clone()],
    ..KindRules::NEW
};

/// `rbac.authorization.k8s.io/v1.ClusterRole`.
pub const CLUSTER_ROLE: KindRules = KindRules {
    validate: |problems, object| validate_cluster(problems, object, false),
    validates_updates: false,
    validate_update: |problems, object, old| {
        let selectors = list(&old["aggregationRule"], "clusterRoleSelectors");
        validate_cluster(problems, object, selectors.iter().any(|own| !selector_is_sound(own)));
    },
    ..ROLE
};

fn validate_cluster(problems: &mut Problems, object: &Value, lenient: bool) {
    rules(problems, object, false);
    if !present(object, "aggregationRule") {
        return;
    }
    let at = Path::new("aggregationRule.clusterRoleSelectors");
    let selectors = list(&object["aggregationRule"], "clusterRoleSelectors");
    if selectors.is_empty() {
        problems.required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil");
    }
    for (index, own) in selectors.iter().enumerate() {
        selector(problems, &at.index(index), own, lenient);
        if !selector_is_sound(own) {
            problems.invalid(at.index(index), &Value::Null, "invalid label selector.");
        }
    }
}

fn rules(problems: &mut Problems, object: &Value, namespaced: bool) {
    let at = Path::new("rules");
    for (index, rule) in list(object, "rules").iter().enumerate() {
        policy_rule(problems, &at.index(index), rule, namespaced);
    }
}

fn policy_rule(problems: &mut Problems, at: &Path<'_>, rule: &Value, namespaced: bool) {
    if list(rule, "verbs").is_empty() {
        problems.required(at.field("verbs"), "verbs must contain at least one value");
    }
    let (groups, resources) = (list(rule, "apiGroups"), list(rule, "resources"));
    if !list(rule, "nonResourceURLs").is_empty() {
        let (at, urls) = (at.field("nonResourceURLs"), &rule["nonResourceURLs"]);
        if namespaced {
            problems.invalid(at, urls, "namespaced rules cannot apply to non-resource URLs");
        }
        if !groups.is_empty() || !resources.is_empty() || !list(rule, "resourceNames").is_empty() {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            problems.invalid(at, urls, detail);
        }
        return;
    }
    if groups.is_empty() {
        problems.required(at.field("apiGroups"), "resource rules must supply at least one api group");
    }
    if resources.is_empty() {
        problems.required(at.field("resources"), "resource rules must supply at least one resource");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::findings;

    #[test]
    fn rules_are_about_resources_or_about_paths() {
        let of = |rule: Value| json!({"rules": [rule]});
        let fine = of(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        assert!(findings(&ROLE, &fine).is_empty());
        let path = of(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}));
        assert!(findings(&CLUSTER_ROLE, &path).is_empty());
        assert_eq!(
            findings(&ROLE, &path),
            [
                "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to non-resource URLs"
            ]
        );
        assert_eq!(
            findings(&ROLE, &of(json!({}))),
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ]
        );
        assert_eq!(
            findings(&CLUSTER_ROLE, &json!({"aggregationRule": {}})),
            [
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
            ]
        );
    }
}
