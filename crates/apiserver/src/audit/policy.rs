//! `audit.k8s.io/v1 Policy`: which requests are recorded, and how much of each. Pure.

use std::fmt;

use access::Attributes;
use kube_objects::UserInfo;
use serde::{Deserialize, Serialize};

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when, and how it ended.
    Metadata,
    /// The request's object too.
    Request,
    /// And the answer's.
    RequestResponse,
}

/// When an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// As soon as it is known who asks.
    RequestReceived,
    /// Long-running requests: when their answer begins.
    ResponseStarted,
    /// When the answer has ended.
    ResponseComplete,
    /// Serving it panicked.
    Panic,
}

const STAGES: &str = "RequestReceived,ResponseStarted,ResponseComplete,Panic";
const LEVELS: &str = "\"Metadata\", \"None\", \"Request\", \"RequestResponse\"";

/// A policy makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is no YAML or JSON, or has fields of other types.
    #[error("failed decoding: {0}")]
    Decode(String),
    /// It is of another kind or version.
    #[error("unknown group version field {api_version}, Kind={kind} in policy")]
    Kind {
        /// What it says.
        api_version: String,
        /// What it says.
        kind: String,
    },
    /// A rule makes no sense.
    #[error("{}", problems.join(", "))]
    Invalid {
        /// Field by field.
        problems: Vec<String>,
    },
    /// There is no rule.
    #[error("loaded illegal policy with 0 rules")]
    Empty,
}

/// The rules; the first that matches a request decides.
#[derive(Clone)]
pub struct Policy {
    document: Document,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("rules", &self.document.rules.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    api_version: String,
    kind: String,
    rules: Vec<Rule>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What a policy says of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) level: Level,
    omit: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

impl Verdict {
    /// Whether an event is written at `stage`.
    pub(super) fn records(&self, stage: Stage) -> bool {
        self.level != Level::None && !self.omit.contains(&stage)
    }
}

impl Policy {
    /// Reads a policy, YAML or JSON, and holds it to upstream's rules.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let document: Document =
            serde_saphyr::from_str(text).map_err(|error| PolicyError::Decode(error.to_string()))?;
        if document.api_version != "audit.k8s.io/v1" || document.kind != "Policy" {
            return Err(PolicyError::Kind { api_version: document.api_version, kind: document.kind });
        }
        let mut problems = Vec::new();
        check_stages(&document.omit_stages, "omitStages", &mut problems);
        for (index, rule) in document.rules.iter().enumerate() {
            check_rule(rule, &format!("rules[{index}]"), &mut problems);
        }
        match (problems.is_empty(), document.rules.is_empty()) {
            (false, _) => Err(PolicyError::Invalid { problems }),
            (true, true) => Err(PolicyError::Empty),
            (true, false) => Ok(Self { document }),
        }
    }

    /// What is recorded of a request; `user` is `None` while nobody is known.
    pub(super) fn evaluate(&self, user: Option<&UserInfo>, request: &Attributes) -> Verdict {
        let found = self.document.rules.iter().find(|rule| rule.matches(user, request));
        let stages =
            |names: &[String]| -> Vec<Stage> { names.iter().filter_map(|name| stage(name)).collect() };
        let mut omit = stages(&self.document.omit_stages);
        let Some(rule) = found else {
            return Verdict {
                level: Level::None,
                omit,
                omit_managed_fields: self.document.omit_managed_fields,
            };
        };
        omit.extend(stages(&rule.omit_stages));
        Verdict {
            level: level(&rule.level).unwrap_or_default(),
            omit,
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.document.omit_managed_fields),
        }
    }
}

fn level(name: &str) -> Option<Level> {
    Some(match name {
        "None" => Level::None,
        "Metadata" => Level::Metadata,
        "Request" => Level::Request,
        "RequestResponse" => Level::RequestResponse,
        _ => return None,
    })
}

fn stage(name: &str) -> Option<Stage> {
    Some(match name {
        "RequestReceived" => Stage::RequestReceived,
        "ResponseStarted" => Stage::ResponseStarted,
        "ResponseComplete" => Stage::ResponseComplete,
        "Panic" => Stage::Panic,
        _ => return None,
    })
}

fn check_stages(names: &[String], field: &str, problems: &mut Vec<String>) {
    for (index, name) in names.iter().enumerate().filter(|(_, name)| stage(name).is_none()) {
        problems.push(format!("{field}[{index}]: Invalid value: {name:?}: allowed stages are {STAGES}"));
    }
}

fn check_rule(rule: &Rule, field: &str, problems: &mut Vec<String>) {
    if rule.level.is_empty() {
        problems.push(format!("{field}.level: Required value"));
    } else if level(&rule.level).is_none() {
        let level = &rule.level;
        problems.push(format!("{field}.level: Unsupported value: {level:?}: supported values: {LEVELS}"));
    }
    for (index, url) in rule.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
        let at = format!("{field}.nonResourceURLs[{index}]: Invalid value: {url:?}: non-resource URL");
        if !url.starts_with('/') {
            problems.push(format!("{at} rules must begin with a '/' character"));
        }
        if url.find('*').is_some_and(|star| star + 1 < url.len()) {
            problems.push(format!("{at} wildcards '*' must be the final character of the rule"));
        }
    }
    for group in &rule.resources {
        let at = format!("{field}.resources");
        if !group.group.is_empty() && group.group != "*" {
            let wrong = api_machinery::names::dns1123_subdomain(&group.group);
            if !wrong.is_empty() {
                let name = &group.group;
                problems.push(format!("{at}.group: Invalid value: {name:?}: {}", wrong.join(",")));
            }
        }
        if !group.resource_names.is_empty() && group.resources.is_empty() {
            let names = serde_json::json!(group.resource_names);
            problems.push(format!(
                "{at}.resourceNames: Invalid value: {names}: using resourceNames requires at least one resource"
            ));
        }
    }
    check_stages(&rule.omit_stages, &format!("{field}.omitStages"), problems);
    let regular = !rule.resources.is_empty() || !rule.namespaces.is_empty();
    if regular && !rule.non_resource_urls.is_empty() {
        let urls = serde_json::json!(rule.non_resource_urls);
        problems.push(format!(
            "{field}.nonResourceURLs: Invalid value: {urls}: rules cannot apply to both regular resources and \
             non-resource URLs"
        ));
    }
}

fn lists(list: &[String], value: &str) -> bool {
    list.iter().any(|own| own == value)
}

impl Rule {
    fn matches(&self, user: Option<&UserInfo>, request: &Attributes) -> bool {
        if !self.users.is_empty() && !user.is_some_and(|user| lists(&self.users, &user.username)) {
            return false;
        }
        let in_group = |user: &UserInfo| user.groups.iter().any(|group| lists(&self.user_groups, group));
        if !self.user_groups.is_empty() && !user.is_some_and(in_group) {
            return false;
        }
        if !self.verbs.is_empty() && !lists(&self.verbs, &request.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return request.path.is_none() && self.matches_resource(request);
        }
        if !self.non_resource_urls.is_empty() {
            let Some(path) = &request.path else { return false };
            return self.non_resource_urls.iter().any(|url| {
                url == "*" || url == path || url.ends_with('*') && path.starts_with(url.trim_end_matches('*'))
            });
        }
        true
    }

    fn matches_resource(&self, request: &Attributes) -> bool {
        if !self.namespaces.is_empty() && !lists(&self.namespaces, &request.namespace) {
            return false;
        }
        self.resources.is_empty() || self.resources.iter().any(|group| group.matches(request))
    }
}

impl GroupResources {
    fn matches(&self, request: &Attributes) -> bool {
        if self.group != request.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !lists(&self.resource_names, &request.name) {
            return false;
        }
        let subresource = request.subresource.as_str();
        self.resources.iter().any(|own| match own.split_once('/') {
            _ if own == "*" => true,
            None => subresource.is_empty() && *own == request.resource,
            // `pods/*` matches pods themselves too, as upstream's checker does.
            Some((resource, "*")) => resource == request.resource,
            Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
            Some((resource, sub)) => {
                !subresource.is_empty() && resource == request.resource && sub == subresource
            }
        })
    }
}
