//! The options of a write that stand in its query, and which values they take (upstream's `ValidateCreateOptions` and its
//! siblings in apimachinery's `meta/v1/validation`). Pure.

use kube_objects::{Status, StatusCause};

use crate::request_info::Query;

/// Longer names of field managers are refused (upstream `FieldManagerMaxLength`).
const MANAGER_LIMIT_BYTES: usize = 128;

/// Judges the options of a verb that writes; answers whether the write is only tried. `apply`: it is a server-side apply.
///
/// # Errors
/// 422 with all that is wrong.
pub(super) fn check(verb: &str, query: &Query, apply: bool) -> Result<bool, Status> {
    let kind = match verb {
        "create" => "CreateOptions",
        "update" => "UpdateOptions",
        "patch" => "PatchOptions",
        "delete" | "deletecollection" => "DeleteOptions",
        _ => return Ok(false),
    };
    let mut causes = Vec::new();
    if verb == "patch" && apply && query.text("fieldManager").is_none() {
        causes.push(cause("Required", "fieldManager", "Required value: is required for apply patch"));
    }
    if verb == "patch" && !apply && query.get("force").is_some() {
        causes.push(cause("Forbidden", "force", "Forbidden: may not be specified for non-apply patch"));
    }
    let deletes = kind == "DeleteOptions";
    if !deletes {
        causes.extend(query.text("fieldManager").and_then(manager));
    }
    let values: Vec<&str> = query.all("dryRun").collect();
    causes.extend(dry_run(&values));
    if !deletes && !matches!(query.get("fieldValidation"), None | Some("" | "Ignore" | "Strict" | "Warn")) {
        let own = query.get("fieldValidation").unwrap_or_default();
        let message =
            format!("Unsupported value: {own:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"");
        causes.push(cause("NotSupported", "fieldValidation", message));
    }
    if causes.is_empty() { Ok(!values.is_empty()) } else { Err(refused(kind, causes)) }
}

/// 422 for options of a kind.
pub(super) fn refused(kind: &str, causes: Vec<StatusCause>) -> Status {
    Status::invalid("meta.k8s.io", kind, "", causes)
}

/// What is wrong with values of `dryRun`.
pub(super) fn dry_run(values: &[&str]) -> Option<StatusCause> {
    let shown = || format!("Unsupported value: {}: supported values: \"All\"", serde_json::json!(values));
    values.iter().any(|value| *value != "All").then(|| cause("NotSupported", "dryRun", shown()))
}

/// A cause about an option; `reason` without `FieldValue` in front.
pub(super) fn cause(reason: &str, field: &str, message: impl Into<String>) -> StatusCause {
    StatusCause { reason: format!("FieldValue{reason}"), field: field.to_owned(), message: message.into() }
}

fn manager(name: &str) -> Option<StatusCause> {
    if name.len() > MANAGER_LIMIT_BYTES {
        let message = format!("Too long: may not be more than {MANAGER_LIMIT_BYTES} bytes");
        return Some(cause("TooLong", "fieldManager", message));
    }
    let (at, found) = name.char_indices().find(|(_, c)| c.is_control() || c.is_whitespace() && *c != ' ')?;
    let escaped: String = name
        .chars()
        .map(|c| if c.is_ascii_control() { format!("\\x{:02x}", u32::from(c)) } else { c.to_string() })
        .collect();
    let code = u32::from(found);
    let message = format!("Invalid value: \"{escaped}\": invalid character U+{code:04X} (at position {at})");
    Some(cause("Invalid", "fieldManager", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(verb: &str, query: &str, apply: bool) -> String {
        check(verb, &Query::parse(query), apply).map_or_else(|status| status.message, |dry| dry.to_string())
    }

    #[test]
    fn options_are_judged_as_upstream_judges_them() {
        let long = "x".repeat(129);
        for (verb, query, apply, wanted) in [
            ("create", "dryRun=All&dryRun=All&fieldManager=a%20b", false, "true"),
            ("patch", "fieldManager=m", true, "false"),
            ("get", "dryRun=x", false, "false"),
            (
                "create",
                "dryRun=Some",
                false,
                "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
            ),
            (
                "delete",
                "dryRun=&fieldValidation=x",
                false,
                "DeleteOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"\"]: supported values: \"All\"",
            ),
            (
                "update",
                "fieldManager=%01",
                false,
                "UpdateOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"\\x01\": invalid character U+0001 (at position 0)",
            ),
            (
                "update",
                "fieldValidation=No",
                false,
                "UpdateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"No\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
            ),
            (
                "patch",
                "",
                true,
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
            ),
            (
                "patch",
                "force=true",
                false,
                "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch",
            ),
        ] {
            assert_eq!(message(verb, query, apply), wanted, "{verb} {query}");
        }
        assert!(
            message("patch", &format!("fieldManager={long}"), false)
                .ends_with("fieldManager: Too long: may not be more than 128 bytes")
        );
    }
}
