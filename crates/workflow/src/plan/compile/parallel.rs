//! Workflows within a workflow: the instances of `parallel` and what `execute` names.

use fleet_objects::test_workflow::{ContainerDefaults, Parallel, TestStep, TestWorkflowSpec};
use serde_json::json;

use super::super::spread::{self, Spread};
use super::super::{ExecutionPlan, PlanScope, PlannedParallel, Receive, files};
use super::{Compiler, Inside, plan, planned, resolved_value};
use crate::templates::containers;
use crate::validate::Invalid;

impl Compiler<'_> {
    pub(super) fn parallel(
        &mut self,
        step: &TestStep,
        inside: &Inside,
        name: &str,
        at: &str,
    ) -> Option<Box<PlannedParallel>> {
        let mut plans = Vec::new();
        let parallelism;
        let mut fail_fast = false;
        let mut fetches = Vec::new();
        if let Some(parallel) = &step.parallel {
            let spread = Spread {
                count: parallel.count.as_ref(),
                max_count: parallel.max_count.as_ref(),
                matrix: &parallel.matrix,
                shards: &parallel.shards,
            };
            parallelism = parallel.parallelism.unwrap_or(1000);
            fail_fast = parallel.fail_fast;
            let instances = match spread::instances(&spread, self.scope) {
                Ok(instances) => instances,
                Err((field, message)) => {
                    self.fail(&format!("{at}.parallel.{field}"), message);
                    return None;
                }
            };
            let workflow = self.inherited(&parallel.workflow, inside);
            for instance in instances {
                let scope = self.scope.with(instance.names());
                let prefix = format!("{name}-{}", instance.index);
                let made = planned(&workflow, &scope, &format!("{at}.parallel"), self.execution, &prefix);
                plans.push(made.map(|(mut made, fetched)| {
                    made.starts_together = parallel.together.then_some(fetched);
                    fetches.extend(self.files(parallel, &scope, &prefix, &mut made, at));
                    made
                }));
            }
            if !parallel.transfer.is_empty() || !parallel.fetch.is_empty() {
                files::keep_workspace(&mut self.out, self.prefix, &self.workspace);
            }
        } else if let Some(execute) = &step.execute {
            parallelism = execute.parallelism.unwrap_or(100);
            for (index, wanted) in execute.workflows.iter().enumerate() {
                let field = format!("{at}.execute.workflows[{index}]");
                let Some(workflow) = execute.resolved.get(&wanted.name) else {
                    self.fail(&format!("{field}.name"), format!("there is no TestWorkflow {}", wanted.name));
                    continue;
                };
                let given = wanted.config.iter().map(|(key, value)| {
                    let resolved = resolved_value(value, self.scope).unwrap_or_else(|_| value.clone());
                    (key.clone(), resolved)
                });
                match crate::config::values(&workflow.config, &given.collect(), &format!("{field}.config")) {
                    Ok(values) => {
                        let scope = self
                            .scope
                            .with([("config", values), ("workflow", json!({ "name": wanted.name }))]);
                        let prefix = format!("{name}-{index}");
                        plans.push(plan(workflow, &scope, &field, self.execution, &prefix));
                    }
                    Err(errors) => self.errors.extend(errors),
                }
            }
        } else {
            return None;
        }
        let mut instances = Vec::new();
        for plan in plans {
            match plan {
                Ok(plan) => instances.push(plan),
                // The same mistake in every instance is told once.
                Err(Invalid(errors)) => {
                    for error in errors {
                        if !self.errors.contains(&error) {
                            self.errors.push(error);
                        }
                    }
                }
            }
        }
        let parallelism = usize::try_from(parallelism).unwrap_or(usize::MAX).max(1);
        if parallelism < instances.len() && instances.iter().any(|plan| plan.starts_together.is_some()) {
            let message =
                format!("{} instances cannot begin together when {parallelism} run at once", instances.len());
            self.fail(&format!("{at}.parallel.parallelism"), message);
        }
        Some(Box::new(PlannedParallel { instances, parallelism, fail_fast, fetches }))
    }

    /// What goes to an instance and comes back from it; answers the latter.
    fn files(
        &mut self,
        parallel: &Parallel,
        scope: &PlanScope,
        part: &str,
        instance: &mut ExecutionPlan,
        at: &str,
    ) -> Vec<Receive> {
        let mut fetches = Vec::new();
        for (index, wanted) in parallel.transfer.iter().enumerate() {
            match files::transfer(wanted, scope, self.prefix, &self.workspace) {
                Ok(receive) => instance.receives.push(receive),
                Err(why) => self.fail(&format!("{at}.parallel.transfer[{index}]"), why),
            }
        }
        for (index, wanted) in parallel.fetch.iter().enumerate() {
            match files::fetch(wanted, scope, format!("fetch-{part}-{index}"), &self.workspace) {
                Ok((pack, receive)) => {
                    instance.packs.push(pack);
                    fetches.push(receive);
                }
                Err(why) => self.fail(&format!("{at}.parallel.fetch[{index}]"), why),
            }
        }
        if !parallel.fetch.is_empty() {
            let whole = instance.workspace.clone();
            files::keep_workspace(instance, part, &whole);
        }
        fetches
    }

    /// A workflow within this one: it has the image and the global variables of where it stands.
    pub(super) fn inherited(&self, spec: &TestWorkflowSpec, inside: &Inside) -> TestWorkflowSpec {
        let base = &inside.container;
        let global = base.env.iter().filter(|variable| variable.global || variable.value_from.is_some());
        let below = ContainerDefaults {
            image: base.image.clone(),
            image_pull_policy: base.image_pull_policy.clone(),
            working_dir: base.working_dir.clone(),
            env: global.cloned().collect(),
            resources: base.resources.clone(),
            security_context: base.security_context.clone(),
            command: base.command.clone(),
            args: base.args.clone(),
            ..ContainerDefaults::default()
        };
        let mut variables = self.variables.clone();
        variables.extend(spec.variables.clone());
        TestWorkflowSpec {
            container: containers(Some(below), spec.container.clone()),
            workspace: spec.workspace.clone().or_else(|| Some(self.workspace.clone())),
            variables,
            ..spec.clone()
        }
    }
}
