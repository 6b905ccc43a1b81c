//! Profiles: their variables, and the manifests that stand in them. What was uploaded to the content store is not at hand.

use std::collections::{BTreeMap, BTreeSet};

use fleet_objects::{ANNOTATION_HOLD_ONE, ConflictPolicy, GROUP, KNOWN_ANNOTATIONS, ProfileSpec};
use serde_json::Value;

use super::nearest::nearest;
use super::{FieldError, FieldPath, at, wrong};
use crate::bundle::{Bundle, MAX_LAYERS, MAX_OBJECTS};
use crate::drift::Drift;
use crate::health::{self, ObjectExpressions};
use crate::render::{RenderError, describe, render};
use crate::variables::{self, VariableError, unresolved};
use crate::yaml;

/// What is said to whoever uses a variable that is declared nowhere; the command line says how, where the hub says it.
pub const DECLARE: &str = "declare it in spec.variables";

/// What of a profile is for somebody else to say, and so not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// A Source fills its layers, whose next look may bring what goes with the rest.
    pub layers: bool,
    /// The document says nothing of variables, and the profile may have them of another writer.
    pub variables: bool,
}

/// Everything that keeps a profile from being used, whatever placements give its variables.
#[must_use]
pub fn problems(spec: &ProfileSpec, others: Others, expressions: &dyn ObjectExpressions) -> Vec<FieldError> {
    let mut found = variables(spec);
    let rules = health::problems(spec, expressions);
    found.extend(rules.into_iter().map(|(place, problem)| wrong(&at(&place), problem)));
    if !others.layers {
        layers(spec, &mut found);
    }
    let objects = objects(spec, others, &mut found);
    let known: BTreeSet<&str> = spec.variables.iter().map(|variable| variable.name.as_str()).collect();
    for own in &objects {
        own.annotations(&mut found);
        if !others.variables {
            own.references(&known, &mut found);
        }
    }
    // What is wrong already is not told once more in the words of rendering.
    if found.is_empty() && !others.variables {
        found.extend(unrenderable(spec, &objects));
    }
    found
}

fn variables(spec: &ProfileSpec) -> Vec<FieldError> {
    let mut found = Vec::new();
    let mut names = BTreeSet::new();
    for (index, definition) in spec.variables.iter().enumerate() {
        let place = at("variables").index(index);
        if !names.insert(&definition.name) {
            found.push(FieldError::duplicate(&place.child("name"), definition.name.as_str()));
        }
        if let Err(error) = variables::check(definition) {
            let bad_name = matches!(error, VariableError::BadName { .. });
            let field = if bad_name { "name" } else { "default" };
            found.push(wrong(&place.child(field), error.to_string()));
        }
    }
    found
}

fn layers(spec: &ProfileSpec, found: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    for (index, layer) in spec.layers.iter().enumerate() {
        let place = at("layers").index(index).child("name");
        if layer.name.is_empty() {
            found.push(FieldError::required(&place, "layers are told apart by their names"));
        } else if !names.insert(&layer.name) {
            found.push(FieldError::duplicate(&place, layer.name.as_str()));
        }
    }
    if spec.layers.len() > MAX_LAYERS {
        found.push(FieldError::too_many(&at("layers"), spec.layers.len(), MAX_LAYERS));
    }
}

/// An object that stands in the profile.
struct Own {
    /// Its manifest.
    path: FieldPath,
    /// Whether its own fields are fields of the profile, and not part of a text.
    inline: bool,
    /// As messages name it.
    named: String,
    object: Value,
}

fn objects(spec: &ProfileSpec, others: Others, found: &mut Vec<FieldError>) -> Vec<Own> {
    let mut all = Vec::new();
    take(&spec.manifests, &at("manifests"), "", &mut all, found);
    let layers = if others.layers { &[] } else { spec.layers.as_slice() };
    for (index, layer) in layers.iter().enumerate() {
        let of_layer = format!("layer {}: ", layer.name);
        let path = at("layers").index(index).child("manifests");
        take(&layer.manifests, &path, &of_layer, &mut all, found);
    }
    if all.len() > MAX_OBJECTS {
        found.push(FieldError::too_many(&FieldPath::new("spec"), all.len(), MAX_OBJECTS));
    }
    all
}

fn take(
    manifests: &[Value],
    path: &FieldPath,
    of_layer: &str,
    all: &mut Vec<Own>,
    found: &mut Vec<FieldError>,
) {
    for (index, manifest) in manifests.iter().enumerate() {
        let path = path.index(index);
        let (inline, objects) = match manifest {
            Value::Object(_) => (true, vec![manifest.clone()]),
            Value::String(text) => match yaml::documents(text, "the text") {
                Ok(objects) => (false, objects),
                Err(error) => {
                    found.push(wrong(&path, error.to_string()));
                    continue;
                }
            },
            _ => {
                found.push(wrong(&path, "expected an object or YAML text"));
                continue;
            }
        };
        for object in objects {
            let named = format!("{of_layer}{}", describe(&object, all.len() + 1));
            all.push(Own { path: path.clone(), inline, named, object });
        }
    }
}

impl Own {
    /// References to what is not declared: each variable once, at its first place.
    fn references(&self, known: &BTreeSet<&str>, found: &mut Vec<FieldError>) {
        let mut errors = Vec::new();
        unresolved(&self.object, &self.named, &|name| known.contains(name), &mut errors);
        let mut told = BTreeSet::new();
        for error in errors {
            let detail = match &error {
                VariableError::UnknownReference { name, .. } if told.insert(name.clone()) => {
                    let hint = nearest(name, known.iter().copied()).map_or_else(
                        || DECLARE.to_owned(),
                        |meant| format!("did you mean ${{var.{meant}}}?"),
                    );
                    format!("{error}; {hint}")
                }
                VariableError::UnknownReference { .. } => continue,
                other => other.to_string(),
            };
            found.push(wrong(&self.path, detail));
        }
    }

    /// Annotations of ours that nobody reads, and those of which the agent would make no sense.
    fn annotations(&self, found: &mut Vec<FieldError>) {
        let Some(annotations) = self.object["metadata"]["annotations"].as_object() else { return };
        for key in annotations.keys().filter(|key| is_unknown(key)) {
            let hint = nearest(key, KNOWN_ANNOTATIONS)
                .map(|meant| format!("; did you mean {meant}?"))
                .unwrap_or_default();
            let detail = format!("{}: there is no annotation {key}{hint}", self.named);
            found.push(wrong(&self.annotation(key), detail));
        }
        // What a variable makes of it is the agent's to judge.
        let fixed = |value: &Value| value.as_str().is_none_or(|text| !text.contains("${"));
        if annotations.values().all(fixed)
            && let Err(problem) = Drift::of(&self.object)
        {
            let key = problem.split_once(": ").map_or("", |(key, _)| key);
            found.push(wrong(&self.annotation(key), format!("{}: {problem}", self.named)));
        }
    }

    fn annotation(&self, key: &str) -> FieldPath {
        if self.inline {
            self.path.child("metadata").child("annotations").key(key)
        } else {
            self.path.clone()
        }
    }
}

/// Whether it is in our name and none of ours.
fn is_unknown(key: &str) -> bool {
    let ours = key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/'));
    ours && !KNOWN_ANNOTATIONS.contains(&key) && !key.starts_with(ANNOTATION_HOLD_ONE)
}

/// What an agent would find when it renders the objects. Where every variable has a value, with these, as the hub does;
/// else with values of which no two are alike, so that what is wrong then is wrong with all.
fn unrenderable(spec: &ProfileSpec, objects: &[Own]) -> Option<FieldError> {
    let optional = spec.variables.iter().all(|variable| !variable.required || variable.default.is_some());
    let values = if optional {
        variables::resolve(&spec.variables, &BTreeMap::new()).ok()?
    } else {
        variables::any(&spec.variables)
    };
    let error = render(&bundle(objects), &values, "any").err()?;
    let index = match &error {
        RenderError::Malformed { index, .. } | RenderError::Duplicate { index, .. } => *index,
        RenderError::Variable(_) => 0,
    };
    let own = index.checked_sub(1).and_then(|index| objects.get(index));
    let detail = match (&error, own) {
        (RenderError::Malformed { problem, .. }, Some(own)) => format!("{}: {problem}", own.named),
        (RenderError::Duplicate { .. }, Some(own)) => format!("{} is there twice", own.named),
        _ => error.to_string(),
    };
    Some(wrong(&own.map_or_else(|| FieldPath::new("spec"), |own| own.path.clone()), detail))
}

fn bundle(objects: &[Own]) -> Bundle {
    Bundle {
        format: crate::bundle::FORMAT,
        target_namespace: None,
        conflicts: ConflictPolicy::default(),
        variables: Vec::new(),
        objects: objects.iter().map(|own| own.object.clone()).collect(),
        layers: Vec::new(),
        depends_on: Vec::new(),
        health: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
