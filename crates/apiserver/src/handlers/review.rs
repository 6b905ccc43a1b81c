//! Reviews: questions about who somebody is and what they may do, answered and forgotten.

use access::Attributes;
use kube_objects::{Reason, Status, UserInfo};
use serde_json::{Value, json};

use super::Call;

/// Fills in a review's status.
pub(crate) async fn answer(call: &Call, mut review: Value) -> Result<Value, Status> {
    let status = match call.resource.kind.as_str() {
        "SelfSubjectReview" => json!({"userInfo": call.user}),
        "TokenReview" => token(call, &review).await,
        "SelfSubjectAccessReview" => access(call, &call.user, &review["spec"]),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            access(call, &subject(&review["spec"])?, &review["spec"])
        }
        "SelfSubjectRulesReview" => rules(call, &review["spec"])?,
        _ => return Err(crate::registry::objects::not_served()),
    };
    review["status"] = status;
    Ok(review)
}

async fn token(call: &Call, review: &Value) -> Value {
    let spec = &review["spec"];
    let audiences: Vec<String> = serde_json::from_value(spec["audiences"].clone()).unwrap_or_default();
    let Some(authenticator) = &call.server.authenticator else { return json!({"authenticated": false}) };
    match authenticator.authenticate_token(spec["token"].as_str().unwrap_or_default(), &audiences).await {
        Ok(found) => json!({"authenticated": true, "user": found.user, "audiences": found.audiences}),
        Err(error) => json!({"authenticated": false, "error": error.to_string()}),
    }
}

fn subject(spec: &Value) -> Result<UserInfo, Status> {
    let groups: Vec<String> = serde_json::from_value(spec["groups"].clone()).unwrap_or_default();
    let username = spec["user"].as_str().unwrap_or_default().to_owned();
    if username.is_empty() && groups.is_empty() {
        return Err(Status::new(
            Reason::Invalid,
            "spec.user: Required value: at least one of user or group must be specified",
        ));
    }
    let extra = serde_json::from_value(spec["extra"].clone()).unwrap_or_default();
    let uid = spec["uid"].as_str().unwrap_or_default().to_owned();
    Ok(UserInfo { username, uid, groups, extra })
}

fn access(call: &Call, user: &UserInfo, spec: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes = if spec["nonResourceAttributes"].is_object() {
        let wanted = &spec["nonResourceAttributes"];
        Attributes::path(&text(&wanted["verb"]), &text(&wanted["path"]))
    } else {
        let wanted = &spec["resourceAttributes"];
        Attributes {
            verb: text(&wanted["verb"]),
            group: text(&wanted["group"]),
            version: text(&wanted["version"]),
            resource: text(&wanted["resource"]),
            subresource: text(&wanted["subresource"]),
            namespace: text(&wanted["namespace"]),
            name: text(&wanted["name"]),
            path: None,
        }
    };
    let Some(authorizer) = &call.server.authorizer else { return json!({"allowed": true}) };
    let decision = authorizer.authorize(user, &attributes);
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    status
}

fn rules(call: &Call, spec: &Value) -> Result<Value, Status> {
    let namespace = spec["namespace"].as_str().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.ok_or_else(|| Status::new(Reason::BadRequest, "no namespace on request"))?;
    let Some(authorizer) = &call.server.authorizer else {
        let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
        let paths = json!({"verbs": ["*"], "nonResourceURLs": ["*"]});
        return Ok(json!({"resourceRules": [all], "nonResourceRules": [paths], "incomplete": false}));
    };
    let listing = authorizer.rules_for(&call.user, namespace);
    let rules: Vec<Value> = listing.rules.iter().filter_map(|rule| serde_json::to_value(rule).ok()).collect();
    let with = |key: &str| -> Vec<Value> {
        rules
            .iter()
            .filter(|rule| rule[key].as_array().is_some_and(|list| !list.is_empty()))
            .cloned()
            .collect()
    };
    let mut status = json!({
        "resourceRules": with("resources"), "nonResourceRules": with("nonResourceURLs"),
        "incomplete": !listing.errors.is_empty(),
    });
    if !listing.errors.is_empty() {
        status["evaluationError"] = json!(listing.errors.join(", "));
    }
    Ok(status)
}
