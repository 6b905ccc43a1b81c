//! The ceiling that a cluster's owner sets over everything a hub may bring about there, whoever runs the hub. Pure.
//!
//! A ceiling is a document on the agent's side; nothing that comes from a hub changes it. An object is let through when
//! a rule of `allow` matches (none: everything is allowed), no rule of `deny` does, and it lies outside what
//! [`PROTECTED_NAMESPACES`] hold, which no document opens.

use std::collections::BTreeMap;

use fleet_objects::ObjectReference;
use serde::{Deserialize, Serialize};

use crate::breaker::Limits;
use crate::release::Releases;

/// Where the agent itself and the identities of profiles live. Nothing that a hub sends is ever written there: it could
/// change the ceiling, the agent, or what a profile's identity may do.
pub const PROTECTED_NAMESPACES: [&str; 2] = [fleet_objects::SYSTEM_NAMESPACE, PROFILES_NAMESPACE];
/// The namespace of the service accounts as which profiles are applied.
pub const PROFILES_NAMESPACE: &str = "fairlead-profiles";
/// Deletions within an hour when the owner says nothing else: more than any application of the size people write by
/// hand, and far less than a cluster.
const DELETIONS_PER_HOUR: u32 = 500;

/// What a cluster's owner lets a hub do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ceiling {
    /// `fleet.fairlead.dev/v1alpha1`.
    pub api_version: String,
    /// `Ceiling`.
    pub kind: String,
    /// As whom profiles are applied.
    #[serde(default)]
    pub identity: Identity,
    /// What is allowed; everything when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Rule>,
    /// What is not, even when allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Rule>,
    /// The level of the Pod Security Standards that every pod and pod template must keep to.
    #[serde(default)]
    pub pod_security: PodSecurity,
    /// How much may be deleted.
    #[serde(default)]
    pub deletions: Deletions,
    /// Whose releases are taken.
    #[serde(default, skip_serializing_if = "Releases::is_empty")]
    pub releases: Releases,
}

/// As whom profiles are applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// As the agent itself, with whatever rights it was given.
    Agent,
    /// Each as a service account of its own in [`PROFILES_NAMESPACE`], by impersonation: it may what the cluster's roles
    /// grant that account, and nothing else.
    #[default]
    PerProfile,
}

/// Matches objects. An empty list matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// API groups; "" is the core group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Namespaces, where `*` at the end stands for any rest. With these the rule matches nothing that has no namespace,
    /// except Namespace objects of such names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Names, where `*` at the end stands for any rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// What is done with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<Verb>,
}

/// What an agent does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    /// Create, change, or take back.
    Apply,
    /// Delete.
    Delete,
}

/// A level of the Pod Security Standards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodSecurity {
    /// Anything.
    Privileged,
    /// Nothing that is known to escalate.
    #[default]
    Baseline,
    /// What hardening demands.
    Restricted,
}

impl PodSecurity {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// How much may be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Deletions {
    /// Fewer deletions than this at once are never held for their number.
    pub always_allowed: usize,
    /// Percent of all managed objects that may go at once.
    pub max_percent: usize,
    /// Deletions within any hour, over all profiles. Nobody at the hub can confirm more.
    pub per_hour: u32,
    /// Whose word lets held deletions go.
    pub confirm: Confirmation,
    /// With `confirm: Local`: `ASSIGNMENT@GENERATION`, whose held deletions may go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confirmed: Vec<String>,
}

/// Whose word lets held deletions go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirmation {
    /// A person's at the hub, by annotation.
    #[default]
    Hub,
    /// The cluster owner's alone, in this document.
    Local,
}

impl Default for Deletions {
    fn default() -> Self {
        let Limits { always_allowed, max_percent } = Limits::default();
        Self {
            always_allowed,
            max_percent,
            per_hour: DELETIONS_PER_HOUR,
            confirm: Confirmation::Hub,
            confirmed: Vec::new(),
        }
    }
}

impl Deletions {
    /// For the breaker.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits { always_allowed: self.always_allowed, max_percent: self.max_percent }
    }

    /// Whether the deletions of a generation are confirmed. `by_hub`: what a person said at the hub.
    #[must_use]
    pub fn is_confirmed(&self, assignment: &str, generation: i64, by_hub: bool) -> bool {
        match self.confirm {
            Confirmation::Hub => by_hub,
            Confirmation::Local => {
                self.confirmed.iter().any(|one| *one == format!("{assignment}@{generation}"))
            }
        }
    }
}

/// Why a text is no ceiling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CeilingError {
    /// It cannot be read.
    #[error("not a ceiling: {0}")]
    Unreadable(String),
    /// It says something that makes no sense.
    #[error("{field}: {problem}")]
    Invalid {
        /// Where.
        field: String,
        /// What.
        problem: String,
    },
}

impl Ceiling {
    /// What holds where the owner wrote none: the agent's own rights, without what makes somebody an administrator of
    /// the cluster or puts him between everybody else and its API, and without the cluster's own namespaces.
    #[must_use]
    pub fn builtin() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        let kinds = |group: &str, kinds: &[&str]| Rule {
            api_groups: vec![group.to_owned()],
            kinds: texts(kinds),
            ..Rule::default()
        };
        Self {
            api_version: format!("{}/{}", fleet_objects::GROUP, fleet_objects::VERSION),
            kind: "Ceiling".to_owned(),
            identity: Identity::Agent,
            allow: Vec::new(),
            deny: vec![
                Rule {
                    namespaces: texts(&["kube-system", "kube-public", "kube-node-lease"]),
                    ..Rule::default()
                },
                kinds("rbac.authorization.k8s.io", &["ClusterRoleBinding"]),
                kinds(
                    "admissionregistration.k8s.io",
                    &["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"],
                ),
                kinds("apiregistration.k8s.io", &["APIService"]),
                kinds("certificates.k8s.io", &["CertificateSigningRequest", "ClusterTrustBundle"]),
                kinds("", &["Node"]),
            ],
            pod_security: PodSecurity::Baseline,
            deletions: Deletions::default(),
            releases: Releases::default(),
        }
    }

    /// Reads a document, YAML or JSON.
    ///
    /// # Errors
    /// What is wrong with it. A ceiling that is half understood is none.
    pub fn parse(text: &str) -> Result<Self, CeilingError> {
        let ceiling: Self =
            serde_saphyr::from_str(text).map_err(|error| CeilingError::Unreadable(error.to_string()))?;
        let version = format!("{}/{}", fleet_objects::GROUP, fleet_objects::VERSION);
        let invalid =
            |field: &str, problem: String| Err(CeilingError::Invalid { field: field.to_owned(), problem });
        if ceiling.api_version != version || ceiling.kind != "Ceiling" {
            return invalid("kind", format!("must be Ceiling of {version}"));
        }
        for (list, rules) in [("allow", &ceiling.allow), ("deny", &ceiling.deny)] {
            for (index, rule) in rules.iter().enumerate() {
                for pattern in rule.namespaces.iter().chain(&rule.names) {
                    let star = pattern.find('*').is_some_and(|at| at + 1 != pattern.len());
                    if star || pattern.is_empty() {
                        let problem = format!("{pattern:?}: a name, or its beginning and `*`");
                        return invalid(&format!("{list}[{index}]"), problem);
                    }
                }
            }
        }
        if ceiling.deletions.max_percent > 100 {
            return invalid("deletions.maxPercent", "must be at most 100".to_owned());
        }
        match ceiling.releases.check() {
            Ok(()) => Ok(ceiling),
            Err(problem) => invalid("releases", problem),
        }
    }

    /// Whether this may be done with an object whose namespace is known.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn check(&self, object: &ObjectReference, verb: Verb) -> Result<(), String> {
        let what = match verb {
            Verb::Apply => "apply",
            Verb::Delete => "delete",
        };
        let place = place(object);
        if let Some(place) = place.filter(|place| PROTECTED_NAMESPACES.contains(place)) {
            return Err(format!("nothing that a hub sends is written in namespace {place}"));
        }
        if let Some(at) = self.deny.iter().position(|rule| rule.matches(object, verb)) {
            return Err(format!("the ceiling forbids to {what} it (deny[{at}])"));
        }
        if !self.allow.is_empty() && !self.allow.iter().any(|rule| rule.matches(object, verb)) {
            return Err(format!("no rule of the ceiling allows to {what} it"));
        }
        Ok(())
    }
}

/// The namespace that an object is in or is.
fn place(object: &ObjectReference) -> Option<&str> {
    match &object.namespace {
        Some(namespace) => Some(namespace),
        None if object.api_version == "v1" && object.kind == "Namespace" => Some(&object.name),
        None => None,
    }
}

impl Rule {
    /// Whether the rule speaks of this.
    #[must_use]
    pub fn matches(&self, object: &ObjectReference, verb: Verb) -> bool {
        let group = object.api_version.split_once('/').map_or("", |(group, _)| group);
        let any = |list: &[String], text: &str| list.is_empty() || list.iter().any(|one| fits(one, text));
        let exact =
            |list: &[String], text: &str| list.is_empty() || list.iter().any(|one| one == text || one == "*");
        let in_place =
            self.namespaces.is_empty() || place(object).is_some_and(|place| any(&self.namespaces, place));
        exact(&self.api_groups, group)
            && exact(&self.kinds, &object.kind)
            && in_place
            && any(&self.names, &object.name)
            && (self.verbs.is_empty() || self.verbs.contains(&verb))
    }
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => text.starts_with(beginning),
        None => pattern == text,
    }
}

/// Deletions of the last hour, by the minute they fell in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent(BTreeMap<i64, u32>);

impl Spent {
    /// Notes deletions.
    pub fn note(&mut self, now: jiff::Timestamp, count: u32) {
        let minute = now.as_second() / 60;
        // A clock that went back must not open the budget anew: what lies ahead of it counts as now.
        let minute = self.0.last_key_value().map_or(minute, |(last, _)| minute.max(*last));
        let slot = self.0.entry(minute).or_default();
        *slot = slot.saturating_add(count);
        self.0 = self.0.split_off(&(minute - 60));
    }

    /// How many fell in the hour before `now`.
    #[must_use]
    pub fn within_hour(&self, now: jiff::Timestamp) -> u32 {
        let from = now.as_second() / 60 - 60;
        self.0.range(from..).fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests;
