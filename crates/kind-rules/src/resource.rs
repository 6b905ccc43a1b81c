//! `resource.k8s.io`: dynamic resource allocation. Expressions of selectors are not compiled here.

mod claim;
mod device_class;
mod resource_slice;

pub use claim::{RESOURCE_CLAIM, RESOURCE_CLAIM_TEMPLATE};
pub use device_class::DEVICE_CLASS;
pub use resource_slice::RESOURCE_SLICE;

use std::fmt::Display;

use serde_json::Value;

use crate::json::{list, present, text};
use crate::names;
use crate::path::Path;
use crate::problems::Problems;

const SELECTORS_MAX: usize = 32;
const CONFIG_MAX: usize = 32;
const REQUESTS_MAX: usize = 32;
/// Greatest length of an expression and of opaque parameters in bytes.
const CONTENT_MAX: usize = 10 * 1024;

/// The name of a driver: as a CSI driver's.
fn driver(problems: &mut Problems, field: impl Display, name: &str) {
    if name.is_empty() {
        return problems.required(field, "");
    }
    if name.len() > 63 {
        problems.too_many_bytes(&field, 63);
    }
    problems.check(field, name, |name| names::dns1123_subdomain(&name.to_lowercase()));
}

/// The items of a list, unless there are more than `most`: then only that is said.
fn items<'v>(
    problems: &mut Problems,
    at: &Path<'_>,
    holder: &'v Value,
    key: &str,
    most: usize,
) -> &'v [Value] {
    let all = list(holder, key);
    if all.len() > most {
        problems.too_many(at.field(key), all.len(), most);
        return &[];
    }
    all
}

/// Says which items of a list repeat an earlier one.
fn unique(problems: &mut Problems, at: &Path<'_>, all: &[Value], key: impl Fn(&Value) -> &str) {
    for (index, own) in all.iter().enumerate() {
        if all[..index].iter().any(|earlier| key(earlier) == key(own)) {
            problems.duplicate(at.index(index), key(own));
        }
    }
}

fn selectors(problems: &mut Problems, at: &Path<'_>, holder: &Value) {
    for (index, selector) in items(problems, at, holder, "selectors", SELECTORS_MAX).iter().enumerate() {
        let all = at.field("selectors");
        let here = all.index(index);
        let cel = here.field("cel");
        if !present(selector, "cel") {
            problems.required(cel, "");
        } else if text(&selector["cel"], "expression").len() > CONTENT_MAX {
            problems.too_many_bytes(cel.field("expression"), CONTENT_MAX);
        }
    }
}

fn configuration(problems: &mut Problems, at: &Path<'_>, config: &Value, stored: bool) {
    let opaque = at.field("opaque");
    if !present(config, "opaque") {
        return problems.required(opaque, "");
    }
    let own = &config["opaque"];
    driver(problems, opaque.field("driver"), text(own, "driver"));
    match &own["parameters"] {
        Value::Null => problems.required(opaque.field("parameters"), ""),
        parameters if !stored && parameters.to_string().len() > CONTENT_MAX => {
            problems.too_many_bytes(opaque.field("parameters"), CONTENT_MAX);
        }
        Value::Object(_) => {}
        _ => problems.invalid(opaque.field("parameters"), "<value omitted>", "must be a valid JSON object"),
    }
}
