//! Workflows within a workflow: the instances of `parallel` and what `execute` names.

use fleet_objects::test_workflow::{ContainerDefaults, Parallel, TestStep, TestWorkflowSpec, Transfer};
use serde_json::{Value, json};

use super::super::spread::{self, Reading};
use super::super::{ExecutionPlan, Lists, PlanScope, PlannedParallel, Receive, files};
use super::{Compiler, Inside, plan, planned, resolved_value};
use crate::templates::containers;
use crate::validate::Invalid;

/// What a step runs in pods of their own.
pub(super) struct Instances {
    pub(super) parallel: Box<PlannedParallel>,
    /// What a step before it finds out for that.
    pub(super) lists: Option<Lists>,
    /// It has not been found out yet: there are no instances.
    pub(super) later: bool,
}

impl Compiler<'_> {
    /// What a step runs beside its own container.
    pub(super) fn parallel(
        &mut self,
        step: &TestStep,
        inside: &Inside,
        name: &str,
        at: &str,
    ) -> Option<Instances> {
        let mut plans = Vec::new();
        let parallelism;
        let mut fail_fast = false;
        let mut fetches = Vec::new();
        let mut lists = None;
        let mut later = false;
        if let Some(parallel) = &step.parallel {
            parallelism = parallel.parallelism.unwrap_or(1000);
            fail_fast = parallel.fail_fast;
            let told = |(field, message): (String, String)| (format!("{at}.parallel.{field}"), message);
            let found = match Lists::of_parallel(parallel, name).read(self.scope).map_err(told) {
                Ok(Reading::Known(found)) => Some(found),
                Ok(Reading::Later(open)) => {
                    lists = Some(open);
                    self.scope.found(name)
                }
                Err((field, message)) => {
                    self.fail(&field, message);
                    return None;
                }
            };
            let instances = match found.as_ref().map(spread::instances).transpose().map_err(told) {
                Ok(instances) => instances,
                Err((field, message)) => {
                    self.fail(&field, message);
                    return None;
                }
            };
            let workflow = self.inherited(&parallel.workflow, inside);
            later = instances.is_none();
            let scopes = match instances {
                Some(instances) => {
                    let scope = |own: spread::Instance| (own.index, self.scope.with(own.names()));
                    instances.into_iter().map(scope).collect()
                }
                None => vec![(0, self.scope.trial())],
            };
            for (index, scope) in scopes {
                let prefix = format!("{name}-{index}");
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
                let open = |value: &Value| value.as_str().is_some_and(|text| text.contains("{{"));
                if self.scope.is_trial() && wanted.config.values().any(open) {
                    continue;
                }
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
        // What was only tried is not run.
        if later {
            (instances, fetches) = Default::default();
        }
        let parallelism = usize::try_from(parallelism).unwrap_or(usize::MAX).max(1);
        if parallelism < instances.len() && instances.iter().any(|plan| plan.starts_together.is_some()) {
            let message =
                format!("{} instances cannot begin together when {parallelism} run at once", instances.len());
            self.fail(&format!("{at}.parallel.parallelism"), message);
        }
        let parallel = Box::new(PlannedParallel { instances, parallelism, fail_fast, fetches });
        Some(Instances { parallel, lists, later })
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
        let whole = self.workspace.clone();
        let at = &format!("{at}.parallel");
        instance.receives.extend(self.transfers(&parallel.transfer, scope, self.prefix, &whole, at));
        let open = |wanted: &Transfer| is_open(wanted, scope);
        for (index, wanted) in parallel.fetch.iter().enumerate().filter(|(_, wanted)| !open(wanted)) {
            match files::fetch(wanted, scope, format!("fetch-{part}-{index}"), &self.workspace) {
                Ok((pack, receive)) => {
                    instance.packs.push(pack);
                    fetches.push(receive);
                }
                Err(why) => self.fail(&format!("{at}.fetch[{index}]"), why),
            }
        }
        if !parallel.fetch.is_empty() {
            let whole = instance.workspace.clone();
            files::keep_workspace(instance, part, &whole);
        }
        fetches
    }

    /// What goes from the workspace `whole` of `part` to another pod.
    pub(super) fn transfers(
        &mut self,
        transfer: &[Transfer],
        scope: &PlanScope,
        part: &str,
        whole: &str,
        at: &str,
    ) -> Vec<Receive> {
        let mut receives = Vec::new();
        for (index, wanted) in transfer.iter().enumerate().filter(|(_, wanted)| !is_open(wanted, scope)) {
            match files::transfer(wanted, scope, part, whole) {
                Ok(receive) => receives.push(receive),
                Err(why) => self.fail(&format!("{at}.transfer[{index}]"), why),
            }
        }
        receives
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

/// Whether it cannot be told yet what is meant.
fn is_open(wanted: &Transfer, scope: &PlanScope) -> bool {
    let mut texts = wanted.files.iter().chain(&wanted.to).chain([&wanted.from]);
    scope.is_trial() && texts.any(|text| text.contains("{{"))
}
