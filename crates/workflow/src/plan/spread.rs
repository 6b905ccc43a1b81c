//! Matrices, shards and counts: how many instances there are and what each of them sees. Lists that only a container can
//! tell, such as those of files of a checkout, are found by a step before them, and the plan is made anew with them.

use std::collections::BTreeMap;

use fleet_objects::test_workflow::{Parallel, Service};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{MAX_INSTANCES, PlanScope};
use crate::expression::{Expression, MAX_ITEMS, Scope};

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

/// How instances are told: as the workflow says, or as far as it is resolved, for a container to find the rest out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lists {
    /// What they are found under: the name of the step that runs the instances, and of a service the service's behind it.
    #[serde(rename = "for")]
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    matrix: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    shards: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_count: Option<Value>,
}

/// What the lists of [`Lists`] came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    matrix: BTreeMap<String, Vec<Value>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    shards: BTreeMap<String, Vec<Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_count: Option<usize>,
}

/// What is known of lists.
pub(super) enum Reading {
    Known(Found),
    /// A container must look.
    Later(Lists),
}

impl Lists {
    pub(super) fn of_parallel(parallel: &Parallel, step: &str) -> Self {
        Self {
            name: step.to_owned(),
            matrix: parallel.matrix.clone(),
            shards: parallel.shards.clone(),
            count: parallel.count.clone(),
            max_count: parallel.max_count.clone(),
        }
    }

    pub(super) fn of_service(service: &Service, name: String) -> Self {
        Self {
            name,
            matrix: service.matrix.clone(),
            shards: service.shards.clone(),
            count: service.count.clone(),
            max_count: service.max_count.clone(),
        }
    }

    /// Puts in what is known when an execution is planned.
    ///
    /// # Errors
    /// Field below the step, and what is wrong with it.
    pub(super) fn read(&self, scope: &PlanScope) -> Result<Reading, (String, String)> {
        let texts = |lists: &BTreeMap<String, Value>, kind: &str| {
            let put_in = |(name, list): (&String, &Value)| {
                let known = match list {
                    Value::String(text) => resolved(text, scope),
                    other => super::compile::resolved_value(other, scope).map_err(|error| error.to_string()),
                };
                let list = known.and_then(|list| match is_open(&list) {
                    true => Ok(list),
                    false => list_of(list).map(Value::Array),
                });
                list.map(|list| (name.clone(), list)).map_err(|why| (format!("{kind}.{name}"), why))
            };
            lists.iter().map(put_in).collect::<Result<BTreeMap<_, _>, _>>()
        };
        let number = |value: &Option<Value>, field: &str| {
            let put_in = |value: &Value| {
                let value = match value {
                    Value::String(text) => resolved(text, scope)?,
                    other => other.clone(),
                };
                if is_open(&value) { Ok(value) } else { number_of(&value).map(Value::from) }
            };
            value.as_ref().map(put_in).transpose().map_err(|why| (field.to_owned(), why))
        };
        let so_far = Self {
            name: self.name.clone(),
            matrix: texts(&self.matrix, "matrix")?,
            shards: texts(&self.shards, "shards")?,
            count: number(&self.count, "count")?,
            max_count: number(&self.max_count, "maxCount")?,
        };
        let open = |value: &Value| is_open(value);
        let mut values = so_far.matrix.values().chain(so_far.shards.values());
        if values.any(open) || so_far.count.iter().chain(&so_far.max_count).any(open) {
            return Ok(Reading::Later(so_far));
        }
        so_far.settle(|value| Ok(value.clone())).map(Reading::Known)
    }

    /// What they come to where everything that is still open is known.
    ///
    /// # Errors
    /// What is wrong, for people.
    pub fn find(&self, scope: &dyn Scope) -> Result<Found, String> {
        let value = |value: &Value| match open_text(value) {
            Some(text) => {
                let value = Expression::parse(text).and_then(|expression| expression.evaluate(scope));
                value.map_err(|error| error.to_string())
            }
            None => Ok(value.clone()),
        };
        self.settle(value).map_err(|(field, why)| format!("{field}: {why}"))
    }

    fn settle(&self, value: impl Fn(&Value) -> Result<Value, String>) -> Result<Found, (String, String)> {
        let lists = |lists: &BTreeMap<String, Value>, kind: &str| {
            let settle = |(name, list): (&String, &Value)| {
                let list = value(list).and_then(list_of);
                list.map(|list| (name.clone(), list)).map_err(|why| (format!("{kind}.{name}"), why))
            };
            lists.iter().map(settle).collect::<Result<BTreeMap<_, _>, _>>()
        };
        let number = |own: &Option<Value>, field: &str| {
            let number = own.as_ref().map(|own| value(own).and_then(|own| number_of(&own))).transpose();
            number.map_err(|why| (field.to_owned(), why))
        };
        Ok(Found {
            matrix: lists(&self.matrix, "matrix")?,
            shards: lists(&self.shards, "shards")?,
            count: number(&self.count, "count")?,
            max_count: number(&self.max_count, "maxCount")?,
        })
    }
}

impl Found {
    /// What they hold, for people.
    #[must_use]
    pub fn told(&self) -> String {
        let list = |kind: &str, (name, items): (&String, &Vec<Value>)| {
            format!("{kind}.{name}: {} items", items.len())
        };
        let lists = self.matrix.iter().map(|own| list("matrix", own));
        let lists = lists.chain(self.shards.iter().map(|own| list("shards", own)));
        let count = self.count.map(|count| format!("count: {count}"));
        let most = self.max_count.map(|count| format!("maxCount: {count}"));
        lists.chain(count).chain(most).collect::<Vec<_>>().join(", ")
    }
}

/// Marks an expression that a container is to work out; no list that is known is such an object.
pub(crate) const OPEN: &str = "fairlead.dev/expression";

fn is_open(value: &Value) -> bool {
    open_text(value).is_some()
}

fn open_text(value: &Value) -> Option<&str> {
    value.as_object().filter(|object| object.len() == 1)?.get(OPEN)?.as_str()
}

/// An expression's value, or what is left of it.
fn resolved(text: &str, scope: &PlanScope) -> Result<Value, String> {
    let resolved = Expression::parse(text).and_then(|expression| expression.resolve(scope));
    let resolved = resolved.map_err(|error| error.to_string())?;
    Ok(match resolved.value() {
        Some(value) => value.clone(),
        None => json!({ (OPEN): resolved.to_string() }),
    })
}

/// Every combination of the matrix, each as often as there are shards.
///
/// # Errors
/// Field below the step, and what is wrong with it.
pub(super) fn instances(found: &Found) -> Result<Vec<Instance>, (String, String)> {
    let mut combinations = vec![Map::new()];
    for (name, items) in &found.matrix {
        let with = combinations.iter().flat_map(|known| {
            items.iter().map(|item| {
                let mut next = known.clone();
                next.insert(name.clone(), item.clone());
                next
            })
        });
        combinations = with.take(MAX_INSTANCES + 1).collect();
    }
    let longest = found.shards.values().map(Vec::len).max();
    let parts = match (found.count, found.max_count) {
        (Some(count), _) => count,
        (None, Some(most)) => most.min(longest.unwrap_or(most)),
        (None, None) => longest.unwrap_or(1),
    };
    let total = combinations.len().saturating_mul(parts);
    if total > MAX_INSTANCES {
        return Err(("count".to_owned(), format!("{total} instances; at most {MAX_INSTANCES}")));
    }
    let mut out = Vec::new();
    for matrix in combinations {
        for part in 0..parts {
            let shard = found.shards.iter().map(|(name, items)| (name.clone(), part_of(items, part, parts)));
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

fn list_of(value: Value) -> Result<Vec<Value>, String> {
    let items = match value {
        Value::Array(items) => items,
        Value::Object(entries) => {
            entries.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
        }
        other => vec![other],
    };
    if items.len() > MAX_ITEMS {
        return Err(format!("{} items; at most {MAX_ITEMS}", items.len()));
    }
    Ok(items)
}

fn number_of(value: &Value) -> Result<usize, String> {
    let number = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| format!("{value} is no number of instances"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(matrix: Value, shards: Value, count: Option<Value>) -> Lists {
        let of = |value: Value| value.as_object().cloned().unwrap_or_default().into_iter().collect();
        Lists { matrix: of(matrix), shards: of(shards), count, ..Lists::default() }
    }

    fn spread(matrix: Value, shards: Value, count: Option<Value>) -> Vec<Instance> {
        match lists(matrix, shards, count).read(&PlanScope::default()).expect("readable") {
            Reading::Known(found) => instances(&found).expect("instances"),
            Reading::Later(lists) => panic!("{lists:?} is known"),
        }
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
    #[test]
    fn what_only_a_container_knows_is_found_there() {
        let most = Lists {
            max_count: Some(json!("1 + 2")),
            ..lists(json!({"x": ["{{ env.A }}"]}), json!({"f": "glob(\"*.js\")"}), None)
        };
        let Ok(Reading::Later(later)) = most.read(&PlanScope::default()) else { panic!("it is open") };
        let text = serde_json::to_string(&later).expect("text");
        let later: Lists = serde_json::from_str(&text).expect("the same");
        let machine = Machine(json!(["a.js", "b{{ 1 }}.js", "c.js", "d.js"]));
        let found = later.find(&machine).expect("found");
        assert_eq!(found.told(), "matrix.x: 1 items, shards.f: 4 items, maxCount: 3");
        let all = instances(&found).expect("instances");
        let parts: Vec<_> = all.iter().map(|one| one.shard["f"].clone()).collect();
        assert_eq!(parts, [json!(["a.js"]), json!(["b{{ 1 }}.js"]), json!(["c.js", "d.js"])]);
        assert_eq!(all[0].matrix, json!({"x": "{{env.A}}"}));
        let wrong = lists(json!({}), json!({}), Some(json!("glob(\"x\")")));
        let Ok(Reading::Later(wrong)) = wrong.read(&PlanScope::default()) else { panic!("it is open") };
        assert!(wrong.find(&machine).expect_err("a list").starts_with("count: "));
        let typed = lists(json!({}), json!({"f": "glob(nothing)"}), None);
        let Err((field, why)) = typed.read(&PlanScope::default()) else { panic!("a name nobody knows") };
        assert_eq!(
            (field.as_str(), why.as_str()),
            ("shards.f", "there is nothing called \"nothing\" (at character 6)")
        );
    }

    /// A container whose every glob is this.
    struct Machine(Value);

    impl Scope for Machine {
        fn name(&self, _: &str) -> crate::expression::Lookup {
            crate::expression::Lookup::Unknown
        }

        fn call(&self, _: &str, _: &[Value]) -> Option<Result<Expression, String>> {
            Some(Ok(Expression::literal(self.0.clone())))
        }
    }
}
