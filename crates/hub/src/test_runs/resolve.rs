//! Fetches what a workflow names: its templates, those that are fleet-wide, and the workflows that it executes; what is left
//! names nothing, so that agents need nothing but the execution.

use std::collections::BTreeMap;

use fleet_objects::test_run::WorkflowReference;
use fleet_objects::test_workflow::{
    TestStep, TestWorkflow, TestWorkflowSpec, TestWorkflowTemplate, TestWorkflowTemplateSpec,
};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use workflow::templates;
use workflow::validate::{FieldError, Invalid};

use super::Error;
use super::controller::api_error;

/// Fleet-wide templates of this namespace count in every namespace.
const EVERYWHERE: &str = "default";
/// Workflows that execute workflows that execute workflows …
const MAX_DEPTH: usize = 4;

/// Why a workflow cannot be run: a reason in one word, and what is wrong for people.
pub(super) type Told = (&'static str, String);

/// The workflow that stands in a document or is named there, with everything put in that it names.
pub(super) async fn named(
    client: &Client,
    namespace: &str,
    inline: Option<&TestWorkflowSpec>,
    reference: Option<&WorkflowReference>,
) -> Result<Result<TestWorkflowSpec, Told>, Error> {
    let found = match inline {
        Some(inline) => inline.clone(),
        None => {
            let name = reference.map(|reference| reference.name.as_str()).unwrap_or_default();
            let api: Api<TestWorkflow> = Api::namespaced(client.clone(), namespace);
            match api.get_opt(name).await.map_err(api_error("read the workflow"))? {
                Some(found) => found.spec,
                None => {
                    let message = format!("there is no TestWorkflow {name} in namespace {namespace}");
                    return Ok(Err(("WorkflowNotFound", message)));
                }
            }
        }
    };
    let resolved = workflow(client, namespace, &found).await?;
    Ok(resolved.map_err(|invalid| ("Invalid", invalid.to_string())))
}

/// A workflow with everything put in that it names; what is wrong with the names is the inner error.
async fn workflow(
    client: &Client,
    namespace: &str,
    spec: &TestWorkflowSpec,
) -> Result<Result<TestWorkflowSpec, Invalid>, Error> {
    let mut found: BTreeMap<String, TestWorkflowTemplateSpec> = BTreeMap::new();
    let mut wide = Vec::new();
    let mut namespaces = vec![EVERYWHERE];
    if namespace != EVERYWHERE {
        namespaces.push(namespace);
    }
    for own in namespaces {
        let api: Api<TestWorkflowTemplate> = Api::namespaced(client.clone(), own);
        let all = api.list(&ListParams::default()).await.map_err(api_error("list the templates"))?;
        for template in all.items {
            if template.spec.fleet_wide {
                wide.push(template.spec.clone());
            }
            if own == namespace {
                found.insert(template.name_any(), template.spec);
            }
        }
    }
    let lookup = |name: &str| found.get(name).cloned();
    let mut out = match templates::apply(spec, &wide, &lookup, "spec") {
        Ok(out) => out,
        Err(invalid) => return Ok(Err(invalid)),
    };
    if !executes(&out) {
        return Ok(Ok(out));
    }
    let api: Api<TestWorkflow> = Api::namespaced(client.clone(), namespace);
    let all = api.list(&ListParams::default()).await.map_err(api_error("list the workflows"))?;
    let others = all.items.into_iter().map(|own| (own.name_any(), own.spec)).collect();
    let mut pass = Executed { others, lookup: &lookup, errors: Vec::new() };
    pass.workflow(&mut out, "spec", 0);
    Ok(if pass.errors.is_empty() { Ok(out) } else { Err(Invalid(pass.errors)) })
}

fn lists(spec: &mut TestWorkflowSpec) -> [(&'static str, &mut Vec<TestStep>); 3] {
    [("setup", &mut spec.setup), ("steps", &mut spec.steps), ("after", &mut spec.after)]
}

fn executes(spec: &TestWorkflowSpec) -> bool {
    fn any(steps: &[TestStep]) -> bool {
        steps.iter().any(|step| {
            let within = step.parallel.as_ref().is_some_and(|parallel| executes(&parallel.workflow));
            step.execute.is_some() || within || any(&step.setup) || any(&step.steps)
        })
    }
    any(&spec.setup) || any(&spec.steps) || any(&spec.after)
}

struct Executed<'a> {
    others: BTreeMap<String, TestWorkflowSpec>,
    lookup: &'a templates::Find<'a>,
    errors: Vec<FieldError>,
}

impl Executed<'_> {
    fn fail(&mut self, field: String, message: String) {
        self.errors.push(FieldError { field, message });
    }

    fn workflow(&mut self, spec: &mut TestWorkflowSpec, at: &str, depth: usize) {
        for (list, steps) in lists(spec) {
            self.steps(steps, &format!("{at}.{list}"), depth);
        }
    }

    fn steps(&mut self, steps: &mut [TestStep], at: &str, depth: usize) {
        for (index, step) in steps.iter_mut().enumerate() {
            let at = format!("{at}[{index}]");
            self.steps(&mut step.setup, &format!("{at}.setup"), depth);
            self.steps(&mut step.steps, &format!("{at}.steps"), depth);
            if let Some(parallel) = &mut step.parallel {
                self.workflow(&mut parallel.workflow, &format!("{at}.parallel"), depth);
            }
            let Some(execute) = &mut step.execute else { continue };
            for (index, wanted) in execute.workflows.iter().enumerate() {
                let field = format!("{at}.execute.workflows[{index}].name");
                if execute.resolved.contains_key(&wanted.name) {
                    continue;
                }
                if depth >= MAX_DEPTH {
                    self.fail(field, format!("workflows execute workflows no deeper than {MAX_DEPTH}"));
                    continue;
                }
                let Some(other) = self.others.get(&wanted.name).cloned() else {
                    self.fail(field, format!("there is no TestWorkflow {}", wanted.name));
                    continue;
                };
                match templates::apply(&other, &[], self.lookup, &format!("workflow {}", wanted.name)) {
                    Ok(mut other) => {
                        self.workflow(&mut other, &format!("workflow {}", wanted.name), depth + 1);
                        execute.resolved.insert(wanted.name.clone(), other);
                    }
                    Err(invalid) => self.errors.extend(invalid.0),
                }
            }
        }
    }
}
