//! Whether a policy or binding wants a request (upstream `plugin/policy/matching`).

use api_machinery::selector::LabelSelector;
use kind_rules::json::{list, present, text};
use kube_objects::{GroupVersionResource, Status};
use serde_json::Value;

use crate::admission::{Attributes, Operation};
use crate::catalogue::Catalogue;

/// `matchConstraints` of a policy, `matchResources` of a binding.
#[derive(Debug)]
pub(super) struct Constraints {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    namespaces: Result<LabelSelector, String>,
    objects: Result<LabelSelector, String>,
    equivalent: bool,
}

#[derive(Debug)]
struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    scope: String,
}

fn texts(json: &Value, key: &str) -> Vec<String> {
    list(json, key).iter().filter_map(|text| text.as_str().map(str::to_owned)).collect()
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

    /// Whether they want the request; the inner error is one of configuration.
    ///
    /// # Errors
    /// When the namespace cannot be read.
    pub(super) async fn want(
        &self,
        catalogue: &Catalogue,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<Result<bool, String>, Status> {
        if self.any(&self.excluded, catalogue, attributes) {
            return Ok(Ok(false));
        }
        if !self.rules.is_empty() && !self.any(&self.rules, catalogue, attributes) {
            return Ok(Ok(false));
        }
        match self.object_matches(attributes, object) {
            Ok(true) => {}
            no_or_error => return Ok(no_or_error),
        }
        self.namespace_matches(attributes, object).await
    }

    fn any(&self, rules: &[Rule], catalogue: &Catalogue, attributes: &Attributes<'_>) -> bool {
        let own = &attributes.cx.resource.gvr;
        if rules.iter().any(|rule| rule.wants(attributes, own)) {
            return true;
        }
        // The same objects under another group or version.
        let others = catalogue.resources().iter().filter(|other| {
            other.storage == attributes.cx.resource.storage && other.gvr != *own && !other.virtual_only
        });
        self.equivalent
            && others.into_iter().any(|other| rules.iter().any(|rule| rule.wants(attributes, &other.gvr)))
    }

    fn object_matches(&self, attributes: &Attributes<'_>, object: &Value) -> Result<bool, String> {
        let selector = self.objects.as_ref().map_err(Clone::clone)?;
        Ok(attributes.selected_by(selector, object))
    }

    async fn namespace_matches(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
    ) -> Result<Result<bool, String>, Status> {
        let namespace = attributes.namespace();
        let selector = match &self.namespaces {
            Ok(selector) => selector,
            Err(why) => return Ok(Err(why.clone())),
        };
        if namespace.is_empty() || selector.is_everything() {
            return Ok(Ok(true));
        }
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        if attributes.is("", "namespaces", None) && written {
            return Ok(Ok(selector.matches_object(object)));
        }
        let found = attributes.cx.objects.get("", "namespaces", "", namespace).await?;
        let found = found.ok_or_else(|| Status::not_found("", "namespaces", namespace))?;
        Ok(Ok(selector.matches_object(&found)))
    }
}

impl Rule {
    fn of(json: &Value) -> Self {
        Self {
            operations: texts(json, "operations"),
            groups: texts(json, "apiGroups"),
            versions: texts(json, "apiVersions"),
            resources: texts(json, "resources"),
            names: texts(json, "resourceNames"),
            scope: text(json, "scope").to_owned(),
        }
    }

    fn wants(&self, attributes: &Attributes<'_>, resource: &GroupVersionResource) -> bool {
        let any = |list: &[String], wanted: &str| list.iter().any(|own| own == "*" || own == wanted);
        let namespaced = !attributes.cx.namespace.is_empty();
        let scope = match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        };
        let subresource = attributes.cx.subresource.unwrap_or_default();
        let is_it = |pattern: &String| {
            let (own, sub) = pattern.split_once('/').unwrap_or((pattern, ""));
            (own == "*" || own == resource.resource) && (sub == "*" || sub == subresource)
        };
        scope
            && any(&self.operations, attributes.operation.as_str())
            && any(&self.groups, &resource.group)
            && any(&self.versions, &resource.version)
            && self.resources.iter().any(is_it)
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.cx.name))
    }
}
