//! Puts templates around workflows, steps and services, so that what is left uses none.
//!
//! A template's parameters are put in first, then it is merged: its settings lie below those of what uses it, its steps
//! come before (those of `after` behind), its services and volume claims are there unless one of the same name is.

use std::collections::BTreeMap;

use fleet_objects::test_workflow::{
    ContainerDefaults, Content, EnvironmentVariable, Service, TemplateUse, TestStep, TestWorkflowSpec,
    TestWorkflowTemplateSpec,
};
use serde_json::Value;

use crate::config::{self, Names};
use crate::expression::{Expression, Template};
use crate::plan::OPEN;
use crate::validate::{FieldError, Invalid};

/// Templates within templates.
const MAX_DEPTH: usize = 8;

/// Where templates are found, by name.
pub type Find<'a> = dyn Fn(&str) -> Option<TestWorkflowTemplateSpec> + 'a;

/// Applies the fleet-wide templates, then every template that the workflow names.
///
/// # Errors
/// Everything that is wrong with their names and parameters; `at` is where the workflow stands.
pub fn apply(
    spec: &TestWorkflowSpec,
    fleet_wide: &[TestWorkflowTemplateSpec],
    find: &Find<'_>,
    at: &str,
) -> Result<TestWorkflowSpec, Invalid> {
    let mut pass = Pass { find, errors: Vec::new(), depth: 0 };
    let mut out = spec.clone();
    pass.workflow(&mut out, at);
    for template in fleet_wide.iter().rev() {
        if let Some(template) = pass.instance(template.clone(), &BTreeMap::new(), at) {
            under_workflow(&mut out, template);
        }
    }
    if pass.errors.is_empty() { Ok(out) } else { Err(Invalid(pass.errors)) }
}

/// The names of all templates a workflow asks for itself.
#[must_use]
pub fn names(spec: &TestWorkflowSpec) -> Vec<String> {
    fn of_steps(steps: &[TestStep], out: &mut Vec<String>) {
        for step in steps {
            out.extend(step.uses.iter().chain(&step.template).map(|own| own.name.clone()));
            out.extend(step.services.values().flat_map(|service| &service.uses).map(|own| own.name.clone()));
            of_steps(&step.setup, out);
            of_steps(&step.steps, out);
            if let Some(parallel) = &step.parallel {
                out.extend(names(&parallel.workflow));
            }
        }
    }
    let mut out: Vec<String> = spec.uses.iter().map(|own| own.name.clone()).collect();
    out.extend(spec.services.values().flat_map(|service| &service.uses).map(|own| own.name.clone()));
    for steps in [&spec.setup, &spec.steps, &spec.after] {
        of_steps(steps, &mut out);
    }
    out.sort();
    out.dedup();
    out
}

struct Pass<'a> {
    find: &'a Find<'a>,
    errors: Vec<FieldError>,
    depth: usize,
}

impl Pass<'_> {
    fn fail(&mut self, field: &str, message: String) {
        self.errors.push(FieldError { field: field.to_owned(), message });
    }

    /// A template with its parameters put in and its own templates applied.
    fn resolved(&mut self, wanted: &TemplateUse, at: &str) -> Option<TestWorkflowSpec> {
        // Upstream writes slashes in names, which Kubernetes does not allow, as two dashes.
        let name = wanted.name.replace('/', "--");
        let Some(template) = (self.find)(&name) else {
            self.fail(&format!("{at}.name"), format!("there is no TestWorkflowTemplate {name}"));
            return None;
        };
        self.instance(template, &wanted.config, at)
    }

    fn instance(
        &mut self,
        template: TestWorkflowTemplateSpec,
        given: &BTreeMap<String, Value>,
        at: &str,
    ) -> Option<TestWorkflowSpec> {
        if self.depth >= MAX_DEPTH {
            self.fail(at, format!("templates within templates go no deeper than {MAX_DEPTH}"));
            return None;
        }
        let values = match config::values(&template.workflow.config, given, &format!("{at}.config")) {
            Ok(values) => values,
            Err(errors) => {
                self.errors.extend(errors);
                return None;
            }
        };
        let mut spec = self.put_in(&template.workflow, &Names::new([("config", values)]), at)?;
        spec.config.clear();
        self.depth += 1;
        self.workflow(&mut spec, at);
        self.depth -= 1;
        Some(spec)
    }

    fn put_in(&mut self, spec: &TestWorkflowSpec, names: &Names, at: &str) -> Option<TestWorkflowSpec> {
        let mut bare = spec.clone();
        bare.config.clear();
        let value = serde_json::to_value(&bare).ok()?;
        let mut errors = Vec::new();
        let resolved = resolve_document(&value, names, at, &mut errors);
        self.errors.extend(errors);
        match serde_json::from_value(resolved) {
            Ok(spec) => Some(spec),
            Err(error) => {
                self.fail(at, format!("the template with its parameters is no workflow: {error}"));
                None
            }
        }
    }

    fn workflow(&mut self, spec: &mut TestWorkflowSpec, at: &str) {
        for (name, service) in &mut spec.services {
            self.service(service, &format!("{at}.services.{name}"));
        }
        for (list, steps) in
            [("setup", &mut spec.setup), ("steps", &mut spec.steps), ("after", &mut spec.after)]
        {
            self.steps(steps, &format!("{at}.{list}"));
        }
        for (index, wanted) in std::mem::take(&mut spec.uses).iter().enumerate().rev() {
            if let Some(template) = self.resolved(wanted, &format!("{at}.use[{index}]")) {
                under_workflow(spec, template);
            }
        }
    }

    fn steps(&mut self, steps: &mut [TestStep], at: &str) {
        for (index, step) in steps.iter_mut().enumerate() {
            let at = format!("{at}[{index}]");
            self.steps(&mut step.setup, &format!("{at}.setup"));
            self.steps(&mut step.steps, &format!("{at}.steps"));
            for (name, service) in &mut step.services {
                self.service(service, &format!("{at}.services.{name}"));
            }
            if let Some(parallel) = &mut step.parallel {
                self.workflow(&mut parallel.workflow, &format!("{at}.parallel"));
            }
            if let Some(wanted) = step.template.take()
                && let Some(template) = self.resolved(&wanted, &format!("{at}.template"))
            {
                step.services.extend(template.services.clone());
                step.steps.insert(0, as_step(template, &wanted.name));
            }
            for (index, wanted) in std::mem::take(&mut step.uses).iter().enumerate().rev() {
                if let Some(template) = self.resolved(wanted, &format!("{at}.use[{index}]")) {
                    under_step(step, template);
                }
            }
        }
    }

    fn service(&mut self, service: &mut Service, at: &str) {
        for (index, wanted) in std::mem::take(&mut service.uses).iter().enumerate().rev() {
            let Some(template) = self.resolved(wanted, &format!("{at}.use[{index}]")) else { continue };
            service.pod = merged(template.pod, service.pod.take());
            if let Some(container) = template.container {
                if service.image.is_empty() {
                    service.image = container.image;
                }
                service.env = variables(&container.env, &service.env);
                service.resources = merged(container.resources, service.resources.take());
                service.security_context =
                    merged(container.security_context, service.security_context.take());
                service.volume_mounts.splice(0..0, container.volume_mounts);
            }
        }
    }
}

/// Fields whose text is an expression as it stands.
const EXPRESSIONS: [&str; 4] = ["condition", "until", "count", "maxCount"];

/// Resolves every expression of a document, in texts and in the fields that are expressions.
pub(crate) fn resolve_document(
    value: &Value,
    names: &Names,
    at: &str,
    errors: &mut Vec<FieldError>,
) -> Value {
    resolve_at(value, names, at, false, errors)
}

fn resolve_at(value: &Value, names: &Names, at: &str, plain: bool, errors: &mut Vec<FieldError>) -> Value {
    match value {
        Value::String(text) if plain => {
            match Expression::parse(text).and_then(|expression| expression.resolve(names)) {
                Ok(expression) => {
                    expression.value().cloned().unwrap_or_else(|| expression.to_string().into())
                }
                Err(error) => {
                    errors.push(FieldError { field: at.to_owned(), message: error.to_string() });
                    value.clone()
                }
            }
        }
        Value::String(text) if text.contains("{{") => {
            match Template::parse(text).and_then(|template| template.resolve(names)) {
                Ok(template) => Value::String(template.text().unwrap_or_else(|| template.to_string())),
                Err(error) => {
                    errors.push(FieldError { field: at.to_owned(), message: error.to_string() });
                    value.clone()
                }
            }
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| resolve_at(item, names, &format!("{at}[{index}]"), false, errors))
            .collect(),
        Value::Object(entries) => {
            let mut out = serde_json::Map::new();
            for (key, item) in entries {
                let at = format!("{at}.{key}");
                let item = if matches!(key.as_str(), "matrix" | "shards") && item.is_object() {
                    let lists = item.as_object().into_iter().flatten();
                    let lists = lists.map(|(name, list)| {
                        (name.clone(), resolve_at(list, names, &format!("{at}.{name}"), true, errors))
                    });
                    Value::Object(lists.collect())
                } else if let (OPEN, Value::String(text)) = (key.as_str(), item) {
                    open(text, names, &at, errors)
                } else {
                    let expression = EXPRESSIONS.contains(&key.as_str());
                    let resolved = resolve_at(item, names, &at, expression && item.is_string(), errors);
                    // Conditions stay texts, whatever they came to.
                    match (key.as_str(), item, resolved) {
                        ("condition" | "until", Value::String(_), Value::String(text)) => Value::String(text),
                        ("condition" | "until", Value::String(_), other) => Value::String(other.to_string()),
                        (_, _, resolved) => resolved,
                    }
                };
                out.insert(key.clone(), item);
            }
            Value::Object(out)
        }
        other => other.clone(),
    }
}

/// What is left of an expression that a container is to work out; it stays one, whatever it came to.
fn open(text: &str, names: &Names, at: &str, errors: &mut Vec<FieldError>) -> Value {
    match Expression::parse(text).and_then(|expression| expression.resolve(names)) {
        Ok(expression) => Value::String(expression.to_string()),
        Err(error) => {
            errors.push(FieldError { field: at.to_owned(), message: error.to_string() });
            text.into()
        }
    }
}

fn under_workflow(spec: &mut TestWorkflowSpec, template: TestWorkflowSpec) {
    for (name, value) in template.variables {
        spec.variables.entry(name).or_insert(value);
    }
    spec.container = containers(template.container, spec.container.take());
    spec.content = contents(template.content, spec.content.take());
    spec.pod = merged(template.pod, spec.pod.take());
    for (name, claim) in template.pvcs {
        spec.pvcs.entry(name).or_insert(claim);
    }
    for (name, service) in template.services {
        spec.services.entry(name).or_insert(service);
    }
    spec.setup.splice(0..0, template.setup);
    spec.steps.splice(0..0, template.steps);
    spec.after.extend(template.after);
    spec.timeout = spec.timeout.take().or(template.timeout);
    spec.workspace = spec.workspace.take().or(template.workspace);
    spec.concurrency = spec.concurrency.take().or(template.concurrency);
    spec.priority = spec.priority.or(template.priority);
    spec.ephemeral_cluster = spec.ephemeral_cluster.take().or(template.ephemeral_cluster);
}

fn under_step(step: &mut TestStep, template: TestWorkflowSpec) {
    step.container = containers(template.container, step.container.take());
    step.content = contents(template.content, step.content.take());
    for (name, service) in template.services {
        step.services.entry(name).or_insert(service);
    }
    let mut before = template.setup;
    before.extend(template.steps);
    step.setup.splice(0..0, before);
    step.steps.extend(template.after.into_iter().map(always));
}

/// A template as one step.
fn as_step(template: TestWorkflowSpec, name: &str) -> TestStep {
    let mut steps = template.setup;
    steps.extend(template.steps);
    steps.extend(template.after.into_iter().map(always));
    TestStep {
        title: Some(name.to_owned()),
        container: template.container,
        content: template.content,
        steps,
        ..TestStep::default()
    }
}

fn always(mut step: TestStep) -> TestStep {
    step.always |= step.condition.is_none();
    step
}

/// `own` above `below`.
pub(crate) fn containers(
    below: Option<ContainerDefaults>,
    own: Option<ContainerDefaults>,
) -> Option<ContainerDefaults> {
    let (below, own) = match (below, own) {
        (Some(below), Some(own)) => (below, own),
        (below, own) => return own.or(below),
    };
    let list = |own: Vec<String>, below: Vec<String>| if own.is_empty() { below } else { own };
    Some(ContainerDefaults {
        image: if own.image.is_empty() { below.image } else { own.image },
        image_pull_policy: own.image_pull_policy.or(below.image_pull_policy),
        command: list(own.command, below.command),
        args: list(own.args, below.args),
        env: variables(&below.env, &own.env),
        env_from: [below.env_from, own.env_from].concat(),
        working_dir: own.working_dir.or(below.working_dir),
        resources: merged(below.resources, own.resources),
        security_context: merged(below.security_context, own.security_context),
        volume_mounts: [below.volume_mounts, own.volume_mounts].concat(),
        unknown: own.unknown.into_iter().chain(below.unknown).collect(),
    })
}

/// Variables, without repetitions: those of `own` win and keep their order behind the others.
pub(crate) fn variables(
    below: &[EnvironmentVariable],
    own: &[EnvironmentVariable],
) -> Vec<EnvironmentVariable> {
    let kept = below.iter().filter(|variable| own.iter().all(|other| other.name != variable.name));
    kept.chain(own).cloned().collect()
}

fn contents(below: Option<Content>, own: Option<Content>) -> Option<Content> {
    let (below, own) = match (below, own) {
        (Some(below), Some(own)) => (below, own),
        (below, own) => return own.or(below),
    };
    Some(Content {
        git: own.git.or(below.git),
        files: [below.files, own.files].concat(),
        tarball: [below.tarball, own.tarball].concat(),
    })
}

/// Objects are merged member by member, lists one behind the other; else what is on top wins.
pub(crate) fn merged(below: Option<Value>, own: Option<Value>) -> Option<Value> {
    match (below, own) {
        (Some(Value::Object(mut below)), Some(Value::Object(own))) => {
            for (key, value) in own {
                let under = below.remove(&key);
                if let Some(value) = merged(under, Some(value)) {
                    below.insert(key, value);
                }
            }
            Some(Value::Object(below))
        }
        (Some(Value::Array(mut below)), Some(Value::Array(own))) => {
            below.extend(own);
            Some(Value::Array(below))
        }
        (below, own) => own.or(below),
    }
}

#[cfg(test)]
mod tests;
