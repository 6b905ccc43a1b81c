//! Placements. Whether the profile has the variables that are given values here is not looked at.

use fleet_objects::PlacementSpec;

use super::{FieldError, at, compiled, wrong};
use crate::cluster_view;
use crate::expressions::Expressions;
use crate::share::{Round, share};

/// Everything that keeps a placement from choosing, wherever it is looked at.
#[must_use]
pub fn problems(spec: &PlacementSpec, expressions: &dyn Expressions) -> Vec<FieldError> {
    let mut found = Vec::new();
    if spec.profile.is_empty() {
        found.push(FieldError::required(&at("profile"), "the name of a profile"));
    }
    if let Some(selector) = &spec.cluster_selector {
        found.extend(cluster_view::problems(&at("clusterSelector"), selector, expressions));
    }
    for (index, own) in spec.prioritizers.iter().enumerate() {
        let place = at("prioritizers").index(index).child("expression");
        found.extend(compiled(&place, &own.expression, expressions.check_score(&own.expression)));
    }
    for (index, rule) in spec.values.iter().enumerate() {
        let place = at("values").index(index);
        if let Some(selector) = &rule.cluster_selector {
            found.extend(cluster_view::problems(&place.child("clusterSelector"), selector, expressions));
        }
        for (name, expression) in &rule.expressions {
            let place = place.child("expressions").key(name);
            found.extend(compiled(&place, expression, expressions.check_value(expression)));
        }
    }
    if let Some(value) = &spec.max_withdrawal {
        let outcome = share(value, 100, Round::Down);
        found.extend(outcome.err().map(|problem| wrong(&at("maxWithdrawal"), problem)));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::odd::Odd;

    fn told(spec: Value) -> Vec<String> {
        let spec = serde_json::from_value(spec).unwrap();
        problems(&spec, &Odd).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn everything_that_can_never_be_asked_is_told_with_its_place() {
        let all = told(json!({
            "profile": "",
            "clusterSelector": {
                "matchFields": [{"key": "kubernetsVersion", "operator": "Exists"}, {"key": "ready", "operator": "In"}],
                "matchProperties": [{"key": "cpu", "operator": "Ge", "values": ["1", "2"]}],
                "matchExpressions": [{"key": "tier", "operator": "In"}],
                "celExpressions": ["odd", "fine"],
            },
            "prioritizers": [{"expression": "odd"}],
            "values": [{"clusterSelector": {"celExpressions": ["odd"]}, "expressions": {"a": "fine", "b": "odd"}}],
            "maxWithdrawal": "many",
        }));
        for (told, wanted) in all.iter().zip([
            "spec.profile: Required value",
            "spec.clusterSelector.matchExpressions[0].values: Required value",
            "spec.clusterSelector.matchFields[0]: Invalid value: there is no field \"kubernetsVersion\"",
            "spec.clusterSelector.matchFields[1].values: Required value",
            "spec.clusterSelector.matchProperties[0]: Invalid value: property cpu: Ge takes exactly one value",
            "spec.clusterSelector.celExpressions[0]: Invalid value: \"odd\": no condition",
            "spec.prioritizers[0].expression: Invalid value: \"odd\": no number",
            "spec.values[0].clusterSelector.celExpressions[0]: Invalid value: \"odd\"",
            "spec.values[0].expressions[b]: Invalid value: \"odd\": no value",
            "spec.maxWithdrawal: Invalid value: \"many\" is neither a number nor a share",
        ]) {
            assert!(told.starts_with(wanted), "{told}\nnot {wanted}");
        }
        assert_eq!(all.len(), 10);
    }

    #[test]
    fn what_clusters_decide_is_not_judged() {
        let good = json!({
            "profile": "app", "rollout": "not-there-yet", "clusterSets": ["none"], "numberOfClusters": 3,
            "clusterSelector": {"matchLabels": {"a": "b"}, "celExpressions": ["cluster.labels.nowhere"],
                "matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "a", "operator": "NotIn"}],
                "matchFields": [{"key": "kubernetesVersion", "operator": "Ge", "values": ["1.34"]}]},
            "variables": {"unheard": 1}, "maxWithdrawal": "100%",
        });
        assert_eq!(told(good), Vec::<String>::new());
    }
}
