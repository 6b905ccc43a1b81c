//! What calls cost when they run: upstream's `library/cost.go` and cel-go's `runtimecost.go`, number for number.

use super::value::{Library, Value};

/// Reading a character costs this much (cel-go `StringTraversalCostFactor`).
const TRAVERSE: f64 = 0.1;
/// A pattern's character (`RegexStringLengthCostFactor`).
const PATTERN: f64 = 0.25;
/// Two authorization checks fit into one expression.
const CHECK: u64 = 350_000;
const MAKE_LIST: u64 = 10;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "sizes are far below 2^52; the arithmetic is upstream's"
)]
fn scaled(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "as above, but cut off"
)]
fn cut(size: u64, factor: f64) -> u64 {
    (size as f64 * factor) as u64
}

/// What a call with these values costs. Without a result (an error), its size counts as 1.
pub(super) fn of_call(function: &str, overload: &str, args: &[Value<'_>], result: Option<&Value<'_>>) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, Value::cost_size);
    let made = || result.map_or(1, Value::cost_size);
    if let Some(cost) = of_overload(overload, args, made()) {
        return cost;
    }
    match function {
        "check" => CHECK,
        "fieldSelector" | "labelSelector" => {
            MAKE_LIST + scaled(size(1), TRAVERSE) + scaled(scaled(size(1), 0.5), 50.0)
        }
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => args.first().map_or(0, traversal),
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => scaled(size(0), TRAVERSE),
        "ip" if overload == "cidr_ip" => 1,
        "ip" => scaled(size(0), TRAVERSE),
        "replace" | "split" | "ip.isCanonical" => scaled(size(0), 2.0 * TRAVERSE),
        "join" => scaled(made(), 2.0 * TRAVERSE),
        "find" | "findAll" => scaled(1 + size(0), TRAVERSE) * scaled(size(1), PATTERN),
        "containsIP" => {
            let parse = if overload == "cidr_contains_ip_string" { scaled(size(1), TRAVERSE) } else { 0 };
            scaled(2 * size(0), TRAVERSE) + parse
        }
        "containsCIDR" => {
            let parse = if overload == "cidr_contains_cidr_string" { scaled(size(1), TRAVERSE) } else { 0 };
            scaled(2 * size(0), TRAVERSE) + scaled(size(0), TRAVERSE) + 1 + parse
        }
        "validate" => match args.first() {
            Some(Value::Library(library)) => match &**library {
                Library::Format(format) => {
                    scaled(1 + size(1), TRAVERSE) * scaled(format.pattern_size, PATTERN)
                }
                _ => 1,
            },
            _ => 1,
        },
        "_==_" if matches!(args.first(), Some(Value::Library(_) | Value::Authorizer(_))) => 1,
        _ => of_standard(function, overload, args),
    }
}

/// What cel-go's own functions cost; those that depend on types only where the type was known before.
fn of_standard(function: &str, overload: &str, args: &[Value<'_>]) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, Value::cost_size);
    if matches!(function, "_==_" | "_!=_") {
        return scaled(size(0).min(size(1)), TRAVERSE);
    }
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => scaled(size(0), TRAVERSE),
        "in_list" => size(1),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes" => scaled(size(0).min(size(1)), TRAVERSE),
        "add_string" | "add_bytes" => scaled(size(0) + size(1), TRAVERSE),
        "matches_string" => scaled(1 + size(0), TRAVERSE) * scaled(size(1), PATTERN),
        "contains_string" => scaled(size(0), TRAVERSE) * scaled(size(1), TRAVERSE),
        _ => 1,
    }
}

/// Overloads with a reckoning of their own: sets and the later list functions.
fn of_overload(overload: &str, args: &[Value<'_>], made: u64) -> Option<u64> {
    let size = |index: usize| args.get(index).map_or(1, Value::cost_size);
    let allocating = |factor: f64, size: u64| cut(size, factor) + 1 + MAKE_LIST;
    Some(match overload {
        "list_sets_contains_list" | "list_sets_intersects_list" => 1 + size(0).saturating_mul(size(1)),
        "list_sets_equivalent_list" => 1 + cut(size(0).saturating_mul(size(1)), 2.0),
        "list_slice" | "lists_range" | "list_reverse" => allocating(1.0, made),
        "list_flatten" => allocating(1.0, size(0)),
        #[expect(clippy::cast_precision_loss, reason = "a depth")]
        "list_flatten_int" => match args.get(1) {
            Some(Value::Int(depth)) => allocating(*depth as f64, size(0)),
            _ => 1,
        },
        "list_distinct" => self_compare(args.first()),
        _ if overload.ends_with("_sortByAssociatedKeys") => self_compare(args.get(1)),
        _ if overload.starts_with("list_") && overload.ends_with("_sort") => self_compare(args.first()),
        _ => return None,
    })
}

fn self_compare(list: Option<&Value<'_>>) -> u64 {
    let Some(Value::List(list)) = list else { return 1 };
    let size = list.len() as u64;
    let textual = list.len() > 0 && matches!(list.item(0), Ok(Value::String(_) | Value::Bytes(_)));
    cut(size.saturating_mul(size), if textual { 2.0 + TRAVERSE } else { 2.0 }) + 1 + MAKE_LIST
}

/// Reading a value through and through.
fn traversal(value: &Value<'_>) -> u64 {
    match value {
        Value::String(text) => cut(text.as_str().len() as u64, TRAVERSE),
        Value::Bytes(bytes) => cut(bytes.len() as u64, TRAVERSE),
        Value::List(list) => list.iter().map(|item| item.as_ref().map_or(1, traversal)).sum(),
        Value::Map(map) => {
            let entries = map.entries().unwrap_or_default();
            entries.iter().map(|(key, value)| traversal(key) + traversal(value)).sum()
        }
        _ => 1,
    }
}
