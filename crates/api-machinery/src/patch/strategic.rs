//! Strategic merge patch: merges lists by the keys that the schema names, steered by directives in the patch.
//!
//! Directives: `$patch: delete|replace|merge` in an object or in an item of a list, `$retainKeys`,
//! `$setElementOrder/FIELD`, `$deleteFromPrimitiveList/FIELD`.

use kube_objects::{Reason, Status};
use serde_json::{Map, Value};

use crate::schema::{Dialect, Schema, SchemaRef};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// Merges `patch` into `object` as the schema says.
///
/// # Errors
/// 400 when the patch is malformed, or 500 without a reason, as upstream tells them apart; 415 for custom resources, whose schemas do not say how lists merge.
pub fn strategic_merge_patch(object: &Value, patch: &Value, schema: &Schema) -> Result<Value, Status> {
    if schema.dialect == Dialect::Custom {
        return Err(Status::new(
            Reason::UnsupportedMediaType,
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        ));
    }
    let (Value::Object(original), Value::Object(patch)) = (object, patch) else {
        return Err(bad("invalid JSON document"));
    };
    merge_object(original.clone(), patch.clone(), Some(schema)).map(Value::Object)
}

fn bad(message: impl Into<String>) -> Status {
    Status::new(Reason::BadRequest, message)
}

/// What upstream's patch library says and its handler passes on without a reason.
fn unfit(message: impl Into<String>) -> Status {
    Status::unreasoned(message)
}

fn no_merge_key(item: &Object, key: &str) -> Status {
    unfit(format!("map: {} does not contain declared merge key: {key}", Value::Object(item.clone())))
}

fn merge_object(mut original: Object, mut patch: Object, schema: Option<&Schema>) -> Result<Object, Status> {
    match patch.remove(PATCH) {
        None => {}
        Some(directive) if directive == "replace" => return Ok(patch),
        Some(directive) if directive == "delete" => return Ok(Object::new()),
        Some(directive) if directive == "merge" => {}
        Some(other) => {
            return Err(unfit(format!("unknown patch type: {other} in map: {}", Value::Object(patch))));
        }
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, schema)?;
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix(DELETE) {
            delete_from_list(&mut original, field, &value)?;
        } else if value.is_null() {
            original.remove(&key);
        } else {
            let old = original.remove(&key);
            if let Some(merged) = merge_value(old, value, field(schema, &key))? {
                original.insert(key, merged);
            }
        }
    }
    Ok(original)
}

fn field<'s>(schema: Option<&'s Schema>, key: &str) -> Option<&'s SchemaRef> {
    schema.and_then(|schema| schema.child(key))
}

fn merge_value(old: Option<Value>, new: Value, schema: Option<&SchemaRef>) -> Result<Option<Value>, Status> {
    match (old, new) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            if schema.is_some_and(|schema| schema.patch_strategy().replace) {
                return Ok(Some(Value::Object(new)));
            }
            merge_object(old, new, schema.map(SchemaRef::schema)).map(|merged| Some(Value::Object(merged)))
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            if schema.is_some_and(|schema| schema.patch_strategy().merge) {
                return merge_list(old, new, schema).map(|merged| Some(Value::Array(merged)));
            }
            Ok(Some(Value::Array(new)))
        }
        (_, new) => Ok(without_directives(without_nulls(new))),
    }
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<(), Status> {
    let Some(retained) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || bad("invalid patch format of retainKeys");
    let Value::Array(retained) = retained else { return Err(malformed()) };
    let keeps = |key: &str| retained.iter().any(|kept| kept == key);
    let directive = |key: &str| key.starts_with(DELETE) || key.starts_with(ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !directive(key) && !keeps(key)) {
        return Err(malformed());
    }
    original.retain(|key, _| keeps(key));
    Ok(())
}

fn delete_from_list(original: &mut Object, field: &str, gone: &Value) -> Result<(), Status> {
    let Value::Array(gone) = gone else { return Err(bad("invalid patch format of primitive list")) };
    if let Some(Value::Array(list)) = original.get_mut(field) {
        list.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// Lists with a `$setElementOrder` are merged first and then brought into that order; items that only the server has
/// keep their place relative to their neighbours.
fn merge_ordered_lists(
    original: &mut Object,
    patch: &mut Object,
    schema: Option<&Schema>,
) -> Result<(), Status> {
    let fields: Vec<String> =
        patch.keys().filter_map(|key| key.strip_prefix(ORDER)).map(str::to_owned).collect();
    for name in fields {
        let malformed = || bad("invalid patch format of setElementOrder list");
        let Some(Value::Array(order)) = patch.remove(&format!("{ORDER}{name}")) else {
            return Err(malformed());
        };
        let list = field(schema, &name);
        let key = merge_key(list);
        let new = match patch.remove(&name) {
            Some(Value::Array(new)) => Some(new),
            // A null or another type is for the ordinary merge.
            Some(other) => {
                patch.insert(name, other);
                continue;
            }
            None => None,
        };
        if let Some(new) = &new {
            check_order(new, &order, key)?;
        }
        let old = match original.get(&name) {
            Some(Value::Array(old)) => Some(old.clone()),
            Some(_) if new.is_none() => return Err(malformed()),
            _ => None,
        };
        let live = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().map(without_nulls).filter_map(without_directives).collect(),
            (Some(old), Some(new)) if list.is_some_and(|list| list.patch_strategy().merge) => {
                merge_list(old, new, list)?
            }
            (Some(_), Some(new)) => new,
        };
        original.insert(name, Value::Array(in_order(merged, &order, &live, key)));
    }
    Ok(())
}

fn merge_key(list: Option<&SchemaRef>) -> Option<&str> {
    list.and_then(|list| list.patch_merge_key.as_deref())
}

/// What two items are compared by.
fn identity<'v>(item: &'v Value, key: Option<&str>) -> Option<&'v Value> {
    match key {
        Some(key) => item.get(key),
        None => Some(item),
    }
}

fn position(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    let wanted = identity(item, key)?;
    list.iter().position(|other| identity(other, key) == Some(wanted))
}

/// The items of the patch must come in the order that the directive gives.
fn check_order(new: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Status> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in new.iter().filter(|item| item.get(PATCH).is_none()) {
        if let (Some(key), Some(map)) = (key, item.as_object())
            && !map.contains_key(key)
        {
            return Err(no_merge_key(map, key));
        }
        if !rest.any(|ordered| identity(ordered, key) == identity(item, key)) {
            return Err(unfit(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                Value::from(new.to_vec()),
                Value::from(order.to_vec())
            )));
        }
    }
    Ok(())
}

fn merge_list(old: Vec<Value>, new: Vec<Value>, schema: Option<&SchemaRef>) -> Result<Vec<Value>, Status> {
    let objects = old.iter().chain(&new).filter(|item| item.is_object()).count();
    if old.iter().chain(&new).any(Value::is_array) {
        return Err(bad("lists of lists are not supported"));
    }
    if objects == 0 {
        return Ok(merge_scalars(old, new));
    }
    if objects != old.len() + new.len() {
        return Err(bad("list element types are not identical"));
    }
    let key = merge_key(schema).ok_or_else(|| bad("cannot merge lists without merge key"))?;
    merge_items(old, new, key, schema.and_then(|schema| schema.items.as_ref()))
}

fn merge_scalars(old: Vec<Value>, new: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(old.len() + new.len());
    for item in old.iter().chain(&new) {
        if !merged.contains(item) {
            merged.push(item.clone());
        }
    }
    in_order(merged, &new, &old, None)
}

fn merge_items(
    mut old: Vec<Value>,
    new: Vec<Value>,
    key: &str,
    item_schema: Option<&SchemaRef>,
) -> Result<Vec<Value>, Status> {
    let (special, plain): (Vec<Value>, Vec<Value>) =
        new.into_iter().partition(|item| item.get(PATCH).is_some());
    let mut replace = false;
    for item in &special {
        match item.get(PATCH).and_then(Value::as_str) {
            Some("replace") => replace = true,
            Some("delete") => {
                let gone = item
                    .get(key)
                    .ok_or_else(|| no_merge_key(item.as_object().unwrap_or(&Map::new()), key))?;
                old.retain(|other| other.get(key) != Some(gone));
            }
            Some("merge") => return Err(bad("merging lists cannot yet be specified in the patch")),
            _ => return Err(unfit(format!("unknown patch type: {} in map: {item}", &item[PATCH]))),
        }
    }
    if replace {
        return Ok(plain);
    }
    let live = old.clone();
    let order = plain.clone();
    for item in plain {
        let Value::Object(item) = item else { continue };
        if !item.contains_key(key) {
            return Err(no_merge_key(&item, key));
        }
        let item = Value::Object(item);
        match position(&old, &item, Some(key)).and_then(|at| old.get_mut(at)) {
            Some(slot) => {
                if let Some(merged) = merge_value(Some(slot.take()), item, item_schema)? {
                    *slot = merged;
                }
            }
            None => old.extend(without_directives(without_nulls(item))),
        }
    }
    Ok(in_order(old, &order, &live, Some(key)))
}

/// Sorts the items that `order` names into its order and puts each of the others where the live list had it: before
/// the first ordered item that came after it there. What the live list does not know comes before the others (upstream's
/// `mergeSortedSlice`).
fn in_order(items: Vec<Value>, order: &[Value], live: &[Value], key: Option<&str>) -> Vec<Value> {
    let (mut ordered, others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| position(order, item, key).is_some());
    ordered.sort_by_key(|item| position(order, item, key));
    let mut merged = Vec::with_capacity(ordered.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in ordered {
        // What the server does not know yet comes before everything that only the server has.
        let at = position(live, &item, key);
        let follows =
            |other: &Value| at.zip(position(live, other, key)).is_some_and(|(own, other)| other < own);
        while let Some(other) = others.next_if(follows) {
            merged.push(other);
        }
        merged.push(item);
    }
    merged.extend(others);
    merged
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, without_nulls(value)))
            .collect(),
        Value::Array(list) => list.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// A value that is added whole: directives inside it have nothing to act on. `None` when it is a directive itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(PATCH) => None,
        Value::Object(map) => {
            let steers = |key: &str| key == RETAIN_KEYS || key.starts_with(ORDER) || key.starts_with(DELETE);
            let kept = map.into_iter().filter(|(key, _)| !steers(key));
            Some(Value::Object(
                kept.filter_map(|(key, value)| Some((key, without_directives(value)?))).collect(),
            ))
        }
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    use kube_objects::GroupVersionKind;
    use serde_json::json;

    use super::*;
    use crate::schema::SchemaSet;

    fn pod(object: Value, patch: Value) -> Result<Value, Status> {
        let schema = SchemaSet::builtin().for_kind(&GroupVersionKind::new("", "v1", "Pod")).unwrap();
        strategic_merge_patch(&object, &patch, &schema)
    }

    #[test]
    fn containers_merge_by_name() {
        let object = json!({"spec": {"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]}});
        let patch = json!({"spec": {"containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}]}]}});
        let wanted = json!({"spec": {"containers": [{"name": "a", "image": "2", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]}, {"name": "b"}]}});
        assert_eq!(pod(object, patch).unwrap(), wanted);
    }

    #[test]
    fn a_new_item_comes_before_those_the_patch_does_not_name() {
        let object = json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}});
        let patch = json!({"spec": {"containers": [{"name": "new"}, {"name": "b"}]}});
        let wanted = json!({"spec": {"containers": [{"name": "new"}, {"name": "a"}, {"name": "b"}]}});
        assert_eq!(pod(object, patch).unwrap(), wanted);
    }

    #[test]
    fn directives_delete_replace_and_order() {
        let object = json!({"metadata": {"finalizers": ["a", "b"], "labels": {"x": "1"}},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}});
        let delete = json!({"spec": {"containers": [{"name": "b", "$patch": "delete"}]}});
        assert_eq!(
            pod(object.clone(), delete).unwrap()["spec"]["containers"],
            json!([{"name": "a"}, {"name": "c"}])
        );
        let replace = json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}});
        assert_eq!(pod(object.clone(), replace).unwrap()["spec"]["containers"], json!([{"name": "z"}]));
        let order = json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [{"name": "c", "image": "i"}]}});
        assert_eq!(
            pod(object.clone(), order).unwrap()["spec"]["containers"],
            json!([{"name": "b"}, {"name": "c", "image": "i"}, {"name": "a"}])
        );
        let primitive =
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}});
        let left = &pod(object.clone(), primitive).unwrap()["metadata"]["finalizers"];
        // New items come before what only the server has.
        assert_eq!(*left, json!(["c", "b"]));
        let gone = json!({"metadata": {"labels": {"$patch": "delete"}}});
        assert_eq!(pod(object.clone(), gone).unwrap()["metadata"]["labels"], json!({}));
        let swapped = json!({"metadata": {"labels": {"$patch": "replace", "y": "2"}}});
        assert_eq!(pod(object, swapped).unwrap()["metadata"]["labels"], json!({"y": "2"}));
    }

    #[test]
    fn retained_keys_drop_the_others() {
        let schema =
            SchemaSet::builtin().for_kind(&GroupVersionKind::new("apps", "v1", "Deployment")).unwrap();
        let object =
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        let patched = strategic_merge_patch(&object, &patch, &schema).unwrap();
        assert_eq!(patched["spec"]["strategy"], json!({"type": "Recreate"}));
        let wrong = json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}});
        assert!(strategic_merge_patch(&object, &wrong, &schema).is_err());
    }

    #[test]
    fn malformed_patches_are_refused_with_the_codes_of_upstream() {
        let object = json!({"spec": {"containers": [{"name": "a"}]}});
        for (patch, code) in [
            (json!([]), 400),
            (json!({"$patch": "unknown"}), 500),
            (json!({"spec": {"containers": [{"image": "x"}]}}), 500),
            (json!({"spec": {"$retainKeys": 1}}), 400),
            (
                json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}),
                500,
            ),
        ] {
            assert_eq!(pod(object.clone(), patch.clone()).unwrap_err().code, code, "{patch}");
        }
    }

    #[test]
    fn custom_resources_have_no_strategic_patch() {
        let schema = Schema::from_openapi_v3(&json!({"type": "object"})).unwrap();
        assert_eq!(strategic_merge_patch(&json!({}), &json!({}), &schema).unwrap_err().code, 415);
    }
}
