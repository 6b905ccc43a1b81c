//! `AuthenticationConfiguration` of `apiserver.config.k8s.io/v1`, the part of it that is served: for each issuer its URL,
//! audiences, required claims, and which claims are name, groups and uid. CEL expressions are refused by name.

use serde::Deserialize;

/// Issuers at most (upstream's bound).
const MAX_ISSUERS: usize = 64;

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authentication configuration is not valid: {0}")]
pub struct ConfigurationError(pub String);

/// One issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfiguration {
    /// What its tokens say in `iss`, to the letter.
    pub url: String,
    /// Where its discovery document is: below the URL unless it says otherwise.
    pub discovery_url: String,
    /// PEM bundle that its certificate is checked against; `None`: the machine's.
    pub certificate_authority: Option<String>,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    /// Claims that must be there with these values.
    pub required_claims: Vec<(String, String)>,
    /// The claim that is the user's name, and what stands before it.
    pub username: (String, String),
    /// The claim that is the user's groups, and what stands before each.
    pub groups: Option<(String, String)>,
    /// The claim that is the user's uid.
    pub uid: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<JwtDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct JwtDocument {
    issuer: IssuerDocument,
    #[serde(default)]
    claim_validation_rules: Vec<RuleDocument>,
    claim_mappings: MappingsDocument,
    #[serde(default)]
    user_validation_rules: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct IssuerDocument {
    url: String,
    #[serde(default, rename = "discoveryURL")]
    discovery_url: Option<String>,
    #[serde(default)]
    certificate_authority: Option<String>,
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RuleDocument {
    #[serde(default)]
    claim: String,
    #[serde(default)]
    required_value: String,
    #[serde(default)]
    expression: String,
    #[serde(default)]
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MappingsDocument {
    #[serde(default)]
    username: MappingDocument,
    #[serde(default)]
    groups: MappingDocument,
    #[serde(default)]
    uid: MappingDocument,
    #[serde(default)]
    extra: Vec<serde_json::Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MappingDocument {
    #[serde(default)]
    claim: String,
    #[serde(default)]
    prefix: Option<String>,
    #[serde(default)]
    expression: String,
}

/// Reads a document, YAML or JSON. `own`: who signs the server's own tokens, which nobody else may claim to be.
///
/// # Errors
/// [`ConfigurationError`], naming the field as upstream does.
pub fn parse(text: &str, own: &str) -> Result<Vec<IssuerConfiguration>, ConfigurationError> {
    let invalid = |why: String| ConfigurationError(why);
    let document: Document = serde_saphyr::from_str(text).map_err(|error| invalid(error.to_string()))?;
    if document.kind != "AuthenticationConfiguration"
        || !matches!(
            document.api_version.as_str(),
            "apiserver.config.k8s.io/v1" | "apiserver.config.k8s.io/v1beta1"
        )
    {
        return Err(invalid(format!("{}, Kind={} is not known", document.api_version, document.kind)));
    }
    if document.jwt.len() > MAX_ISSUERS {
        return Err(invalid(format!(
            "jwt: Too many: {}: must have at most {MAX_ISSUERS} items",
            document.jwt.len()
        )));
    }
    let mut all: Vec<IssuerConfiguration> = Vec::new();
    for (index, one) in document.jwt.into_iter().enumerate() {
        let at = |problem: String| invalid(format!("jwt[{index}].{problem}"));
        let issuer = issuer(one, own).map_err(at)?;
        if all.iter().any(|known| known.url == issuer.url) {
            return Err(at(format!("issuer.url: Duplicate value: {:?}", issuer.url)));
        }
        all.push(issuer);
    }
    Ok(all)
}

fn issuer(document: JwtDocument, own: &str) -> Result<IssuerConfiguration, String> {
    let IssuerDocument { url, discovery_url, certificate_authority, audiences, audience_match_policy } =
        document.issuer;
    check_url("issuer.url", &url)?;
    if url == own {
        return Err(format!(
            "issuer.url: Invalid value: {url:?}: URL must not overlap with disallowed issuers: [{own}]"
        ));
    }
    if let Some(other) = &discovery_url {
        check_url("issuer.discoveryURL", other)?;
        if other.trim_end_matches('/') == url.trim_end_matches('/') {
            return Err(format!(
                "issuer.discoveryURL: Invalid value: {other:?}: discoveryURL must be different from URL"
            ));
        }
    }
    if audiences.is_empty() {
        return Err("issuer.audiences: Required value: at least one issuer.audiences is required".to_owned());
    }
    if audiences.iter().any(String::is_empty) {
        return Err("issuer.audiences: Required value".to_owned());
    }
    match audience_match_policy.as_deref().unwrap_or_default() {
        "MatchAny" => {}
        "" if audiences.len() == 1 => {}
        other => {
            return Err(format!(
                "issuer.audienceMatchPolicy: Invalid value: {other:?}: audienceMatchPolicy must be MatchAny for multiple \
                 audiences"
            ));
        }
    }
    if !document.user_validation_rules.is_empty() {
        return Err("userValidationRules: Forbidden: CEL is not supported here".to_owned());
    }
    let mut required_claims = Vec::new();
    for (index, rule) in document.claim_validation_rules.into_iter().enumerate() {
        if !rule.expression.is_empty() {
            return Err(format!(
                "claimValidationRules[{index}].expression: Forbidden: CEL is not supported here"
            ));
        }
        if rule.claim.is_empty() {
            return Err(format!(
                "claimValidationRules[{index}]: Required value: claim or expression is required"
            ));
        }
        if !rule.message.is_empty() {
            return Err(format!(
                "claimValidationRules[{index}].message: Invalid value: {:?}: may not be specified when claim is set",
                rule.message
            ));
        }
        required_claims.push((rule.claim, rule.required_value));
    }
    let MappingsDocument { username, groups, uid, extra } = document.claim_mappings;
    if !extra.is_empty() {
        return Err("claimMappings.extra: Forbidden: CEL is not supported here".to_owned());
    }
    let username = prefixed("username", username)?
        .ok_or("claimMappings.username: Required value: claim or expression is required")?;
    let groups = prefixed("groups", groups)?;
    if !uid.expression.is_empty() {
        return Err("claimMappings.uid.expression: Forbidden: CEL is not supported here".to_owned());
    }
    let discovery_url = discovery_url
        .unwrap_or_else(|| format!("{}/.well-known/openid-configuration", url.trim_end_matches('/')));
    Ok(IssuerConfiguration {
        url,
        discovery_url,
        certificate_authority,
        audiences,
        required_claims,
        username,
        groups,
        uid: Some(uid.claim).filter(|claim| !claim.is_empty()),
    })
}

fn prefixed(field: &str, mapping: MappingDocument) -> Result<Option<(String, String)>, String> {
    if !mapping.expression.is_empty() {
        return Err(format!("claimMappings.{field}.expression: Forbidden: CEL is not supported here"));
    }
    if mapping.claim.is_empty() {
        return Ok(None);
    }
    let prefix = mapping.prefix.ok_or_else(|| {
        format!(
            "claimMappings.{field}.prefix: Required value: prefix is required when claim is set. It can be set to an empty \
             string to disable prefixing"
        )
    })?;
    Ok(Some((mapping.claim, prefix)))
}

fn check_url(field: &str, url: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{field}: Invalid value: {url:?}: {why}"));
    if url.is_empty() {
        return Err(format!("{field}: Required value"));
    }
    let Some(rest) = url.strip_prefix("https://") else { return wrong("URL scheme must be https") };
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return wrong("URL must not contain a username or password");
    }
    if url.contains('?') {
        return wrong("URL must not contain a query");
    }
    if url.contains('#') {
        return wrong("URL must not contain a fragment");
    }
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    if authority.is_empty() || !plain { wrong("it is no URL") } else { Ok(()) }
}
