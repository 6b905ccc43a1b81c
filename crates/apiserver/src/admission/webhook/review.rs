//! The AdmissionReview that is sent, and what the answer may say (upstream `webhook/request`). Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kind_rules::json::{entries, list, text};
use kube_objects::{GroupVersionKind, GroupVersionResource, Reason, Status, StatusDetails};
use serde_json::{Value, json};

use crate::admission::Attributes;
use crate::admission::seen::Seen;

/// A version of AdmissionReview that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReviewVersion {
    V1,
    V1beta1,
}

impl ReviewVersion {
    /// The first that a webhook lists and this server speaks.
    pub(super) fn choose(listed: &[String]) -> Option<Self> {
        listed.iter().find_map(|version| match version.as_str() {
            "v1" => Some(Self::V1),
            "v1beta1" => Some(Self::V1beta1),
            _ => None,
        })
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "admission.k8s.io/v1",
            Self::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// What is shown to one webhook: object and old object in the version it wants.
pub(super) struct Shown<'a> {
    pub(super) resource: &'a GroupVersionResource,
    pub(super) kind: &'a GroupVersionKind,
    pub(super) object: &'a Value,
    pub(super) old: &'a Value,
}

impl<'a> Shown<'a> {
    pub(super) fn of(seen: &'a Seen<'_>) -> Self {
        Self { resource: &seen.resource().gvr, kind: &seen.kind, object: &seen.object, old: &seen.old }
    }
}

fn kind_document(kind: &GroupVersionKind) -> Value {
    json!({"group": kind.group, "version": kind.version, "kind": kind.kind})
}

fn resource_document(resource: &GroupVersionResource) -> Value {
    json!({"group": resource.group, "version": resource.version, "resource": resource.resource})
}

/// The review of a request.
pub(super) fn review(
    version: ReviewVersion,
    uid: &str,
    attributes: &Attributes<'_>,
    shown: &Shown<'_>,
) -> Value {
    let cx = &attributes.cx;
    let mut request = json!({
        "uid": uid,
        "kind": kind_document(shown.kind),
        "resource": resource_document(shown.resource),
        "requestKind": kind_document(&attributes.kind),
        "requestResource": resource_document(&cx.resource.gvr),
        "operation": attributes.operation.as_str(),
        "userInfo": cx.user,
        "object": shown.object,
        "oldObject": shown.old,
        "dryRun": cx.dry_run,
        "options": attributes.options_document(),
    });
    let sub = cx.subresource.unwrap_or_default();
    for (key, value) in [
        ("subResource", sub),
        ("requestSubResource", sub),
        ("name", cx.name),
        ("namespace", attributes.namespace()),
    ] {
        if !value.is_empty() {
            request[key] = json!(value);
        }
    }
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": request})
}

/// What a webhook answered.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    /// Why not.
    pub(super) result: Value,
    /// The patch as bytes, and what kind of patch it says it is.
    pub(super) patch: Vec<u8>,
    pub(super) patch_type: String,
    pub(super) audit: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

/// Reads an answer.
///
/// # Errors
/// A sentence about what makes it no answer to this review.
pub(super) fn verify(
    version: ReviewVersion,
    uid: &str,
    mutating: bool,
    document: &Value,
) -> Result<Verdict, String> {
    let response = &document["response"];
    if !response.is_object() {
        return Err("webhook response was absent".to_owned());
    }
    let strict = version == ReviewVersion::V1;
    if strict && text(response, "uid") != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", text(response, "uid")));
    }
    let (api_version, kind) = (text(document, "apiVersion"), text(document, "kind"));
    if strict && (api_version != version.api_version() || kind != "AdmissionReview") {
        return Err(format!(
            "expected webhook response of {}, Kind=AdmissionReview, got {api_version}, Kind={kind}",
            version.api_version()
        ));
    }
    let patch = STANDARD
        .decode(text(response, "patch"))
        .map_err(|error| format!("response.patch is no base64: {error}"))?;
    let patch_type = response["patchType"].as_str();
    if strict {
        check_patch(mutating, !patch.is_empty(), patch_type)?;
    }
    let patch_type = match patch_type {
        Some(patch_type) if strict => patch_type,
        _ if patch.is_empty() => "",
        // Its only kind was not said in v1beta1.
        _ => "JSONPatch",
    };
    let texts = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    Ok(Verdict {
        allowed: response["allowed"].as_bool().unwrap_or(false),
        result: response["status"].clone(),
        patch_type: patch_type.to_owned(),
        patch: if mutating { patch } else { Vec::new() },
        audit: entries(response, "auditAnnotations").filter_map(texts).collect(),
        warnings: list(response, "warnings")
            .iter()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect(),
    })
}

fn check_patch(mutating: bool, patch: bool, patch_type: Option<&str>) -> Result<(), String> {
    let wrong = match (mutating, patch, patch_type) {
        (true, true, None) => "webhook returned response.patch but not response.patchType",
        (true, false, Some(_)) => "webhook returned response.patchType but not response.patch",
        (true, true, Some("")) => "webhook returned invalid response.patchType of \"\"",
        (false, true, _) => "validating webhook may not return response.patch",
        (false, _, Some(_)) => "validating webhook may not return response.patchType",
        _ => return Ok(()),
    };
    Err(wrong.to_owned())
}

/// What the client is told of a refusal (upstream `ToStatusErr`).
pub(super) fn refusal(hook: &str, result: &Value) -> Status {
    let denied = format!("admission webhook {hook:?} denied the request");
    let (message, reason) = (text(result, "message"), text(result, "reason"));
    let message = match (message, reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = result["code"].as_u64().and_then(|code| u16::try_from(code).ok()).unwrap_or(0).max(400);
    let details: Option<StatusDetails> = serde_json::from_value(result["details"].clone()).ok();
    let known: Option<Reason> = serde_json::from_value(result["reason"].clone()).ok();
    let mut status =
        Status { code, details: details.map(Box::new), ..Status::new(Reason::BadRequest, message) };
    status.reason = known;
    if known.is_none() && !reason.is_empty() {
        status.other_reason = Some(reason.into());
    }
    status
}
