//! `v1.LimitRange`.

use std::collections::BTreeSet;

use api_machinery::quantity::{Format, Quantity};
use serde_json::Value;

use crate::json::{child, default, entries, existing, given, list, list_mut, text};
use crate::names::qualified_name;
use crate::path::Path;
use crate::pod_spec::{amount, container_resource, is_overcommit_allowed, qualified_resource};
use crate::problems::Problems;
use crate::rules::KindRules;

/// What Kubernetes demands of limit ranges.
pub const RULES: KindRules = KindRules {
    defaults: |object| {
        let Some(spec) = existing(object, "spec") else { return };
        list_mut(spec, "limits").iter_mut().for_each(default_item);
    },
    validate: |problems, object| {
        let at = Path::new("spec.limits");
        let limits = list(&object["spec"], "limits");
        for (index, limit) in limits.iter().enumerate() {
            let at = at.index(index);
            let kind = text(limit, "type");
            kind_of_limit(problems, &at.field("type"), kind);
            if limits[..index].iter().any(|other| text(other, "type") == kind) {
                problems.duplicate(at.field("type"), kind);
            }
            item(problems, &at, limit, kind);
        }
    },
    ..KindRules::NEW
};

/// Defaults follow from the most and the least.
fn default_item(limit: &mut Value) {
    if text(limit, "type") != "Container" {
        return;
    }
    for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let more: Vec<(String, Value)> =
            entries(limit, from).map(|(name, value)| (name.clone(), value.clone())).collect();
        if more.is_empty() {
            continue;
        }
        if let Some(map) = child(limit, to) {
            for (name, value) in more {
                default(map, &name, value);
            }
        }
    }
}

fn kind_of_limit(problems: &mut Problems, at: &Path<'_>, kind: &str) {
    let before = problems.len();
    problems.check(at, kind, qualified_name);
    let standard = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if problems.len() == before && !kind.contains('/') && !standard {
        problems.invalid(at, kind, "must be a standard limit type or fully qualified");
    }
}

fn item(problems: &mut Problems, at: &Path<'_>, limit: &Value, kind: &str) {
    let mut keys = BTreeSet::new();
    let mut names = |problems: &mut Problems, key: &str| {
        let at = at.field(key);
        for (name, _) in entries(limit, key) {
            if matches!(kind, "Pod" | "Container") {
                container_resource(problems, at.key(name), name);
            } else {
                qualified_resource(problems, at.key(name), name);
            }
            keys.insert(name.clone());
        }
    };
    names(problems, "max");
    names(problems, "min");
    for key in ["default", "defaultRequest"] {
        if kind != "Pod" {
            names(problems, key);
        } else if entries(limit, key).next().is_some() {
            problems.forbidden(at.field(key), "may not be specified when `type` is 'Pod'");
        }
    }
    let storage = |key: &str| given(&limit[key], "storage").is_some();
    if kind == "PersistentVolumeClaim" && !storage("min") && !storage("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        problems.required(at.field("limits"), why);
    }
    names(problems, "maxLimitRequestRatio");
    for name in keys {
        compare(problems, at, limit, &name, kind == "Pod");
    }
}

fn compare(problems: &mut Problems, at: &Path<'_>, limit: &Value, name: &str, is_pod: bool) {
    let read = |key: &str| limit[key].get(name).and_then(amount);
    let (min, max, ratio) = (read("min"), read("max"), read("maxLimitRequestRatio"));
    let (usual, request) = if is_pod { (None, None) } else { (read("default"), read("defaultRequest")) };
    let mut ordered = |key: &str,
                       shown: Option<Quantity>,
                       low: (Option<Quantity>, &str),
                       high: (Option<Quantity>, &str)| {
        if let (Some(less), Some(more), Some(shown)) = (low.0, high.0, shown)
            && less > more
        {
            let why = format!("{} value {less} is greater than {} value {more}", low.1, high.1);
            problems.invalid(at.field(key).key(name), shown.to_string(), &why);
        }
    };
    ordered("min", min, (min, "min"), (max, "max"));
    ordered("defaultRequest", request, (min, "min"), (request, "default request"));
    ordered("defaultRequest", request, (request, "default request"), (max, "max"));
    ordered("defaultRequest", request, (request, "default request"), (usual, "default limit"));
    ordered("default", min, (min, "min"), (usual, "default"));
    ordered("default", max, (usual, "default"), (max, "max"));
    let field = at.field("maxLimitRequestRatio");
    if let Some(ratio) = ratio {
        if ratio < Quantity::from_units(1, Format::DecimalSi) {
            problems.invalid(field.key(name), ratio.to_string(), &format!("ratio {ratio} is less than 1"));
        }
        if let (Some(min), Some(max)) = (min, max) {
            // Thousandths are exact enough for what people write.
            #[expect(clippy::cast_precision_loss, reason = "upstream compares as floating point too")]
            let (bound, given) = (max.millis() as f64 / min.millis() as f64, ratio.millis() as f64 / 1000.0);
            if given > bound {
                let why = format!("ratio {ratio} is greater than max/min = {bound:.6}");
                problems.invalid(field.key(name), ratio.to_string(), &why);
            }
        }
    }
    if let (Some(usual), Some(request)) = (usual, request)
        && !is_overcommit_allowed(name)
        && usual != request
    {
        let why = format!("default value {usual} must equal to defaultRequest value {request} in {name}");
        problems.invalid(at.field("defaultRequest").key(name), request.to_string(), &why);
    }
}
