//! `AuthenticationConfiguration` of `apiserver.config.k8s.io/v1`: where nobody needs credentials, and for each issuer its URL and audiences, what must be true of a
//! token's claims and of the user that comes of it, and which claims or expressions are name, groups, uid and extra. What
//! upstream's validation refuses is refused, in its words.

use kind_rules::path::Path;
use kind_rules::problems::{Problems, Verbatim, quoted};
use kube_objects::StatusCause;

use super::expressions::{Compiler, Expression};
use crate::authentication::Anonymous;

mod document;
mod issuer;
mod mappings;
#[cfg(test)]
mod tests;

/// Issuers at most (upstream's bound).
const MAX_ISSUERS: usize = 64;
/// The longest document: that of 64 issuers with a bundle of certificates and long expressions each is far below it.
const MAX_DOCUMENT: usize = 4 << 20;

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the authentication configuration is not valid: {0}")]
pub struct ConfigurationError(pub String);

/// Who is let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationConfiguration {
    /// Whose tokens are taken.
    pub issuers: Vec<IssuerConfiguration>,
    /// Whether and where nobody needs any, where that is said.
    pub anonymous: Option<Anonymous>,
}

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
    /// What must be true of the claims.
    pub claim_rules: Vec<Rule>,
    /// The user's name.
    pub username: Mapping,
    /// The user's groups.
    pub groups: Option<Mapping>,
    /// The user's uid.
    pub uid: Option<Mapping>,
    /// What else is known of the user, by key.
    pub extra: Vec<(String, Expression)>,
    /// What must be true of the user.
    pub user_rules: Vec<Rule>,
}

/// What a part of the user is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// A claim, with something before it.
    Claim {
        /// Its name.
        claim: String,
        /// What stands before each value.
        prefix: String,
    },
    /// The value of an expression over the claims.
    Expression(Expression),
}

/// A condition, and what is said when it does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// True or false.
    pub expression: Expression,
    /// May be empty.
    pub message: String,
}

/// Reads a document, YAML or JSON, and compiles its expressions. `own`: who signs the server's own tokens, which nobody else
/// may claim to be.
///
/// # Errors
/// [`ConfigurationError`], naming every field that is wrong as upstream does.
pub fn parse(
    text: &str,
    own: &str,
    compiler: &dyn Compiler,
) -> Result<AuthenticationConfiguration, ConfigurationError> {
    let invalid = |why: String| ConfigurationError(why);
    if text.len() > MAX_DOCUMENT {
        return Err(invalid(format!("it is longer than {MAX_DOCUMENT} bytes")));
    }
    let document: document::Document =
        serde_saphyr::from_str(text).map_err(|error| invalid(error.to_string()))?;
    if document.kind != "AuthenticationConfiguration"
        || !matches!(
            document.api_version.as_str(),
            "apiserver.config.k8s.io/v1" | "apiserver.config.k8s.io/v1beta1"
        )
    {
        return Err(invalid(format!("{}, Kind={} is not known", document.api_version, document.kind)));
    }
    let mut checker = Checker { own, compiler, problems: Problems::default() };
    let issuers = checker.all(document.jwt);
    let anonymous = document.anonymous.map(|anonymous| checker.anonymous(anonymous));
    let problems = checker.problems.into_causes();
    if problems.is_empty() {
        Ok(AuthenticationConfiguration { issuers, anonymous })
    } else {
        Err(invalid(joined(problems)))
    }
}

/// As upstream joins what it found; the same once.
fn joined(problems: Vec<StatusCause>) -> String {
    let mut each: Vec<String> = Vec::new();
    for problem in problems {
        let said = format!("{}: {}", problem.field, problem.message);
        if !each.contains(&said) {
            each.push(said);
        }
    }
    if each.len() == 1 { each.concat() } else { format!("[{}]", each.join(", ")) }
}

/// Collects what is wrong while it makes what is asked for. What it makes is of use only if nothing was found.
struct Checker<'c> {
    own: &'c str,
    compiler: &'c dyn Compiler,
    problems: Problems,
}

impl Checker<'_> {
    fn all(&mut self, documents: Vec<document::Jwt>) -> Vec<IssuerConfiguration> {
        let root = Path::new("jwt");
        if documents.len() > MAX_ISSUERS {
            self.problems.too_many(root, documents.len(), MAX_ISSUERS);
            return Vec::new();
        }
        let (mut urls, mut discoveries) = (Vec::new(), Vec::new());
        let mut all = Vec::new();
        for (index, document) in documents.into_iter().enumerate() {
            let at = root.index(index);
            let issuer = at.field("issuer");
            let url = document.issuer.url.clone();
            let discovery = document.issuer.discovery_url.clone().filter(|url| !url.is_empty());
            all.extend(self.jwt(document, &at));
            if urls.contains(&url) {
                self.problems.duplicate(issuer.field("url"), &url);
            }
            urls.push(url);
            if let Some(discovery) = discovery {
                if discoveries.contains(&discovery) {
                    self.problems.duplicate(issuer.field("discoveryURL"), &discovery);
                }
                discoveries.push(discovery);
            }
        }
        all
    }

    fn anonymous(&mut self, document: document::Anonymous) -> Anonymous {
        let document::Anonymous { enabled, conditions } = document;
        if !enabled && !conditions.is_empty() {
            let each: Vec<String> =
                conditions.iter().map(|one| format!("{{\"Path\":{}}}", quoted(&one.path))).collect();
            let shown = format!("[{}]", each.join(","));
            let detail = "enabled should be set to true when conditions are defined";
            self.problems.invalid("anonymous.conditions", Verbatim(&shown), detail);
        }
        Anonymous { enabled, paths: conditions.into_iter().map(|condition| condition.path).collect() }
    }

    /// `None`: something is wrong.
    fn jwt(&mut self, document: document::Jwt, at: &Path<'_>) -> Option<IssuerConfiguration> {
        let document::Jwt { issuer, claim_validation_rules, claim_mappings, user_validation_rules } =
            document;
        self.issuer(&issuer, &at.field("issuer"));
        let (required_claims, claim_rules) =
            self.claim_rules(claim_validation_rules, &at.field("claimValidationRules"));
        let mapped = self.mappings(claim_mappings, &at.field("claimMappings"), &claim_rules);
        let user_rules = self.user_rules(user_validation_rules, &at.field("userValidationRules"));
        let below = || format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
        Some(IssuerConfiguration {
            discovery_url: issuer.discovery_url.filter(|url| !url.is_empty()).unwrap_or_else(below),
            url: issuer.url,
            certificate_authority: issuer.certificate_authority.filter(|pem| !pem.is_empty()),
            audiences: issuer.audiences,
            required_claims,
            claim_rules,
            username: mapped.username?,
            groups: mapped.groups,
            uid: mapped.uid,
            extra: mapped.extra,
            user_rules,
        })
    }
}
