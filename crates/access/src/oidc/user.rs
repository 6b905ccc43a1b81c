//! Whom verified claims speak of.

use jiff::Timestamp;
use kube_objects::UserInfo;
use serde_json::{Map, Value, json};

use super::configuration::{Mapping, Rule};
use super::expressions::Expression;
use super::{IssuerConfiguration, OidcError};

/// Groups of one token at most, and values of one key of what else is known.
const MAX_VALUES: usize = 1000;
/// A second of tolerance between clocks (as for our own tokens).
const LEEWAY_SECONDS: i64 = 1;
/// Names and groups that only this server gives.
const OWN_PREFIXES: [&str; 2] = ["system:", "fairlead:"];
/// By which credential somebody came.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The user, or why there is none. Every rule and every mapping counts: one that has no value lets nobody in.
pub(super) fn of(
    configuration: &IssuerConfiguration,
    claims: Map<String, Value>,
    now: Timestamp,
) -> Result<UserInfo, OidcError> {
    check_validity(configuration, &claims, now)?;
    for (claim, value) in &configuration.required_claims {
        if claims.get(claim).and_then(Value::as_str) != Some(value) {
            return Err(missing(claim));
        }
    }
    let claims = Value::Object(claims);
    hold(&configuration.claim_rules, &claims)?;
    let mut user = UserInfo { username: username(&configuration.username, &claims)?, ..UserInfo::default() };
    if let Some(groups) = &configuration.groups {
        user.groups = groups_of(groups, &claims)?;
    }
    match &configuration.uid {
        Some(Mapping::Claim { claim, .. }) => user.uid = text_claim(claim, &claims)?.to_owned(),
        Some(Mapping::Expression(expression)) => user.uid = text(expression, &claims)?,
        None => {}
    }
    if let Some(id) = claims["jti"].as_str().filter(|id| !id.is_empty()) {
        user.extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
    }
    for (key, expression) in &configuration.extra {
        let values = texts(expression, &claims)?;
        if !values.is_empty() {
            user.extra.insert(key.clone(), values);
        }
    }
    let reserved = |name: &&String| OWN_PREFIXES.iter().any(|own| name.starts_with(own));
    if let Some(name) = [&user.username].into_iter().chain(&user.groups).find(reserved) {
        return Err(OidcError::Reserved(name.clone()));
    }
    if !configuration.user_rules.is_empty() {
        let UserInfo { username, uid, groups, extra } = &user;
        let known = json!({"username": username, "uid": uid, "groups": groups, "extra": extra});
        hold(&configuration.user_rules, &known)?;
    }
    Ok(user)
}

fn missing(claim: &str) -> OidcError {
    OidcError::Claim(claim.to_owned())
}

fn check_validity(
    configuration: &IssuerConfiguration,
    claims: &Map<String, Value>,
    now: Timestamp,
) -> Result<(), OidcError> {
    let seconds = |claim: &str| claims.get(claim).and_then(Value::as_f64).map(|seconds| seconds as i64);
    let expires = seconds("exp").ok_or_else(|| missing("exp"))?;
    let begins = seconds("nbf").unwrap_or(i64::MIN);
    if now.as_second() >= expires || begins > now.as_second() + LEEWAY_SECONDS {
        return Err(OidcError::Time);
    }
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.iter().any(|audience| configuration.audiences.iter().any(|own| own == audience)) {
        return Err(OidcError::Audience(configuration.audiences.clone()));
    }
    Ok(())
}

/// That all of them hold.
fn hold(rules: &[Rule], data: &Value) -> Result<(), OidcError> {
    for Rule { expression, message } in rules {
        match evaluate(expression, data)? {
            Value::Bool(true) => {}
            Value::Bool(false) => {
                let (expression, message) = (expression.source.clone(), message.clone());
                return Err(OidcError::Rule { expression, message });
            }
            _ => return Err(unusable(expression, "it must be true or false")),
        }
    }
    Ok(())
}

fn username(mapping: &Mapping, claims: &Value) -> Result<String, OidcError> {
    let (claim, prefix) = match mapping {
        Mapping::Claim { claim, prefix } => (claim, prefix),
        Mapping::Expression(expression) => {
            let name = text(expression, claims)?;
            return if name.is_empty() { Err(unusable(expression, "it is empty")) } else { Ok(name) };
        }
    };
    let name = text_claim(claim, claims)?;
    if name.is_empty() {
        return Err(missing(claim));
    }
    // An address that its owner never showed to be his is nobody's name (upstream's rule).
    if claim == "email" && claims.get("email_verified").is_some_and(|verified| *verified != Value::Bool(true))
    {
        return Err(missing("email_verified"));
    }
    Ok(format!("{prefix}{name}"))
}

/// A claim that must be a text.
fn text_claim<'c>(claim: &str, claims: &'c Value) -> Result<&'c str, OidcError> {
    claims.get(claim).and_then(Value::as_str).ok_or_else(|| missing(claim))
}

fn groups_of(mapping: &Mapping, claims: &Value) -> Result<Vec<String>, OidcError> {
    let (claim, prefix) = match mapping {
        Mapping::Claim { claim, prefix } => (claim, prefix),
        Mapping::Expression(expression) => return texts(expression, claims),
    };
    let prefixed = |group: &Value| group.as_str().map(|group| format!("{prefix}{group}"));
    let groups: Option<Vec<String>> = match claims.get(claim) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(many)) => many.iter().map(prefixed).collect(),
        Some(one) => prefixed(one).map(|group| vec![group]),
    };
    groups.filter(|groups| groups.len() <= MAX_VALUES).ok_or_else(|| missing(claim))
}

fn unusable(expression: &Expression, why: &str) -> OidcError {
    let (field, expression) = (expression.field.clone(), expression.source.clone());
    OidcError::Expression { field, expression, why: why.to_owned() }
}

fn evaluate(expression: &Expression, data: &Value) -> Result<Value, OidcError> {
    expression.compiled.evaluate(data).map_err(|why| unusable(expression, &why))
}

/// A value that must be a text.
fn text(expression: &Expression, claims: &Value) -> Result<String, OidcError> {
    match evaluate(expression, claims)? {
        Value::String(text) => Ok(text),
        _ => Err(unusable(expression, "it must be a string")),
    }
}

/// A text or a list of texts. Nothing and empty texts are left out.
fn texts(expression: &Expression, claims: &Value) -> Result<Vec<String>, OidcError> {
    let unfit = || unusable(expression, "it must be a string or a list of strings");
    let values = match evaluate(expression, claims)? {
        Value::Null => Vec::new(),
        Value::String(one) => vec![one],
        Value::Array(many) => {
            let text = |value| if let Value::String(text) = value { Some(text) } else { None };
            many.into_iter().map(text).collect::<Option<_>>().ok_or_else(unfit)?
        }
        _ => return Err(unfit()),
    };
    if values.len() > MAX_VALUES {
        return Err(unusable(expression, &format!("it has more than {MAX_VALUES} values")));
    }
    Ok(values.into_iter().filter(|value| !value.is_empty()).collect())
}
