//! One call of one webhook.

use api_machinery::patch;
use kube_objects::{Reason, Status, StatusCause, StatusDetails};
use serde_json::Value;
use uuid::Uuid;

use super::review::{self, ReviewVersion, Shown, Verdict};
use super::selection::Invocation;
use crate::admission::Attributes;
use crate::registry::objects::ObjectAccess;
use crate::webhook_client::WebhookClient;

/// Why a call did not let the request pass.
#[derive(Debug)]
pub(super) enum Failure {
    /// The webhook could not be asked or answered nonsense: its failure policy decides.
    Calling(String),
    /// It was asked and refused, or asking is refused whatever the policy.
    Refused(Status),
}

impl Failure {
    fn internal(why: impl std::fmt::Display) -> Self {
        Self::Refused(internal(&why.to_string()))
    }
}

fn internal(why: &str) -> Status {
    let cause = StatusCause { message: why.to_owned(), ..StatusCause::default() };
    Status::internal(why).with_details(StatusDetails { causes: vec![cause], ..StatusDetails::default() })
}

/// What the client is told when the failure policy is `Fail`.
pub(super) fn failed_closed(hook: &str, why: &str) -> Status {
    internal(&format!("failed calling webhook {hook:?}: {why}"))
}

/// Asks the webhook; answers what it changed the object to, if it did.
pub(super) async fn ask(
    client: &WebhookClient,
    objects: &ObjectAccess,
    invocation: &Invocation<'_>,
    attributes: &Attributes<'_>,
    mutating: bool,
) -> Result<Option<Patched>, Failure> {
    let hook = invocation.hook;
    if attributes.cx.dry_run {
        match hook.side_effects.as_deref() {
            Some("None" | "NoneOnDryRun") => {}
            None => return Err(Failure::Calling("Webhook SideEffects is nil".to_owned())),
            Some(_) => {
                let why = format!("admission webhook {:?} does not support dry run", hook.name);
                return Err(Failure::Refused(Status::new(Reason::BadRequest, why)));
            }
        }
    }
    let version = ReviewVersion::choose(&hook.review_versions).ok_or_else(|| {
        let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        Failure::Calling(format!("could not create admission objects: {why}"))
    })?;
    let config =
        hook.client.as_ref().map_err(|why| Failure::Calling(format!("could not get REST client: {why}")))?;
    let uid = Uuid::new_v4().to_string();
    let review = review::review(version, &uid, attributes, &Shown::of(&invocation.seen));
    let answered = client.post(config, &review, hook.timeout).await;
    let document = answered.map_err(|error| Failure::Calling(format!("failed to call webhook: {error}")))?;
    let verdict = review::verify(version, &uid, mutating, &document)
        .map_err(|why| Failure::Calling(format!("received invalid webhook response: {why}")))?;
    for (key, value) in &verdict.audit {
        attributes.annotate(format!("{}/{key}", hook.name), value);
    }
    for warning in &verdict.warnings {
        attributes.warn(warning);
    }
    if !verdict.allowed {
        return Err(Failure::Refused(review::refusal(&hook.name, &verdict.result)));
    }
    patched(objects, invocation, attributes, &verdict).await
}

/// What a webhook made of an object, in the version plug-ins see, and whether that differs.
pub(super) struct Patched {
    pub(super) object: Value,
    pub(super) changed: bool,
}

async fn patched(
    objects: &ObjectAccess,
    invocation: &Invocation<'_>,
    attributes: &Attributes<'_>,
    verdict: &Verdict,
) -> Result<Option<Patched>, Failure> {
    if verdict.patch.is_empty() {
        return Ok(None);
    }
    let patch: Value = serde_json::from_slice(&verdict.patch).map_err(|error| {
        Failure::Calling(format!("received undecodable patch in webhook response: {error}"))
    })?;
    if patch.as_array().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let (hook, seen) = (&invocation.hook.name, &invocation.seen);
    if seen.object.is_null() {
        return Err(Failure::internal(format!(
            "admission webhook {hook:?} attempted to modify the object, which is not supported for this operation"
        )));
    }
    if verdict.patch_type != "JSONPatch" {
        return Err(Failure::Calling(format!("unsupported patch type {:?}", verdict.patch_type)));
    }
    let mut made =
        patch::json_patch(&seen.object, &patch).map_err(|refused| Failure::internal(refused.message))?;
    seen.complete(&mut made).map_err(Failure::internal)?;
    let changed = made != seen.object;
    let object = seen.returned(objects, attributes, made).await.map_err(Failure::Refused)?;
    Ok(Some(Patched { object, changed }))
}
