//! Values of a profile's variables for one cluster: what the placement gives all, then what its rules give some.

use fleet_objects::{ValueRule, VariableDefinition};

use crate::cluster_view::{ClusterView, Unselected, selects};
use crate::expressions::{Expressions, facts};
use crate::variables::{self, Values};

/// Every variable's value for a cluster. Rules apply in their order, the last one that names a variable wins; values are
/// typed and checked only after that.
///
/// # Errors
/// The rule and variable that cannot be told, or what does not fit its definition, as a sentence.
pub fn of_cluster(
    definitions: &[VariableDefinition],
    given: &Values,
    rules: &[ValueRule],
    cluster: &ClusterView,
    expressions: &dyn Expressions,
) -> Result<Values, String> {
    let mut merged = given.clone();
    for (index, rule) in rules.iter().enumerate() {
        let applies = applies(rule, cluster, expressions);
        if !applies.map_err(|problem| format!("values[{index}].clusterSelector: {problem}"))? {
            continue;
        }
        merged.extend(rule.variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        for (name, expression) in &rule.expressions {
            let value = expressions
                .value(expression, &facts(cluster))
                .map_err(|problem| format!("values[{index}].expressions.{name}: {problem}"))?;
            merged.insert(name.clone(), value);
        }
    }
    variables::resolve(definitions, &merged).map_err(|error| error.to_string())
}

/// Whether a rule is for the cluster; an error where that is not known: a value must not change because an expression fails.
fn applies(rule: &ValueRule, cluster: &ClusterView, expressions: &dyn Expressions) -> Result<bool, String> {
    if !rule.clusters.is_empty() && !rule.clusters.contains(&cluster.name) {
        return Ok(false);
    }
    let Some(selector) = &rule.cluster_selector else { return Ok(true) };
    match selects(selector, cluster, expressions) {
        Ok(()) => Ok(true),
        Err(Unselected::Differs(_)) => Ok(false),
        Err(Unselected::Unknown(problem)) => Err(problem),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fleet_objects::{ClusterSelector, VariableType};
    use serde_json::{Value, json};

    use super::*;

    /// Stands for a language: an expression is the name of a label.
    struct Labels;

    impl Expressions for Labels {
        fn check_condition(&self, _: &str) -> Result<(), String> {
            Ok(())
        }

        fn holds(&self, _: &str, _: &Value) -> Result<bool, String> {
            Err("not used".to_owned())
        }

        fn score(&self, _: &str, _: &Value) -> Result<i64, String> {
            Err("not used".to_owned())
        }

        fn value(&self, expression: &str, cluster: &Value) -> Result<Value, String> {
            let found = &cluster["labels"][expression];
            if found.is_null() { Err(format!("no such key: {expression}")) } else { Ok(found.clone()) }
        }
    }

    fn definition(name: &str, kind: VariableType) -> VariableDefinition {
        VariableDefinition {
            name: name.into(),
            kind,
            default: None,
            required: true,
            allowed: Vec::new(),
            description: None,
            secret: false,
        }
    }

    #[test]
    fn the_last_rule_that_applies_wins_and_types_are_checked_at_the_end() {
        let definitions =
            [definition("replicas", VariableType::Int), definition("region", VariableType::String)];
        let cluster = |name: &str, labels: &[(&str, &str)]| ClusterView {
            name: name.into(),
            labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            ..ClusterView::default()
        };
        let prod = ClusterSelector {
            match_labels: BTreeMap::from([("tier".into(), "prod".into())]),
            ..ClusterSelector::default()
        };
        let rules = [
            ValueRule {
                expressions: BTreeMap::from([("region".into(), "region".into())]),
                ..ValueRule::default()
            },
            ValueRule {
                cluster_selector: Some(prod),
                variables: Values::from([("replicas".into(), json!(5))]),
                ..ValueRule::default()
            },
            ValueRule {
                clusters: vec!["odd".into()],
                variables: Values::from([("replicas".into(), json!("many"))]),
                ..ValueRule::default()
            },
        ];
        let given = Values::from([("replicas".into(), json!(1))]);
        let of = |cluster: &ClusterView| of_cluster(&definitions, &given, &rules, cluster, &Labels);
        let value = |replicas: i64, region: &str| {
            Ok(Values::from([("replicas".into(), json!(replicas)), ("region".into(), json!(region))]))
        };
        assert_eq!(of(&cluster("a", &[("region", "eu")])), value(1, "eu"));
        assert_eq!(of(&cluster("b", &[("region", "us"), ("tier", "prod")])), value(5, "us"));
        let nowhere = of(&cluster("c", &[])).unwrap_err();
        assert_eq!(nowhere, "values[0].expressions.region: no such key: region");
        let odd = of(&cluster("odd", &[("region", "eu")])).unwrap_err();
        assert!(odd.contains("replicas") && odd.contains("whole number"), "{odd}");
        // Whether a rule applies is not known: the cluster keeps what it has. Whom labels rule out, nobody asks.
        let unknown = ClusterSelector {
            match_labels: BTreeMap::from([("tier".into(), "prod".into())]),
            cel_expressions: vec!["cluster.x".into()],
            ..ClusterSelector::default()
        };
        let rules = [ValueRule { cluster_selector: Some(unknown), ..ValueRule::default() }];
        let of = |cluster: &ClusterView| of_cluster(&definitions[..1], &given, &rules, cluster, &Labels);
        assert_eq!(
            of(&cluster("b", &[("tier", "prod")])).unwrap_err(),
            "values[0].clusterSelector: cluster.x: not used"
        );
        assert_eq!(of(&cluster("a", &[])), Ok(Values::from([("replicas".into(), json!(1))])));
    }
}
