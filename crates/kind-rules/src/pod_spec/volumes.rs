//! Volumes, and the mounts that refer to them.

use std::collections::BTreeSet;

use api_machinery::quantity::Quantity;
use serde_json::Value;

use crate::json::{entries, list, text};
use crate::names;
use crate::problems::Problems;

/// Checks the volumes; answers their names.
pub(super) fn validate_volumes(problems: &mut Problems, at: &str, spec: &Value) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (index, volume) in list(spec, "volumes").iter().enumerate() {
        let at = format!("{at}.volumes[{index}]");
        let name = &volume["name"];
        names::label(problems, &format!("{at}.name"), name);
        if let Some(text) = name.as_str()
            && !text.is_empty()
            && !seen.insert(text.to_owned())
        {
            problems.duplicate(&format!("{at}.name"), name);
        }
        validate_source(problems, &at, volume);
    }
    seen
}

fn validate_source(problems: &mut Problems, at: &str, volume: &Value) {
    let sources: Vec<&str> = volume
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| key.as_str() != "name" && !value.is_null())
        .map(|(key, _)| key.as_str())
        .collect();
    if sources.is_empty() {
        problems.required(at, "must specify a volume type");
    }
    for extra in sources.iter().skip(1) {
        problems.forbidden(&format!("{at}.{extra}"), "may not specify more than 1 volume type");
    }
    let source = |key: &str| volume.get(key).filter(|value| value.is_object());
    if let Some(secret) = source("secret") {
        required(problems, &format!("{at}.secret.secretName"), &secret["secretName"]);
        validate_items(problems, &format!("{at}.secret"), secret);
    }
    if let Some(map) = source("configMap") {
        required(problems, &format!("{at}.configMap.name"), &map["name"]);
        validate_items(problems, &format!("{at}.configMap"), map);
    }
    if let Some(path) = source("hostPath") {
        let field = format!("{at}.hostPath.path");
        required(problems, &field, &path["path"]);
        if text(path, "path").split('/').any(|part| part == "..") {
            problems.invalid(&field, &path["path"], "must not contain '..'");
        }
    }
    if let Some(claim) = source("persistentVolumeClaim") {
        required(problems, &format!("{at}.persistentVolumeClaim.claimName"), &claim["claimName"]);
    }
    if let Some(projected) = source("projected") {
        validate_mode(problems, &format!("{at}.projected.defaultMode"), projected.get("defaultMode"));
        for (index, part) in list(projected, "sources").iter().enumerate() {
            if let Some(token) = part.get("serviceAccountToken").filter(|token| token.is_object()) {
                let at = format!("{at}.projected.sources[{index}].serviceAccountToken");
                required(problems, &format!("{at}.path"), &token["path"]);
                let seconds = &token["expirationSeconds"];
                if seconds.as_i64().is_some_and(|seconds| seconds < 600) {
                    problems.invalid(
                        &format!("{at}.expirationSeconds"),
                        seconds,
                        "may not specify a duration less than 10 minutes",
                    );
                }
            }
        }
    }
}

fn required(problems: &mut Problems, field: &str, value: &Value) {
    if value.as_str().unwrap_or_default().is_empty() {
        problems.required(field, "");
    }
}

fn validate_items(problems: &mut Problems, at: &str, source: &Value) {
    validate_mode(problems, &format!("{at}.defaultMode"), source.get("defaultMode"));
    for (index, item) in list(source, "items").iter().enumerate() {
        let at = format!("{at}.items[{index}]");
        required(problems, &format!("{at}.key"), &item["key"]);
        let path = &item["path"];
        required(problems, &format!("{at}.path"), path);
        let text = path.as_str().unwrap_or_default();
        if text.starts_with('/') {
            problems.invalid(&format!("{at}.path"), path, "must be a relative path");
        }
        if text.split('/').any(|part| part == "..") {
            problems.invalid(&format!("{at}.path"), path, "must not contain '..'");
        }
        validate_mode(problems, &format!("{at}.mode"), item.get("mode"));
    }
}

fn validate_mode(problems: &mut Problems, field: &str, mode: Option<&Value>) {
    if let Some(mode) = mode
        && mode.as_i64().is_some_and(|bits| !(0..=0o777).contains(&bits))
    {
        problems.invalid(field, mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

/// A container's mounts and devices.
pub(super) fn validate_mounts(
    problems: &mut Problems,
    at: &str,
    container: &Value,
    volumes: &BTreeSet<String>,
) {
    let mut paths = BTreeSet::new();
    for (index, mount) in list(container, "volumeMounts").iter().enumerate() {
        let at = format!("{at}.volumeMounts[{index}]");
        let name = &mount["name"];
        match name.as_str() {
            None | Some("") => problems.required(&format!("{at}.name"), ""),
            Some(name_text) if !volumes.contains(name_text) => {
                problems.not_found(&format!("{at}.name"), name);
            }
            Some(_) => {}
        }
        let path = text(mount, "mountPath");
        if path.is_empty() {
            problems.required(&format!("{at}.mountPath"), "");
        } else if !paths.insert(path) {
            problems.invalid(&format!("{at}.mountPath"), &mount["mountPath"], "must be unique");
        }
        let sub = text(mount, "subPath");
        if sub.starts_with('/') {
            problems.invalid(&format!("{at}.subPath"), &mount["subPath"], "must be a relative path");
        }
        if sub.split('/').any(|part| part == "..") {
            problems.invalid(&format!("{at}.subPath"), &mount["subPath"], "must not contain '..'");
        }
    }
}

/// Names and amounts of resources, and limits against requests.
pub(super) fn validate_resources(problems: &mut Problems, at: &str, resources: &Value) {
    const FORMAT: &str =
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let amount = |value: &Value| match value {
        Value::String(text) => text.parse::<Quantity>().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    };
    for kind in ["limits", "requests"] {
        for (name, value) in entries(resources, kind) {
            let field = format!("{at}.{kind}[{name}]");
            match amount(value) {
                None => problems.invalid(&field, value, FORMAT),
                Some(given) if given.is_negative() => {
                    problems.invalid(&field, value, "must be greater than or equal to 0");
                }
                Some(_) => {}
            }
            let standard = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage")
                || name.starts_with("hugepages-");
            let known = standard || (name.contains('/') && names::is_qualified(name));
            if !known {
                problems.invalid(
                    &format!("{at}.{kind}"),
                    &Value::from(name.as_str()),
                    "must be a standard resource type or fully qualified",
                );
            }
        }
    }
    for (name, request) in entries(resources, "requests") {
        let limit = resources["limits"].get(name);
        let (Some(wanted), Some(limit)) = (amount(request), limit) else { continue };
        if amount(limit).is_some_and(|most| wanted > most) {
            let shown = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
            problems.invalid(
                &format!("{at}.requests"),
                request,
                &format!("must be less than or equal to {name} limit of {shown}"),
            );
        }
    }
}
