//! Gatekeeper's policies without Gatekeeper: templates say what is looked for, in Rego or CEL; constraints say in which objects,
//! with which parameters, and what is to happen.
//!
//! * [`template`]: `ConstraintTemplate` (`templates.gatekeeper.sh`).
//! * [`constraint`]: the kinds that templates make (`constraints.gatekeeper.sh`).
//! * [`matching`]: whether a constraint is about an object.
//! * [`inventory`]: what policies see of other objects.
//! * [`suite`]: tests of policies as `gator verify` reads them.
//!
//! What policies see is what Gatekeeper's audit shows them: `input.review` with `kind`, `name`, `namespace`, `object` and empty
//! `operation` and `userInfo`; `input.parameters` with the template's defaults; `data.inventory` ([`inventory`]). External data
//! and everything else outside is not there.
//!
//! Must never: take a constraint that could not be evaluated for one that is kept.

mod constraint;
pub mod inventory;
mod matching;
pub mod suite;
mod template;

use std::collections::BTreeMap;

use kind_rules::json::text;
use kube_objects::GroupVersionKind;
use serde_json::{Value, json};

use crate::rego::Document;

pub use constraint::Constraint;
pub use inventory::SyncKind;
pub use template::{Preferred, Template};

/// The group of templates.
pub const TEMPLATES: &str = "templates.gatekeeper.sh";
/// The group of constraints; their kinds are the templates'.
pub const CONSTRAINTS: &str = "constraints.gatekeeper.sh";
/// The groups of `Config` and `SyncSet`, which name kinds for `data.inventory`.
pub const SYNC: [&str; 2] = ["config.gatekeeper.sh", "syncset.gatekeeper.sh"];

/// Where existing objects are judged, in constraints whose actions have a scope.
pub const AUDIT_POINTS: [&str; 1] = ["audit.gatekeeper.sh"];
/// Where objects are tried before they are anywhere.
pub const TRIAL_POINTS: [&str; 2] = ["gator.gatekeeper.sh", "validation.gatekeeper.sh"];

/// The group of a document.
#[must_use]
pub fn group_of(document: &Value) -> &str {
    text(document, "apiVersion").split_once('/').map_or("", |(group, _)| group)
}

/// Whether a document is a template, a constraint or says what is in the inventory.
#[must_use]
pub fn is_policy(document: &Value) -> bool {
    let group = group_of(document);
    group == TEMPLATES || group == CONSTRAINTS || SYNC.contains(&group)
}

/// An object as constraints look at it.
#[derive(Clone, Copy, Debug)]
pub struct Reviewed<'a> {
    /// Its kind.
    pub kind: &'a GroupVersionKind,
    /// The object.
    pub object: &'a Value,
    /// Its namespace as an object; `None` where it is in none, or nothing is known of it.
    pub namespace: Option<&'a Value>,
    /// The AdmissionRequest that is looked at, if it is one.
    pub request: Option<&'a Value>,
}

/// What a constraint said of an object that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// What is wrong, in words; empty: nothing.
    pub violations: Vec<String>,
    /// What could not be found out.
    pub errors: Vec<String>,
}

/// Templates and constraints, compiled.
#[derive(Debug, Default)]
pub struct Gatekeeper {
    /// By the kind that they make.
    templates: BTreeMap<String, Result<Template, String>>,
    constraints: Vec<Constraint>,
    named: Vec<SyncKind>,
}

/// Something wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The template's name, or a constraint's kind and name.
    pub policy: String,
    /// Where.
    pub field: String,
    /// What.
    pub message: String,
}

impl Gatekeeper {
    /// Compiles documents; what is no policy is left out. `points`: where what they say is asked for.
    #[must_use]
    pub fn compile<'a>(documents: impl IntoIterator<Item = &'a Value>, points: &[&str]) -> Self {
        let mut set = Self::default();
        let documents: Vec<&Value> = documents.into_iter().collect();
        for document in documents.iter().filter(|document| group_of(document) == TEMPLATES) {
            let (kind, template) = Template::compile(document);
            set.templates.insert(kind, template.map_err(|problem| problem.message));
        }
        for document in &documents {
            match group_of(document) {
                CONSTRAINTS => {
                    let template = set.templates.get(text(document, "kind"));
                    let constraint = Constraint::read(document, template, points);
                    if !constraint.actions.is_empty() || constraint.problem.is_some() {
                        set.constraints.push(constraint);
                    }
                }
                group if SYNC.contains(&group) => set.named.extend(inventory::named(document)),
                _ => {}
            }
        }
        set
    }

    /// One template with one constraint.
    fn of(template: Template, constraint: &Value, points: &[&str]) -> Self {
        let (kind, template) = (template.kind.clone(), Ok(template));
        let constraint = Constraint::read(constraint, Some(&template), points);
        Self { templates: [(kind, template)].into(), constraints: vec![constraint], named: Vec::new() }
    }

    /// What is wrong with documents.
    #[must_use]
    pub fn check<'a>(documents: impl IntoIterator<Item = &'a Value>, points: &[&str]) -> Vec<Problem> {
        let documents: Vec<&Value> = documents.into_iter().collect();
        let templates = documents.iter().filter(|document| group_of(document) == TEMPLATES);
        let mut problems: Vec<Problem> =
            templates.filter_map(|document| Template::compile(document).1.err()).collect();
        let broken = !problems.is_empty();
        let set = Self::compile(documents, points);
        let wrong = set.constraints.iter().filter_map(|constraint| {
            let problem = constraint.problem.clone()?;
            // That its template is wrong is said already.
            let said = broken && set.templates.get(&constraint.kind).is_some_and(Result::is_err);
            (!said).then(|| Problem { policy: constraint.policy(), ..problem })
        });
        problems.extend(wrong);
        problems
    }

    /// The constraints.
    #[must_use]
    pub fn constraints(&self) -> &[Constraint] {
        &self.constraints
    }

    /// Whether any constraint may be about objects of a kind.
    #[must_use]
    pub fn may_judge(&self, group: &str, kind: &str) -> bool {
        self.constraints.iter().any(|constraint| constraint.may_match(group, kind))
    }

    fn template(&self, constraint: &Constraint) -> Option<&Template> {
        self.templates.get(&constraint.kind)?.as_ref().ok()
    }

    /// The templates that constraints use and that look at other objects.
    fn referential(&self) -> impl Iterator<Item = &Template> {
        let used = |kind: &str| self.constraints.iter().any(|constraint| constraint.kind == kind);
        self.templates
            .iter()
            .filter(move |(kind, _)| used(kind))
            .filter_map(|(_, template)| template.as_ref().ok().filter(|template| template.is_referential()))
    }

    /// The kinds that `data.inventory` is to hold: what templates that look at it ask for, and what `Config` and `SyncSet` name.
    /// Empty where no template looks at it.
    #[must_use]
    pub fn inventory_kinds(&self) -> Vec<SyncKind> {
        let mut kinds: Vec<SyncKind> =
            self.referential().flat_map(|template| template.requires.clone()).collect();
        if self.referential().next().is_some() {
            kinds.extend(self.named.clone());
        }
        kinds.sort();
        kinds.dedup();
        kinds
    }

    /// What `data.inventory` holds from now on.
    ///
    /// # Errors
    /// When an engine cannot take it.
    pub fn set_inventory<'a>(&self, objects: impl IntoIterator<Item = &'a Value>) -> Result<(), String> {
        if self.referential().next().is_none() {
            return Ok(());
        }
        let document = inventory::document(objects);
        self.referential().try_for_each(|template| template.set_inventory(&document))
    }

    /// What each constraint that is about the object says of it.
    #[must_use]
    pub fn review<'s>(&'s self, reviewed: &Reviewed<'_>) -> Vec<(&'s Constraint, Said)> {
        let mut document = None;
        let mut all = Vec::new();
        for constraint in &self.constraints {
            let error = match constraint.wants(reviewed) {
                Ok(false) => continue,
                Ok(true) => constraint.problem.as_ref().map(|problem| problem.message.clone()),
                Err(why) => Some(why),
            };
            let said = match (error, self.template(constraint)) {
                (Some(error), _) => Said { violations: Vec::new(), errors: vec![error] },
                (None, None) => continue,
                (None, Some(template)) => {
                    let review = document.get_or_insert_with(|| Document::of(&review_document(reviewed)));
                    template.review(constraint, reviewed, review)
                }
            };
            all.push((constraint, said));
        }
        all
    }
}

/// `input.review`: the AdmissionRequest, or what Gatekeeper's audit makes of an object.
fn review_document(reviewed: &Reviewed<'_>) -> Value {
    if let Some(request) = reviewed.request {
        return request.clone();
    }
    let (kind, metadata) = (reviewed.kind, &reviewed.object["metadata"]);
    let mut review = json!({
        "uid": "", "operation": "", "userInfo": {}, "oldObject": null, "options": null,
        "kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "resource": {"group": "", "version": "", "resource": ""},
        "name": text(metadata, "name"), "object": reviewed.object,
    });
    let namespace = text(metadata, "namespace");
    if !namespace.is_empty() {
        review["namespace"] = json!(namespace);
    }
    if let Some(namespace) = reviewed.namespace {
        review["_unstable"] = json!({"namespace": namespace});
    }
    review
}

#[cfg(test)]
mod tests;
