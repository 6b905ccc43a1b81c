//! `projected`: several sources in one directory.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{downward, files, paths};
use crate::json::{given, integer, list, number, text};
use crate::names;
use crate::path::Path;
use crate::pod_spec::Scope;
use crate::problems::Problems;

const CONFLICT: &str = "conflicting duplicate paths";
/// Ten minutes and 2³² seconds.
const TOKEN_SECONDS: (i64, i64) = (600, 1 << 32);
const KEY_TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
/// 91 days; a day for Kubernetes' own signers.
const CERTIFICATE_SECONDS: (i64, i64) = (91 * 86_400, 86_400);

/// The volume at `at`.
pub(super) fn validate(problems: &mut Problems, at: &Path<'_>, source: &Value, scope: Scope<'_>) {
    files::mode(problems, at, source, "defaultMode");
    let mut taken = BTreeSet::new();
    let sources = at.field("sources");
    for (index, part) in list(source, "sources").iter().enumerate() {
        one(problems, at, &sources.index(index), part, &mut taken, scope);
    }
}

fn one(
    problems: &mut Problems,
    whole: &Path<'_>,
    at: &Path<'_>,
    part: &Value,
    taken: &mut BTreeSet<String>,
    scope: Scope<'_>,
) {
    let mut count = 0;
    for key in ["secret", "configMap"] {
        let Some(source) = given(part, key) else { continue };
        count += 1;
        let at = at.field(key);
        let name = text(source, "name");
        if name.is_empty() {
            problems.required(at.field("name"), "");
        }
        files::items(problems, &at, source, |problems, path| {
            if !taken.insert(path.to_owned()) {
                problems.invalid(whole, name, CONFLICT);
            }
        });
    }
    if let Some(source) = given(part, "downwardAPI") {
        count += 1;
        for item in list(source, "items") {
            downward::file(problems, &at.field("downwardAPI"), item);
            let path = text(item, "path");
            if !path.is_empty() && !taken.insert(path.to_owned()) {
                problems.invalid(whole, path, CONFLICT);
            }
        }
    }
    if let Some(source) = given(part, "serviceAccountToken") {
        count += 1;
        token(problems, whole, &at.field("serviceAccountToken"), source, scope);
    }
    if let Some(source) = given(part, "clusterTrustBundle") {
        count += 1;
        trust_bundle(problems, &at.field("clusterTrustBundle"), source);
        let path = text(source, "path");
        if !taken.insert(path.to_owned()) {
            problems.invalid(whole, path, CONFLICT);
        }
    }
    if let Some(source) = given(part, "podCertificate") {
        count += 1;
        certificate(problems, whole, &at.field("podCertificate"), source, taken);
    }
    if count > 1 {
        problems.forbidden(at, "may not specify more than 1 volume type per source");
    }
}

fn token(problems: &mut Problems, whole: &Path<'_>, at: &Path<'_>, source: &Value, scope: Scope<'_>) {
    let seconds = integer(source, "expirationSeconds");
    if seconds < TOKEN_SECONDS.0 {
        let why = "may not specify a duration less than 10 minutes";
        problems.invalid(at.field("expirationSeconds"), seconds, why);
    }
    if seconds > TOKEN_SECONDS.1 {
        let why = "may not specify a duration larger than 2^32 seconds";
        problems.invalid(at.field("expirationSeconds"), seconds, why);
    }
    let path = text(source, "path");
    // Upstream names the path of the whole volume here.
    if path.is_empty() {
        problems.required(whole.field("path"), "");
    } else if !scope.old.is_some_and(has_odd_token_path) {
        paths::not_reserved(problems, whole.field("path"), path);
    }
}

fn has_odd_token_path(spec: &Value) -> bool {
    list(spec, "volumes").iter().flat_map(|volume| list(&volume["projected"], "sources")).any(|source| {
        let mut problems = Problems::default();
        paths::not_reserved(&mut problems, "", text(&source["serviceAccountToken"], "path"));
        !problems.is_empty()
    })
}

fn trust_bundle(problems: &mut Problems, at: &Path<'_>, source: &Value) {
    let option = |key: &str| given(source, key).and_then(Value::as_str);
    match (option("name"), option("signerName")) {
        (Some(_), Some(_)) => problems.invalid(at, source, "only one of name and signerName may be used"),
        (Some(name), None) => {
            if name.is_empty() {
                problems.required(at.field("name"), "must be a valid object name");
            }
            for why in trust_bundle_name(name) {
                let why = format!("not a valid clustertrustbundlename: {why}");
                problems.invalid(at.field("name"), name, &why);
            }
            if let Some(selector) = given(source, "labelSelector") {
                let why = "labelSelector must be unset if name is specified";
                problems.invalid(at.field("labelSelector"), selector, why);
            }
        }
        (None, Some(signer)) => {
            if signer.is_empty() {
                problems.required(at.field("signerName"), "must be a valid signer name");
            }
            signer_name(problems, &at.field("signerName"), signer);
            names::selector(problems, &at.field("labelSelector"), &source["labelSelector"]);
        }
        (None, None) => problems.required(at, "either name or signerName must be specified"),
    }
    let path = text(source, "path");
    if path.is_empty() {
        problems.required(at.field("path"), "");
    }
    paths::not_reserved(problems, at.field("path"), path);
}

/// `signer.domain:path:name` where it belongs to a signer, else a name without colons.
fn trust_bundle_name(name: &str) -> Vec<String> {
    match name.rsplit_once(':') {
        Some((_, own)) => names::dns1123_subdomain(own),
        None => names::dns1123_subdomain(name),
    }
}

/// `domain/path` of a signer (upstream's `ValidateSignerName`).
pub(super) fn signer_name(problems: &mut Problems, at: &Path<'_>, name: &str) {
    if name.is_empty() {
        return problems.required(at, "");
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        return problems.invalid(
            at,
            name,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    };
    for why in names::dns1123_subdomain(domain) {
        problems.invalid(at, domain, &format!("validating label {}: {why}", crate::problems::quoted(domain)));
    }
    if domain.split('.').count() < 2 {
        problems.invalid(at, domain, "should be a domain with at least two segments separated by dots");
    }
    if path.is_empty() {
        problems
            .required(at, "must be a fully qualified domain and path of the form 'example.com/signer-name'");
    } else {
        for why in path.split('.').flat_map(names::dns1123_label) {
            problems.invalid(at, path, &why);
        }
    }
}

fn certificate(
    problems: &mut Problems,
    whole: &Path<'_>,
    at: &Path<'_>,
    source: &Value,
    taken: &mut BTreeSet<String>,
) {
    let signer = text(source, "signerName");
    signer_name(problems, &at.field("signerName"), signer);
    let kind = text(source, "keyType");
    if !KEY_TYPES.contains(&kind) {
        problems.unsupported_of(at.field("keyType"), kind, &KEY_TYPES);
    }
    if let Some(seconds) = number(source, "maxExpirationSeconds") {
        let at = at.field("maxExpirationSeconds");
        if seconds < 3600 {
            problems.invalid(at, seconds, "if provided, maxExpirationSeconds must be >= 3600");
        }
        let own = signer
            .split('/')
            .next()
            .is_some_and(|domain| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"));
        let most = if own { CERTIFICATE_SECONDS.1 } else { CERTIFICATE_SECONDS.0 };
        if seconds > most {
            problems.invalid(at, seconds, &format!("if provided, maxExpirationSeconds must be <= {most}"));
        }
    }
    let mut count = 0;
    for key in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let path = text(source, key);
        if path.is_empty() {
            continue;
        }
        count += 1;
        paths::not_reserved(problems, at.field(key), path);
        if !taken.insert(path.to_owned()) {
            problems.invalid(whole, path, CONFLICT);
        }
    }
    if count == 0 {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        problems.required(at, why);
    }
}
