//! Checks of what an issuer is and how it is reached.

use kind_rules::path::Path;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::FromDer as _;

use super::{Checker, document};

impl Checker<'_> {
    pub(super) fn issuer(&mut self, issuer: &document::Issuer, at: &Path<'_>) {
        let url = at.field("url");
        if issuer.url.is_empty() {
            self.problems.required(url, "");
        } else {
            if issuer.url == self.own {
                let detail = format!("URL must not overlap with disallowed issuers: [{}]", self.own);
                self.problems.invalid(url, &issuer.url, &detail);
            }
            self.url(&issuer.url, &url);
        }
        if let Some(discovery) = issuer.discovery_url.as_ref().filter(|url| !url.is_empty()) {
            let at = at.field("discoveryURL");
            if !issuer.url.is_empty() && discovery.trim_end_matches('/') == issuer.url.trim_end_matches('/') {
                self.problems.invalid(at, discovery, "discoveryURL must be different from URL");
            }
            self.url(discovery, &at);
        }
        self.audiences(issuer, at);
        if let Some(pem) = issuer.certificate_authority.as_deref().filter(|pem| !pem.is_empty())
            && let Err(why) = certificates(pem)
        {
            self.problems.invalid(at.field("certificateAuthority"), "<omitted>", &why);
        }
        let at = at.field("egressSelectorType");
        match issuer.egress_selector_type.as_deref().unwrap_or_default() {
            "" => {}
            // Upstream's server without a configuration of egress selectors does not start with these either.
            "controlplane" | "cluster" => {
                self.problems.forbidden(at, "this server has no configuration of egress selectors");
            }
            other => {
                self.problems.invalid(at, other, "egress selector must be either controlplane or cluster");
            }
        }
    }

    fn audiences(&mut self, issuer: &document::Issuer, at: &Path<'_>) {
        let (audiences, field) = (&issuer.audiences, at.field("audiences"));
        if audiences.is_empty() {
            let detail = format!("at least one {field} is required");
            return self.problems.required(field, &detail);
        }
        for (index, audience) in audiences.iter().enumerate() {
            if audience.is_empty() {
                self.problems.required(field.index(index), "");
            }
            if audiences[..index].contains(audience) {
                self.problems.duplicate(field.index(index), audience);
            }
        }
        let policy = issuer.audience_match_policy.as_deref().unwrap_or_default();
        let at = at.field("audienceMatchPolicy");
        match (audiences.len(), policy) {
            (_, "MatchAny") | (1, "") => {}
            (1, other) => {
                let detail = "audienceMatchPolicy must be empty or MatchAny for single audience";
                self.problems.invalid(at, other, detail);
            }
            (_, other) => {
                let detail = "audienceMatchPolicy must be MatchAny for multiple audiences";
                self.problems.invalid(at, other, detail);
            }
        }
    }

    fn url(&mut self, url: &str, at: &Path<'_>) {
        let before = self.problems.len();
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
        if !scheme.eq_ignore_ascii_case("https") {
            self.problems.invalid(at, url, "URL scheme must be https");
        }
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) =
            authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
        if let Some(port) = bad_port(host) {
            let detail = format!("parse \"{url}\": invalid port \"{port}\" after host");
            return self.problems.invalid(at, url, &detail);
        }
        if user.is_some() {
            self.problems.invalid(at, url, "URL must not contain a username or password");
        }
        if url.contains('?') {
            self.problems.invalid(at, url, "URL must not contain a query");
        }
        if url.contains('#') {
            self.problems.invalid(at, url, "URL must not contain a fragment");
        }
        let plain = url.bytes().all(|byte| byte.is_ascii_graphic());
        if self.problems.len() == before && (host.is_empty() || !plain) {
            self.problems.invalid(at, url, "it is no URL");
        }
    }
}

/// What stands behind a host and is no port, with its colon.
fn bad_port(host: &str) -> Option<&str> {
    let after = host.rfind(']').map_or(0, |end| end + 1);
    let colon = after + host[after..].find(':')?;
    let port = &host[colon..];
    (!port[1..].bytes().all(|byte| byte.is_ascii_digit())).then_some(port)
}

fn certificates(pem: &str) -> Result<(), String> {
    let mut any = false;
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        x509_parser::certificate::X509Certificate::from_der(&certificate)
            .map_err(|error| format!("a certificate in it is not readable: {error}"))?;
        any = true;
    }
    if any { Ok(()) } else { Err("data does not contain any valid RSA or ECDSA certificates".to_owned()) }
}
