//! The part of Kubernetes' JSONPath that printer columns and selectable fields use: `.field`, `['field']`, `[index]`, `[*]`,
//! `[?(@.path=="value")]`. A path with anything else does not parse.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Items where the path below has this text.
    Where(Vec<String>, String),
}

/// A parsed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(Vec<Step>);

/// A path with more steps than this is refused.
const MAX_STEPS: usize = 64;

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`; `None` for what is not supported.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(text);
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, behind) = if let Some(inner) = rest.strip_prefix('[') {
                bracket(inner)?
            } else {
                name(rest.strip_prefix('.')?)?
            };
            steps.push(step);
            rest = behind;
            if steps.len() > MAX_STEPS {
                return None;
            }
        }
        Some(Self(steps))
    }

    /// Every value at the path, in order.
    #[must_use]
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| take(step, value)).collect();
        }
        found
    }
}

/// A field's name up to the next step; a dot within is escaped by a backslash (`.metadata.labels.app\.kubernetes\.io/name`).
fn name(text: &str) -> Option<(Step, &str)> {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => name.push(letters.next()?.1),
            '.' | '[' => return (!name.is_empty()).then_some((Step::Field(name), &text[at..])),
            _ => name.push(letter),
        }
    }
    (!name.is_empty()).then_some((Step::Field(name), ""))
}

fn bracket(text: &str) -> Option<(Step, &str)> {
    if let Some(condition) = text.strip_prefix("?(@") {
        let (condition, rest) = condition.split_once(")]")?;
        let (path, wanted) = condition.split_once("==")?;
        let wanted = wanted.trim().trim_matches(['"', '\'']).to_owned();
        let path = path.trim().strip_prefix('.')?.split('.').map(str::to_owned).collect();
        return Some((Step::Where(path, wanted), rest));
    }
    let (inner, rest) = text.split_once(']')?;
    let quoted = inner.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\''));
    let step = match quoted {
        Some(field) => Step::Field(field.to_owned()),
        None if inner == "*" => Step::All,
        None => Step::Index(inner.parse().ok()?),
    };
    Some((step, rest))
}

fn take<'v>(step: &Step, value: &'v Value) -> Vec<&'v Value> {
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let from_end = || items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
            let at = if *index < 0 { from_end() } else { usize::try_from(*index).ok() };
            at.and_then(|at| items.get(at)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Where(path, wanted), Value::Array(items)) => items
            .iter()
            .filter(|item| {
                let found = path.iter().try_fold(*item, |value, key| value.get(key));
                found.is_some_and(|found| match found {
                    Value::String(text) => text == wanted,
                    other => {
                        let shown = other.to_string();
                        shown == *wanted
                    }
                })
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_what_they_name() {
        let object = json!({ "a": { "b.c": 1, "list": [{ "t": "x", "v": 1 }, { "t": "y", "v": 2 }, { "t": "y", "v": 3 }] } });
        for (path, expected) in [
            (".a.list[0].v", vec![json!(1)]),
            (".a.list[-1].v", vec![json!(3)]),
            (".a.list[*].v", vec![json!(1), json!(2), json!(3)]),
            (".a.list[?(@.t==\"y\")].v", vec![json!(2), json!(3)]),
            (".a['b.c']", vec![json!(1)]),
            (".a.b\\.c", vec![json!(1)]),
            ("{.a.list[9].v}", vec![]),
            (".nothing.here", vec![]),
        ] {
            let found: Vec<Value> =
                JsonPath::parse(path).unwrap().find(&object).into_iter().cloned().collect();
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn what_is_not_supported_does_not_parse() {
        for path in ["a", ".a[", ".a[x]", "..a", ".a[?(@.t)]", ".a."] {
            assert_eq!(JsonPath::parse(path), None, "{path}");
        }
    }
}
