//! What becomes of a CertificateSigningRequest (upstream `pkg/controller/certificates`). Pure.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

use super::super::Requested;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// The longest a certificate is signed for (upstream's `--cluster-signing-duration`).
pub(super) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// The shortest: twice what certificates are backdated.
const SHORTEST: Duration = Duration::from_secs(600);

/// How long a request that was decided is kept.
const DECIDED: SignedDuration = SignedDuration::from_hours(1);
/// How long one that nobody decided is.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Whether one of the built-in signers signs for this name.
pub(super) fn is_ours(signer: &str) -> bool {
    matches!(signer, CLIENT | KUBELET_CLIENT | KUBELET_SERVING | LEGACY)
}

/// Whether a request may have what it asks for from its signer.
pub(super) fn check(signer: &str, requested: &Requested, usages: &[String]) -> Result<(), String> {
    match signer {
        CLIENT => check_client(usages),
        KUBELET_CLIENT => check_kubelet_client(requested, usages),
        KUBELET_SERVING => check_kubelet_serving(requested, usages),
        _ => Ok(()),
    }
}

fn check_client(usages: &[String]) -> Result<(), String> {
    for usage in usages {
        if !matches!(usage.as_str(), "digital signature" | "key encipherment" | "client auth") {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    if usages.iter().any(|usage| usage == "client auth") {
        Ok(())
    } else {
        Err("missing required usage for client certificate: client auth".to_owned())
    }
}

/// The usages of a node's certificate; without RSA keys the second is left out.
fn check_node_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let given: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let short = BTreeSet::from(["digital signature", purpose]);
    let full = BTreeSet::from(["digital signature", "key encipherment", purpose]);
    if given == short || given == full {
        return Ok(());
    }
    let names: Vec<&str> = full.into_iter().collect();
    Err(format!("usages did not match [{}]", names.join(" ")))
}

fn refuse(when: bool, why: &str) -> Result<(), String> {
    if when { Err(why.to_owned()) } else { Ok(()) }
}

fn check_kubelet_client(requested: &Requested, usages: &[String]) -> Result<(), String> {
    refuse(requested.organizations != ["system:nodes"], "subject organization is not system:nodes")?;
    refuse(!requested.dns.is_empty(), "DNS subjectAltNames are not allowed")?;
    refuse(!requested.emails.is_empty(), "Email subjectAltNames are not allowed")?;
    refuse(!requested.addresses.is_empty(), "IP subjectAltNames are not allowed")?;
    refuse(!requested.uris.is_empty(), "URI subjectAltNames are not allowed")?;
    let named = requested.common_name.starts_with("system:node:");
    refuse(!named, "subject common name does not begin with system:node:")?;
    check_node_usages(usages, "client auth")
}

fn check_kubelet_serving(requested: &Requested, usages: &[String]) -> Result<(), String> {
    refuse(requested.organizations != ["system:nodes"], "subject organization is not system:nodes")?;
    let unnamed = requested.dns.is_empty() && requested.addresses.is_empty();
    refuse(unnamed, "DNS or IP subjectAltName is required")?;
    refuse(!requested.emails.is_empty(), "Email subjectAltNames are not allowed")?;
    refuse(!requested.uris.is_empty(), "URI subjectAltNames are not allowed")?;
    check_node_usages(usages, "server auth")?;
    let named = requested.common_name.starts_with("system:node:");
    refuse(!named, "subject common name does not begin with system:node:")
}

/// Which permission lets a request be approved without a person: `(subresource, message)`, the narrower first.
pub(super) fn approvals(
    user: &str,
    signer: &str,
    requested: &Requested,
    usages: &[String],
) -> Vec<(&'static str, &'static str)> {
    if signer != KUBELET_CLIENT || check_kubelet_client(requested, usages).is_err() {
        return Vec::new();
    }
    let node = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");
    let own = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
    if user == requested.common_name { vec![own, node] } else { vec![node] }
}

/// How long to sign for.
pub(super) fn validity(expiration_seconds: Option<i32>) -> Duration {
    let asked = expiration_seconds.map(|seconds| u64::try_from(seconds).unwrap_or(0));
    asked.map_or(LONGEST, |seconds| Duration::from_secs(seconds).clamp(SHORTEST, LONGEST))
}

/// A condition that holds.
pub(super) fn condition<'a>(
    request: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind && condition.status != "False")
}

/// When a request may go; `expires` is the end of its certificate, if it has one.
pub(super) fn ends(request: &CertificateSigningRequest, expires: Option<Timestamp>) -> Option<Timestamp> {
    let issued = request.status.as_ref().is_some_and(|status| status.certificate.is_some());
    let since = |kind: &str, waits: bool| {
        let found = condition(request, kind).filter(|_| !waits)?;
        found.last_update_time.as_ref().map(|time| time.0.saturating_add(DECIDED).unwrap_or(Timestamp::MAX))
    };
    let undecided =
        request.status.as_ref().and_then(|status| status.conditions.as_ref()).is_none_or(Vec::is_empty);
    let pending = request
        .metadata
        .creation_timestamp
        .as_ref()
        .filter(|_| undecided)
        .map(|time| time.0.saturating_add(PENDING).unwrap_or(Timestamp::MAX));
    let each = [since("Approved", !issued), since("Denied", false), since("Failed", false), pending, expires];
    each.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(dns: &[&str]) -> Requested {
        Requested {
            common_name: "system:node:n1".to_owned(),
            organizations: vec!["system:nodes".to_owned()],
            dns: dns.iter().map(|name| (*name).to_owned()).collect(),
            ..Requested::default()
        }
    }

    fn usages(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_signer_has_its_rules_in_upstreams_words() {
        let client = usages(&["digital signature", "client auth"]);
        let server = usages(&["digital signature", "key encipherment", "server auth"]);
        let other = Requested { organizations: vec!["a".to_owned()], ..node(&[]) };
        for (signer, requested, usages, want) in [
            (KUBELET_CLIENT, node(&[]), &client, ""),
            (KUBELET_CLIENT, other, &client, "subject organization is not system:nodes"),
            (KUBELET_CLIENT, node(&["a"]), &client, "DNS subjectAltNames are not allowed"),
            (
                KUBELET_CLIENT,
                node(&[]),
                &server,
                "usages did not match [client auth digital signature key encipherment]",
            ),
            (KUBELET_SERVING, node(&["n1"]), &server, ""),
            (KUBELET_SERVING, node(&[]), &server, "DNS or IP subjectAltName is required"),
            (CLIENT, Requested::default(), &client, ""),
            (CLIENT, Requested::default(), &server, "invalid usage for client certificate: server auth"),
            (LEGACY, Requested::default(), &server, ""),
        ] {
            let got = check(signer, &requested, usages).err().unwrap_or_default();
            assert_eq!(got, want, "{signer}");
        }
    }

    #[test]
    fn only_nodes_are_approved_without_a_person_and_only_as_they_may() {
        let client = usages(&["digital signature", "client auth"]);
        let names = |user: &str, signer: &str| -> Vec<&str> {
            approvals(user, signer, &node(&[]), &client).into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("system:node:n1", KUBELET_CLIENT), ["selfnodeclient", "nodeclient"]);
        assert_eq!(names("system:bootstrap:abcdef", KUBELET_CLIENT), ["nodeclient"]);
        assert!(names("system:node:n1", CLIENT).is_empty());
    }

    #[test]
    fn lives_are_bounded_both_ways() {
        assert_eq!(validity(None), LONGEST);
        assert_eq!(validity(Some(1)), SHORTEST);
        assert_eq!(validity(Some(7200)), Duration::from_secs(7200));
        assert_eq!(validity(Some(i32::MAX)), LONGEST);
    }

    #[test]
    fn decided_requests_go_after_an_hour_and_forgotten_ones_after_a_day() {
        let mut request: CertificateSigningRequest = serde_json::from_value(serde_json::json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"request": "", "signerName": CLIENT},
        }))
        .unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        assert_eq!(ends(&request, None), Some(at("2026-01-02T00:00:00Z")));
        let approved = |certificate: serde_json::Value| {
            serde_json::from_value(serde_json::json!({
                "certificate": certificate,
                "conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": "2026-01-01T02:00:00Z"}],
            }))
            .unwrap()
        };
        request.status = Some(approved(serde_json::Value::Null));
        assert_eq!(
            ends(&request, None),
            None,
            "approved, not yet signed: somebody else's signer may be at it"
        );
        request.status = Some(approved("YQ==".into()));
        assert_eq!(ends(&request, None), Some(at("2026-01-01T03:00:00Z")));
        let soon = at("2026-01-01T02:30:00Z");
        assert_eq!(ends(&request, Some(soon)), Some(soon));
    }
}
