//! One rule of a role, and what it allows (upstream `pkg/apis/rbac/v1/evaluation_helpers.go`).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use super::Attributes;

/// `rbac.authorization.k8s.io/v1` `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// What may be done; `*` is everything.
    #[serde(deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    /// In which API groups; `*` is all.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// To which resources: `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// To which objects; empty is all.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// To which paths; a trailing `*` is any rest.
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub non_resource_urls: Vec<String>,
}

/// Go writes an empty slice as `null`.
fn nullable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

fn has(set: &[String], wanted: &str) -> bool {
    set.iter().any(|element| element == wanted)
}

fn has_or_all(set: &[String], wanted: &str) -> bool {
    set.iter().any(|element| element == "*" || element == wanted)
}

impl PolicyRule {
    /// The rules that together allow everything.
    #[must_use]
    pub fn everything() -> [Self; 2] {
        let all = || vec!["*".to_owned()];
        [
            Self { verbs: all(), api_groups: all(), resources: all(), ..Self::default() },
            Self { verbs: all(), non_resource_urls: all(), ..Self::default() },
        ]
    }

    /// Whether this rule alone allows a request.
    #[must_use]
    pub fn allows(&self, request: &Attributes) -> bool {
        if !has_or_all(&self.verbs, &request.verb) {
            return false;
        }
        match &request.path {
            Some(path) => self.non_resource_urls.iter().any(|url| url_covers(url, path)),
            None => {
                has_or_all(&self.api_groups, &request.group)
                    && self.resource_matches(&request.resource, &request.subresource)
                    && (self.resource_names.is_empty() || has(&self.resource_names, &request.name))
            }
        }
    }

    fn resource_matches(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|own| {
            if own == "*" {
                return true;
            }
            match (own.split_once('/'), subresource) {
                (None, "") => own == resource,
                (Some((own_resource, own_subresource)), wanted) => {
                    !wanted.is_empty()
                        && own_subresource == wanted
                        && (own_resource == "*" || own_resource == resource)
                }
                (None, _) => false,
            }
        })
    }

    /// Splits into rules of one verb, one group, one resource and at most one name (or one path) each.
    pub(super) fn broken_down(&self) -> Vec<Self> {
        let one = |text: &String| vec![text.clone()];
        let mut parts = Vec::new();
        for verb in &self.verbs {
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part = Self {
                        verbs: one(verb),
                        api_groups: one(group),
                        resources: one(resource),
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part);
                    } else {
                        parts.extend(
                            self.resource_names
                                .iter()
                                .map(|name| Self { resource_names: one(name), ..part.clone() }),
                        );
                    }
                }
            }
            parts.extend(self.non_resource_urls.iter().map(|url| Self {
                verbs: one(verb),
                non_resource_urls: one(url),
                ..Self::default()
            }));
        }
        parts
    }

    /// Whether this rule allows everything that `part` (broken down) allows.
    pub(super) fn covers(&self, part: &Self) -> bool {
        let all_in = |own: &[String], wanted: &[String]| {
            has(own, "*") || wanted.iter().all(|element| has(own, element))
        };
        let resources = all_in(&self.resources, &part.resources)
            || part.resources.iter().all(|wanted| {
                has(&self.resources, wanted)
                    || wanted
                        .split_once('/')
                        .is_some_and(|(_, subresource)| has(&self.resources, &format!("*/{subresource}")))
            });
        let names = self.resource_names.is_empty()
            || (!part.resource_names.is_empty()
                && part.resource_names.iter().all(|name| has(&self.resource_names, name)));
        let urls = part
            .non_resource_urls
            .iter()
            .all(|wanted| self.non_resource_urls.iter().any(|own| own == wanted || url_covers(own, wanted)));
        all_in(&self.verbs, &part.verbs)
            && all_in(&self.api_groups, &part.api_groups)
            && resources
            && names
            && urls
    }
}

fn url_covers(own: &str, wanted: &str) -> bool {
    own == wanted || (own.ends_with('*') && wanted.starts_with(own.trim_end_matches('*')))
}

/// As upstream prints a rule in an escalation error: `{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}`.
impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        f.write_str("{")?;
        let mut separator = "";
        for (name, values) in fields.into_iter().filter(|(_, values)| !values.is_empty()) {
            write!(f, "{separator}{name}:{}", quoted(values))?;
            separator = ", ";
        }
        f.write_str("}")
    }
}

/// Go's `%q` of a slice: `["a" "b"]`.
pub(super) fn quoted(values: &[String]) -> String {
    let each: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", each.join(" "))
}
