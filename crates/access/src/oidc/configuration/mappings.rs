//! Checks of rules and mappings, whose expressions are compiled here.

use kind_rules::names::domain_prefixed_path;
use kind_rules::path::Path;

use super::document::{ClaimRule, Extra, Mappings, Plain, Prefixed, UserRule};
use super::{Checker, Mapping, Rule};
use crate::oidc::expressions::{Expression, Subject};

const BOTH: &str = "claim and expression can't both be set";
const NEITHER: &str = "claim or expression is required";
const RESERVED: &str = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
const UNVERIFIED: &str = "claims.email_verified must be used in claimMappings.username.expression or \
    claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in \
    claimMappings.username.expression";

/// What a user is made of; without a name something is wrong.
pub(super) struct Mapped {
    pub(super) username: Option<Mapping>,
    pub(super) groups: Option<Mapping>,
    pub(super) uid: Option<Mapping>,
    pub(super) extra: Vec<(String, Expression)>,
}

impl Checker<'_> {
    fn expression(
        &mut self,
        source: String,
        subject: Subject,
        condition: bool,
        at: &Path<'_>,
    ) -> Option<Expression> {
        match self.compiler.compile(&source, subject, condition) {
            Ok(compiled) => {
                let path = at.to_string();
                let field = path.split_once("].").map_or(path.as_str(), |(_, field)| field).to_owned();
                Some(Expression { field, source, compiled })
            }
            Err(why) => {
                self.problems.invalid(at, &source, &why);
                None
            }
        }
    }

    /// Claims with their values, and what else must hold.
    pub(super) fn claim_rules(
        &mut self,
        rules: Vec<ClaimRule>,
        at: &Path<'_>,
    ) -> (Vec<(String, String)>, Vec<Rule>) {
        let (mut claims, mut conditions): (Vec<(String, String)>, Vec<Rule>) = (Vec::new(), Vec::new());
        let mut seen = Vec::new();
        for (index, rule) in rules.into_iter().enumerate() {
            let at = at.index(index);
            let ClaimRule { claim, required_value, expression, message } = rule;
            match (claim.is_empty(), expression.is_empty()) {
                (false, false) => self.problems.invalid(at, &claim, BOTH),
                (true, true) => self.problems.required(at, NEITHER),
                (false, true) => {
                    if !message.is_empty() {
                        let detail = "may not be specified when claim is set";
                        self.problems.invalid(at.field("message"), &message, detail);
                    }
                    if claims.iter().any(|(known, _)| *known == claim) {
                        self.problems.duplicate(at.field("claim"), &claim);
                    }
                    claims.push((claim, required_value));
                }
                (true, false) => {
                    if !required_value.is_empty() {
                        let detail = "may not be specified when expression is set";
                        self.problems.invalid(at.field("requiredValue"), &required_value, detail);
                    }
                    let rule = self.rule(expression, message, Subject::Claims, &mut seen, &at);
                    conditions.extend(rule);
                }
            }
        }
        (claims, conditions)
    }

    /// What must be true of the user.
    pub(super) fn user_rules(&mut self, rules: Vec<UserRule>, at: &Path<'_>) -> Vec<Rule> {
        let (mut all, mut seen) = (Vec::new(), Vec::new());
        for (index, UserRule { expression, message }) in rules.into_iter().enumerate() {
            let at = at.index(index);
            if expression.is_empty() {
                self.problems.required(at.field("expression"), "");
                continue;
            }
            all.extend(self.rule(expression, message, Subject::User, &mut seen, &at));
        }
        all
    }

    fn rule(
        &mut self,
        source: String,
        message: String,
        subject: Subject,
        seen: &mut Vec<String>,
        at: &Path<'_>,
    ) -> Option<Rule> {
        let at = at.field("expression");
        if seen.contains(&source) {
            self.problems.duplicate(at, &source);
            return None;
        }
        seen.push(source.clone());
        let expression = self.expression(source, subject, true, &at)?;
        Some(Rule { expression, message })
    }

    /// `rules`: those over claims, which may look at what the user's name leaves out.
    pub(super) fn mappings(&mut self, mappings: Mappings, at: &Path<'_>, rules: &[Rule]) -> Mapped {
        let (name_at, groups_at) = (at.field("username"), at.field("groups"));
        let username = self.prefixed(mappings.username, &name_at, true);
        let groups = self.prefixed(mappings.groups, &groups_at, false);
        let uid = self.plain(mappings.uid, &at.field("uid"));
        let extra = self.extra(mappings.extra, &at.field("extra"));
        if let Some(Mapping::Expression(name)) = &username
            && name.compiled.selects("email")
        {
            let mut looking = rules.iter().map(|rule| &rule.expression);
            let mut looking = looking.by_ref().chain(extra.iter().map(|(_, value)| value)).chain([name]);
            if !looking.any(|expression| expression.compiled.selects("email_verified")) {
                self.problems.invalid(name_at.field("expression"), &name.source, UNVERIFIED);
            }
        }
        Mapped { username, groups, uid, extra }
    }

    fn prefixed(&mut self, mapping: Prefixed, at: &Path<'_>, required: bool) -> Option<Mapping> {
        let Prefixed { claim, prefix, expression } = mapping;
        match (claim.is_empty(), expression.is_empty()) {
            (false, false) => {
                self.problems.invalid(at, "", BOTH);
                None
            }
            (true, true) => {
                if required {
                    self.problems.required(at, NEITHER);
                }
                None
            }
            (true, false) => {
                if let Some(prefix) = &prefix {
                    let detail = "may not be specified when expression is set";
                    self.problems.invalid(at.field("prefix"), prefix, detail);
                }
                let compiled = self.expression(expression, Subject::Claims, false, &at.field("expression"));
                compiled.filter(|_| prefix.is_none()).map(Mapping::Expression)
            }
            (false, true) => {
                if prefix.is_none() {
                    let detail = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                    self.problems.required(at.field("prefix"), detail);
                }
                Some(Mapping::Claim { claim, prefix: prefix? })
            }
        }
    }

    fn plain(&mut self, mapping: Plain, at: &Path<'_>) -> Option<Mapping> {
        let Plain { claim, expression } = mapping;
        match (claim.is_empty(), expression.is_empty()) {
            (false, false) => {
                self.problems.invalid(at, "", BOTH);
                None
            }
            (true, true) => None,
            (true, false) => {
                let at = at.field("expression");
                self.expression(expression, Subject::Claims, false, &at).map(Mapping::Expression)
            }
            (false, true) => Some(Mapping::Claim { claim, prefix: String::new() }),
        }
    }

    fn extra(&mut self, mappings: Vec<Extra>, at: &Path<'_>) -> Vec<(String, Expression)> {
        let (mut all, mut seen) = (Vec::new(), Vec::new());
        for (index, Extra { key, value_expression }) in mappings.into_iter().enumerate() {
            let at = at.index(index);
            let key_at = at.field("key");
            domain_prefixed_path(&mut self.problems, key_at, &key);
            if key != key.to_lowercase() {
                self.problems.invalid(key_at, &key, "must be lowercase");
            }
            if is_reserved(&key) {
                self.problems.invalid(key_at, &key, RESERVED);
            }
            if seen.contains(&key) {
                self.problems.duplicate(key_at, &key);
                continue;
            }
            seen.push(key.clone());
            let value_at = at.field("valueExpression");
            if value_expression.is_empty() {
                self.problems.required(value_at, "");
                continue;
            }
            let value = self.expression(value_expression, Subject::Claims, false, &value_at);
            all.extend(value.map(|value| (key, value)));
        }
        all
    }
}

/// Whether a key is below a domain that Kubernetes keeps for itself.
fn is_reserved(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return false };
    let below =
        |own: &str| domain.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    below("kubernetes.io") || below("k8s.io")
}
