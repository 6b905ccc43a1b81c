//! JSON patch (RFC 6902).

use kube_objects::{Reason, Status};
use serde_json::Value;

/// More operations than this are refused, as upstream does: each may copy a part of the object.
pub const MAX_OPERATIONS: usize = 10_000;

/// A patched object's bound in nodes. `copy` operations can double a document each: without a bound 10,000 of them
/// would not end. A 3 MiB request body cannot say more nodes than this.
const MAX_NODES: usize = 3 << 20;

/// Applies the operations in order; either all or none.
///
/// # Errors
/// 400 for a patch that is none, 413 for too many operations, 422 for an operation that cannot be applied.
pub fn json_patch(object: &Value, patch: &Value) -> Result<Value, Status> {
    let bad = |what: &str| Status::new(Reason::BadRequest, format!("error decoding patch: {what}"));
    let operations = patch.as_array().ok_or_else(|| bad("a JSON patch must be an array of operations"))?;
    if operations.len() > MAX_OPERATIONS {
        let count = operations.len();
        return Err(Status::new(
            Reason::RequestEntityTooLarge,
            format!(
                "Request entity too large: The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
            ),
        ));
    }
    let mut out = object.clone();
    let mut budget = MAX_NODES.saturating_sub(nodes(&out));
    for operation in operations {
        if !operation.is_object() {
            return Err(bad("an operation must be an object"));
        }
        apply(&mut out, operation, &mut budget).map_err(|message| {
            let sentence =
                format!("the server rejected our request due to an error in our request: {message}");
            Status::new(Reason::Invalid, sentence)
        })?;
    }
    Ok(out)
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Object(map) => map.values().map(nodes).sum(),
        Value::Array(list) => list.iter().map(nodes).sum(),
        _ => 0,
    }
}

fn apply(document: &mut Value, operation: &Value, budget: &mut usize) -> Result<(), String> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let path = text("path").ok_or("operation has no path")?;
    let value =
        || operation.get("value").cloned().ok_or_else(|| format!("operation on {path:?} has no value"));
    let mut spend = |value: &Value| {
        *budget = budget.checked_sub(nodes(value)).ok_or("the patched object would be too large")?;
        Ok::<(), String>(())
    };
    match text("op").unwrap_or_default() {
        "add" => {
            let value = value()?;
            spend(&value)?;
            add(document, path, value)
        }
        "remove" => remove(document, path).map(drop),
        "replace" => {
            let value = value()?;
            spend(&value)?;
            if let Some(old) = get_mut(document, path) {
                *old = value;
                return Ok(());
            }
            // Upstream's library replaces a member that its object does not have.
            match path.rsplit_once('/').and_then(|(parent, _)| get_mut(document, parent)) {
                Some(Value::Object(_)) => add(document, path, value),
                _ => Err(missing("replace", path)),
            }
        }
        "move" => {
            let from = text("from").ok_or("move operation has no from")?;
            if path.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                return Err(format!("move operation cannot move {from:?} into itself"));
            }
            let value = remove(document, from)?;
            add(document, path, value)
        }
        "copy" => {
            let from = text("from").ok_or("copy operation has no from")?;
            let value = get_mut(document, from).ok_or_else(|| missing("copy", from))?.clone();
            spend(&value)?;
            add(document, path, value)
        }
        "test" => {
            let wanted = operation.get("value").unwrap_or(&Value::Null);
            // An absent field equals null for upstream's library.
            let found = get_mut(document, path).map_or(Value::Null, |found| found.clone());
            if found == *wanted { Ok(()) } else { Err(format!("testing path {path} failed")) }
        }
        other => Err(format!("unexpected kind of operation: {other:?}")),
    }
}

fn missing(operation: &str, path: &str) -> String {
    format!("{operation} operation does not apply: doc is missing path: {path}: missing value")
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

fn get_mut<'v>(document: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    if path.is_empty() {
        return Some(document);
    }
    path.strip_prefix('/')?.split('/').try_fold(document, |value, token| match value {
        Value::Object(map) => map.get_mut(&unescape(token)),
        Value::Array(list) => {
            let index = index(token, list.len())?;
            list.get_mut(index)
        }
        _ => None,
    })
}

/// Upstream's library takes negative indices from the end.
fn index(token: &str, length: usize) -> Option<usize> {
    match token.strip_prefix('-') {
        Some(back) => length.checked_sub(back.parse().ok()?),
        None => token.parse().ok(),
    }
}

fn parent<'v>(document: &'v mut Value, path: &str) -> Option<(&'v mut Value, String)> {
    let (parent, last) = path.rsplit_once('/')?;
    Some((get_mut(document, parent)?, unescape(last)))
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *document = value;
        return Ok(());
    }
    match parent(document, path) {
        Some((Value::Object(map), key)) => {
            map.insert(key, value);
            Ok(())
        }
        Some((Value::Array(list), key)) => {
            // An insertion may also stand after the last item.
            let at = if key == "-" { Some(list.len()) } else { index(&key, list.len() + 1) };
            let at = at.filter(|at| *at <= list.len()).ok_or_else(|| {
                format!(
                    "add operation does not apply: doc is missing path: {path:?}: invalid index referenced"
                )
            })?;
            list.insert(at, value);
            Ok(())
        }
        _ => Err(missing("add", &format!("{path:?}"))),
    }
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let gone = match parent(document, path) {
        Some((Value::Object(map), key)) => map.remove(&key),
        Some((Value::Array(list), key)) => {
            index(&key, list.len()).filter(|index| *index < list.len()).map(|index| list.remove(index))
        }
        _ => None,
    };
    gone.ok_or_else(|| missing("remove", path))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_operation_applies() {
        let object = json!({"a": {"b": [1, 2]}, "c/d": 1});
        let patch = json!([
            {"op": "add", "path": "/a/b/-", "value": 3}, {"op": "add", "path": "/a/b/0", "value": 0},
            {"op": "remove", "path": "/c~1d"}, {"op": "replace", "path": "/a/b/1", "value": 9},
            {"op": "copy", "from": "/a/b", "path": "/e"}, {"op": "move", "from": "/a", "path": "/f"},
            {"op": "test", "path": "/e/1", "value": 9},
        ]);
        assert_eq!(
            json_patch(&object, &patch).unwrap(),
            json!({"e": [0, 9, 2, 3], "f": {"b": [0, 9, 2, 3]}})
        );
    }

    #[test]
    fn failures_have_their_codes() {
        let code = |patch: Value| json_patch(&json!({"a": [1]}), &patch).unwrap_err().code;
        assert_eq!(code(json!({})), 400);
        assert_eq!(code(json!([{"op": "remove", "path": "/b"}])), 422);
        assert_eq!(code(json!([{"op": "test", "path": "/a/0", "value": 2}])), 422);
        assert_eq!(code(json!([{"op": "add", "path": "/a/3", "value": 2}])), 422);
        assert_eq!(code(json!([{"op": "move", "from": "/a", "path": "/a/0"}])), 422);
        assert_eq!(code(Value::Array(vec![json!({}); MAX_OPERATIONS + 1])), 413);
    }

    #[test]
    fn copies_cannot_grow_without_bound() {
        let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
        let patch = Value::Array(vec![double; 64]);
        assert!(json_patch(&json!({"a": [1]}), &patch).is_err());
    }
}
