//! Expressions that people write about clusters. The language is the caller's to bring: this crate only asks.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cluster_view::ClusterView;

/// Evaluates expressions (CEL) over one variable, `cluster`.
pub trait Expressions: Send + Sync {
    /// Whether an expression can be a condition at all, whatever the cluster.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_condition(&self, expression: &str) -> Result<(), String>;

    /// Whether an expression can be a number at all, whatever the cluster. A language that cannot tell says yes.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_score(&self, _expression: &str) -> Result<(), String> {
        Ok(())
    }

    /// Whether an expression can have any value, whatever the cluster. A language that cannot tell says yes.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check_value(&self, _expression: &str) -> Result<(), String> {
        Ok(())
    }

    /// Whether a boolean expression holds for a cluster as [`facts`] writes it.
    ///
    /// # Errors
    /// What is wrong with the expression, or why it has no value for this cluster.
    fn holds(&self, expression: &str, cluster: &Value) -> Result<bool, String>;

    /// The value of an expression of a number: the greater, the better.
    ///
    /// # Errors
    /// As [`Expressions::holds`].
    fn score(&self, expression: &str, cluster: &Value) -> Result<i64, String>;

    /// The value of an expression of any type.
    ///
    /// # Errors
    /// As [`Expressions::holds`].
    fn value(&self, expression: &str, cluster: &Value) -> Result<Value, String>;
}

/// For callers without a language: every expression is an error that says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExpressions;

impl Expressions for NoExpressions {
    fn check_condition(&self, _: &str) -> Result<(), String> {
        Err("this program evaluates no expressions".to_owned())
    }

    fn holds(&self, _: &str, _: &Value) -> Result<bool, String> {
        Err("this program evaluates no expressions".to_owned())
    }

    fn score(&self, _: &str, _: &Value) -> Result<i64, String> {
        Err("this program evaluates no expressions".to_owned())
    }

    fn value(&self, _: &str, _: &Value) -> Result<Value, String> {
        Err("this program evaluates no expressions".to_owned())
    }
}

/// A cluster as expressions see it: `name`, `labels`, `taints`, `kubernetesVersion`, `agentVersion` (text, empty while
/// not known), `ready`, `connected` (boolean), `nodes.total`, `nodes.ready` (numbers), `properties` (text by name),
/// `apiGroups` (lists of versions by group).
#[must_use]
pub fn facts(view: &ClusterView) -> Value {
    let text = |key: &str| view.fields.get(key).cloned().unwrap_or_default();
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (group, version) in view.api_groups.iter().filter_map(|own| own.split_once('/')) {
        groups.entry(group).or_default().push(version);
    }
    let number = |key: &str| text(key).parse::<i64>().unwrap_or(0);
    json!({
        "name": view.name,
        "labels": view.labels,
        "taints": view.taints,
        "kubernetesVersion": text("kubernetesVersion"),
        "agentVersion": text("agentVersion"),
        "ready": text("ready") == "true",
        "connected": text("connected") == "true",
        "nodes": {"total": number("nodes.total"), "ready": number("nodes.ready")},
        "properties": view.properties,
        "apiGroups": groups,
    })
}
