//! A limit range's bounds on amounts, with upstream's sentences. Pure.

use api_machinery::quantity::Quantity;
use kind_rules::resource_list::ResourceList;
use serde_json::Value;

/// Minimum, maximum and ratio of what has requests and limits.
pub(super) fn both(limit: &Value, kind: &str, requests: &ResourceList, limits: &ResourceList) -> Vec<String> {
    let mut found = Vec::new();
    for (name, bound) in &ResourceList::of(&limit["min"]).0 {
        found.extend(minimum(kind, name, bound, requests.0.get(name), limits.0.get(name)));
    }
    for (name, bound) in &ResourceList::of(&limit["max"]).0 {
        found.extend(maximum(kind, name, bound, requests.0.get(name), limits.0.get(name)));
    }
    for (name, bound) in &ResourceList::of(&limit["maxLimitRequestRatio"]).0 {
        found.extend(ratio(kind, name, bound, requests.0.get(name), limits.0.get(name)));
    }
    found
}

/// Minimum and maximum of what has only requests.
pub(super) fn requests(limit: &Value, kind: &str, requests: &ResourceList) -> Vec<String> {
    let mut found = Vec::new();
    for (name, bound) in &ResourceList::of(&limit["min"]).0 {
        found.extend(minimum(kind, name, bound, requests.0.get(name), None));
    }
    for (name, bound) in &ResourceList::of(&limit["max"]).0 {
        let head = format!("maximum {name} usage per {kind} is {bound}");
        match requests.0.get(name) {
            None => found.push(format!("{head}.  No request is specified")),
            Some(request) if request > bound => found.push(format!("{head}, but request is {request}")),
            Some(_) => {}
        }
    }
    found
}

fn minimum(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Some(format!("{head}.  No request is specified")),
        (Some(request), _) if request < bound => Some(format!("{head}, but request is {request}")),
        (_, Some(limit)) if limit < bound => Some(format!("{head}, but limit is {limit}")),
        _ => None,
    }
}

fn maximum(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("maximum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (_, None) => Some(format!("{head}.  No limit is specified")),
        (_, Some(limit)) if limit > bound => Some(format!("{head}, but limit is {limit}")),
        (Some(request), _) if request > bound => Some(format!("{head}, but request is {request}")),
        _ => None,
    }
}

fn ratio(
    kind: &str,
    name: &str,
    bound: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let head = format!("{name} max limit to request ratio per {kind} is {bound}");
    let Some(request) = request.filter(|request| !request.is_zero()) else {
        return Some(format!("{head}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|limit| !limit.is_zero()) else {
        return Some(format!("{head}, but no limit is specified or limit is 0"));
    };
    let number = |quantity: &Quantity| {
        // Ratios are told as fractions; what is lost beyond 52 bits is not seen in six digits.
        #[expect(clippy::cast_precision_loss, reason = "a ratio is told in six digits")]
        let value = quantity.millis() as f64;
        value / 1000.0
    };
    let observed = number(limit) / number(request);
    (observed > number(bound)).then(|| format!("{head}, but provided ratio is {observed:.6}"))
}
