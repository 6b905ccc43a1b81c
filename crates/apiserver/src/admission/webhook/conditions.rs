//! A webhook's `matchConditions`: CEL on the request as the webhook would see it.

use access::Attributes as Asked;
use kube_objects::{Status, UserInfo};
use policy_engines::admission_policy::{Conditions, FailurePolicy, Inputs, Match};
use policy_engines::cel::authorizer::{Answer, Authorizer, Question};
use serde_json::Value;

use super::review::{self, ReviewVersion, Shown};
use crate::admission::{Attributes, Operation};

/// Answers `authorizer`'s questions; without any authorization everything is allowed.
struct Rights<'a>(Option<&'a access::Authorizer>);

impl Authorizer for Rights<'_> {
    fn authorize(&self, user: &UserInfo, question: &Question) -> Answer {
        let Some(authorizer) = self.0 else {
            return Answer { allowed: true, reason: String::new(), error: None };
        };
        let asked = match &question.path {
            Some(path) => Asked::path(&question.verb, path),
            None => Asked::resource(
                &question.verb,
                &question.group,
                &question.resource,
                &question.namespace,
                &question.name,
            )
            .with_subresource(&question.subresource),
        };
        let decision = authorizer.authorize(user, &asked);
        Answer { allowed: decision.allowed, reason: decision.reason, error: None }
    }
}

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
    let verb = match attributes.operation {
        Operation::Create | Operation::Connect => "create",
        Operation::Update => "update",
        Operation::Delete => "delete",
    };
    let own = &cx.resource.gvr;
    let rights = Rights(cx.authorizer);
    let inputs = Inputs {
        object: shown.object,
        old_object: shown.old,
        request: &request,
        namespace_object: &Value::Null,
        params: None,
        authorizer: Some((&rights, cx.user)),
        request_resource: Question {
            verb: verb.to_owned(),
            path: None,
            group: own.group.clone(),
            resource: own.resource.clone(),
            subresource: cx.subresource.unwrap_or_default().to_owned(),
            namespace: attributes.namespace().to_owned(),
            name: cx.name.to_owned(),
        },
    };
    let policy = if fails_open { FailurePolicy::Ignore } else { FailurePolicy::Fail };
    match conditions.evaluate(&inputs, policy) {
        Match::Yes => Ok(true),
        Match::No(_) => Ok(false),
        Match::Error(why) => Err(access::authorization::forbidden(&own.group, &own.resource, cx.name, &why)),
    }
}
