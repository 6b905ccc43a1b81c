//! Paths inside volumes and on hosts.

use std::fmt::Display;

use serde_json::Value;

use crate::json::{given, text};
use crate::path::Path;
use crate::problems::Problems;

/// Whether a path goes up anywhere.
#[must_use]
pub fn steps_back(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// A path that must not go up.
pub fn no_backsteps(problems: &mut Problems, at: impl Display, path: &str) {
    if steps_back(path) {
        problems.invalid(at, path, "must not contain '..'");
    }
}

/// A relative path that stays below where it starts.
pub fn descending(problems: &mut Problems, at: impl Display, path: &str) {
    if path.starts_with('/') {
        problems.invalid(&at, path, "must be a relative path");
    }
    no_backsteps(problems, at, path);
}

/// The same, which does not begin with `..` either: such names are the kubelet's.
pub fn not_reserved(problems: &mut Problems, at: impl Display, path: &str) {
    descending(problems, &at, path);
    if path.starts_with("..") && !path.starts_with("../") {
        problems.invalid(at, path, "must not start with '..'");
    }
}

const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// A `hostPath`.
pub fn host_path(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    let path = text(source, "path");
    if path.is_empty() {
        problems.required(at.field("path"), "");
    }
    no_backsteps(problems, at.field("path"), path);
    if let Some(kind) = given(source, "type")
        && !kind.as_str().is_some_and(|kind| HOST_PATH_TYPES.contains(&kind))
    {
        problems.unsupported(at.field("type"), kind, &HOST_PATH_TYPES);
    }
}
