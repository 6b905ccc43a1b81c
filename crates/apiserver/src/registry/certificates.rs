//! `certificates.k8s.io/v1`: a signing request says who asked, which only the server can know. The rules are
//! `kind_rules::certificates`.

use access::certificates::requested_pin;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use kind_rules::certificates::{
    CERTIFICATE_SIGNING_REQUEST as RULES, Part, populate_condition_times, preserve_decisions, validate_update,
};
use kind_rules::columns::Column;
use kind_rules::json::{existing, set, text};
use kind_rules::names::NameRule;
use kind_rules::problems::Problems;
use kube_objects::{Status, StatusCause};
use serde_json::{Value, json};

use super::plain::Plain;
use super::strategy::{RequestContext, Strategy};
use crate::handlers::create::seconds;

/// `CertificateSigningRequest`.
pub(crate) struct SigningRequest;

fn part(cx: &RequestContext<'_>) -> Part {
    match cx.subresource {
        Some("approval") => Part::Approval,
        Some("status") => Part::Status,
        _ => Part::Whole,
    }
}

#[async_trait]
impl Strategy for SigningRequest {
    fn name_rule(&self) -> NameRule {
        RULES.names
    }

    async fn prepare_for_create(&self, cx: &RequestContext<'_>, object: &mut Value) -> Result<(), Status> {
        if let Some(spec) = existing(object, "spec") {
            let user = cx.user;
            set(spec, "username", user.username.as_str());
            set(spec, "uid", user.uid.as_str());
            set(spec, "groups", user.groups.clone());
            set(spec, "extra", json!(user.extra));
            if let Some(fields) = spec.as_object_mut() {
                fields.retain(|key, value| {
                    let empty = value == "" || *value == json!([]) || *value == json!({});
                    !(empty && matches!(key.as_str(), "username" | "uid" | "groups" | "extra"))
                });
            }
        }
        set(object, "status", json!({}));
        Ok(())
    }

    async fn prepare_for_update(
        &self,
        _: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        set(object, "spec", old["spec"].clone());
        set(object, "status", old["status"].clone());
        Ok(())
    }

    async fn prepare_for_status_update(
        &self,
        cx: &RequestContext<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        set(object, "spec", old["spec"].clone());
        let now = seconds(cx.now);
        if part(cx) == Part::Approval {
            // Approval writes conditions and nothing else.
            let conditions = object["status"]["conditions"].clone();
            let mut status = old["status"].clone();
            set(&mut status, "conditions", conditions);
            set(object, "status", status);
        } else {
            preserve_decisions(object, old);
        }
        populate_condition_times(object, old, &now);
        Ok(())
    }

    fn validate(&self, cx: &RequestContext<'_>, object: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        let request = text(&object["spec"], "request");
        if let Some(why) = request_problem(request) {
            problems.invalid("spec.request", request, &why);
        }
        let mut causes = problems.into_causes();
        causes.extend(Plain(RULES).validate(cx, object));
        causes
    }

    fn validate_update(&self, cx: &RequestContext<'_>, object: &Value, old: &Value) -> Vec<StatusCause> {
        let mut problems = Problems::default();
        validate_update(&mut problems, object, old, part(cx));
        let certificate = text(&object["status"], "certificate");
        let unchanged = certificate == text(&old["status"], "certificate");
        if !unchanged && let Some(why) = certificate_problem(certificate) {
            problems.invalid("status.certificate", "<certificate data>", &why);
        }
        problems.into_causes()
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        RULES.selectable
    }

    fn columns(&self) -> Vec<Column> {
        (RULES.columns)()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        Plain(RULES).cells(object, now)
    }

    fn counts_generation(&self) -> bool {
        RULES.counts_generation
    }
}

fn pem_text(base64: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(base64).ok()?).ok()
}

/// Why a request is none, or was not signed by the key it is about.
fn request_problem(base64: &str) -> Option<String> {
    let not_one = || Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
    let Some(pem) = pem_text(base64) else { return not_one() };
    if !pem.contains("-----BEGIN CERTIFICATE REQUEST-----") {
        return not_one();
    }
    requested_pin(&pem).err().map(|error| match error {
        access::CertificateError::Unusable { detail, .. } => detail,
        other => other.to_string(),
    })
}

/// Why what a signer wrote is no chain of certificates.
fn certificate_problem(base64: &str) -> Option<String> {
    if base64.is_empty() {
        return None;
    }
    let pem = pem_text(base64).unwrap_or_default();
    let mut blocks = pem.lines().filter_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    if let Some(other) = blocks.clone().find(|label| *label != "CERTIFICATE") {
        return Some(format!("only CERTIFICATE PEM blocks are allowed, found {other:?}"));
    }
    blocks.next().is_none().then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_signed_by_the_key_they_are_about() {
        let (request, _) = access::certificates::signing_request("x").unwrap();
        assert_eq!(request_problem(&STANDARD.encode(&request)), None);
        let missing = Some("PEM block type must be CERTIFICATE REQUEST".to_owned());
        assert_eq!(request_problem("YWJj"), missing);
        assert_eq!(certificate_problem("YWJj").unwrap(), "must contain at least one CERTIFICATE PEM block");
        let found = certificate_problem(&STANDARD.encode(&request)).unwrap();
        assert_eq!(found, "only CERTIFICATE PEM blocks are allowed, found \"CERTIFICATE REQUEST\"");
    }
}
