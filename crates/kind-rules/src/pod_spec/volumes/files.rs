//! Volumes made of the keys of a Secret or ConfigMap.

use serde_json::Value;

use super::{paths, required};
use crate::json::{list, number, text};
use crate::path::Path;
use crate::problems::Problems;

/// A file mode in a field.
pub(super) fn mode(problems: &mut Problems, at: &Path<'_>, holder: &Value, key: &str) {
    if let Some(mode) = number(holder, key)
        && !(0..=0o777).contains(&mode)
    {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        problems.invalid(at.field(key), mode, why);
    }
}

/// A `secret`.
pub(super) fn secret(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    required(problems, at, source, &["secretName"]);
    mode(problems, at, source, "defaultMode");
    items(problems, at, source, |_, _| {});
}

/// A `configMap`.
pub(super) fn config_map(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    required(problems, at, source, &["name"]);
    mode(problems, at, source, "defaultMode");
    items(problems, at, source, |_, _| {});
}

/// `items`; `seen` hears of every path.
pub(super) fn items(
    problems: &mut Problems,
    at: &Path<'_>,
    source: &Value,
    mut seen: impl FnMut(&mut Problems, &str),
) {
    let at = at.field("items");
    for (index, item) in list(source, "items").iter().enumerate() {
        let at = at.index(index);
        required(problems, &at, item, &["key", "path"]);
        let path = text(item, "path");
        paths::not_reserved(problems, at.field("path"), path);
        mode(problems, &at, item, "mode");
        if !path.is_empty() {
            seen(problems, path);
        }
    }
}
