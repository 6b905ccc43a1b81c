//! From the tree of steps to the flat plan.

mod parallel;
mod service;
mod step;

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_objects::test_run::TestExecutionSpec;
use fleet_objects::test_workflow::{ConcurrencyMode, ContainerDefaults, TestWorkflowSpec};
use serde_json::{Value, json};

use super::names::Names;
use super::{DEFAULT_TOTAL, ExecutionPlan, MAX_PLANNED, PlanScope, PlannedCluster, PlannedConcurrency};
use crate::expression::{Expression, ExpressionError, Template};
use crate::templates::variables;
use crate::validate::{FieldError, Invalid};
use crate::{collect, duration};

/// Plans a workflow whose templates are applied. Names begin with `prefix`.
pub(super) fn plan(
    spec: &TestWorkflowSpec,
    scope: &PlanScope,
    at: &str,
    execution: &TestExecutionSpec,
    prefix: &str,
) -> Result<ExecutionPlan, Invalid> {
    planned(spec, scope, at, execution, prefix).map(|(plan, _)| plan)
}

/// As [`plan`], with how many of the steps come first that only fetch content.
pub(super) fn planned(
    spec: &TestWorkflowSpec,
    scope: &PlanScope,
    at: &str,
    execution: &TestExecutionSpec,
    prefix: &str,
) -> Result<(ExecutionPlan, usize), Invalid> {
    let mut compiler = Compiler {
        scope,
        execution,
        prefix,
        workspace: spec.workspace.clone().unwrap_or_else(|| collect::WORKSPACE.to_owned()),
        variables: spec.variables.clone(),
        out: ExecutionPlan::default(),
        names: Names::default(),
        errors: Vec::new(),
    };
    let mut defaults = spec.container.clone().unwrap_or_default();
    compiler.defaults(&mut defaults, &format!("{at}.container"));
    let inside = Inside { group: None, container: defaults };
    compiler.services(&spec.services, &inside, at);
    if let Some(content) = &spec.content {
        compiler.content(content, &inside, &format!("{at}.content"));
    }
    let fetched = compiler.out.steps.len();
    compiler.late_services(&spec.services, &inside, at);
    for (list, steps, after) in
        [("setup", &spec.setup, false), ("steps", &spec.steps, false), ("after", &spec.after, true)]
    {
        for (index, step) in steps.iter().enumerate() {
            compiler.step(step, &inside, &format!("{at}.{list}[{index}]"), after);
        }
    }
    let pod = compiler.value(spec.pod.as_ref(), &format!("{at}.pod"));
    let timeout = compiler.duration(spec.timeout.as_deref(), &format!("{at}.timeout"));
    let concurrency = spec.concurrency.as_ref().map(|own| {
        let group = own.group.clone().unwrap_or_default();
        let cancel = own.cancel_in_progress.then_some(ConcurrencyMode::CancelRunning);
        PlannedConcurrency {
            group: compiler.known(&group, &format!("{at}.concurrency.group")),
            max: own.max.unwrap_or(1).max(1),
            mode: own.mode.or(cancel).unwrap_or_default(),
        }
    });
    let cluster = spec.ephemeral_cluster.as_ref().map(|own| {
        if !prefix.is_empty() {
            let message =
                "only the workflow that is run itself has a cluster; what it runs in parallel shares it";
            compiler.fail(&format!("{at}.ephemeralCluster"), message);
        }
        let seed = compiler.value(Some(&json!(own.seed)), &format!("{at}.ephemeralCluster.seed"));
        let seed = seed.and_then(|seed| serde_json::from_value(seed).ok()).unwrap_or_default();
        PlannedCluster { nodes: usize::try_from(own.nodes.unwrap_or(1)).unwrap_or(1), seed }
    });
    let pvcs = json!(spec.pvcs);
    let pvcs = compiler.value(Some(&pvcs), &format!("{at}.pvcs"));
    if compiler.out.steps.len() > MAX_PLANNED {
        let message =
            format!("{} steps with iterations written out; at most {MAX_PLANNED}", compiler.out.steps.len());
        compiler.fail(&format!("{at}.steps"), message);
    }
    let Compiler { mut out, errors, workspace, .. } = compiler;
    out.pod = pod;
    out.concurrency = concurrency;
    out.ephemeral_cluster = cluster;
    out.pvcs = pvcs.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
    out.workspace = workspace;
    out.timeout = timeout.unwrap_or(DEFAULT_TOTAL);
    if errors.is_empty() { Ok((out, fetched)) } else { Err(Invalid(errors)) }
}

/// Resolves the texts of a value.
pub(super) fn resolved_value(value: &Value, scope: &PlanScope) -> Result<Value, ExpressionError> {
    Ok(match value {
        Value::String(text) if text.contains("{{") => {
            let template = Template::parse(text)?.resolve(scope)?;
            Value::String(template.text().unwrap_or_else(|| template.to_string()))
        }
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| resolved_value(item, scope)).collect::<Result<_, _>>()?)
        }
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| Ok((key.clone(), resolved_value(value, scope)?)));
            Value::Object(entries.collect::<Result<_, ExpressionError>>()?)
        }
        other => other.clone(),
    })
}

/// What a step inherits from what it stands in.
#[derive(Clone)]
struct Inside {
    group: Option<usize>,
    container: ContainerDefaults,
}

struct Compiler<'a> {
    scope: &'a PlanScope,
    execution: &'a TestExecutionSpec,
    prefix: &'a str,
    workspace: String,
    variables: BTreeMap<String, String>,
    out: ExecutionPlan,
    names: Names,
    errors: Vec<FieldError>,
}

impl Compiler<'_> {
    fn fail(&mut self, field: &str, message: impl Into<String>) {
        self.errors.push(FieldError { field: field.to_owned(), message: message.into() });
    }

    fn text(&mut self, text: &str, at: &str) -> String {
        if !text.contains("{{") {
            return text.to_owned();
        }
        match Template::parse(text).and_then(|template| template.resolve(self.scope)) {
            // What stays a template keeps the braces of its other parts apart.
            Ok(template) => template.to_string(),
            Err(error) => {
                self.fail(at, error.to_string());
                text.to_owned()
            }
        }
    }

    /// A text that must be known now: an image, a name.
    fn known(&mut self, text: &str, at: &str) -> String {
        let resolved = self.text(text, at);
        match Template::parse(&resolved).ok().and_then(|template| template.text()) {
            Some(text) => text,
            None if self.scope.is_trial() => resolved,
            None => {
                let message =
                    format!("{resolved} must be known before the pod starts; only containers know it");
                self.fail(at, message);
                resolved
            }
        }
    }

    fn expression(&mut self, text: Option<&str>, at: &str) -> String {
        let Some(text) = text else { return String::new() };
        match Expression::parse(text).and_then(|expression| expression.resolve(self.scope)) {
            Ok(expression) => expression.to_string(),
            Err(error) => {
                self.fail(at, error.to_string());
                String::new()
            }
        }
    }

    fn value(&mut self, value: Option<&Value>, at: &str) -> Option<Value> {
        let value = value?;
        match resolved_value(value, self.scope) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(at, error.to_string());
                None
            }
        }
    }

    fn duration(&mut self, text: Option<&str>, at: &str) -> Option<Duration> {
        let text = self.known(text?, at);
        if self.scope.is_trial() && text.contains("{{") {
            return None;
        }
        match duration::parse(&text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fail(at, error.to_string());
                None
            }
        }
    }

    fn list(&mut self, texts: &[String], at: &str) -> Vec<String> {
        texts.iter().enumerate().map(|(index, text)| self.text(text, &format!("{at}[{index}]"))).collect()
    }

    fn defaults(&mut self, container: &mut ContainerDefaults, at: &str) {
        container.image = self.known(&container.image, &format!("{at}.image"));
        container.command = self.list(&container.command, &format!("{at}.command"));
        container.args = self.list(&container.args, &format!("{at}.args"));
        for variable in &mut container.env {
            variable.value = self.text(&variable.value, &format!("{at}.env.{}", variable.name));
        }
        // Variables that stand for secrets must be known to every step that inherits a text with them.
        let secrets = self.scope.take_secrets();
        container.env = variables(&secrets, &container.env);
        container.working_dir =
            container.working_dir.as_ref().map(|dir| self.known(dir, &format!("{at}.workingDir")));
        container.resources = self.value(container.resources.as_ref(), &format!("{at}.resources"));
        container.security_context =
            self.value(container.security_context.as_ref(), &format!("{at}.securityContext"));
    }
}
