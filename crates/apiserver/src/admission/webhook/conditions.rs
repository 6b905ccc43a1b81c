//! A webhook's `matchConditions`: CEL on the request as the webhook would see it.

use kube_objects::Status;
use policy_engines::admission_policy::{Conditions, FailurePolicy, Inputs, Match};
use serde_json::Value;

use super::review::{self, ReviewVersion, Shown};
use crate::admission::Attributes;
use crate::admission::rights::{self, Rights};

/// Whether all conditions hold.
///
/// # Errors
/// 403 when one failed and the webhook fails closed.
pub(super) fn hold(
    conditions: &Conditions,
    fails_open: bool,
    attributes: &Attributes<'_>,
    shown: &Shown<'_>,
) -> Result<bool, Status> {
    if conditions.is_empty() {
        return Ok(true);
    }
    let cx = &attributes.cx;
    let mut request = review::review(ReviewVersion::V1, "", attributes, shown)["request"].take();
    for key in ["object", "oldObject", "uid"] {
        kind_rules::json::remove(&mut request, key);
    }
    let own = &cx.resource.gvr;
    let rights = Rights(cx.authorizer);
    let inputs = Inputs {
        object: shown.object,
        old_object: shown.old,
        request: &request,
        namespace_object: &Value::Null,
        params: None,
        authorizer: Some((&rights, cx.user)),
        request_resource: rights::question(attributes),
    };
    let policy = if fails_open { FailurePolicy::Ignore } else { FailurePolicy::Fail };
    match conditions.evaluate(&inputs, policy) {
        Match::Yes => Ok(true),
        Match::No(_) => Ok(false),
        Match::Error(why) => Err(access::authorization::forbidden(&own.group, &own.resource, cx.name, &why)),
    }
}
