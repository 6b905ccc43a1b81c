//! Reviews: created, answered, never stored. `authentication.k8s.io` and `authorization.k8s.io`.

use access::authorization::{Attributes, FieldRequirement};
use access::{AuthenticationError, Authenticator, Authorizer};
use kube_objects::{Reason, Status, UserInfo};
use serde_json::{Value, json};

use super::strategy::RequestContext;
use crate::request_info;
use kind_rules::json::{entries, list, present, set, text};
use kind_rules::problems::Problems;
use kind_rules::reviews::Review;

/// What upstream says of a token that is nobody's.
const UNKNOWN_TOKEN: &str = "invalid bearer token";

/// Answers a review of the kind `cx.resource.kind`: the document with its status. `authenticator` is for TokenReviews.
///
/// # Errors
/// 400 for a document that asks nothing or two things; 503 when this server has no authorizer or authenticator.
pub async fn answer(
    cx: &RequestContext<'_>,
    authenticator: Option<&Authenticator>,
    mut review: Value,
) -> Result<Value, Status> {
    let spec = review["spec"].clone();
    let status = match cx.resource.kind.as_str() {
        "SelfSubjectReview" => json!({"userInfo": user_json(cx.user)}),
        "TokenReview" => review_token(authenticator, &spec).await?,
        "SelfSubjectAccessReview" => {
            check(cx, &review, Review::Oneself)?;
            decide(authorizer(cx)?, cx.user, &spec)
        }
        "SubjectAccessReview" => {
            check(cx, &review, Review::Subject)?;
            decide(authorizer(cx)?, &subject(&spec), &spec)
        }
        "LocalSubjectAccessReview" => {
            check(cx, &review, Review::Local)?;
            decide(authorizer(cx)?, &subject(&spec), &spec)
        }
        "SelfSubjectRulesReview" => {
            let rules = rules(authorizer(cx)?, cx.user, text(&spec, "namespace"))?;
            // Upstream answers without repeating the question.
            set(&mut review, "spec", json!({}));
            rules
        }
        other => return Err(Status::new(Reason::MethodNotAllowed, format!("a {other} cannot be created"))),
    };
    set(&mut review, "status", status);
    Ok(review)
}

fn authorizer<'a>(cx: &RequestContext<'a>) -> Result<&'a Authorizer, Status> {
    cx.authorizer.ok_or_else(|| {
        Status::new(Reason::ServiceUnavailable, "this server decides nothing: it has no authorizer")
    })
}

fn user_json(user: &UserInfo) -> Value {
    json!(user)
}

fn check(cx: &RequestContext<'_>, review: &Value, kind: Review) -> Result<(), Status> {
    let mut problems = Problems::default();
    kind_rules::reviews::validate(&mut problems, review, kind);
    if problems.is_empty() {
        return Ok(());
    }
    let causes = problems.into_causes();
    Err(Status::invalid(&cx.resource.gvr.group, &cx.resource.kind, "", causes))
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn subject(spec: &Value) -> UserInfo {
    UserInfo {
        username: text(spec, "user").to_owned(),
        uid: text(spec, "uid").to_owned(),
        groups: strings(&spec["groups"]),
        extra: entries(spec, "extra").map(|(key, values)| (key.clone(), strings(values))).collect(),
    }
}

/// The review holds exactly one of the two: [`check`] has seen to it.
fn attributes(spec: &Value) -> Attributes {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if present(spec, "nonResourceAttributes") {
        return Attributes::path(text(path, "verb"), text(path, "path"));
    }
    let version = if text(resource, "version").is_empty() { "*" } else { text(resource, "version") };
    Attributes {
        version: version.to_owned(),
        field_selector: required_fields(&resource["fieldSelector"]),
        ..Attributes::resource(
            text(resource, "verb"),
            text(resource, "group"),
            text(resource, "resource"),
            text(resource, "namespace"),
            text(resource, "name"),
        )
        .with_subresource(text(resource, "subresource"))
    }
}

/// The terms of a review's field selector. All of them have to hold, so that leaving out what is not understood only asks
/// for more; label selectors are left out whole, for no authorizer of ours looks at labels.
fn required_fields(selector: &Value) -> Vec<FieldRequirement> {
    let requirements = list(selector, "requirements");
    if requirements.is_empty() {
        return request_info::required_fields(text(selector, "rawSelector"));
    }
    let term = |own: &Value| {
        let equals = match text(own, "operator") {
            "In" => true,
            "NotIn" => false,
            _ => return None,
        };
        let [value] = list(own, "values") else { return None };
        let value = value.as_str().unwrap_or_default().to_owned();
        Some(FieldRequirement { field: text(own, "key").to_owned(), equals, value })
    };
    requirements.iter().filter_map(term).collect()
}

fn decide(authorizer: &Authorizer, user: &UserInfo, spec: &Value) -> Value {
    let decision = authorizer.authorize(user, &attributes(spec));
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.into();
    }
    status
}

fn rules(authorizer: &Authorizer, user: &UserInfo, namespace: &str) -> Result<Value, Status> {
    if namespace.is_empty() {
        return Err(Status::new(Reason::BadRequest, "no namespace on request"));
    }
    let listing = authorizer.rules_for(user, namespace);
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in listing.rules {
        if !rule.resources.is_empty() {
            let mut entry =
                json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                entry["resourceNames"] = json!(rule.resource_names);
            }
            resources.push(entry);
        } else if !rule.non_resource_urls.is_empty() {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": !listing.errors.is_empty()});
    if !listing.errors.is_empty() {
        status["evaluationError"] = listing.errors.join(", ").into();
    }
    Ok(status)
}

async fn review_token(authenticator: Option<&Authenticator>, spec: &Value) -> Result<Value, Status> {
    let authenticator = authenticator.ok_or_else(|| {
        Status::new(Reason::ServiceUnavailable, "this server knows nobody: it has no authenticator")
    })?;
    let token = text(spec, "token");
    if token.is_empty() {
        return Err(Status::new(Reason::BadRequest, "token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> = spec["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    Ok(match authenticator.authenticate_token(token, &audiences).await {
        Ok(found) => {
            let mut status = json!({"authenticated": true, "user": user_json(&found.user)});
            if !audiences.is_empty() {
                status["audiences"] = json!(found.audiences);
            }
            status
        }
        Err(AuthenticationError::UnknownToken) => json!({"user": {}, "error": UNKNOWN_TOKEN}),
        Err(error) => json!({"user": {}, "error": format!("[{UNKNOWN_TOKEN}, {error}]")}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_about_whom_the_review_names() {
        let authorizer = Authorizer::new();
        let masters = UserInfo::new("root", &["system:masters"]);
        let one = json!({"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "n"}});
        assert_eq!(decide(&authorizer, &masters, &one)["allowed"], true);
        let named = json!({"user": "x", "groups": ["g"], "extra": {"k": ["v"]}});
        assert_eq!(decide(&authorizer, &subject(&named), &one), json!({"allowed": false}));
        assert_eq!(subject(&named).extra["k"], ["v"]);
    }

    #[test]
    fn field_selectors_reach_the_authorizer() {
        let terms = |selector: Value| {
            let asked =
                attributes(&json!({"resourceAttributes": {"verb": "list", "fieldSelector": selector}}));
            asked.field_selector.into_iter().map(|own| (own.field, own.equals, own.value)).collect::<Vec<_>>()
        };
        let one = |equals| vec![("spec.nodeName".to_owned(), equals, "n".to_owned())];
        let single = |operator: &str, values: Value| json!({"requirements": [{"key": "spec.nodeName", "operator": operator, "values": values}]});
        assert_eq!(terms(json!({"rawSelector": "spec.nodeName=n"})), one(true));
        assert_eq!(terms(json!({"rawSelector": "spec.nodeName!=n"})), one(false));
        assert_eq!(terms(single("In", json!(["n"]))), one(true));
        assert_eq!(terms(single("NotIn", json!(["n"]))), one(false));
        assert_eq!(terms(single("In", json!(["n", "m"]))), []);
        assert_eq!(terms(single("Exists", json!([]))), []);
        assert_eq!(terms(single("FutureOperator", json!(["n"]))), []);
    }

    #[test]
    fn rules_are_listed_by_sort() {
        let authorizer = Authorizer::new();
        let listed = rules(&authorizer, &UserInfo::new("root", &["system:masters"]), "n").unwrap();
        assert_eq!(listed["resourceRules"][0]["resources"], json!(["*"]));
        assert_eq!(listed["nonResourceRules"][0]["nonResourceURLs"], json!(["*"]));
        assert_eq!(listed["incomplete"], false);
    }
}
