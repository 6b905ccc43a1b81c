//! A cluster as placement sees it, and selectors over it.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use fleet_objects::{
    Cluster, ClusterSelector, ClusterTaint, FieldOperator, FieldRequirement, LabelOperator, LabelRequirement,
};

use crate::expressions::{Expressions, facts};

/// What placement may look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterView {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints.
    pub taints: Vec<ClusterTaint>,
    /// Fields by the names of [`FieldRequirement`]; those not known are absent.
    pub fields: BTreeMap<&'static str, String>,
}

const FIELDS: [&str; 7] = [
    "metadata.name",
    "kubernetesVersion",
    "agentVersion",
    "ready",
    "connected",
    "nodes.total",
    "nodes.ready",
];

impl From<&Cluster> for ClusterView {
    fn from(cluster: &Cluster) -> Self {
        let name = cluster.metadata.name.clone().unwrap_or_default();
        let status = cluster.status.clone().unwrap_or_default();
        let is = |kind| fleet_objects::condition_is_true(&status.conditions, kind).to_string();
        let mut fields = BTreeMap::from([
            ("metadata.name", name.clone()),
            ("ready", is("Ready")),
            ("connected", is("Connected")),
        ]);
        if let Some(version) = &status.kubernetes_version {
            fields.insert("kubernetesVersion", version.clone());
        }
        if let Some(version) = &status.agent_version {
            fields.insert("agentVersion", version.clone());
        }
        if let Some(nodes) = status.nodes {
            fields.insert("nodes.total", nodes.total.to_string());
            fields.insert("nodes.ready", nodes.ready.to_string());
        }
        Self {
            name,
            labels: cluster.metadata.labels.clone().unwrap_or_default(),
            taints: cluster.spec.taints.clone(),
            fields,
        }
    }
}

/// Whether the selector chooses the cluster; if not, the first part that does not hold, as a sentence.
///
/// # Errors
/// The reason.
pub fn selects(
    selector: &ClusterSelector,
    cluster: &ClusterView,
    expressions: &dyn Expressions,
) -> Result<(), String> {
    for (key, wanted) in &selector.match_labels {
        match cluster.labels.get(key) {
            Some(value) if value == wanted => {}
            Some(value) => return Err(format!("label {key} is {value:?}, not {wanted:?}")),
            None => return Err(format!("label {key} is not set (wanted {wanted:?})")),
        }
    }
    selector.match_expressions.iter().try_for_each(|requirement| label_holds(requirement, cluster))?;
    selector.match_fields.iter().try_for_each(|requirement| field_holds(requirement, cluster))?;
    if selector.cel_expressions.is_empty() {
        return Ok(());
    }
    let facts = facts(cluster);
    selector.cel_expressions.iter().try_for_each(|expression| match expressions.holds(expression, &facts) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{expression} does not hold")),
        Err(problem) => Err(format!("{expression}: {problem}")),
    })
}

fn label_holds(requirement: &LabelRequirement, cluster: &ClusterView) -> Result<(), String> {
    let LabelRequirement { key, operator, values } = requirement;
    let value = cluster.labels.get(key);
    let among = value.is_some_and(|value| values.contains(value));
    let holds = match operator {
        LabelOperator::In => among,
        LabelOperator::NotIn => !among,
        LabelOperator::Exists => value.is_some(),
        LabelOperator::DoesNotExist => value.is_none(),
    };
    if holds {
        return Ok(());
    }
    let is = value.map_or_else(|| "not set".to_owned(), |value| format!("{value:?}"));
    Err(format!("label {key} is {is} (wanted {operator:?} {values:?})"))
}

fn field_holds(requirement: &FieldRequirement, cluster: &ClusterView) -> Result<(), String> {
    let FieldRequirement { key, operator, values } = requirement;
    if !FIELDS.contains(&key.as_str()) {
        return Err(format!("there is no field {key:?}; known are {}", FIELDS.join(", ")));
    }
    let value = cluster.fields.get(key.as_str());
    let ordering = || match (value, values.as_slice()) {
        (Some(value), [wanted]) => Ok(compare(value, wanted)),
        (None, [_]) => Ok(None),
        _ => Err(format!("field {key}: {operator:?} takes exactly one value")),
    };
    let among = value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let holds = match operator {
        FieldOperator::In => among,
        FieldOperator::NotIn => !among,
        FieldOperator::Exists => value.is_some(),
        FieldOperator::DoesNotExist => value.is_none(),
        FieldOperator::Gt => ordering()? == Some(Ordering::Greater),
        FieldOperator::Lt => ordering()? == Some(Ordering::Less),
        FieldOperator::Ge => matches!(ordering()?, Some(Ordering::Greater | Ordering::Equal)),
        FieldOperator::Le => matches!(ordering()?, Some(Ordering::Less | Ordering::Equal)),
    };
    if holds {
        return Ok(());
    }
    let is = value.map_or_else(|| "not known yet".to_owned(), |value| format!("{value:?}"));
    Err(format!("field {key} is {is} (wanted {operator:?} {values:?})"))
}

/// Compares versions and numbers part by part: `v1.36.2` with `1.9`. What follows `-` or `+` is left out (`v1.36.2+k3s1`
/// is 1.36.2). `None` when either is not made of numbers.
fn compare(a: &str, b: &str) -> Option<Ordering> {
    let parts = |text: &str| -> Option<Vec<u64>> {
        let core = text.trim_start_matches('v').split(['-', '+']).next()?;
        core.split('.').map(|part| part.parse().ok()).collect()
    };
    let (mut a, mut b) = (parts(a)?, parts(b)?);
    let length = a.len().max(b.len());
    a.resize(length, 0);
    b.resize(length, 0);
    Some(a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expressions::NoExpressions;

    #[test]
    fn versions_compare_as_versions() {
        assert_eq!(compare("v1.36.2+k3s1", "1.9"), Some(Ordering::Greater));
        assert_eq!(compare("v1.36.0", "1.36"), Some(Ordering::Equal));
        assert_eq!(compare("abc", "1"), None);
    }

    #[test]
    fn reasons_name_what_does_not_hold() {
        let view = ClusterView {
            name: "dev".into(),
            labels: BTreeMap::from([("env".into(), "dev".into())]),
            fields: BTreeMap::from([("kubernetesVersion", "v1.35.0".into())]),
            ..ClusterView::default()
        };
        let wanted = |key: &str, operator, value: &str| ClusterSelector {
            match_fields: vec![FieldRequirement { key: key.into(), operator, values: vec![value.into()] }],
            ..ClusterSelector::default()
        };
        assert!(
            selects(&wanted("kubernetesVersion", FieldOperator::Ge, "1.35"), &view, &NoExpressions).is_ok()
        );
        let reason = selects(&wanted("kubernetesVersion", FieldOperator::Ge, "1.36"), &view, &NoExpressions)
            .unwrap_err();
        assert!(reason.contains("v1.35.0") && reason.contains("1.36"), "{reason}");
        assert!(
            selects(&wanted("nodes.ready", FieldOperator::Gt, "0"), &view, &NoExpressions)
                .unwrap_err()
                .contains("not known")
        );
        assert!(
            selects(&wanted("shoe-size", FieldOperator::Gt, "0"), &view, &NoExpressions)
                .unwrap_err()
                .contains("no field")
        );
        let by_label = ClusterSelector {
            match_labels: BTreeMap::from([("env".into(), "prod".into())]),
            ..Default::default()
        };
        assert_eq!(
            selects(&by_label, &view, &NoExpressions).unwrap_err(),
            "label env is \"dev\", not \"prod\""
        );
    }
}
