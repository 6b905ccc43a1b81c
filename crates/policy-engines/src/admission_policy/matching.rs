//! Whether a policy or binding wants a request (upstream `plugin/policy/matching`).

use api_machinery::selector::LabelSelector;
use kind_rules::json::{list, present, text};
use kube_objects::GroupVersionResource;
use serde_json::Value;

use super::rules::{Asked, Rule, wanted_as};
use super::surroundings::Surroundings;

/// A request, as far as policies and bindings choose by it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'a str,
    /// What it is about.
    pub resource: &'a GroupVersionResource,
    /// "" for the resource itself.
    pub subresource: &'a str,
    /// The namespace it is in; "" for what is in none, such as a namespace itself.
    pub within: &'a str,
    /// The object's name; "" while it is still to be generated.
    pub name: &'a str,
    /// The object as it will be; null on DELETE.
    pub object: &'a Value,
    /// The object as it was.
    pub old: Option<&'a Value>,
}

impl<'a> Request<'a> {
    /// The request's namespace; that of a Namespace is itself (upstream does so since its path names it as both).
    #[must_use]
    pub fn namespace(&self) -> &'a str {
        if self.is_about_namespaces() { self.name } else { self.within }
    }

    fn is_about_namespaces(&self) -> bool {
        self.resource.group.is_empty() && self.resource.resource == "namespaces"
    }

    /// Whether an object selector of a webhook or policy chooses the object as it will be or as it was. Options of a
    /// connection have no metadata, and so no labels: only an empty selector chooses them (upstream
    /// `predicates/object`).
    #[must_use]
    pub fn selected_by(&self, selector: &LabelSelector) -> bool {
        let chosen = |object: &Value| object.is_object() && selector.matches_object(object);
        let labelled = self.operation != "CONNECT";
        selector.is_everything() || (labelled && (chosen(self.object) || self.old.is_some_and(chosen)))
    }
}

/// `matchConstraints` of a policy, `matchResources` of a binding.
#[derive(Debug)]
pub(super) struct Constraints {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
    equivalent: bool,
}

fn selector(json: &Value, key: &str) -> Result<LabelSelector, String> {
    if !present(json, key) {
        return Ok(LabelSelector::everything());
    }
    LabelSelector::from_object(&json[key]).map_err(|error| error.to_string())
}

impl Constraints {
    pub(super) fn of(json: &Value) -> Self {
        let rules = |key: &str| list(json, key).iter().map(Rule::of).collect();
        Self {
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            namespaces: selector(json, "namespaceSelector"),
            objects: selector(json, "objectSelector"),
            equivalent: text(json, "matchPolicy") != "Exact",
        }
    }

    /// Whether any object of the resource may be wanted by one of these operations.
    pub(super) fn may_want(&self, operations: &[&str], resource: &GroupVersionResource) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|rule| rule.may_want(operations, resource))
    }

    /// As which resource they want the request, its own or an equivalent one; the inner error is one of configuration.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) async fn want<S: Surroundings>(
        &self,
        request: &Request<'_>,
        surroundings: &S,
    ) -> Result<Result<Option<GroupVersionResource>, String>, S::Error> {
        if self.wanted_as(&self.excluded, request, surroundings).is_some() {
            return Ok(Ok(None));
        }
        let wanted = if self.rules.is_empty() {
            Some(request.resource.clone())
        } else {
            self.wanted_as(&self.rules, request, surroundings)
        };
        if wanted.is_none() {
            return Ok(Ok(None));
        }
        match &self.objects {
            Err(why) => return Ok(Err(why.clone())),
            Ok(selector) if !request.selected_by(selector) => return Ok(Ok(None)),
            Ok(_) => {}
        }
        let here = self.namespace_matches(request, surroundings).await?;
        Ok(here.map(|here| wanted.filter(|_| here)))
    }

    fn wanted_as<S: Surroundings>(
        &self,
        rules: &[Rule],
        request: &Request<'_>,
        surroundings: &S,
    ) -> Option<GroupVersionResource> {
        let asked = Asked {
            operation: request.operation,
            resource: request.resource,
            subresource: request.subresource,
            namespaced: !request.within.is_empty(),
            name: request.name,
        };
        let equivalents =
            || if self.equivalent { surroundings.equivalents(request.resource) } else { Vec::new() };
        wanted_as(rules, &asked, equivalents)
    }

    async fn namespace_matches<S: Surroundings>(
        &self,
        request: &Request<'_>,
        surroundings: &S,
    ) -> Result<Result<bool, String>, S::Error> {
        let namespace = request.namespace();
        let selector = match &self.namespaces {
            Ok(selector) => selector,
            Err(why) => return Ok(Err(why.clone())),
        };
        if namespace.is_empty() || selector.is_everything() {
            return Ok(Ok(true));
        }
        let written = matches!(request.operation, "CREATE" | "UPDATE");
        if request.is_about_namespaces() && request.subresource.is_empty() && written {
            return Ok(Ok(selector.matches_object(request.object)));
        }
        Ok(Ok(selector.matches_object(&surroundings.namespace(namespace).await?)))
    }
}
