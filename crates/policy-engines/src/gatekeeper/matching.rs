//! Whether a constraint is about an object (Gatekeeper's `pkg/mutation/match`).

use api_machinery::selector::LabelSelector;
use kind_rules::json::{present, text};
use serde_json::Value;

use super::Reviewed;

/// `spec.match`.
#[derive(Debug)]
pub(super) struct Match {
    /// Groups and kinds, each empty where any goes.
    kinds: Vec<(Vec<String>, Vec<String>)>,
    namespaces: Vec<String>,
    excluded: Vec<String>,
    scope: Scope,
    name: String,
    labels: Option<LabelSelector>,
    namespace_labels: Option<LabelSelector>,
    /// `source: Generated` alone is about objects that nobody has written.
    original: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Any,
    Cluster,
    Namespaced,
}

/// A list of texts, or what is there instead.
fn texts(json: &Value, key: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{key} must be a list of texts");
    match &json[key] {
        Value::Null => Ok(Vec::new()),
        Value::Array(all) => {
            all.iter().map(|one| one.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

fn selector(json: &Value, key: &str) -> Result<Option<LabelSelector>, String> {
    if !present(json, key) {
        return Ok(None);
    }
    LabelSelector::from_object(&json[key]).map(Some).map_err(|error| format!("{key}: {error}"))
}

/// With `*` at the begin, at the end or both.
fn is_like(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => name.contains(pattern.trim_matches('*')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(begin)) => name.starts_with(begin),
        (None, None) => pattern == name,
    }
}

fn is_among(wanted: &[String], own: &str) -> bool {
    wanted.is_empty() || wanted.iter().any(|wanted| wanted == "*" || wanted == own)
}

impl Match {
    /// Reads it; what is absent chooses everything.
    pub(super) fn of(json: &Value) -> Result<Self, String> {
        if !json.is_null() && !json.is_object() {
            return Err("it must be an object".to_owned());
        }
        let kinds = match &json["kinds"] {
            Value::Null => Vec::new(),
            Value::Array(all) => {
                let one = |one: &Value| Ok((texts(one, "apiGroups")?, texts(one, "kinds")?));
                all.iter().map(one).collect::<Result<_, String>>()?
            }
            _ => return Err("kinds must be a list".to_owned()),
        };
        Ok(Self {
            kinds,
            namespaces: texts(json, "namespaces")?,
            excluded: texts(json, "excludedNamespaces")?,
            scope: match text(json, "scope") {
                "Cluster" => Scope::Cluster,
                "Namespaced" => Scope::Namespaced,
                // As Gatekeeper does with words that it does not know.
                _ => Scope::Any,
            },
            name: text(json, "name").to_owned(),
            labels: selector(json, "labelSelector")?,
            namespace_labels: selector(json, "namespaceSelector")?,
            original: text(json, "source") != "Generated",
        })
    }

    /// Whether it may be about objects of a kind.
    pub(super) fn may_match(&self, group: &str, kind: &str) -> bool {
        let chosen =
            |(groups, kinds): &(Vec<String>, Vec<String>)| is_among(groups, group) && is_among(kinds, kind);
        self.original && (self.kinds.is_empty() || self.kinds.iter().any(chosen))
    }

    /// Whether it is about an object.
    ///
    /// # Errors
    /// When it chooses by labels of a namespace that is not known.
    pub(super) fn matches(&self, reviewed: &Reviewed<'_>) -> Result<bool, String> {
        let Reviewed { kind, object, namespace, .. } = *reviewed;
        let metadata = &object["metadata"];
        let is_namespace = kind.group.is_empty() && kind.kind == "Namespace";
        let within = match namespace {
            _ if is_namespace => text(metadata, "name"),
            Some(namespace) => text(&namespace["metadata"], "name"),
            None => text(metadata, "namespace"),
        };
        let in_namespace = !is_namespace && !within.is_empty();
        let scoped = match self.scope {
            Scope::Any => true,
            Scope::Cluster => !in_namespace,
            Scope::Namespaced => in_namespace,
        };
        // What is in no namespace is not left out by names of namespaces.
        let named = |names: &[String]| names.iter().any(|pattern| is_like(pattern, within));
        let placed = within.is_empty()
            || ((self.namespaces.is_empty() || named(&self.namespaces)) && !named(&self.excluded));
        let labelled = self.labels.as_ref().is_none_or(|labels| labels.matches_object(object));
        let called = self.name.is_empty() || is_like(&self.name, text(metadata, "name"));
        if !self.may_match(&kind.group, &kind.kind) || !scoped || !placed || !labelled || !called {
            return Ok(false);
        }
        match (&self.namespace_labels, namespace) {
            (None, _) => Ok(true),
            (Some(labels), _) if is_namespace => Ok(labels.matches_object(object)),
            (Some(labels), Some(namespace)) => Ok(labels.matches_object(namespace)),
            (Some(_), None) if within.is_empty() => Ok(true),
            (Some(_), None) => {
                Err(format!("it chooses by labels of namespace {within}, of which nothing is known"))
            }
        }
    }
}
