//! How versions are converted into each other.

use serde_json::Value;

use super::super::structure::{list, text};
use crate::field_path::{FieldError, FieldPath};
use crate::names;

/// Versions of `ConversionReview` that servers have understood.
const KNOWN_REVIEWS: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn check(own: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let strategy = text(own, "strategy");
    super::one_of(strategy, &["None", "Webhook"], &path.child("strategy"), errors);
    // Upstream's internal form has these two beside the strategy.
    let (client_path, reviews_path) =
        (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    let webhook = &own["webhook"];
    let client = webhook.get("clientConfig").filter(|client| !client.is_null());
    let reviews = list(webhook, "conversionReviewVersions");
    if strategy != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.push(FieldError::forbidden(&client_path, why));
        }
        if !reviews.is_empty() {
            errors.push(FieldError::forbidden(&reviews_path, why));
        }
        return;
    }
    match client {
        None => errors.push(FieldError::required(&client_path, "required when strategy is set to Webhook")),
        Some(client) => self::client(client, &client_path, errors),
    }
    self::reviews(reviews, &reviews_path, errors);
}

fn client(client: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let (url, service) = (client["url"].as_str(), client.get("service").filter(|service| !service.is_null()));
    match (url, service) {
        (None, None) | (Some(_), Some(_)) => {
            errors.push(FieldError::required(path, "exactly one of url or service is required"));
        }
        (Some(url), None) => self::url(url, &path.child("url"), errors),
        (None, Some(service)) => self::service(service, &path.child("service"), errors),
    }
}

/// Upstream `webhook.ValidateWebhookURL`.
fn url(url: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let mut invalid = |value: &str, why: String| errors.push(FieldError::invalid(path, value, why));
    let Some((scheme, rest)) = url.split_once("://") else {
        invalid(url, format!("'https' is the only allowed URL scheme{FORM}"));
        return;
    };
    if scheme != "https" {
        invalid(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let host = rest.split('/').next().unwrap_or_default();
    let (user, host) = host.rsplit_once('@').map_or(("", host), |(user, host)| (user, host));
    if host.is_empty() {
        invalid(host, format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        invalid(user, "user information is not permitted in the URL".to_owned());
    }
    if !fragment.is_empty() {
        invalid(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if !query.is_empty() {
        invalid(query, "query parameters are not permitted in the URL".to_owned());
    }
}

/// Upstream `webhook.ValidateWebhookService`.
fn service(service: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for key in ["name", "namespace"] {
        if text(service, key).is_empty() {
            errors.push(FieldError::required(&path.child(key), format!("service {key} is required")));
        }
    }
    let port = service["port"].as_i64().unwrap_or(443);
    if !(1..=65_535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(FieldError::invalid(&path.child("port"), port, why));
    }
    let own = text(service, "path");
    if own.is_empty() || own == "/" {
        return;
    }
    let at = path.child("path");
    if own == "//" {
        errors.push(FieldError::invalid(&at, own, "segment[0] may not be empty"));
        return;
    }
    if !own.starts_with('/') {
        errors.push(FieldError::invalid(&at, own, "must start with a '/'"));
    }
    let steps: Vec<&str> = own.trim_start_matches('/').split('/').collect();
    let last = steps.len() - 1;
    for (index, step) in steps.into_iter().enumerate() {
        if step.is_empty() && index == last {
            continue;
        }
        if step.is_empty() {
            errors.push(FieldError::invalid(&at, own, format!("segment[{index}] may not be empty")));
            continue;
        }
        for why in names::dns1123_subdomain(step) {
            errors.push(FieldError::invalid(&at, own, format!("segment[{index}]: {why}")));
        }
    }
}

fn reviews(versions: &[Value], path: &FieldPath, errors: &mut Vec<FieldError>) {
    if versions.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    for (index, version) in versions.iter().enumerate() {
        let name = version.as_str().unwrap_or_default();
        if versions[..index].contains(version) {
            errors.push(FieldError::invalid(&path.index(index), name, "duplicate version"));
            continue;
        }
        let wrong = names::dns1035_label(name);
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&path.index(index), name, why)));
    }
    if !versions.iter().any(|version| KNOWN_REVIEWS.iter().any(|known| version == known)) {
        let why = format!("must include at least one of {}", KNOWN_REVIEWS.join(", "));
        errors.push(FieldError::invalid(path, versions.to_vec(), why));
    }
}
