//! Matrices, shards and counts: how many instances there are and what each of them sees.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{MAX_INSTANCES, PlanScope};
use crate::expression::Expression;

/// What one instance sees.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Instance {
    pub(super) matrix: Value,
    pub(super) shard: Value,
    pub(super) index: usize,
    pub(super) count: usize,
}

impl Instance {
    pub(super) fn names(&self) -> [(&'static str, Value); 4] {
        [
            ("matrix", self.matrix.clone()),
            ("shard", self.shard.clone()),
            ("index", json!(self.index)),
            ("count", json!(self.count)),
        ]
    }
}

/// How instances are told.
pub(super) struct Spread<'a> {
    pub(super) count: Option<&'a Value>,
    pub(super) max_count: Option<&'a Value>,
    pub(super) matrix: &'a BTreeMap<String, Value>,
    pub(super) shards: &'a BTreeMap<String, Value>,
}

/// Every combination of the matrix, each as often as there are shards.
///
/// # Errors
/// Field below the step, and what is wrong with it.
pub(super) fn instances(spread: &Spread<'_>, scope: &PlanScope) -> Result<Vec<Instance>, (String, String)> {
    let mut combinations = vec![Map::new()];
    for (name, list) in spread.matrix {
        let items = list_of(list, scope).map_err(|error| (format!("matrix.{name}"), error))?;
        let with = combinations.iter().flat_map(|known| {
            items.iter().map(|item| {
                let mut next = known.clone();
                next.insert(name.clone(), item.clone());
                next
            })
        });
        combinations = with.take(MAX_INSTANCES + 1).collect();
    }
    let mut shards = Vec::new();
    for (name, list) in spread.shards {
        shards.push((name, list_of(list, scope).map_err(|error| (format!("shards.{name}"), error))?));
    }
    let number = |value: Option<&Value>, field: &str| {
        value.map(|value| number_of(value, scope).map_err(|error| (field.to_owned(), error))).transpose()
    };
    let longest = shards.iter().map(|(_, items)| items.len()).max();
    let parts = match (number(spread.count, "count")?, number(spread.max_count, "maxCount")?) {
        (Some(count), _) => count,
        (None, Some(most)) => most.min(longest.unwrap_or(most)),
        (None, None) => longest.unwrap_or(1),
    };
    let total = combinations.len().saturating_mul(parts);
    if total > MAX_INSTANCES {
        return Err(("count".to_owned(), format!("more than {MAX_INSTANCES} instances")));
    }
    let mut out = Vec::new();
    for matrix in combinations {
        for part in 0..parts {
            let shard = shards.iter().map(|(name, items)| ((*name).clone(), part_of(items, part, parts)));
            let (matrix, shard) = (Value::Object(matrix.clone()), Value::Object(shard.collect()));
            out.push(Instance { matrix, shard, index: out.len(), count: total });
        }
    }
    Ok(out)
}

/// The part of a list that belongs to one of `parts`: their lengths differ by one at most.
fn part_of(items: &[Value], part: usize, parts: usize) -> Value {
    let (begin, end) = (items.len() * part / parts, items.len() * (part + 1) / parts);
    Value::Array(items[begin..end].to_vec())
}

fn known(text: &str, scope: &PlanScope) -> Result<Value, String> {
    let resolved = Expression::parse(text).and_then(|expression| expression.resolve(scope));
    let resolved = resolved.map_err(|error| error.to_string())?;
    resolved
        .value()
        .cloned()
        .ok_or_else(|| format!("{resolved} must be known before the pods start; only containers know it"))
}

fn list_of(value: &Value, scope: &PlanScope) -> Result<Vec<Value>, String> {
    let value = match value {
        Value::String(text) => known(text, scope)?,
        other => crate::plan::compile::resolved_value(other, scope).map_err(|error| error.to_string())?,
    };
    match value {
        Value::Array(items) => Ok(items),
        Value::Object(entries) => {
            Ok(entries.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect())
        }
        other => Ok(vec![other]),
    }
}

fn number_of(value: &Value, scope: &PlanScope) -> Result<usize, String> {
    let value = match value {
        Value::String(text) => known(text, scope)?,
        other => other.clone(),
    };
    let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("{value} is no number of instances"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(matrix: Value, shards: Value, count: Option<Value>) -> Vec<Instance> {
        let of = |value: Value| value.as_object().cloned().unwrap_or_default().into_iter().collect();
        let (matrix, shards): (BTreeMap<_, _>, BTreeMap<_, _>) = (of(matrix), of(shards));
        let spread = Spread { count: count.as_ref(), max_count: None, matrix: &matrix, shards: &shards };
        instances(&spread, &PlanScope::default()).expect("instances")
    }

    #[test]
    fn every_combination_is_there_once() {
        let all = spread(json!({"a": [1, 2, 3], "b": ["w", "x", "y", "z"]}), json!({}), None);
        assert_eq!(all.len(), 12);
        let mut seen: Vec<_> = all.iter().map(|one| one.matrix.to_string()).collect();
        seen.sort();
        seen.dedup();
        assert_eq!((seen.len(), all[11].index, all[0].count), (12, 11, 12));
    }

    #[test]
    fn shards_hold_every_item_once_and_differ_by_one_at_most() {
        let all = spread(json!({}), json!({"f": ["a", "b", "c", "d", "e"]}), Some(json!(2)));
        let parts: Vec<_> = all.iter().map(|one| one.shard["f"].clone()).collect();
        assert_eq!(parts, [json!(["a", "b"]), json!(["c", "d", "e"])]);
        let more = spread(json!({}), json!({"f": ["a"]}), Some(json!("1 + 1")));
        assert_eq!(more[0].shard["f"], json!([]));
        assert_eq!(more[1].shard["f"], json!(["a"]));
    }
}
