//! From the tree of steps to the flat plan.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_objects::test_run::TestExecutionSpec;
use fleet_objects::test_workflow::{
    ContainerDefaults, Content, EnvironmentVariable, Service, TestStep, TestWorkflowSpec,
};
use serde_json::{Value, json};

use super::names::Names;
use super::spread::{self, Spread};
use super::{
    DEFAULT_TIMEOUT, DEFAULT_TOTAL, ExecutionPlan, Group, MAX_PLANNED, PlanScope, PlannedFile,
    PlannedParallel, PlannedService, PlannedStep, content,
};
use crate::expression::{Expression, ExpressionError, Template, absolute};
use crate::templates::{containers, merged, variables};
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
        (compiler.known(&group, &format!("{at}.concurrency.group")), own.max.unwrap_or(1).max(1))
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
    out.pvcs = pvcs.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default();
    out.workspace = workspace;
    out.timeout = timeout.unwrap_or(DEFAULT_TOTAL);
    if errors.is_empty() { Ok(out) } else { Err(Invalid(errors)) }
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

    fn step(&mut self, step: &TestStep, inside: &Inside, at: &str, after: bool) {
        let mut own = step.container.clone().unwrap_or_default();
        self.defaults(&mut own, &format!("{at}.container"));
        let mut container = containers(Some(inside.container.clone()), Some(own)).unwrap_or_default();
        if step.working_dir.is_some() {
            container.working_dir.clone_from(&step.working_dir);
        }
        if !step.services.is_empty() {
            let inside = Inside { group: inside.group, container: container.clone() };
            self.services(&step.services, &inside, at);
        }
        let runs = step.runs_a_container() || step.parallel.is_some() || step.execute.is_some();
        let grouped = !step.setup.is_empty()
            || !step.steps.is_empty()
            || (step.content.is_some() && runs)
            || usize::from(step.runs_a_container()) + usize::from(step.parallel.is_some()) > 1;
        let always = if after || step.always { Some("always") } else { None };
        let condition = self.expression(step.condition.as_deref().or(always), &format!("{at}.condition"));
        let title =
            step.title.as_deref().map(|title| self.text(title, &format!("{at}.title"))).unwrap_or_default();
        if !grouped {
            let inside = Inside { group: inside.group, container };
            self.leaf(step, &inside, &title, condition, at);
            return;
        }
        let iterations = 1 + step.retry.as_ref().map_or(0, |retry| retry.count);
        let group = self.group(step, inside, &title, condition, at);
        for iteration in 0..iterations {
            let inner = if iterations == 1 {
                group
            } else {
                let name = format!("{}-{}", self.out.groups[group].name, iteration + 1);
                let name = self.names.give("", &name);
                self.out.groups.push(Group { name, parent: Some(group), ..Group::default() });
                self.out.groups.len() - 1
            };
            let inside = Inside { group: Some(inner), container: container.clone() };
            self.parts(step, &inside, &title, at);
        }
    }

    fn group(&mut self, step: &TestStep, inside: &Inside, title: &str, condition: String, at: &str) -> usize {
        let wanted = if step.name.is_empty() { title } else { &step.name };
        let name = self.names.give(self.prefix, wanted);
        let until = step.retry.as_ref().filter(|retry| retry.count > 0).map(|retry| {
            let until = self.expression(retry.until.as_deref(), &format!("{at}.retry.until"));
            if until.is_empty() { "self.passed".to_owned() } else { until }
        });
        let group = Group {
            title: if title == name { String::new() } else { title.to_owned() },
            name,
            parent: inside.group,
            condition,
            negative: step.negative,
            optional: step.optional,
            until,
            timeout: self.duration(step.timeout.as_deref(), &format!("{at}.timeout")),
        };
        self.out.groups.push(group);
        self.out.groups.len() - 1
    }

    /// What stands in a step, in the order it runs.
    fn parts(&mut self, step: &TestStep, inside: &Inside, title: &str, at: &str) {
        if let Some(content) = &step.content {
            self.content(content, inside, &format!("{at}.content"));
        }
        for (index, part) in step.setup.iter().enumerate() {
            self.step(part, inside, &format!("{at}.setup[{index}]"), false);
        }
        let mut own = TestStep {
            name: String::new(),
            retry: None,
            negative: false,
            optional: false,
            timeout: None,
            content: None,
            ..step.clone()
        };
        // Files are kept when everything in the step has ended.
        let keeps = !step.steps.is_empty() && (!step.artifacts.is_empty() || !step.junit.is_empty());
        let files = TestStep {
            title: Some("Keep files".to_owned()),
            artifacts: if keeps { std::mem::take(&mut own.artifacts) } else { Vec::new() },
            junit: if keeps { std::mem::take(&mut own.junit) } else { Vec::new() },
            artifact_options: step.artifact_options.clone(),
            ..TestStep::default()
        };
        let has_own = step.runs_a_container()
            || step.parallel.is_some()
            || step.execute.is_some()
            || step.paused
            || step.delay.is_some();
        if has_own || own.keeps_files() {
            let name = if step.name.is_empty() { title } else { &step.name };
            let title = if name.is_empty() { "run" } else { name };
            self.leaf(&own, inside, &format!("{title} run"), String::new(), at);
        }
        for (index, part) in step.steps.iter().enumerate() {
            self.step(part, inside, &format!("{at}.steps[{index}]"), false);
        }
        if keeps {
            self.leaf(&files, inside, "Keep files", "always".to_owned(), at);
        }
    }

    fn leaf(&mut self, step: &TestStep, inside: &Inside, title: &str, condition: String, at: &str) {
        let wanted = if step.name.is_empty() { title } else { &step.name };
        let name = self.names.give(self.prefix, wanted);
        let base = &inside.container;
        let runs = step.runs_a_container();
        let image = if !runs {
            String::new()
        } else if step.image.is_empty() {
            base.image.clone()
        } else {
            self.known(&step.image, &format!("{at}.image"))
        };
        let image = if runs && image.is_empty() {
            // A script needs some shell; upstream uses busybox as well.
            if step.shell.is_some() || !step.command.is_empty() { "busybox:1.37".to_owned() } else { image }
        } else {
            image
        };
        if runs && image.is_empty() {
            self.fail(&format!("{at}.image"), "an image is required, here or in container");
        }
        let (command, args) = self.command(step, base, at);
        let retry = step.retry.clone().unwrap_or_default();
        let working_dir = self.directory(base.working_dir.as_deref(), at);
        let options = step.artifact_options.clone().unwrap_or_default();
        let artifacts_dir = match &options.working_dir {
            Some(dir) => {
                absolute(&self.known(dir, &format!("{at}.artifactOptions.workingDir")), &working_dir)
            }
            None if step.artifacts.is_empty() && step.junit.is_empty() => String::new(),
            None => working_dir.clone(),
        };
        let mut env = self.environment(step, base, &name, at);
        let artifacts = self.list(&step.artifacts, &format!("{at}.artifacts"));
        let parallel = self.parallel(step, inside, &name, at);
        let secrets = self.scope.take_secrets();
        env = variables(&secrets, &env);
        let planned = PlannedStep {
            id: step.id.clone().unwrap_or_else(|| step.name.clone()),
            title: if title == name { String::new() } else { title.to_owned() },
            group: inside.group,
            image_pull_policy: base.image_pull_policy.clone(),
            command,
            args,
            env,
            env_from: base.env_from.clone(),
            working_dir,
            files: Vec::new(),
            condition,
            delay: self.duration(step.delay.as_deref(), &format!("{at}.delay")),
            paused: step.paused,
            timeout: self
                .duration(step.timeout.as_deref(), &format!("{at}.timeout"))
                .unwrap_or(DEFAULT_TIMEOUT),
            attempts: 1 + retry.count,
            until: self.expression(retry.until.as_deref(), &format!("{at}.retry.until")),
            negative: step.negative,
            optional: step.optional,
            artifacts,
            junit: step.junit.clone(),
            artifacts_dir,
            resources: base.resources.clone(),
            security_context: base.security_context.clone(),
            volume_mounts: base.volume_mounts.clone(),
            parallel,
            image,
            name,
        };
        self.out.steps.push(planned);
    }

    fn directory(&mut self, dir: Option<&str>, at: &str) -> String {
        let workspace = self.workspace.clone();
        dir.map_or(workspace.clone(), |dir| {
            absolute(&self.known(dir, &format!("{at}.workingDir")), &workspace)
        })
    }

    fn command(&mut self, step: &TestStep, base: &ContainerDefaults, at: &str) -> (Vec<String>, Vec<String>) {
        if let Some(script) = &step.shell {
            let script = self.text(script, &format!("{at}.shell"));
            return (["/bin/sh", "-ec"].map(str::to_owned).to_vec(), vec![script]);
        }
        let command = self.list(&step.command, &format!("{at}.command"));
        let args = self.list(&step.args, &format!("{at}.args"));
        // What an image, a command or arguments of its own say goes before what is inherited.
        let inherits = step.image.is_empty() && command.is_empty();
        let command = if inherits { base.command.clone() } else { command };
        let args = if inherits && args.is_empty() { base.args.clone() } else { args };
        (command, args)
    }

    /// Later ones may refer to earlier ones: the workflow's, the container's, the step's, Fairlead's.
    fn environment(
        &mut self,
        step: &TestStep,
        base: &ContainerDefaults,
        name: &str,
        at: &str,
    ) -> Vec<EnvironmentVariable> {
        let pair = |name: &str, value: &str| EnvironmentVariable {
            name: name.to_owned(),
            value: value.to_owned(),
            ..EnvironmentVariable::default()
        };
        let shared: Vec<_> = self.variables.iter().map(|(name, value)| pair(name, value)).collect();
        let mut own = step.env.clone();
        for (index, variable) in own.iter_mut().enumerate() {
            variable.value = self.text(&variable.value, &format!("{at}.env[{index}].value"));
        }
        let fairlead = [
            pair("FAIRLEAD_CLUSTER", &self.execution.cluster),
            pair("FAIRLEAD_RUN", &self.execution.run.name),
            pair("FAIRLEAD_STEP", name),
        ];
        variables(&variables(&variables(&shared, &base.env), &own), &fairlead)
    }

    fn content(&mut self, content: &Content, inside: &Inside, at: &str) {
        let workspace = self.workspace.clone();
        let content::Files(files) = content::files(content);
        if !files.is_empty() {
            let step = TestStep {
                title: Some("Write files".to_owned()),
                env: files.iter().filter_map(|(.., from)| from.clone()).collect(),
                ..TestStep::default()
            };
            self.leaf(&step, inside, "Write files", String::new(), at);
            let files: Vec<_> = files
                .into_iter()
                .map(|(path, text, mode, _)| PlannedFile {
                    path: absolute(&self.known(&path, at), &workspace),
                    content: self.text(&text, at),
                    mode,
                })
                .collect();
            if let Some(step) = self.out.steps.last_mut() {
                step.files = files;
            }
        }
        let sources = content.git.iter().map(|git| content::git(git, &workspace));
        let archives = content.tarball.iter().map(|tarball| content::tarball(tarball, &workspace));
        for step in sources.chain(archives) {
            let container =
                ContainerDefaults { env: inside.container.env.clone(), ..ContainerDefaults::default() };
            let inside = Inside { group: inside.group, container };
            let title = step.title.clone().unwrap_or_default();
            self.leaf(&step, &inside, &title, String::new(), at);
        }
    }

    fn parallel(
        &mut self,
        step: &TestStep,
        inside: &Inside,
        name: &str,
        at: &str,
    ) -> Option<Box<PlannedParallel>> {
        let mut plans = Vec::new();
        let parallelism;
        let mut fail_fast = false;
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
                plans.push((
                    plan(&workflow, &scope, &format!("{at}.parallel"), self.execution, &prefix),
                    instance.index,
                ));
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
                        plans.push((plan(workflow, &scope, &field, self.execution, &prefix), index));
                    }
                    Err(errors) => self.errors.extend(errors),
                }
            }
        } else {
            return None;
        }
        let mut instances = Vec::new();
        for (plan, index) in plans {
            match plan {
                Ok(plan) => instances.push(plan),
                // The same mistake in every instance is told once.
                Err(Invalid(errors)) if index == 0 => self.errors.extend(errors),
                Err(_) => {}
            }
        }
        let parallelism = usize::try_from(parallelism).unwrap_or(usize::MAX).max(1);
        Some(Box::new(PlannedParallel { instances, parallelism, fail_fast }))
    }

    /// A workflow within this one: it has the image and the global variables of where it stands.
    fn inherited(&self, spec: &TestWorkflowSpec, inside: &Inside) -> TestWorkflowSpec {
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

    fn services(&mut self, services: &BTreeMap<String, Service>, inside: &Inside, at: &str) {
        for (name, service) in services {
            let at = format!("{at}.services.{name}");
            let nothing = BTreeMap::new();
            let spread = Spread {
                count: service.count.as_ref(),
                max_count: None,
                matrix: &service.matrix,
                shards: if service.shards.is_empty() { &nothing } else { &service.shards },
            };
            let instances = match spread::instances(&spread, self.scope) {
                Ok(instances) => instances,
                Err((field, message)) => {
                    self.fail(&format!("{at}.{field}"), message);
                    continue;
                }
            };
            for instance in instances {
                let scope = self.scope.with(instance.names());
                let mut inner = Compiler {
                    scope: &scope,
                    execution: self.execution,
                    prefix: self.prefix,
                    workspace: self.workspace.clone(),
                    variables: self.variables.clone(),
                    out: ExecutionPlan::default(),
                    names: Names::default(),
                    errors: Vec::new(),
                };
                let planned = inner.service(name, service, instance.index, inside, &at);
                let errors = std::mem::take(&mut inner.errors);
                self.out.services.push(planned);
                self.errors.extend(errors);
            }
        }
    }

    fn service(
        &mut self,
        name: &str,
        service: &Service,
        index: usize,
        inside: &Inside,
        at: &str,
    ) -> PlannedService {
        let global = inside.container.env.iter().filter(|variable| variable.global).cloned().collect();
        let container = ContainerDefaults {
            image: inside.container.image.clone(),
            env: global,
            env_from: service.env_from.clone(),
            image_pull_policy: service.image_pull_policy.clone(),
            working_dir: service.working_dir.clone(),
            resources: self.value(service.resources.as_ref(), &format!("{at}.resources")),
            security_context: merged(
                inside.container.security_context.clone(),
                self.value(service.security_context.as_ref(), &format!("{at}.securityContext")),
            ),
            volume_mounts: service.volume_mounts.clone(),
            ..ContainerDefaults::default()
        };
        let step = TestStep {
            image: service.image.clone(),
            command: service.command.clone(),
            args: service.args.clone(),
            shell: service.shell.clone(),
            env: service.env.clone(),
            timeout: Some(service.timeout.clone().unwrap_or_else(|| "5m".to_owned())),
            ..TestStep::default()
        };
        let inside = Inside { group: None, container };
        self.leaf(&step, &inside, &format!("{name} {index}"), String::new(), at);
        let mut container = self.out.steps.pop().unwrap_or_default();
        self.settle(&mut container, at);
        PlannedService {
            name: name.to_owned(),
            index,
            container,
            readiness_probe: self.value(service.readiness_probe.as_ref(), &format!("{at}.readinessProbe")),
            restart_policy: service.restart_policy.clone().unwrap_or_else(|| "Never".to_owned()),
            pod: self.value(service.pod.as_ref(), &format!("{at}.pod")),
        }
    }

    /// No runner stands around a service: what its texts ask of the environment must be known now.
    fn settle(&mut self, container: &mut PlannedStep, at: &str) {
        for index in 0..container.env.len() {
            let names = StaticEnvironment(container.env[..index].to_vec());
            let text = container.env[index].value.clone();
            container.env[index].value = self.settled(&text, &names, at);
        }
        let names = StaticEnvironment(container.env.clone());
        for word in container.command.iter_mut().chain(&mut container.args) {
            *word = self.settled(word, &names, at);
        }
    }

    fn settled(&mut self, text: &str, names: &StaticEnvironment, at: &str) -> String {
        if !text.contains("{{") {
            return text.to_owned();
        }
        match Template::parse(text).and_then(|template| template.evaluate(names)) {
            // Kubernetes puts in variables that only the cluster knows.
            Ok(text) => text,
            Err(error) => {
                self.fail(at, error.to_string());
                text.to_owned()
            }
        }
    }
}

/// `env` of variables whose values stand in the workflow; of others the reference that Kubernetes replaces.
struct StaticEnvironment(Vec<EnvironmentVariable>);

impl crate::expression::Scope for StaticEnvironment {
    fn name(&self, name: &str) -> crate::expression::Lookup {
        if name != "env" {
            return crate::expression::Lookup::Unknown;
        }
        let values = self.0.iter().map(|own| {
            let value = if own.value_from.is_some() { format!("$({})", own.name) } else { own.value.clone() };
            (own.name.clone(), Value::from(value))
        });
        crate::expression::Lookup::Known(Value::Object(values.collect()))
    }

    fn missing(&self, _: &str, _: &str) -> Option<Value> {
        Some(Value::from(""))
    }
}
