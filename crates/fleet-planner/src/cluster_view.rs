//! A cluster as placement sees it, and selectors over it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use api_machinery::field_path::{FieldError, FieldPath};
use api_machinery::quantity::Quantity;
use fleet_objects::{
    Cluster, ClusterSelector, ClusterSpec, ClusterTaint, FieldOperator, FieldRequirement, LabelOperator,
    LabelRequirement,
};

use crate::expressions::{Expressions, facts};
use crate::validation::{compiled, wrong};

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
    /// Its properties, those that the agent found out and those that its About API (KEP-2149) names.
    pub properties: BTreeMap<String, String>,
    /// What it serves besides the core group, `group/version`.
    pub api_groups: Vec<String>,
    /// Why it cannot be told anything: it gets nothing that it does not hold.
    pub barred: Option<&'static str>,
}

/// The field that has many values.
const API_GROUPS: &str = "apiGroups";

const FIELDS: [&str; 8] = [
    "metadata.name",
    "kubernetesVersion",
    "agentVersion",
    "ready",
    "connected",
    "nodes.total",
    "nodes.ready",
    API_GROUPS,
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
            properties: status.properties,
            api_groups: status.api_groups,
            barred: barred(&cluster.spec),
        }
    }
}

fn barred(spec: &ClusterSpec) -> Option<&'static str> {
    let pending = spec.pending.then_some("the cluster waits for approval");
    pending.or_else(|| spec.revoked.then_some("the cluster is revoked"))
}

/// Why a selector does not choose a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unselected {
    /// The first part that does not hold, as a sentence.
    Differs(String),
    /// An expression has no value for the cluster: whether it would be chosen is not known.
    Unknown(String),
}

impl fmt::Display for Unselected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Differs(reason) | Self::Unknown(reason)) = self;
        formatter.write_str(reason)
    }
}

/// Whether a selector can be asked at all, whatever the cluster.
///
/// # Errors
/// The part that cannot, with what is wrong with it.
pub fn check(selector: &ClusterSelector, expressions: &dyn Expressions) -> Result<(), String> {
    selector.match_fields.iter().try_for_each(field_can_be_asked)?;
    selector.match_properties.iter().try_for_each(property_can_be_asked)?;
    selector.cel_expressions.iter().try_for_each(|expression| {
        let checked = expressions.check_condition(expression);
        checked.map_err(|problem| format!("{expression}: {problem}"))
    })
}

fn field_can_be_asked(requirement: &FieldRequirement) -> Result<(), String> {
    let FieldRequirement { key, operator, .. } = requirement;
    is_field(key)?;
    if key == API_GROUPS && is_ordering(*operator) {
        return Err(unordered(*operator));
    }
    takes_its_values(requirement, &format!("field {key}"))
}

fn property_can_be_asked(requirement: &FieldRequirement) -> Result<(), String> {
    takes_its_values(requirement, &format!("property {}", requirement.key))
}

/// Everything of the selector at `at` that cannot be asked ([`check`]), and what can never hold.
#[must_use]
pub fn problems(
    at: &FieldPath,
    selector: &ClusterSelector,
    expressions: &dyn Expressions,
) -> Vec<FieldError> {
    let mut found = Vec::new();
    let one_of_none =
        |place: &FieldPath| FieldError::required(&place.child("values"), "In takes at least one");
    for (index, requirement) in selector.match_expressions.iter().enumerate() {
        if requirement.operator == LabelOperator::In && requirement.values.is_empty() {
            found.push(one_of_none(&at.child("matchExpressions").index(index)));
        }
    }
    for (index, requirement) in selector.match_fields.iter().enumerate() {
        let place = at.child("matchFields").index(index);
        found.extend(field_can_be_asked(requirement).err().map(|problem| wrong(&place, problem)));
        if requirement.operator == FieldOperator::In && requirement.values.is_empty() {
            found.push(one_of_none(&place));
        }
    }
    for (index, requirement) in selector.match_properties.iter().enumerate() {
        let place = at.child("matchProperties").index(index);
        found.extend(property_can_be_asked(requirement).err().map(|problem| wrong(&place, problem)));
        if requirement.operator == FieldOperator::In && requirement.values.is_empty() {
            found.push(one_of_none(&place));
        }
    }
    for (index, expression) in selector.cel_expressions.iter().enumerate() {
        let place = at.child("celExpressions").index(index);
        found.extend(compiled(&place, expression, expressions.check_condition(expression)));
    }
    found
}

/// Whether the selector chooses the cluster.
///
/// # Errors
/// Why not, or why that is not known.
pub fn selects(
    selector: &ClusterSelector,
    cluster: &ClusterView,
    expressions: &dyn Expressions,
) -> Result<(), Unselected> {
    fits(selector, cluster).map_err(Unselected::Differs)?;
    if selector.cel_expressions.is_empty() {
        return Ok(());
    }
    let facts = facts(cluster);
    selector.cel_expressions.iter().try_for_each(|expression| match expressions.holds(expression, &facts) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Unselected::Differs(format!("{expression} does not hold"))),
        Err(problem) => Err(Unselected::Unknown(format!("{expression}: {problem}"))),
    })
}

/// Everything of a selector but its expressions.
fn fits(selector: &ClusterSelector, cluster: &ClusterView) -> Result<(), String> {
    for (key, wanted) in &selector.match_labels {
        match cluster.labels.get(key) {
            Some(value) if value == wanted => {}
            Some(value) => return Err(format!("label {key} is {value:?}, not {wanted:?}")),
            None => return Err(format!("label {key} is not set (wanted {wanted:?})")),
        }
    }
    selector.match_expressions.iter().try_for_each(|requirement| label_holds(requirement, cluster))?;
    selector.match_fields.iter().try_for_each(|requirement| field_holds(requirement, cluster))?;
    selector.match_properties.iter().try_for_each(|requirement| {
        let value = cluster.properties.get(&requirement.key);
        holds(requirement, value, &format!("property {}", requirement.key))
    })
}

fn is_field(key: &str) -> Result<(), String> {
    if FIELDS.contains(&key) {
        return Ok(());
    }
    Err(format!("there is no field {key:?}; known are {}", FIELDS.join(", ")))
}

fn is_ordering(operator: FieldOperator) -> bool {
    matches!(operator, FieldOperator::Gt | FieldOperator::Lt | FieldOperator::Ge | FieldOperator::Le)
}

fn unordered(operator: FieldOperator) -> String {
    format!("field {API_GROUPS}: {operator:?} has no meaning for it; In and NotIn have")
}

fn takes_its_values(requirement: &FieldRequirement, what: &str) -> Result<(), String> {
    let operator = requirement.operator;
    if is_ordering(operator) && requirement.values.len() != 1 {
        return Err(format!("{what}: {operator:?} takes exactly one value"));
    }
    Ok(())
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
    let key = &requirement.key;
    is_field(key)?;
    if key == API_GROUPS {
        return group_holds(requirement, &cluster.api_groups);
    }
    holds(requirement, cluster.fields.get(key.as_str()), &format!("field {key}"))
}

/// Whether a value meets a requirement; `what` names it.
fn holds(requirement: &FieldRequirement, value: Option<&String>, what: &str) -> Result<(), String> {
    let FieldRequirement { operator, values, .. } = requirement;
    takes_its_values(requirement, what)?;
    let ordering = || compare(value?, values.first()?);
    let among = value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let holds = match operator {
        FieldOperator::In => among,
        FieldOperator::NotIn => !among,
        FieldOperator::Exists => value.is_some(),
        FieldOperator::DoesNotExist => value.is_none(),
        FieldOperator::Gt => ordering() == Some(Ordering::Greater),
        FieldOperator::Lt => ordering() == Some(Ordering::Less),
        FieldOperator::Ge => matches!(ordering(), Some(Ordering::Greater | Ordering::Equal)),
        FieldOperator::Le => matches!(ordering(), Some(Ordering::Less | Ordering::Equal)),
    };
    if holds {
        return Ok(());
    }
    let is = value.map_or_else(|| "not known yet".to_owned(), |value| format!("{value:?}"));
    Err(format!("{what} is {is} (wanted {operator:?} {values:?})"))
}

/// Whether one of the groups, with or without a version, is served.
fn group_holds(requirement: &FieldRequirement, served: &[String]) -> Result<(), String> {
    let FieldRequirement { operator, values, .. } = requirement;
    let is = |wanted: &String| {
        let of =
            |own: &String| own == wanted || own.split_once('/').is_some_and(|(group, _)| group == wanted);
        served.iter().any(of)
    };
    let among = values.iter().any(is);
    match operator {
        // Before the agent has told, nothing is known to be absent either.
        _ if served.is_empty() && *operator != FieldOperator::DoesNotExist => {
            Err(format!("field {API_GROUPS} is not known yet (wanted {operator:?} {values:?})"))
        }
        FieldOperator::In if !among => Err(format!("none of the API groups {values:?} is served")),
        FieldOperator::NotIn if among => Err(format!("one of the API groups {values:?} is served")),
        FieldOperator::DoesNotExist if !served.is_empty() => {
            Err(format!("field {API_GROUPS} is known (wanted {operator:?})"))
        }
        operator if is_ordering(*operator) => Err(unordered(*operator)),
        _ => Ok(()),
    }
}

/// Compares versions and numbers part by part: `v1.36.2` with `1.9`. What follows `-` or `+` is left out (`v1.36.2+k3s1`
/// is 1.36.2). What is no version is compared as quantities (`3500m` with `4`). `None` when it is neither.
fn compare(a: &str, b: &str) -> Option<Ordering> {
    let parts = |text: &str| -> Option<Vec<u64>> {
        let core = text.trim_start_matches('v').split(['-', '+']).next()?;
        core.split('.').map(|part| part.parse().ok()).collect()
    };
    let (Some(mut a), Some(mut b)) = (parts(a), parts(b)) else {
        let (a, b): (Quantity, Quantity) = (a.parse().ok()?, b.parse().ok()?);
        return Some(a.cmp(&b));
    };
    let length = a.len().max(b.len());
    a.resize(length, 0);
    b.resize(length, 0);
    Some(a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expressions::NoExpressions;

    fn selects(
        selector: &ClusterSelector,
        cluster: &ClusterView,
        expressions: &dyn Expressions,
    ) -> Result<(), String> {
        super::selects(selector, cluster, expressions).map_err(|why| why.to_string())
    }

    #[test]
    fn who_is_revoked_or_waits_for_approval_cannot_be_told() {
        let of = |revoked, pending| {
            let spec = ClusterSpec { revoked, pending, ..ClusterSpec::default() };
            ClusterView::from(&Cluster::new("edge", spec)).barred
        };
        assert_eq!(of(false, false), None);
        assert_eq!(of(true, false), Some("the cluster is revoked"));
        assert_eq!(of(false, true), Some("the cluster waits for approval"));
    }

    #[test]
    fn what_no_cluster_could_be_asked_is_told_apart_from_what_does_not_hold() {
        let of = |key: &str, operator, values: &[&str]| ClusterSelector {
            match_fields: vec![requirement(key, operator, values)],
            ..ClusterSelector::default()
        };
        for (selector, problem) in [
            (of("kubernetesVersion", FieldOperator::Ge, &["1.34"]), None),
            (of("kubernetsVersion", FieldOperator::Exists, &[]), Some("there is no field")),
            (of("nodes.total", FieldOperator::Gt, &[]), Some("takes exactly one value")),
            (of("apiGroups", FieldOperator::Lt, &["policy"]), Some("has no meaning")),
        ] {
            let checked = check(&selector, &NoExpressions);
            let fits = match (&checked, problem) {
                (Err(found), Some(part)) => found.contains(part),
                (found, wanted) => found.is_ok() && wanted.is_none(),
            };
            assert!(fits, "{selector:?}: {checked:?}");
        }
    }

    #[test]
    fn versions_compare_as_versions() {
        assert_eq!(compare("v1.36.2+k3s1", "1.9"), Some(Ordering::Greater));
        assert_eq!(compare("v1.36.0", "1.36"), Some(Ordering::Equal));
        assert_eq!(compare("abc", "1"), None);
        assert_eq!(compare("3500m", "4"), Some(Ordering::Less));
        assert_eq!(compare("16Gi", "2000M"), Some(Ordering::Greater));
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

    #[test]
    fn properties_and_api_groups_are_selected_by() {
        let view = ClusterView {
            properties: BTreeMap::from([("allocatable-cpu.fleet.fairlead.dev".into(), "3500m".into())]),
            api_groups: vec!["cert-manager.io/v1".into(), "policy/v1".into()],
            ..ClusterView::default()
        };
        let property = |key: &str, operator, values: &[&str]| ClusterSelector {
            match_properties: vec![requirement(key, operator, values)],
            ..ClusterSelector::default()
        };
        let groups = |operator, values: &[&str]| ClusterSelector {
            match_fields: vec![requirement("apiGroups", operator, values)],
            ..ClusterSelector::default()
        };
        let cpu = "allocatable-cpu.fleet.fairlead.dev";
        for (selector, refused) in [
            (property(cpu, FieldOperator::Gt, &["3"]), None),
            (
                property(cpu, FieldOperator::Ge, &["4"]),
                Some("property allocatable-cpu.fleet.fairlead.dev is \"3500m\" (wanted Ge [\"4\"])"),
            ),
            (property("tier", FieldOperator::DoesNotExist, &[]), None),
            (property("tier", FieldOperator::In, &["gold"]), Some("property tier is not known yet")),
            (groups(FieldOperator::In, &["cert-manager.io"]), None),
            (groups(FieldOperator::In, &["nope", "policy/v1"]), None),
            (
                groups(FieldOperator::In, &["policy/v2"]),
                Some("none of the API groups [\"policy/v2\"] is served"),
            ),
            (groups(FieldOperator::NotIn, &["policy"]), Some("one of the API groups")),
            (groups(FieldOperator::Gt, &["policy"]), Some("has no meaning")),
            (groups(FieldOperator::Exists, &[]), None),
        ] {
            let answer = selects(&selector, &view, &NoExpressions);
            match refused {
                None => assert_eq!(answer, Ok(()), "{selector:?}"),
                Some(part) => assert!(answer.clone().unwrap_err().contains(part), "{answer:?}"),
            }
        }
        let unknown =
            selects(&groups(FieldOperator::NotIn, &["policy"]), &ClusterView::default(), &NoExpressions);
        assert!(
            unknown.unwrap_err().contains("not known yet"),
            "nothing is concluded from what was not told"
        );
    }

    fn requirement(key: &str, operator: FieldOperator, values: &[&str]) -> FieldRequirement {
        FieldRequirement {
            key: key.into(),
            operator,
            values: values.iter().map(|one| (*one).into()).collect(),
        }
    }
}
