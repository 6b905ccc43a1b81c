//! Constraints: of which objects a template asks what, and what is to happen.

use api_machinery::custom_resource::values;
use api_machinery::defaulting::apply_defaults;
use api_machinery::field_path::FieldPath;
use kind_rules::json::{list, text};
use serde_json::{Value, json};

use super::matching::Match;
use super::template::Template;
use super::{Problem, Reviewed};
use crate::rego::Document;

/// A constraint.
#[derive(Debug)]
pub struct Constraint {
    /// Its kind, which its template made.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What is to happen, in the words of admission policies: `Deny`, `Warn`, `Audit` (Gatekeeper's `dryrun`).
    pub actions: Vec<String>,
    /// What keeps it from being evaluated.
    pub problem: Option<Problem>,
    matching: Result<Match, String>,
    /// With defaults, for Rego.
    pub(super) parameters: Document,
    /// All of it with defaults, for CEL.
    pub(super) document: Value,
}

/// What an action is called.
fn action(word: &str) -> Option<&'static str> {
    match word {
        "deny" | "" => Some("Deny"),
        "warn" => Some("Warn"),
        "dryrun" => Some("Audit"),
        _ => None,
    }
}

/// The actions at one of `points`; the inner error is a word that is none.
fn actions(spec: &Value, points: &[&str]) -> Result<Vec<String>, (&'static str, String)> {
    let refused = |field, word: &str| (field, format!("{word:?} is no action: deny, dryrun, warn, scoped"));
    let word = text(spec, "enforcementAction");
    if word != "scoped" {
        let action = action(word).ok_or_else(|| refused("spec.enforcementAction", word))?;
        return Ok(vec![action.to_owned()]);
    }
    let mut all = Vec::new();
    for scoped in list(spec, "scopedEnforcementActions") {
        let word = text(scoped, "action");
        let action = action(word).ok_or_else(|| refused("spec.scopedEnforcementActions", word))?;
        let here = list(scoped, "enforcementPoints").iter().any(|point| {
            let name = text(point, "name");
            name == "*" || points.contains(&name)
        });
        if here && !all.iter().any(|known| known == action) {
            all.push(action.to_owned());
        }
    }
    Ok(all)
}

impl Constraint {
    /// Reads a constraint. What is wrong with it is kept and said of each object that it is about.
    pub(super) fn read(
        document: &Value,
        template: Option<&Result<Template, String>>,
        points: &[&str],
    ) -> Self {
        let (kind, name) =
            (text(document, "kind").to_owned(), text(&document["metadata"], "name").to_owned());
        let (mut document, mut problem) = (document.clone(), None);
        let mut wrong = |field: &str, message: String| {
            problem.get_or_insert_with(|| Problem {
                policy: String::new(),
                field: field.to_owned(),
                message,
            });
        };
        if !document["spec"].is_object() {
            document["spec"] = json!({});
        }
        let spec = &mut document["spec"];
        if !spec["parameters"].is_object() {
            if !spec["parameters"].is_null() {
                wrong("spec.parameters", "Invalid value: must be an object".to_owned());
            }
            spec["parameters"] = json!({});
        }
        match template {
            None => wrong("kind", format!("there is no template of kind {kind}")),
            Some(Err(error)) => wrong("kind", format!("the template of kind {kind} cannot be used: {error}")),
            Some(Ok(template)) => {
                if let Some(schema) = &template.parameters {
                    apply_defaults(&mut spec["parameters"], schema);
                    let errors = values::validate(
                        &spec["parameters"],
                        schema,
                        &FieldPath::new("spec").child("parameters"),
                    );
                    if let Some(error) = errors.first() {
                        wrong(&error.path.to_string(), error.message());
                    }
                }
            }
        }
        let matching = Match::of(&spec["match"]);
        if let Err(error) = &matching {
            wrong("spec.match", error.clone());
        }
        let actions = actions(spec, points).unwrap_or_else(|(field, message)| {
            wrong(field, message);
            Vec::new()
        });
        let parameters = Document::of(&spec["parameters"]);
        Self { kind, name, actions, problem, matching, parameters, document }
    }

    /// As results name it: `K8sRequiredLabels/owners`.
    #[must_use]
    pub fn policy(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// Whether it may be about objects of a kind. One whose choice cannot be read is about none.
    pub(super) fn may_match(&self, group: &str, kind: &str) -> bool {
        self.matching.as_ref().is_ok_and(|matching| matching.may_match(group, kind))
    }

    /// Whether it is about an object.
    ///
    /// # Errors
    /// When that cannot be said.
    pub(super) fn wants(&self, reviewed: &Reviewed<'_>) -> Result<bool, String> {
        self.matching.as_ref().map_or(Ok(false), |matching| matching.matches(reviewed))
    }
}
